"""The documentation names what there is."""

import re

import deviate
import pytest
from workspace import PROJECT

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


PAGES = (
    "README",
    "CONTRIBUTING",
    *(f"docs/{name}" for name in ("benchmarks", "cifar10", "fidelity", "operations", "oracle")),
)


@pytest.mark.parametrize("page", [f"{name}.md" for name in PAGES])
def test_files_that_a_page_names_exist(page):
    text = (PROJECT / page).read_text()
    for link in re.findall(r"\]\((?!http)([^)]+)\)", text):
        assert ((PROJECT / page).parent / link).exists(), link
    for path in re.findall(r"(?<![\w/.-])((?:workflow|profiles|envs|docs|tests|benchmarks)/[\w./-]*\w)", text):
        assert (PROJECT / path).exists(), path
