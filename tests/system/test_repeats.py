"""An experiment under other seeds: what is trained again, what is not, and that each says what it is."""

import copy
import json

from workspace import SHRUNKEN

from ddpm.storage.files import read_npz

MAIN = "digits-mu-simple"
TRAINED, SAMPLED = f"{MAIN}-training-seed1", f"{MAIN}-sampling-seed1"
SHARD = "samples/1-of-1.npz"


def changed(**keys) -> dict:
    """SHRUNKEN with keys of the experiment replaced."""
    override = copy.deepcopy(SHRUNKEN)
    override["experiments"][MAIN] = keys
    return override


def metrics_of(workspace, *names) -> list[str]:
    return [str((workspace.results / name / "metrics.json").relative_to(workspace.folder)) for name in names]


def read(workspace, name: str) -> dict:
    return json.loads((workspace.results / name / "metrics.json").read_text())


def test_seeds_repeat_what_they_name_and_touch_nothing_else(fresh):
    fresh.configure(SHRUNKEN, experiments=[MAIN])
    fresh.snakemake(*metrics_of(fresh, MAIN))
    fresh.configure(changed(seeds={"training": [1], "sampling": [1]}), experiments=[MAIN])
    ran = fresh.jobs(*metrics_of(fresh, MAIN, TRAINED, SAMPLED))
    scored = ("evaluate", "features", "sample")
    assert sorted(ran) == sorted(
        [("train", TRAINED), ("select", TRAINED), *((rule, name) for rule in scored for name in (TRAINED, SAMPLED))]
    )
    assert not list((fresh.results / SAMPLED).glob("*.safetensors"))

    runs = base, trained, sampled = [read(fresh, name) for name in (MAIN, TRAINED, SAMPLED)]
    assert (base["experiment"], base["repeat"]) == (MAIN, None)
    assert (trained["experiment"], trained["repeat"]) == (TRAINED, {"of": MAIN, "varies": "training", "seed": 1})
    assert (sampled["experiment"], sampled["repeat"]) == (SAMPLED, {"of": MAIN, "varies": "sampling", "seed": 1})
    weights = [run["made_from"]["weights"]["sha256"] for run in runs]
    assert weights[0] == weights[2] != weights[1]
    for section, seeds in {"training": [0, 1, 0], "sampling": [0, 0, 1]}.items():
        assert [run["made_from"][section]["seed"] for run in runs] == seeds
    assert base["deviations"] == trained["deviations"] == sampled["deviations"]
    images, *others = [read_npz(fresh.results / run["experiment"] / SHARD, "images")["images"] for run in runs]
    assert not any((images == other).all() for other in others)

    # The report is made of all of them; weights are made by the experiment that they are of.
    planned = fresh.snakemake("-n").stdout
    assert "report.html" in planned
    for file in metrics_of(fresh, TRAINED, SAMPLED):
        assert file in planned
    assert f"{SAMPLED}/training.json" not in planned


def test_released_weights_are_sampled_again(fresh):
    checkpoint = {"files": [{"name": "model.ckpt", "urls": ["https://example.org/model"]}], "averaged": True}
    override = changed(weights="released", checkpoint=checkpoint, seeds={"sampling": [1, 2]})
    fresh.configure(override, experiments=[MAIN])
    names = [MAIN, *(f"{MAIN}-sampling-seed{seed}" for seed in (1, 2))]
    planned = fresh.snakemake("-n", *metrics_of(fresh, *names), "--quiet", "rules").stdout
    counts = dict(line.split() for line in planned.splitlines() if len(line.split()) == 2)
    assert "train" not in counts
    for rule, jobs in {"download_weights": "1", "import_weights": "1", "sample": "3", "evaluate": "3"}.items():
        assert counts[rule] == jobs
