"""The whole chain in one command: what it makes, and that each part can be had by name."""

import copy
import csv
import json
import re
import shlex
from pathlib import Path

import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner
from workspace import PROJECT, SHRUNKEN

from ddpm.cli import app
from ddpm.config.layout import Layout
from ddpm.config.resolving import read_config
from ddpm.planning.status import all_jobs
from ddpm.training.model import load_model

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
        assert Path(job.output).exists()
        assert Path(job.log).exists()


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


def test_a_cluster_is_asked_for_more_memory_than_jobs_take(finished):
    """Twice what these smallest of jobs keep resident; of the paper's sizes, docs/clusters.md has the sums."""
    profile = yaml.safe_load((PROJECT / "profiles/slurm/profile.yaml").read_text())
    least = min(rule["mem_mb"] for rule in profile["set-resources"].values())
    files = [*(finished.results / "benchmarks").glob("*/*.tsv")]
    assert len(files) > 60
    for file in files:
        (row,) = csv.DictReader(file.open(), delimiter="\t")
        asked = profile["default-resources"]["mem_mb"] if file.parent.name == "report" else least
        assert 2 * float(row["max_rss"].replace("-", "0")) < asked, file


def test_snakemakes_own_report_has_captions_and_labels(finished, tmp_path):
    finished.snakemake("--report", str(tmp_path / "report.html"))
    page = (tmp_path / "report.html").read_text()
    for name in (*FIGURES, *TABLES):
        assert name in page
    for word in ("Figures", "Tables", "Beyond the paper", "In the paper:", "scale demo"):
        assert word in page


def remove(workspace, *patterns: str) -> None:
    for pattern in patterns:
        for file in workspace.results.glob(pattern):
            file.unlink()


def test_one_thing_by_name_when_the_rest_is_there(finished):
    remove(finished, "tables/table4.*", "figures/figure9.*", "figures/training-curve.*")
    jobs = finished.jobs("results/demo/tables/table4.tex", "figure9", "training-curve")
    assert sorted(jobs) == [(name, "") for name in ("figure9", "table4", "training-curve")]
    (finished.results / "report.html").touch()  # as what it shows has the same bytes again


def test_a_figure_is_redrawn_by_force_and_no_other(finished):
    before = {path: path.stat().st_mtime_ns for path in (finished.results / "figures").iterdir()}
    assert finished.jobs("--forcerun", "figure13", "--", "figure13") == [("figure13", "")]
    redrawn = {path.name for path, time in before.items() if path.stat().st_mtime_ns != time}
    assert redrawn == {"figure13.png", "figure13.pdf"}
    finished.snakemake()


# The commands that docs/experiments.md prints for a part of what is there: what is gone, and what is then made.
PARTS = {
    "--cores 8 table2": ("tables/table2.*", {"table2"}),
    "--cores 8 figure5 figure13": ("figures/figure5.* figures/figure13.*", {"figure5", "figure13"}),
    "--cores 8 results/demo/figures/figure6.png": ("figures/figure6.*", {"figure6"}),
    "--cores 8 evaluation": ("digits-eps-simple/few_steps.csv", {"few_steps_scores", "evaluation"}),
    "--cores 8 --forcerun figure13": ("", {"figure13", "page"}),
    "--cores 8 --forcerun evaluate --until evaluate": ("", {"evaluate"}),
    "-n": ("report.html", {"page"}),
    "--report report.html": ("", set()),
}


def printed(page: str, program: str) -> list[str]:
    """The arguments that a page's shell lines give to `./run {program}`, without what is said beside them."""
    blocks = re.findall(r"^```sh\n(.*?)^```", (PROJECT / page).read_text(), re.M | re.S)
    lines = [shlex.split(line, comments=True) for line in "".join(blocks).replace("\\\n", "").splitlines()]
    begin = ["./run", *program.split()]
    return [shlex.join(line[len(begin) :]) for line in lines if line[: len(begin)] == begin]


