"""The whole paper, through the rules and the code that `scale: paper` runs: on stand-in data, with tiny networks."""

import json
import re

import paper
import pytest
import yaml
from PIL import Image
from servers import serving
from workspace import Workspace

from ddpm.config.catalogue import FIGURES, TABLES
from ddpm.config.resolving import load
from ddpm.report.numbers import format_number
from ddpm.report.page import IDEA, TITLES


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory):
    """A project in which the complete paper has run, and the server that it downloaded from."""
    workspace = Workspace(tmp_path_factory.mktemp("paper"), scale="paper")
    with serving() as server:
        workspace.configure(paper.budgets(), sources=paper.sources(server, tmp_path_factory.mktemp("published")))
        workspace.snakemake("download")
        assert not workspace.results.exists(), "downloading does nothing else"
        server.requests.clear()
        server.files.clear()  # what follows needs no network, as on a cluster's nodes
        workspace.snakemake()
        yield workspace, server


def test_all_twelve_experiments_ran_on_data_of_their_own(reproduced):
    workspace, server = reproduced
    experiments = load({"scale": "paper"}).scale_config.experiments
    assert len(experiments) == 12
    assert not server.asked
    for name, experiment in experiments.items():
        metrics = json.loads((workspace.results / name / "metrics.json").read_text())
        assert metrics["status"] == "measured", metrics["reason"]
        assert metrics["data"]["name"] == experiment.data
        assert metrics["scale"] == "paper"
        assert metrics["fid"]["train"] > 0
        assert metrics["made_from"]["process"]["parameterization"] == experiment.diffusion.parameterization
        assert metrics["made_from"]["weights"]["checkpoint"] == experiment.checkpoint


def test_every_table_is_there(reproduced):
    workspace, _ = reproduced
    for name in ("table1", "table2", "table3", "table4"):
        assert name in TABLES
        for suffix in (".csv", ".md", ".tex", ".html"):
            assert (workspace.results / f"tables/{name}{suffix}").stat().st_size > 200
    table3 = (workspace.results / "tables/table3.md").read_text()
    for experiment in ("lsun-bedroom256-eps-simple-large", "lsun-church256-eps-simple", "lsun-cat256-eps-simple"):
        fid = json.loads((workspace.results / experiment / "metrics.json").read_text())["fid"]["train"]
        assert format_number(fid, 2) in table3


def test_every_figure_is_there(reproduced):
    workspace, _ = reproduced
    assert {f"figure{number}" for number in range(1, 20)} < set(FIGURES)
    for name in FIGURES:
        with Image.open(workspace.results / f"figures/{name}.png") as picture:
            assert min(picture.size) > 200
        assert (workspace.results / f"figures/{name}.pdf").read_bytes().startswith(b"%PDF")


def test_the_report_holds_them_all(reproduced):
    workspace, _ = reproduced
    page = (workspace.results / "report.html").read_text()
    for name in (*TABLES, *(name for name in FIGURES if name != IDEA)):  # which opens the page without a number
        title = TITLES.get(name) or re.sub(r"(table|figure)(\d+)", lambda found: f"{found[1].title()} {found[2]}", name)
        assert title in page
    assert page.count("data:image/png") == len(FIGURES)


def test_nothing_small_passes_for_the_papers(reproduced):
    """Every number of ours has its deviations beside it, and no row is called close to the paper's."""
    workspace, _ = reproduced
    for name in ("table1", "table2", "table3"):
        rows = (workspace.results / f"tables/{name}.csv").read_text().splitlines()
        ours = [row for row in rows if "training steps of 2, not" in row]
        assert len(ours) == {"table1": 2, "table2": 6, "table3": 2}[name]
        assert all("not comparable" in row or "blank in the paper" in row for row in ours)
        assert not any("within" in row for row in rows[1:])


def test_the_lowest_fid_was_chosen_where_the_paper_does(reproduced):
    workspace, _ = reproduced
    for name, experiment in load({"scale": "paper"}).scale_config.experiments.items():
        if experiment.snapshots:
            lines = (workspace.results / name / "snapshots.csv").read_text().splitlines()
            columns = lines[0].split(",")
            rows = [dict(zip(columns, map(float, line.split(",")), strict=True)) for line in lines[1:]]
            assert [row["step"] for row in rows] == ([1, 2] if name == "cifar10-eps-simple" else [2])
            best = min(rows, key=lambda row: row["fid_train"])
            weights = json.loads((workspace.results / name / "metrics.json").read_text())["made_from"]["weights"]
            assert (weights["step"], weights["checkpoint"], weights["snapshots"]) == (
                best["step"],
                "lowest-fid",
                len(rows),
            )


def test_others_statistics_are_compared_or_it_is_said_why_not(reproduced):
    """CIFAR-10's were fetched, LSUN's could not be; and none is Inception's where a stand-in is in its place."""
    workspace, server = reproduced
    names = ("cifar10", "lsun-cat256", "lsun-church256")
    files = [workspace.results / f"reference/{name}/published.json" for name in names]
    workspace.snakemake(*(str(file.relative_to(workspace.folder)) for file in files))
    assert not server.asked, "downloading has tried it already"
    for name, file in zip(names, files, strict=True):
        card = json.loads((workspace.folder / f"resources/statistics/{name}/card.json").read_text())
        status = "fetched" if name == "cifar10" else "not fetched"
        assert [each["status"] for each in card["statistics"].values()] == [status] * len(card["statistics"])
        comparisons = json.loads(file.read_text())["comparisons"]
        assert [each["split"] for each in comparisons] == (["train", "test"] if name == "cifar10" else ["train"])
        for comparison in comparisons:
            assert comparison["status"] == "not compared"
            assert "ours of those of TorchScript network" in comparison["reason"]


def test_others_statistics_are_no_reason_to_do_anything_else_again(reproduced):
    workspace, _ = reproduced
    path = workspace.folder / "config.yaml"
    before = path.read_text()
    document = yaml.safe_load(before)
    document["sources"]["cifar10"]["statistics"]["train"]["notes"] = "others"
    path.write_text(yaml.safe_dump(document))
    planned = workspace.snakemake("-n").stdout + workspace.snakemake("-n", "download").stdout
    path.write_text(before)
    rules = set(re.findall(r"^(?:local)?rule (\w+):", planned, re.M))
    assert {"statistics_source", "download_statistics"} <= rules
    assert rules <= {"statistics_source", "download_statistics", "published", "page", "all", "download"}


def test_a_second_run_does_nothing(reproduced):
    workspace, _ = reproduced
    assert "Nothing to be done" in workspace.snakemake().stderr
