"""House-keeping: formats, lints, pins, and what never goes into the repository."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from workspace import PROJECT

BIN = Path(sys.executable).parent


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["snakefmt", "--check", "Snakefile", "workflow"],
        ["snakemake", "--lint"],
    ],
    ids=" ".join,
)
def test_linters_are_content(command):
    done = subprocess.run([BIN / command[0], *command[1:]], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def pins() -> dict[str, str]:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    listed = project["project"]["dependencies"] + project["dependency-groups"]["dev"]
    assert all("==" in requirement for requirement in listed), "every dependency is pinned"
    return dict(requirement.split("==") for requirement in listed)


@pytest.mark.parametrize("path", sorted((PROJECT / "envs").glob("*.yaml")), ids=lambda path: path.stem)
def test_conda_environments_have_the_pins_of_pyproject(path):
    document = yaml.safe_load(path.read_text())
    assert document["channels"] == ["conda-forge", "nodefaults"]
    (wheels,) = (entry["pip"] for entry in document["dependencies"] if isinstance(entry, dict))
    known = pins()
    for wheel in wheels:
        name, version = wheel.split("==")
        assert known[name] == version


def test_every_rule_declares_its_environment():
    for path in (PROJECT / "workflow/rules").glob("*.smk"):
        rules = re.split(r"^ *rule\b", path.read_text(), flags=re.MULTILINE)[1:]
        for rule in (rule for rule in rules if "shell:" in rule):
            assert re.search(r"conda:\s+\"../../envs/(torch|report)\.yaml\"", rule), f"{path.name}: {rule[:60]}"


def test_scoring_and_drawing_start_without_torch():
    """Half of the demo's jobs are short: what they need not, they do not load."""
    modules = ("ddpm.evaluation.metrics", "ddpm.report.tables", "ddpm.report.page", "ddpm.report.figures.figure5")
    modules += ("ddpm.training.selection", "ddpm.planning.plan", "ddpm.data.prepare")
    code = f"import sys, {', '.join(modules)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