def of_the_demo(commands: list[str]) -> list[str]:
    return [command for command in commands if "--config" not in command]


def test_every_printed_command_is_tried():
    assert of_the_demo(printed("docs/experiments.md", "snakemake")) == list(PARTS)
    assert set(of_the_demo(printed("README.md", "snakemake"))) - {"--profile"} <= set(PARTS)


@pytest.mark.parametrize("command", PARTS)
def test_a_printed_command_makes_what_is_said_beside_it(command, finished):
    gone, made = PARTS[command]
    remove(finished, *gone.split())
    assert {rule for rule, _ in finished.jobs(*shlex.split(command))} == made
    finished.snakemake()
    if "--report" in command:
        assert "In the paper:" in (finished.folder / "report.html").read_text()


def test_the_printed_plan_starts_nothing_and_the_download_does_nothing_else(fresh):
    fresh.configure({})
    for page in ("README.md", "docs/experiments.md"):
        plan, download = (command for command in printed(page, "snakemake") if re.match("plan|download", command))
        assert (plan, download) == tuple(f"{name} --cores 1 --config scale=paper" for name in ("plan", "download"))
    assert "hours" in fresh.snakemake(*shlex.split(plan)).stdout
    assert [path.name for path in (fresh.folder / "results/paper").iterdir()] == ["logs"]
    assert {rule for rule, _ in fresh.jobs("-n", *shlex.split(download))} >= {"download_data", "download_network"}


def test_weights_are_exported_and_imported_as_printed(finished, monkeypatch):
    """In this process; what is imported is what was exported, since no address can be reached."""
    _, imports, exports = printed("docs/weights.md", "python -m ddpm")
    monkeypatch.chdir(finished.folder)
    for command in (exports, imports.replace("resources/weights/cifar10-ema", "digits-ddpm")):
        done = CliRunner().invoke(app, shlex.split(command))
        assert done.exit_code == 0, done.output
    ours, back = (load_model(Path(path)).model.state_dict() for path in (exports.split()[1], "model.safetensors"))
    assert ours.keys() == back.keys()
    assert all((ours[name] == back[name]).all() for name in ours)


def test_seeds_a_folder_and_the_lowest_fid_are_planned_as_printed(finished, tmp_path):
    """All three in one configuration: what is there stays, and the snapshots that are there are chosen from."""
    seeds = re.search(r"^`(seeds: .*?)`", (PROJECT / "docs/experiments.md").read_text(), re.M)[1]
    folder = re.search(r"^  (flowers: .*?) +#", (PROJECT / "docs/data.md").read_text(), re.M)[1]
    for i in range(12):
        (tmp_path / f"flowers/{i % 2}").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64)).save(tmp_path / f"flowers/{i % 2}/{i}.png")
    override = copy.deepcopy(SHRUNKEN)
    diffusion = {"parameterization": "eps", "objective": "simple", "variance": "fixedsmall"}
    override["experiments"] |= {
        "flowers-eps-simple": {"data": "flowers", "diffusion": diffusion, "network": {"attn_resolutions": [32]}}
    }
    override["experiments"]["digits-mu-simple"] = yaml.safe_load(seeds)
    override["experiments"]["digits-eps-simple"]["checkpoint"] = "lowest-fid"
    sources = yaml.safe_load(folder.replace("/data/flowers", str(tmp_path / "flowers")))
    finished.configure(override, sources=sources)
    try:
        jobs = finished.jobs("-n")
    finally:
        finished.configure(SHRUNKEN)
    trained = {experiment for rule, experiment in jobs if rule == "train"}
    assert trained == {"flowers-eps-simple", *(f"digits-mu-simple-training-seed{seed}" for seed in (1, 2))}
    sampled = {experiment for rule, experiment in jobs if rule == "sample"}
    assert {f"digits-mu-simple-sampling-seed{seed}" for seed in (1, 2, 3)} < sampled
    assert ("select", "digits-eps-simple") in jobs
    assert "digits-mu-simple" not in {experiment for _, experiment in jobs}


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
