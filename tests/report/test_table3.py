"""Table 3: categories of LSUN side by side, and the checkpoint that every table names."""

import subprocess
import sys

import pytest
from helpers import run_ddpm
from records import read_records

from ddpm.config.errors import UserError
from ddpm.report.inputs import PUBLISHED
from ddpm.report.tables import make_table

INCEPTION = {"network": "Inception (2015-12-05)", "sha256": "0" * 64}
NETWORK = INCEPTION["network"]
STEPS = "1,000 training steps of 64, not 2,400,000 of 64"
CHECKPOINT = {"checkpoint": "lowest-fid", "snapshots": 24, "snapshot_images": 5000, "step": 2_300_000}
LOWEST = "Checkpoint: lowest FID over training (of 24 snapshots, 5,000 images each), step 2,300,000."


@pytest.fixture
def lsun(results, make):
    """Add a run of a category with this FID, of the paper's protocol unless changed; give its file."""

    def add(part, train, ending="", weights=None, **changes):
        run = make.metrics(
            experiment=f"lsun-{part}256-eps-simple{ending}",
            data={"name": f"lsun-{part}256", "title": f"LSUN {part}"},
            fid={"train": train, "test": None},
            fid_spread={"train": make.certainty(train), "test": None},
            nll=None,
            features=INCEPTION,
            deviations=[],
        )
        run["made_from"]["weights"] = weights or {}
        return results.add(run | changes)

    return add


@pytest.fixture
def write(tmp_path):
    """Make a table; give its rows, and the texts by format."""

    def make(name, metrics, curves=(), columns=None):
        paths = {suffix: tmp_path / f"{name}.{suffix}" for suffix in ("csv", "md", "tex", "html")}
        make_table(name, list(metrics), list(curves), *paths.values(), columns)
        return read_records(paths["csv"]), {key: path.read_text(encoding="utf-8") for key, path in paths.items()}

    return make


@pytest.fixture
def table3(write):
    """Make Table 3 with each experiment in the column that its data set's name has; give rows by model, and texts."""

    def build(*metrics, columns=None):
        if columns is None:
            columns = {path.parent.name: path.parent.name.split("-")[1].removesuffix("256") for path in metrics}
        rows, texts = write("table3", metrics, columns=columns)
        return {row["Model"]: row for row in rows}, texts

    return build


OURS, LARGE = "Ours (L_simple)", "Ours (L_simple, large)"


def test_published_table3():
    rows = [list(row.values()) for row in read_records(PUBLISHED / "table3.csv")]
    assert rows == [
        ["ProgressiveGAN", "", "8.34", "6.42", "37.52", ""],
        ["StyleGAN", "", "2.65", "4.21", "8.53", "church cat"],
        ["StyleGAN2", "", "", "3.86", "6.93", ""],
        [OURS, "standard", "6.36", "7.89", "19.75", ""],
        [LARGE, "large", "4.90", "", "", ""],
    ]


def test_each_run_stands_in_its_column_and_row(table3, lsun):
    rows, texts = table3(lsun("cat", 20.0), lsun("bedroom", 6.5), lsun("bedroom", 4.85, "-large"), lsun("church", 7.89))
    ours, large = rows[OURS], rows[LARGE]
    assert [ours[f"{part}, {NETWORK}"] for part in ("Bedroom", "Church", "Cat")] == ["6.50", "7.89", "20.00"]
    assert [ours[f"{part}, difference"] for part in ("Bedroom", "Church", "Cat")] == ["+0.14", "+0.00", "+0.25"]
    assert [large[f"{part}, {NETWORK}"] for part in ("Bedroom", "Church", "Cat")] == ["4.85", "", ""]
    assert large["Bedroom, difference"] == "-0.05"
    assert ours["Verdict"] == "reproduced" == large["Verdict"]
    assert rows["StyleGAN2"]["Verdict"] == "baseline"
    assert "the paper on LSUN 256x256 beside LSUN cat, LSUN bedroom, LSUN church at scale demo" in texts["md"]
    assert texts["html"].isascii() and "CIFAR" not in texts["html"]


def test_stars_and_dashes_are_those_of_the_paper(table3):
    rows, texts = table3()
    assert [rows["StyleGAN"][f"{part}, paper"] for part in ("Bedroom", "Church", "Cat")] == ["2.65", "4.21*", "8.53*"]
    assert rows["StyleGAN"]["Verdict note"] == "* Reported by StyleGAN2's authors as baselines."
    assert not any(row["Verdict note"] for model, row in rows.items() if model != "StyleGAN")
    assert rows["StyleGAN2"]["Bedroom, paper"] == rows[LARGE]["Cat, paper"] == "–"
    assert {rows[OURS]["Verdict"], rows[LARGE]["Verdict"]} == {"not run"}
    assert r"4.21\*" in texts["md"] and "4.21*" in texts["html"] and "4.21*" in texts["tex"]


def test_what_is_not_the_papers_is_said_by_category(table3, lsun, make):
    rows, _ = table3(
        lsun("bedroom", 30.0, deviations=[{"text": STEPS, "affects": make.every}]),
        lsun("church", 0, status="unstable", step=1234, reason=make.reason, fid=None, inception_score=None),
    )
    row = rows[OURS]
    assert row["Verdict"] == "Bedroom: not comparable; Church: unstable here only; Cat: not run"
    assert row[f"Bedroom, {NETWORK} note"] == f"Not the paper's protocol: {STEPS}."
    assert row[f"Church, {NETWORK} note"] == row[f"Cat, {NETWORK} note"] == ""
    assert f"Church: Unstable at step 1,234: {make.reason}." in row["Verdict note"]
    assert (row[f"Bedroom, {NETWORK}"], row["Bedroom, difference"]) == ("30.00", "")
    assert (row[f"Church, {NETWORK}"], row[f"Cat, {NETWORK}"]) == ("–", "")


