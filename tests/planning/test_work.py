"""What would run: jobs, operations and bytes of every kind, less what is done."""

from math import isnan

import pytest
from planned import CHURCH, CIFAR, FACES, NO_SIZE, paper

from ddpm.compute.flops import INCEPTION_FLOPS, network_cost
from ddpm.config.resolving import load
from ddpm.planning.work import KEPT_STATES, all_work
from ddpm.storage.files import write_json


def of(config, rule, subject):
    """The only line of that rule and subject."""
    (found,) = [each for each in all_work(config) if (each.rule, each.subject) == (rule, subject)]
    return found


def test_jobs_of_the_demo_are_snakemakes(tmp_path):
    """Those that `snakemake -n` counts in a fresh copy, of the rules that are listed."""
    jobs = {}
    for each in all_work(load({"scale": "demo"})):
        jobs[each.rule] = jobs.get(each.rule, 0) + each.jobs
    assert jobs == {
        "prepare": 1, "reference": 1, "train": 7, "snapshot": 3, "sample": 7, "features": 7, "few_steps": 1,
        "likelihood": 4, "latents": 1,
    }  # fmt: skip


def test_numbers_of_the_papers_scale(tmp_path):
    config = paper(tmp_path)
    forward = network_cost(config.scale_config.experiments[CIFAR].network).flops
    weights = 4 * 35_746_307
    image = 32 * 32 * 3
    training = of(config, "train", CIFAR)
    assert (training.jobs, training.flops) == (1, 800_000 * 128 * 3 * forward)
    assert training.disk == 2 * 4 * weights + 8 * 2 * weights + 2 * weights
    snapshots = of(config, "snapshot", CIFAR)
    assert (snapshots.jobs, snapshots.flops) == (8, 8 * 5_008 * 1000 * forward)
    samples = of(config, "sample", CIFAR)
    assert (samples.jobs, samples.flops, samples.disk) == (5, 50_000 * 1000 * forward, 50_000 * 21 * image)
    few = of(config, "few_steps", CIFAR)
    assert (few.jobs, few.flops, few.disk) == (2, 50_000 * 120 * forward, 50_000 * 4 * image)
    test, train = [each for each in all_work(config) if each.rule == "likelihood"]
    assert (test.part, test.jobs, test.flops, test.disk) == ("test", 2, 10_000 * 1000 * forward, 10_000 * 8_000)
    assert (train.part, train.flops) == ("train", 50_000 * 1000 * forward)
    features = of(config, "features", CIFAR)
    assert (features.jobs, features.network) == (5, None)
    assert features.disk == 50_000 * (21 * (2048 + 1008) + 2048) * 4
    assert features.flops == 50_000 * (21 + 1) * INCEPTION_FLOPS
    assert of(config, "prepare", "cifar10").disk == 60_000 * image
    assert of(config, "download_weights", "lsun-church256-ema").download == 4 * 113_673_219
    assert of(config, "import_weights", CHURCH).kind is None
    assert of(config, "latents", FACES).jobs == 1
    assert not [each for each in all_work(config) if (each.rule, each.subject) == ("train", CHURCH)]


def test_kept_states_are_those_of_the_training():
    from ddpm.storage import checkpoints

    assert KEPT_STATES == checkpoints.KEPT_STATES


def test_a_download_of_unknown_size_is_unknown(tmp_path):
    download = of(paper(tmp_path, sources=NO_SIZE), "download_data", "cifar10")
    assert isnan(download.download) and isnan(download.disk)


def test_data_that_are_here_are_not_downloaded(tmp_path):
    config = paper(tmp_path, sources={"cifar10": {"root": str(tmp_path)}})
    assert ("download_data", "cifar10") not in {(each.rule, each.subject) for each in all_work(config)}
    write_json(tmp_path / "resources/downloads/cifar10/card.json", {})
    assert of(paper(tmp_path), "download_data", "cifar10").share == 0
    write_json(tmp_path / "resources/cifar10/card.json", {})
    assert of(paper(tmp_path), "prepare", "cifar10").share == 0


def touch(folder, *files):
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()


@pytest.fixture
def finished(tmp_path):
    """A CIFAR-10 experiment that is trained, and two of whose five shards are drawn; features of older ones."""
    folder = tmp_path / "results/paper" / CIFAR
    touch(folder, "final.safetensors", "samples/1-of-5.npz", "samples/2-of-5.npz", "features/1-of-5.npz")
    touch(folder, "snapshots/100000.npz", "likelihood/test/1-of-2.npz", "few_steps/1-of-2.npz", "few_steps/2-of-2.npz")
    experiment = paper(tmp_path).scale_config.experiments[CIFAR]
    for stage in ("training", "sampling"):
        write_json(folder / f"config/{stage}.json", experiment.stage_config(stage))
    return tmp_path


