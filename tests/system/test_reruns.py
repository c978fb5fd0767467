"""What is done stays done: each change reruns what depends on it, and nothing else."""

import copy
import shutil

import pytest
from workspace import SHRUNKEN

MAIN = "digits-eps-simple"


@pytest.fixture(autouse=True)
def left_as_it_was(finished, tmp_path):
    """Every test starts from, and leaves, a finished run of the shrunken configuration."""
    shutil.copytree(finished.folder, tmp_path / "kept", symlinks=True)  # with the times of the files
    yield
    shutil.rmtree(finished.folder)
    shutil.move(tmp_path / "kept", finished.folder)


def changed(path: str, value) -> dict:
    """SHRUNKEN with one key changed, given by its dotted path."""
    override = copy.deepcopy(SHRUNKEN)
    *parents, key = path.split(".")
    section = override
    for parent in parents:
        section = section.setdefault(parent, {})
    section[key] = value
    return override


def trained(jobs) -> list[str]:
    return [experiment for rule, experiment in jobs if rule == "train"]


def test_a_second_run_does_nothing(finished):
    assert "Nothing to be done" in finished.snakemake().stderr


def test_a_restyled_figure_redraws_that_figure_and_no_more(finished):
    module = finished.folder / "workflow/ddpm/report/figures/figure5.py"
    before = {path: path.stat().st_mtime_ns for path in (finished.results / "figures").iterdir()}
    module.write_text(module.read_text().replace("figsize=(8.4, 3.0)", "figsize=(8.4, 3.4)"))
    assert finished.jobs() == [("figure5", ""), ("page", "")]
    redrawn = {path.name for path, time in before.items() if path.stat().st_mtime_ns != time}
    assert redrawn == {"figure5.png", "figure5.pdf"}


def test_a_changed_theme_redraws_the_curves_and_no_picture(finished):
    module = finished.folder / "workflow/ddpm/report/figures/charts.py"
    module.write_text(module.read_text() + "\n# touched\n")
    curves = ("bound", "fewsteps", "figure10", "figure5", "page", "reproduced", "training-curve")
    assert sorted(finished.jobs()) == [(name, "") for name in curves]


def test_more_samples_resample_and_never_retrain(finished):
    weights = {path: path.stat().st_mtime_ns for path in finished.results.glob("*/model.safetensors")}
    finished.configure(changed(f"experiments.{MAIN}.sampling.images", 30))
    jobs = finished.jobs()
    assert ("sample", MAIN) in jobs
    assert ("evaluate", MAIN) in jobs
    assert not trained(jobs)
    assert {experiment for rule, experiment in jobs if rule in ("sample", "likelihood")} == {MAIN}
    assert not [job for job in jobs if job[0] == "likelihood"]
    assert weights == {path: path.stat().st_mtime_ns for path in weights}


def test_other_few_steps_touch_nothing_of_the_papers(finished):
    finished.configure(changed(f"experiments.{MAIN}.few_steps.steps", [2, 4]))
    jobs = finished.jobs()
    assert set(jobs) == {("few_steps", MAIN), ("few_steps_scores", MAIN), ("fewsteps", ""), ("page", "")}


def test_a_new_experiment_trains_only_itself(finished):
    new = {"data": "digits", "diffusion": {"parameterization": "x0", "objective": "simple", "variance": "fixedsmall"}}
    finished.configure(changed("experiments.digits-x0-simple", new))
    jobs = finished.jobs()
    assert trained(jobs) == ["digits-x0-simple"]
    assert {experiment for _, experiment in jobs} == {"digits-x0-simple", ""}
    assert [rule for rule, experiment in jobs if not experiment] == ["scores", "page"]


def test_a_changed_learning_rate_retrains_one_experiment_and_back_again_none(finished):
    other = "digits-mu-simple"
    model = finished.results / other / "model.safetensors"
    before = model.read_bytes()
    finished.configure(changed(f"experiments.{other}.training.learning_rate", 1e-3))
    jobs = finished.jobs()
    assert trained(jobs) == [other]
    assert {experiment for _, experiment in jobs} == {other, ""}
    assert model.read_bytes() != before
    # Going back finds the finished state of the first training.
    finished.configure(SHRUNKEN)
    finished.snakemake()
    assert model.read_bytes() == before
    log = (finished.results / f"logs/training/{other}.log").read_text()
    assert "resuming digits-mu-simple at step 8" in log
