"""What would take a year does not start, and says what would fit; what is small does, and a plan is for reading."""

import re

import pytest
from workspace import Workspace


@pytest.fixture
def paper(tmp_path, monkeypatch) -> Workspace:
    """The paper's scale as it is, on a machine without a GPU."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    return Workspace(tmp_path, scale="paper")


def test_the_paper_is_not_begun_without_a_gpu(paper):
    done = paper.snakemake("figure13", check=False)
    assert done.returncode != 0
    for words in ("no GPU", "years", "Nothing has been started", "--config scale=demo", "weights: released"):
        assert words in done.stderr, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    assert not (paper.folder / "results").exists()
    assert not (paper.folder / "resources").exists()


def test_a_dry_run_and_a_drawing_are_not_stopped(paper):
    assert "train" in paper.snakemake("-n").stdout
    paper.snakemake("figure2")
    assert (paper.results / "figures/figure2.pdf").exists()


def test_the_plan_starts_nothing(paper):
    asked = "{experiments: {celeba64-eps-simple: null, cifar10-eps-simple: {few_steps: {steps: [7], shards: 3}}}}"
    said = paper.snakemake("plan", "--config", f"override={asked}").stdout
    for words in ("What scale paper would run (nothing is started)", "lsun-cat256-eps-simple", "No GPU", "TPU v3-8"):
        assert words in said
    assert "celeba64" not in said
    assert re.search(r"^few_steps +cifar10-eps-simple +3 ", said, re.MULTILINE)
    assert not (paper.folder / "resources").exists()
    assert not list(paper.results.rglob("*.npz"))


def test_a_key_that_stands_twice_is_refused_though_snakemake_has_read_it(paper):
    with (paper.folder / "config.yaml").open("a") as file:
        file.write("override: {}\nscale: paper\noverride: {}\n")
    done = paper.snakemake("-n", check=False)
    said = done.stdout + done.stderr
    assert done.returncode and "`override` stands twice, in lines " in said
    assert "Traceback" not in said