def test_a_run_that_the_paper_has_not_is_shown_without_a_comparison(table3, lsun):
    row = table3(lsun("church", 7.0, "-large"))[0][LARGE]
    assert row[f"Church, {NETWORK}"] == "7.00" and row["Church, difference"] == ""
    assert row["Verdict"] == "Bedroom: not run; Church: blank in the paper, stable here"


def test_stand_ins_go_where_they_are_told_and_are_not_compared(table3, results, make):
    path = results.add(make.metrics(deviations=[]))
    row = table3(path, columns={"digits-eps-simple": "church"})[0][OURS]
    assert row["Church, digits classifier"] == "12.35"
    assert row["Verdict"] == "Bedroom, Cat: not run; Church: not comparable"
    assert row["Church, digits classifier note"] == (
        "Not the paper's protocol: data set digits instead of LSUN church."
    )


def test_a_run_without_a_column_and_two_in_one_place_are_refused(table3, lsun):
    bedroom = lsun("bedroom", 6.5)
    for columns in ({}, {bedroom.parent.name: "kitchen"}):
        with pytest.raises(UserError, match=r"--column bedroom:lsun-bedroom256-eps-simple.*bedroom, church, cat"):
            table3(bedroom, columns=columns)
    church = lsun("church", 6.5)
    with pytest.raises(UserError, match=r"lsun-bedroom256-eps-simple and lsun-church256-eps-simple .* column cat"):
        table3(bedroom, church, columns={path.parent.name: "cat" for path in (bedroom, church)})


def test_scales_and_networks_are_not_mixed(table3, lsun):
    bedroom = lsun("bedroom", 6.5)
    with pytest.raises(UserError, match="mix scales: demo, paper"):
        table3(bedroom, lsun("church", 7.0, scale="paper"))
    with pytest.raises(UserError, match="mix feature networks"):
        table3(bedroom, lsun("church", 7.0, features={"network": "church classifier", "sha256": "1"}))


def test_the_command_takes_a_column_for_each_experiment(lsun, tmp_path):
    bedroom, church = lsun("bedroom", 6.5), lsun("church", 8.0)
    columns = ["--column", f"bedroom:{bedroom.parent.name}", "--column", f"church:{church.parent.name}"]
    out = tmp_path / "t" / "table3.csv"
    done = run_ddpm("table", "table3", "--metrics", bedroom, "--metrics", church, *columns, "--out", out)
    assert done.returncode == 0, done.stderr
    (row,) = (row for row in read_records(out) if row["Model"] == OURS)
    assert (row[f"Bedroom, {NETWORK}"], row[f"Church, {NETWORK}"]) == ("6.50", "8.00")


# Which of a training's weights were scored


def test_table3_names_the_checkpoint_of_each_category(table3, lsun):
    rows, _ = table3(
        lsun("bedroom", 6.5, weights=CHECKPOINT), lsun("cat", 6.5, weights=CHECKPOINT), lsun("church", 7.0)
    )
    assert rows[OURS]["Verdict note"] == f"Bedroom, Cat: {LOWEST}"


@pytest.mark.parametrize("name", ["table1", "table2", "table4"])
@pytest.mark.parametrize(
    ("weights", "words"),
    [(CHECKPOINT, LOWEST), ({"checkpoint": "final", "step": 9000}, "Checkpoint: final, step 9,000.")],
)
def test_the_other_tables_name_the_checkpoint(write, results, make, name, weights, words):
    run = make.metrics()
    run["made_from"]["weights"] = weights
    rows, texts = write(name, [results.add(run)], [results.rate_distortion()] if name == "table4" else [])
    ours = [row for row in rows if row["Experiment"]]
    assert ours and all(words in row["Verdict note"].split(" | ") for row in ours)
    assert all(words in texts[key] for key in ("md", "tex", "html"))


def test_where_no_choice_is_recorded_nothing_is_said(table3, lsun):
    released = {"kind": "ema", "status": "released", "step": 790_000}
    assert not table3(lsun("bedroom", 6.5, weights=released))[0][OURS]["Verdict note"]
    unstable = {"status": "unstable", "step": 7, "reason": "x", "fid": None}
    rows, _ = table3(lsun("cat", 0, weights={"checkpoint": "final", "step": 7}, **unstable))
    assert "Checkpoint" not in rows[OURS]["Verdict note"]


def test_without_a_test_set_the_cells_are_blank(write, results, make):
    rows, _ = write("table1", [results.add(make.metrics(fid={"train": 12.345, "test": None}))])
    (row,) = (row for row in rows if row["Experiment"])
    assert (row["FID train, digits classifier"], row["FID test, digits classifier"]) == ("12.35", "")
    assert row["FID test, paper"] == "5.24" and row["FID test, difference"] == ""


def test_the_tables_need_none_of_what_only_the_computing_stages_have():
    """envs/report.yaml has neither pydantic nor torch."""
    modules = ("ddpm.report.tables", "ddpm.report.verdicts", "ddpm.report.page", "ddpm.report.figures.neighbours")
    code = f"import sys, {', '.join(modules)}; sys.exit(bool({{'torch', 'pydantic', 'sklearn'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
