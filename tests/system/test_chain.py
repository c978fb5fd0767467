"""The whole chain in one command: what it makes, and that each part can be had by name."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from ddpm.config.layout import Layout
from ddpm.config.resolving import read_config
from ddpm.planning.status import all_jobs

BEYOND = ("reproduced", "training-curve", "fewsteps", "bound")
NUMBERED = (1, 2, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
FIGURES = ("diffusion", *(f"figure{number}" for number in NUMBERED), *BEYOND)
TABLES = ("table1", "table2", "table4", "scores")
ROWS = ("mu-vlb-learned", "mu-vlb-fixed", "mu-simple", "eps-vlb-learned", "eps-vlb-fixed", "eps-simple")


def test_every_table_and_figure_is_there(finished):
    for name in TABLES:
        for suffix in (".csv", ".md", ".tex", ".html"):
            assert (finished.results / f"tables/{name}{suffix}").stat().st_size > 200
    for name in FIGURES:
        with Image.open(finished.results / f"figures/{name}.png") as picture:
            assert min(picture.size) > 200
        assert (finished.results / f"figures/{name}.pdf").read_bytes().startswith(b"%PDF")
    with Image.open(finished.results / "figures/diffusion.gif") as animation:
        assert animation.n_frames > 10


def test_status_looks_at_the_files_that_rules_write(finished, monkeypatch):
    monkeypatch.chdir(finished.folder)
    for job in all_jobs(Layout(read_config(Path("config.yaml")))):
        assert job.output.exists()
        assert job.log.exists()


def test_the_report_is_one_file_that_holds_them_all(finished):
    page = (finished.results / "report.html").read_text()
    assert page.count("data:image/") >= len(FIGURES) and len(page) < 6_000_000
    assert page.count('class="window"') == 3  # q, p and what the network predicts
    assert not re.search(r'(src|href)="(?!data:|#)', page.replace('href="https://', 'cite="https://'))
    for stage in ("data", "training", "sampling", "evaluation", "report"):
        assert stage in page
    for row in ROWS:
        assert f"digits-{row}" in page
    assert "digits classifier" in page


def test_an_unstable_run_is_a_result_and_the_workflow_goes_on(finished):
    outcome = json.loads((finished.results / "digits-mu-vlb-learned/training.json").read_text())
    assert outcome["status"] == "unstable"
    table = (finished.results / "tables/table2.md").read_text()
    row = next(line for line in table.splitlines() if "learned diagonal" in line)
    assert re.search(r"\| +– \|", row)
    assert "unstable here only" in row
    assert f"Unstable at step {outcome['step']}" in table


def test_numbers_reach_the_tables(finished):
    metrics = json.loads((finished.results / "digits-eps-simple/metrics.json").read_text())
    table = (finished.results / "tables/table1.csv").read_text()
    assert f"{metrics['fid']['train']:.2f}" in table
    assert f"{metrics['nll']['test']['bits_per_dim']:.2f}" in table


def test_snakemakes_own_report_has_captions_and_labels(finished, tmp_path):
    finished.snakemake("--report", str(tmp_path / "report.html"))
    page = (tmp_path / "report.html").read_text()
    for name in (*FIGURES, *TABLES):
        assert name in page
    for word in ("Figures", "Tables", "Beyond the paper", "In the paper:", "scale demo"):
        assert word in page


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("table2", {"table2"}),
        ("figure5", {"figure5"}),
        ("results/demo/figures/figure6.png", {"figure6"}),
        ("results/demo/tables/table4.tex", {"table4"}),
        ("figure9", {"figure9"}),
        ("training-curve", {"training-curve"}),
        ("figure13", {"figure13"}),
    ],
)
def test_one_thing_by_name_when_the_rest_is_there(target, expected, finished):
    for folder in ("tables", "figures"):
        for file in (finished.results / folder).glob(f"{Path(target).stem}.*"):
            file.unlink()
    assert {rule for rule, _ in finished.jobs(target)} == expected
    (finished.results / "report.html").touch()  # as what it shows has the same bytes again


def test_a_figure_is_redrawn_by_force_and_no_other(finished):
    before = {path: path.stat().st_mtime_ns for path in (finished.results / "figures").iterdir()}
    assert finished.jobs("--forcerun", "figure13", "--", "figure13") == [("figure13", "")]
    redrawn = {path.name for path, time in before.items() if path.stat().st_mtime_ns != time}
    assert redrawn == {"figure13.png", "figure13.pdf"}
    assert [rule for rule, _ in finished.jobs("--forcerun", "figure13")] == ["figure13", "page"]


STAGES = ("data", "training", "sampling", "evaluation", "report")


def test_every_rule_without_wildcards_is_a_target_and_so_is_every_stage(finished):
    listed = finished.snakemake("--list-target-rules").stdout.split()
    assert {*STAGES, *FIGURES, *TABLES, "all", "download", "page", "plan"} <= set(listed)
    others = {"plan", "network_source", "download_network", "download"}  # of which the demo makes nothing

    said = finished.snakemake("-n", *(name for name in listed if name not in others))
    assert "Nothing to be done" in said.stdout + said.stderr
    planned = finished.snakemake("-n", *others).stdout
    assert others <= set(re.findall(r"^(?:local)?rule (\w+):", planned, re.MULTILINE))


@pytest.mark.parametrize(
    ("stage", "makes", "leaves"),
    [
        ("data", {"prepare"}, {"train"}),
        ("training", {"train", "select"}, {"sample", "classifier"}),
        (
            "sampling",
            {"sample", "few_steps", "latents", "interpolate", "trajectory", "snapshot_previews"},
            {"features"},
        ),
        ("evaluation", {"evaluate", "neighbours", "progressive", "rate_distortion", "few_steps_scores"}, {"figure5"}),
        ("report", {"figure5", "table2", "page"}, {"download_data"}),
    ],
)
def test_a_stage_makes_all_that_the_report_needs_of_it(stage, makes, leaves, fresh):
    planned = fresh.snakemake("-n", stage, "--quiet", "rules").stdout
    rules = {line.split()[0] for line in planned.splitlines() if re.fullmatch(r"[\w-]+ +\d+", line)}
    assert makes <= rules
    assert not leaves & rules


def test_nothing_of_the_papers_is_made_from_few_steps(fresh):
    """Every table and figure but the one that is an addition, planned from nothing."""
    paper = [*TABLES, *(name for name in FIGURES if name not in BEYOND)]
    assert "few_steps" not in fresh.snakemake("-n", *paper).stdout
    assert "few_steps" in fresh.snakemake("-n", "fewsteps").stdout


def test_one_thing_by_name_makes_just_what_it_needs(fresh):
    ran = fresh.jobs("figure13")
    assert sorted(ran) == [
        ("figure13", ""),
        ("prepare", ""),
        ("sample", "digits-eps-simple"),
        ("sample", "digits-eps-simple"),
        ("select", "digits-eps-simple"),
        ("train", "digits-eps-simple"),
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--config", "scale=demos"], ["scale: 'demos'", "demo"]),
        (["--config", "figures=[figure99]"], ["figures: 'figure99'", "figure13"]),
        (["--config", "override={defaults: {training: {step: 5}}}"], ["training.step", "unknown key", "steps"]),
        (["figure99"], ["figure99"]),
    ],
)
def test_bad_input_is_refused_before_any_job(arguments, words, fresh):
    done = fresh.snakemake(*arguments, check=False)
    assert done.returncode != 0
    for word in words:
        assert word in done.stderr, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    assert not (fresh.folder / "results").exists()
