"""Where the files of a run lie."""

import pytest

from ddpm.config.layout import Layout
from ddpm.config.resolving import load

MAIN = "digits-eps-simple"


def layout(**keys) -> Layout:
    return Layout(load({"scale": "demo", **keys}))


def test_shards_are_numbered_from_one():
    files = layout(override={"experiments": {MAIN: {"sampling": {"shards": 3, "images": 600}}}})
    folder = f"results/demo/{MAIN}"
    assert files.samples(MAIN) == [f"{folder}/samples/{i}-of-3.npz" for i in (1, 2, 3)]
    assert files.features(MAIN)[2] == f"{folder}/features/3-of-3.npz"


@pytest.mark.parametrize(("most", "count"), [(1, 1), (200, 1), (201, 2), (600, 3), (6000, 3)])
def test_first_samples_are_as_few_shards_as_hold_them(most, count):
    files = layout(override={"experiments": {MAIN: {"sampling": {"shards": 3, "images": 600}}}})
    assert files.samples(MAIN, most) == files.samples(MAIN)[:count]


def test_a_repeat_of_the_sampling_has_the_weights_of_its_experiment():
    files = layout(override={"experiments": {MAIN: {"seeds": {"sampling": [1], "training": [1]}}}})
    assert files.weights(f"{MAIN}-sampling-seed1") == f"results/demo/{MAIN}/model.safetensors"
    assert files.weights(f"{MAIN}-training-seed1") == f"results/demo/{MAIN}-training-seed1/model.safetensors"
    assert files.with_repeats("table4") == [MAIN, f"{MAIN}-training-seed1", f"{MAIN}-sampling-seed1"]
    assert files.curves("table4") == [
        f"results/demo/{name}/rate_distortion.csv" for name in (MAIN, f"{MAIN}-training-seed1")
    ]


def test_every_source_of_a_figure_is_made_by_a_stage():
    files = layout()
    made = {*files.sampled_for_figures(), *files.evaluated_for_figures()}
    others = [path for path in files.sources() if path not in made]
    assert {path.rpartition("/")[2] for path in others} == {
        "metrics.json", "training.csv", "table1.csv", "table2.csv", "table4.csv"
    }  # fmt: skip
    sampled = {path.rpartition("/")[2] for path in files.sampled_for_figures()}
    assert sampled == {
        "trajectory.npz", "latents.npz", "interpolations.npz", "coarse-to-fine.npz", "snapshots.npz", "1-of-1.npz"
    }  # fmt: skip


def test_without_figures_and_tables_nothing_is_made_for_them():
    files = layout(figures=["figure2"], tables=["table2"])
    assert not files.sources()
    assert not files.evaluated_for_figures()
