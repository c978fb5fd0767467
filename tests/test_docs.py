"""The documentation names what there is."""

import re

import deviate
import numpy as np
import pytest
import yaml
from environments import PROJECT_FILE
from workspace import PROJECT

import ddpm
from ddpm import load

DEFINED = {
    name
    for path in (PROJECT / "tests").rglob("test_*.py")
    for name in re.findall(r"^def (test_\w+)", path.read_text(), re.M)
}


def test_the_page_on_fidelity_lists_all_forty_and_names_only_tests_that_exist():
    page = (PROJECT / "docs/fidelity.md").read_text()
    assert [int(row) for row in re.findall(r"^\| (\d+) \|", page, re.M)] == list(range(1, 41))
    named = set(re.findall(r"`(test_\w+)`", page))
    assert len(named) > 30
    assert named <= DEFINED


def test_the_page_on_the_oracle_names_its_tests():
    named = set(re.findall(r"`(test_\w+)`", (PROJECT / "docs/oracle.md").read_text()))
    defined = set(re.findall(r"^def (test_\w+)", (PROJECT / "tests/system/test_oracle.py").read_text(), re.M))
    assert len(named) > 8
    assert named <= defined


@pytest.mark.parametrize("deviation", deviate.DEVIATIONS, ids=lambda d: f"{d['row']} {d['port']}")
def test_every_deviation_is_an_edit_of_todays_source(deviation):
    compile(deviate.deviated(deviation), deviation["file"], "exec")


def test_every_row_with_a_test_has_a_deviation():
    held = {row for row, names in deviate.tests_of_rows().items() if names}
    assert held == {deviation["row"] for deviation in deviate.DEVIATIONS}


ROOT_PAGES = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
PAGES = (*ROOT_PAGES, *(f"docs/{path.name}" for path in sorted((PROJECT / "docs").glob("*.md"))))


@pytest.mark.parametrize("page", PAGES)
def test_files_that_a_page_names_exist(page):
    text = (PROJECT / page).read_text()
    for link in re.findall(r"\]\((?!http)([^)]+)\)", text):
        assert ((PROJECT / page).parent / link).exists(), link
    for path in re.findall(r"(?<![\w/.-])((?:workflow|profiles|envs|docs|tests|benchmarks)/[\w./-]*\w)", text):
        assert (PROJECT / path).exists(), path


def test_the_readme_is_short_and_leads_to_every_page():
    readme = (PROJECT / "README.md").read_text()
    assert len(readme.splitlines()) <= 220
    assert set(PAGES) - {"README.md"} <= set(re.findall(r"\]\(([^)]+\.md)\)", readme))


@pytest.mark.parametrize("page", PAGES[1:])
def test_a_page_begins_with_what_its_reader_can_do(page):
    title, begin = (PROJECT / page).read_text().split("\n\n")[:2]
    assert title.startswith("# ")
    assert re.match(r"After this page you (can|know) ", begin)


def test_the_page_on_python_works_as_it_is(weights, digits, tmp_path, monkeypatch, capsys):
    """Its code, in a folder with a tiny model in the place of the demo's."""
    (code,) = re.findall(r"```python\n(.*?)```", (PROJECT / "docs/python.md").read_text(), re.S)
    (tmp_path / "results/demo/digits-eps-simple").mkdir(parents=True)
    (tmp_path / "results/demo/digits-eps-simple/model.safetensors").symlink_to(weights)
    (tmp_path / "resources").mkdir()
    (tmp_path / "resources/digits").symlink_to(digits)
    monkeypatch.chdir(tmp_path)
    made = {}
    exec(compile(code, "docs/python.md", "exec"), made)
    assert "'data': 'digits'" in (said := capsys.readouterr().out)
    assert re.search(r"^\d+\.\d\d bits/dim$", said, re.M)
    assert {name: made[name].shape for name in ("images", "fast", "previews", "bits")} == {
        "images": (16, 8, 8, 1),
        "fast": (16, 8, 8, 1),
        "previews": (16, 10, 8, 8, 1),
        "bits": (8,),
    }
    assert all(made[name].dtype == np.uint8 for name in ("images", "fast", "previews"))


def test_keys_of_the_card_are_documented(weights):
    page = (PROJECT / "docs/python.md").read_text()
    assert all(f"`{key}`" in page for key in load(weights, "cpu").card)


def test_how_to_cite_has_todays_version():
    citation = yaml.safe_load((PROJECT / "CITATION.cff").read_text())
    assert citation["version"] == ddpm.__version__ == PROJECT_FILE["project"]["version"]
    assert citation["license"] == PROJECT_FILE["project"]["license"]


def test_hosts_run_what_has_to_pass_and_hooks_the_projects_own_tools():
    jobs = yaml.safe_load((PROJECT / ".github/workflows/ci.yml").read_text())["jobs"]
    assert ".ci/run" in [step.get("run") for job in jobs.values() for step in job["steps"]]
    (local,) = yaml.safe_load((PROJECT / ".pre-commit-config.yaml").read_text())["repos"]
    commands = [hook["entry"].split()[:2] for hook in local["hooks"]]
    assert commands == [["./run", tool] for tool in ("ruff", "ruff", "snakefmt", "mypy")]
    assert "./run mypy" in (PROJECT / ".ci/run").read_text()
