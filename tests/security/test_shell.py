"""Nothing of a configuration is read by a shell: every value in a `shell:` line is quoted."""

import re
from string import Formatter

import pytest
from servers import serving
from stand_in import StandIn, write_torchscript
from workspace import PROJECT, Workspace

from ddpm.config.base import ConfigError
from ddpm.config.resolving import resolve_sources
from ddpm.evaluation.networks.inception import INCEPTION
from ddpm.storage.files import sha256

RULES = sorted((PROJECT / "workflow/rules").glob("*.smk"))
LINE = re.compile(r'^ *shell:\n((?: *".*"\n)+)', re.MULTILINE)
HOSTILE = "$(touch pwned) `touch pwned`; touch pwned & 'q' {x} "


def shell_lines() -> list[tuple[str, str]]:
    """Every `shell:` line of the rules as (file, text)."""
    found = []
    for file in RULES:
        for block in LINE.findall(file.read_text()):
            found.append((file.name, "".join(re.findall(r'^ *"(.*)"$', block, re.MULTILINE))))
    return found


# Would fail if any value stood in a shell line without `:q`, or between quotes of the line's own, where quoting ends.
def test_every_value_of_a_shell_line_is_quoted():
    lines = shell_lines()
    assert len(lines) == sum(len(re.findall(r"^ *shell:", file.read_text(), re.MULTILINE)) for file in RULES)
    for file, line in lines:
        before = ""
        for text, field, form, _ in Formatter().parse(line):
            before += text
            if field is not None:
                assert form == "q", f"{file}: {{{field}}} in: {line}"
                assert before.replace("'%s\\\\n'", "").count("'") % 2 == 0, (
                    f"{file}: {{{field}}} between quotes: {line}"
                )


# Would fail if a parameter were a line of words, which `:q` makes one word of, or a word were put together by a shell.
def test_no_rule_makes_words_by_hand():
    for file in RULES:
        text = file.read_text()
        assert '" ".join' not in text, file
        assert not re.findall(r"shell\((?!prefix)", text), file


def test_a_hostile_address_and_description_reach_no_shell(tmp_path):
    workspace = Workspace(tmp_path)
    network = tmp_path / "net.pt"
    write_torchscript(StandIn(), network)
    with serving() as server:
        server.add("x", network.read_bytes())
        address = f"{server.url}/x?a=1&b=$(touch${{IFS}}pwned)&c=';touch${{IFS}}pwned"
        workspace.configure({}, sources={"inception": {"urls": [address], "sha256": sha256(network)}})
        target = f"resources/inception/{INCEPTION.name}"
        workspace.snakemake(target)
        assert (workspace.folder / target).read_bytes() == network.read_bytes()
        assert server.asked == ["x"]
    assert not list(tmp_path.rglob("pwned"))
    # What is there and right is not fetched again, though the address has changed and nobody answers.
    workspace.configure({}, sources={"inception": {"urls": [f"{server.url}/gone"], "sha256": sha256(network)}})
    workspace.snakemake(target)


def test_a_hostile_root_reaches_no_shell(tmp_path):
    (tmp_path / "project").mkdir()
    workspace = Workspace(tmp_path / "project")
    root = tmp_path / f"net {HOSTILE.replace('{x}', '')}"
    root.mkdir()
    write_torchscript(StandIn(), root / INCEPTION.name)
    source = {"inception": {"root": str(root), "sha256": sha256(root / INCEPTION.name)}}
    workspace.configure({"features": "inception"}, sources=source)
    workspace.snakemake("results/demo/reference/digits/features.npz")
    assert not list(tmp_path.rglob("pwned"))


def test_braces_in_a_root_are_refused(tmp_path):
    """Snakemake would take them for wildcards, wherever the path stands."""
    (tmp_path / "{x}").mkdir()
    with pytest.raises(ConfigError, match=r"sources\.inception\.root: .*no braces"):
        resolve_sources({"inception": {"root": str(tmp_path / "{x}")}})


@pytest.mark.parametrize("description", [HOSTILE, "a {x} and {{y}}"])
def test_a_hostile_description_is_only_words(description, tmp_path):
    workspace = Workspace(tmp_path)
    workspace.configure({"description": description})
    plan = workspace.snakemake("-n", "--printshellcmds", "results/demo/report.html").stdout
    assert "--description " in plan
    assert workspace.snakemake("plan").returncode == 0
    assert not list(tmp_path.rglob("pwned"))


def test_a_project_in_a_hostile_folder_works(tmp_path):
    """Its place is in the line that precedes every job's."""
    folder = tmp_path / "it's $(touch pwned) & more"
    folder.mkdir()
    workspace = Workspace(folder)
    workspace.snakemake("figure2")
    assert (workspace.results / "figures/figure2.png").exists()
    assert not list(tmp_path.rglob("pwned"))
