"""metrics.json of a repeat says of what, and is made of its own samples only."""

import pytest
from helpers import CPU
from stand_in import StandIn, load_stand_in, write_torchscript

from ddpm.config.errors import UserError
from ddpm.config.experiment import Repeat
from ddpm.config.schema import EvaluationConfig, SamplingConfig
from ddpm.evaluation.features import write_features
from ddpm.evaluation.metrics import write_metrics
from ddpm.evaluation.reference import write_reference
from ddpm.sampling.runner import AncestralSampler, sample_shard
from ddpm.storage.files import read_json

BASE = "digits-eps-simple-test"  # whose weights `trained` has


@pytest.fixture(scope="module")
def scored(trained, digits, tmp_path_factory):
    """Score the samples of seed 3 as a repeat, or as no repeat."""
    folder = tmp_path_factory.mktemp("repeat")
    write_torchscript(StandIn(), folder / "network.pt")
    network = load_stand_in(folder / "network.pt")
    sample_shard(
        AncestralSampler(trained, SamplingConfig(images=24, seed=3), CPU),
        1,
        folder / "samples.npz",
        log=lambda message: None,
    )
    write_features(network, folder / "samples.npz", folder / "features.npz")
    write_reference(network, digits, 4, folder / "real.npz", folder / "real.json")

    def score(*repeat: Repeat):
        config, features = EvaluationConfig(splits=4), [folder / "features.npz"]
        out = folder / "metrics.json"
        write_metrics(config, "demo", features, [], folder / "real.npz", digits / "card.json", out, *repeat)
        return read_json(out)

    return score


def test_a_repeat_has_a_name_of_its_own_and_says_what_it_repeats(scored):
    alone = scored()
    assert (alone["experiment"], alone["repeat"]) == (BASE, None)
    metrics = scored(Repeat(of=BASE, varies="sampling", seed=3))
    repeat = {"of": BASE, "varies": "sampling", "seed": 3}
    assert (metrics["experiment"], metrics["repeat"]) == (f"{BASE}-sampling-seed3", repeat)
    assert {**metrics, "experiment": BASE, "repeat": None} == alone


@pytest.mark.parametrize(
    ("repeat", "words"),
    [
        (Repeat(of=BASE, varies="sampling", seed=4), f"is {BASE} with sampling.seed 4"),
        (Repeat(of="digits-mu-simple", varies="sampling", seed=3), "is digits-mu-simple with sampling.seed 3"),
        (Repeat(of=BASE, varies="training", seed=0), f"is {BASE}-training-seed0 with training.seed 0"),
        (Repeat(of=BASE, varies="training", seed=3), f"is {BASE}-training-seed3 with training.seed 3"),
    ],
)
def test_features_of_another_seed_or_of_other_weights_are_refused(scored, repeat, words):
    with pytest.raises(UserError) as caught:
        scored(repeat)
    seed = 3 if repeat.varies == "sampling" else 0
    for part in ("features.npz", f"features of {BASE} with {repeat.varies}.seed {seed}", words):
        assert part in str(caught.value)
