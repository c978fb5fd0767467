"""`./run` from any folder, in one that was moved, and with another environment's variables; no package is installed."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from deployed import find_uv
from workspace import AWKWARD, PROJECT


@pytest.fixture
def project(tmp_path) -> Path:
    folder = tmp_path / AWKWARD
    (folder / "workflow/ddpm").mkdir(parents=True)
    (folder / "workflow/ddpm/__init__.py").touch()
    shutil.copy(PROJECT / "run", folder)
    (folder / "requirements.txt").touch()
    return folder


def run(project: Path, *command: str, cwd: Path | None = None) -> subprocess.CompletedProcess:
    path = f"{find_uv().parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": "/another/environment"}
    command = [project / "run", *command]
    return subprocess.run(command, cwd=cwd or project, env=environment, capture_output=True, text=True, check=True)


def test_relative_paths_are_those_of_the_folder_that_one_is_in(project, tmp_path):
    run(project, "python", "-c", "open('file', 'w')", cwd=tmp_path)
    assert (tmp_path / "file").exists()


def test_a_link_on_path_leads_to_the_project(project, tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/run").symlink_to(project / "run")
    run(tmp_path / "bin", "python", "-c", "import ddpm")
    assert [path.name for path in (tmp_path / "bin").iterdir()] == ["run"]


def test_snakemake_works_in_the_projects_folder_unless_told_otherwise(project, tmp_path):
    run(project, "true")
    snakemake = project / ".venv/bin/snakemake"
    snakemake.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    snakemake.chmod(0o755)
    assert run(project, "snakemake", "-n").stdout.splitlines() == ["-n"]
    elsewhere = ["--snakefile", f"{project}/Snakefile", "--directory", str(project)]
    assert run(project, "snakemake", "-n", "a b", cwd=tmp_path).stdout.splitlines() == [*elsewhere, "-n", "a b"]
    assert run(project, "demo", "-n", cwd=tmp_path).stdout.splitlines()[:5] == [*elsewhere, "--cores"]


def test_the_environment_of_a_moved_project_is_made_anew_and_only_then(project, tmp_path):
    asked = ("python", "-c", "import sys, ddpm; print(sys.prefix, *ddpm.__path__, sep='\\n')")
    assert "making the environment" in run(project, *asked).stderr
    assert not run(project, *asked).stderr
    moved = project.rename(tmp_path / "moved")
    done = run(moved, *asked)
    assert "making the environment" in done.stderr
    assert done.stdout.splitlines() == [f"{moved}/.venv", f"{moved}/workflow/ddpm"]
    assert not run(moved, *asked).stderr


def test_packages_of_another_environment_are_left_out(project):
    assert "/another/environment" not in run(project, "python", "-c", "import sys; print(sys.path)").stdout