def test_what_is_done_is_left_out(finished):
    done = {(each.rule, each.part): each.done for each in all_work(paper(finished)) if each.subject == CIFAR}
    assert done == {
        ("train", ""): 1, ("snapshot", ""): 1, ("sample", ""): 2, ("few_steps", ""): 2, ("likelihood", "test"): 1,
        ("likelihood", "train"): 0, ("features", ""): 0,
    }  # fmt: skip
    assert of(paper(finished), "sample", CIFAR).share == pytest.approx(3 / 5)


def test_other_settings_are_to_be_done_again(finished):
    changed = {"experiments": {CIFAR: {"sampling": {"seed": 1}}}}
    assert of(paper(finished, changed), "sample", CIFAR).done == 0
    assert of(paper(finished, changed), "few_steps", CIFAR).done == 2
    changed = {"experiments": {CIFAR: {"training": {"learning_rate": 1e-3}}}}
    for rule in ("train", "sample", "few_steps"):
        assert of(paper(finished, changed), rule, CIFAR).done == 0


def test_features_of_all_samples_are_done(finished):
    folder = finished / "results/paper" / CIFAR
    touch(folder, *(f"{kind}/{i}-of-5.npz" for kind in ("samples", "features") for i in range(1, 6)))
    assert of(paper(finished), "features", CIFAR).done == 5


def test_a_training_goes_on_from_its_newest_state(tmp_path):
    config = paper(tmp_path)
    whole = of(config, "train", CIFAR).flops
    state = tmp_path / "results/paper" / CIFAR / "state" / config.scale_config.experiments[CIFAR].fingerprint()
    touch(state, f"000200000-{'a' * 16}.safetensors", f"000600000-{'b' * 16}.safetensors")
    assert of(config, "train", CIFAR).flops == whole / 4


SEEDS = {"experiments": {CIFAR: {"seeds": {"training": [1], "sampling": [2, 3]}}, CHURCH: {"seeds": {"sampling": [1]}}}}
TRAINING, SAMPLING = f"{CIFAR}-training-seed1", f"{CIFAR}-sampling-seed2"


def jobs_of(config, name):
    return {(each.rule, each.part): each.jobs for each in all_work(config) if each.subject == name}


def test_a_repeat_is_trained_only_where_its_training_is_another(tmp_path):
    config = paper(tmp_path, SEEDS)
    drawn = {("sample", ""): 5, ("features", ""): 5}
    bound = {("likelihood", "test"): 2, ("likelihood", "train"): 2}
    assert jobs_of(config, TRAINING) == {("train", ""): 1, **drawn, **bound}
    for name in (SAMPLING, f"{CIFAR}-sampling-seed3", f"{CHURCH}-sampling-seed1"):
        assert jobs_of(config, name) == drawn
    image, samples = 32 * 32 * 3, of(config, "sample", SAMPLING)
    assert (samples.flops, samples.disk) == (of(config, "sample", CIFAR).flops, 50_000 * image)
    for name in (CIFAR, FACES, CHURCH):
        assert jobs_of(config, name) == jobs_of(paper(tmp_path), name)


def test_snapshots_of_a_repeat_are_those_that_are_chosen_among(tmp_path):
    chosen = {"experiments": {CIFAR: {"checkpoint": "lowest-fid", **SEEDS["experiments"][CIFAR]}}}
    config = paper(tmp_path, chosen)
    assert of(config, "snapshot", TRAINING).flops == of(config, "snapshot", CIFAR).flops
    assert ("snapshot", "") not in jobs_of(config, SAMPLING)


def test_samples_of_a_repeat_are_done_if_they_are_of_these_weights(finished):
    """The weights lie with the experiment that was trained; other settings of its training count for both."""
    folder = finished / "results/paper" / SAMPLING
    touch(folder, "samples/1-of-5.npz", "samples/2-of-5.npz", "samples/3-of-5.npz")
    assert of(paper(finished, SEEDS), "sample", SAMPLING).done == 3
    assert of(paper(finished, SEEDS), "train", CIFAR).done == 1
    assert of(paper(finished, SEEDS), "train", TRAINING).done == 0
    changed = {"experiments": {CIFAR: {"training": {"learning_rate": 1e-3}, **SEEDS["experiments"][CIFAR]}}}
    assert of(paper(finished, changed), "sample", SAMPLING).done == 0
