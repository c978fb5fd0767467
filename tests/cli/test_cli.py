"""python -m ddpm: every job of the workflow by hand, with help that needs no torch."""

import re
from pathlib import Path

from helpers import run_ddpm

RULES = Path(__file__).parents[2] / "workflow/rules"


def test_help_lists_every_command_that_a_rule_calls():
    done = run_ddpm("--help")
    called = {name for path in RULES.glob("*.smk") for name in re.findall(r"python -m ddpm ([\w-]+)", path.read_text())}
    assert len(called) > 10
    for name in called:
        assert re.search(rf"\b{name}\b", done.stdout), name


def test_unknown_names_are_refused_with_the_known_ones(tmp_path):
    for arguments, words in (
        (["prepare", "cats", "--out", str(tmp_path / "d")], ["'cats'", "digits"]),
        (["figure", "figure99", "x", "--out", str(tmp_path / "f.png")], ["figure99", "figure13"]),
        (["table", "table9", "--out", str(tmp_path / "t.csv")], ["table9", "table4"]),
    ):
        done = run_ddpm(*arguments)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        for word in words:
            assert word in done.stderr
    assert not list(tmp_path.iterdir())
