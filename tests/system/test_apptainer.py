"""`--sdm apptainer`: the image that its definition makes has what every job needs, which runs in it.

The tests' `apptainer` is a stand-in that runs the definition's own commands, with uv's pip. No image was built, and no
job shut off from the machine.
"""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from deployed import environ, put, with_index
from environments import ENVIRONMENTS, entries, rules
from stand_in_apptainer import sections
from workspace import PROJECT, Workspace

DEFINITION = sections((PROJECT / "envs/ddpm.def").read_text())


def with_apptainer(folder: Path) -> Workspace:
    """A project whose user has an Apptainer."""
    (folder / "project").mkdir()
    workspace = Workspace(folder / "project")
    put("apptainer", folder / "bin")
    workspace.environ["PATH"] = f"{folder / 'bin'}:{workspace.environ['PATH']}"
    workspace.command += ["--sdm", "apptainer", "--apptainer-args=--nv"]
    return workspace


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("apptainer")
    yield with_apptainer(folder)
    shutil.rmtree(folder)


def test_the_image_has_the_python_and_all_wheels_of_the_environments_that_rules_declare(tmp_path):
    """As the lines of %post find them; where they are installed is another test's."""
    declared = {name.lower() for _, text in rules() for name in re.findall(r"\b(TORCH|REPORT)_ENV\b", text)}
    copied = [line.split()[0] for line in DEFINITION["files"].strip().splitlines()]
    assert sorted(copied) == sorted(f"envs/{name}.yaml" for name in declared)
    (python,) = {re.search(r"python=([\d.]+)", ENVIRONMENTS[name].read_text())[1] for name in declared}
    assert f"From: python:{python}-slim-" in DEFINITION[""]

    for name in declared:
        shutil.copy(ENVIRONMENTS[name], tmp_path)
    lines = DEFINITION["post"].replace("/opt/envs", str(tmp_path)).replace("pip install", "true")
    subprocess.run(["sh", "-ec", lines], check=True)
    wheels = {entry for name in declared for entry in entries(name)} - {"--require-hashes"}
    assert sorted((tmp_path / "requirements.txt").read_text().splitlines()) == sorted(wheels)


def test_without_the_image_nothing_starts_and_it_is_said_how_to_make_it(tmp_path):
    workspace = with_apptainer(tmp_path)
    done = workspace.snakemake("figure13", check=False)
    assert done.returncode
    assert f"apptainer build {workspace.folder}/ddpm.sif envs/ddpm.def" in done.stderr
    assert not (workspace.folder / "resources").exists()


@pytest.fixture(scope="module")
def log(workspace):
    """What Snakemake says while a figure is made from nothing, in an image that its user has built."""
    build = ["apptainer", "build", "ddpm.sif", "envs/ddpm.def"]
    with_index(build, cwd=workspace.folder, env=environ(workspace.environ["PATH"].split(":")[0]))
    return workspace.snakemake("results/demo/figures/figure13.png").stderr


def test_jobs_run_in_the_image(workspace, log):
    """From data over torch to a figure; what a job names of the project lies in the folders that it is shown."""
    assert len(re.findall(r"^(?:local)?rule ", log, re.M)) == log.count("Activating singularity image ddpm.sif") > 5
    assert (workspace.results / "figures/figure13.png").exists()


@pytest.mark.usefixtures("log")
def test_elsewhere_all_is_made_again_unless_snakemake_is_told_otherwise(workspace, monkeypatch):
    monkeypatch.setattr(workspace, "command", workspace.command[:-3])
    assert "oftware environment definition has changed" in workspace.snakemake("-n", "figure13").stdout
    kept = workspace.snakemake("-n", "figure13", "--rerun-triggers", "code", "input", "mtime", "params")
    assert "Nothing to be done" in kept.stderr + kept.stdout
