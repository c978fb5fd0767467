"""The table of other scores: every experiment of a run, and how certain its numbers are."""

import re

import pytest
from records import read_records

from ddpm.config.errors import UserError
from ddpm.report.numbers import format_number, format_spread
from ddpm.report.tables import make_table


@pytest.fixture
def scores(tmp_path, results):
    """Make the table of runs; give its rows by experiment, and its texts by format."""

    def build(*runs):
        paths = {suffix: tmp_path / f"scores.{suffix}" for suffix in ("csv", "md", "tex", "html")}
        make_table("scores", [results.add(run) for run in runs], [], *paths.values())
        rows = {row["Run"]: row for row in read_records(paths["csv"])}
        texts = {key: path.read_text(encoding="utf-8") for key, path in paths.items()}
        return rows, texts | {"md": re.sub(" +", " ", texts["md"])}  # whose cells are as wide as the widest

    return build


def test_a_row_has_every_score_and_how_certain_it_is(scores, make):
    rows, texts = scores(make.metrics())
    (row,) = rows.values()
    assert row["Images"] == "300" and row["Data set"] == "digits" and row["Network"] == "digits classifier"
    assert row["FID train, of these"] == "12.35"
    assert row["FID train, 95 % interval"] == "12.31 to 12.38" and row["FID test, 95 % interval"] == "14.46 to 14.54"
    assert row["FID train, of infinitely many"] == "11.35" and row["FID test, of these"] == "14.50"
    assert (row["KID × 1000"], row["KID × 1000 ±"]) == ("5.12", "0.70")
    assert (row["Precision"], row["Recall"]) == ("0.688", "0.500")
    assert (row["IS"], row["IS ±"]) == ("7.21", "0.24")
    assert (row["Bits/dim test"], row["Bits/dim test ±"], row["Bits/dim test ≤"]) == ("4.125", "0.010", "<=")
    assert "Other scores, and how certain they are: Handwritten digits at scale demo" in texts["md"]
    assert "scored by digits classifier." in texts["md"] and "≤ 4.125 ± 0.010" in texts["md"]
    assert "| 5.12 ± 0.70<sup>1</sup> |" in texts["md"] and "1. KID: over 100 subsets of 250 images." in texts["md"]
    assert "2. By the 3 nearest neighbours among 300 images." in texts["md"]
    assert texts["tex"].isascii() and r"KID $\times$ 1000" in texts["tex"]
    assert "paper" not in texts["html"].casefold()


def test_notes_on_certainty_stand_at_the_number(scores, make):
    note = "The covariance is singular: 300 images, 2,048 features."
    spread = {"train": make.certainty(12.345, note=note), "test": make.certainty(14.5)}
    rows, texts = scores(make.metrics(fid_spread=spread))
    (row,) = rows.values()
    assert row["FID train, of these note"] == row["FID train, of infinitely many note"] == note
    assert row["FID test, of these note"] == "" and row["FID train, of infinitely many"] == "–"
    assert "12.35<sup>1</sup> | 12.31 to 12.38 | –<sup>1</sup> | 14.50 |" in texts["md"]
    known = spread["train"] | {"infinity": 11.0}
    rows, _ = scores(make.metrics(fid_spread={"train": known, "test": None}))
    assert rows["digits-eps-simple"]["FID train, of infinitely many note"] == ""  # the note is not about this number


def test_what_was_not_measured_is_a_dash(scores, make):
    rows, texts = scores(make.unstable("eps-simple"))
    row = rows["digits-eps-simple"]
    labels = ("Table", "Scale", "Data", "Experiment", "Run", "Data set", "Network")
    shown = {key: row[key] for key in row if key not in labels and not key.endswith((" ±", " ≤", " note", " from"))}
    assert set(shown.values()) == {"–"} and len(shown) == 11
    assert row["Run note"] == f"Unstable at step 1,234: {make.reason}." and f"1. {row['Run note']}" in texts["md"]
    without = make.metrics() | make.nothing | {"fid": {"train": 5.0, "test": None}}
    row = scores(without)[0]["digits-eps-simple"]
    assert [row[key] for key in shown] == ["300", "5.00", *["–"] * 9]
    assert not any(row[key] for key in row if key.endswith((" ±", " ≤", " note")))


def test_clean_fid_and_scores_by_published_statistics_have_columns_where_there_are_some(scores, make):
    ttur = {"score": "FID", "split": "train", "publisher": "TTUR", "source": "a.npz", "value": 3.25, "reason": None}
    lost = ttur | {"publisher": "clean-fid", "value": None, "reason": "not fetched: 404"}
    kid = {"mean": 0.002, "std": 0.0001, "subsets": 100, "subset_size": 1000}
    inception = make.as_published("eps-simple", 9.4, 0.1, 3.2) | {
        "clean_fid": {"train": 4.5, "test": None}, "clean_kid": kid, "published": [ttur, lost],
        "left_out": {"clean_fid_test": "there are no test images"}, "experiment": "cifar10-eps-simple",
    }  # fmt: skip
    other = make.metrics() | {"left_out": {"clean_fid": "of Inception's features"}}
    rows, _ = scores(inception, other)
    row, without = rows.values()
    assert (row["Clean-FID train"], row["Clean-KID × 1000"], row["Clean-KID × 1000 ±"]) == ("4.50", "2.00", "0.10")
    assert row["FID train, by TTUR's statistics"] == "3.25"
    assert not any("by clean-fid" in column or column == "Clean-FID test" for column in row)
    assert (without["Clean-FID train"], without["FID train, by TTUR's statistics"]) == ("–", "–")
    assert without["Clean-FID train note"] == "Clean-FID train: of Inception's features."
    (row,) = scores(other)[0].values()
    assert not any("Clean" in column for column in row), "what no run has is no column"


def test_why_a_score_was_left_out_stands_at_its_dash(scores, make):
    left_out = {"inception_score": "3 images cannot be split", "kid": "one image", "fid_test": "no test images"}
    run = make.metrics() | {"inception_score": None, "kid": None, "left_out": left_out}
    run["fid"], run["fid_spread"] = {"train": 5.0, "test": None}, {"train": make.certainty(5.0), "test": None}
    (row,) = scores(run)[0].values()
    assert (row["IS"], row["IS note"]) == ("–", "Left out: 3 images cannot be split.")
    assert row["KID × 1000 note"] == "Left out: one image." and row["FID test, of these note"].endswith("test images.")
    assert row["Precision note"] == "By the 3 nearest neighbours among 300 images."


def test_repeats_are_in_the_row_of_what_they_repeat(scores, make):
    run = make.metrics()
    other = make.repeat(
        run, 1, fid={"train": 13.345, "test": 15.5}, kid=run["kid"] | {"mean": 0.00712},
        fid_spread={"train": make.certainty(13.345), "test": make.certainty(15.5)},
    )  # fmt: skip
    rows, _ = scores(run, other, make.metrics("mu-simple"))
    assert list(rows) == ["digits-eps-simple", "digits-mu-simple"]
    row = rows["digits-eps-simple"]
    assert (row["FID train, of these"], row["FID train, of these ±"]) == ("12.85", "0.71")
    assert row["FID train, 95 % interval"] == "12.81 to 12.88"
    assert (row["KID × 1000"], row["KID × 1000 ±"]) == ("6.12", "1.41")
    assert row["Run note"] == "Mean and spread of 2 training seeds. The ends of intervals are means too."
    assert rows["digits-mu-simple"]["Run note"] == ""
    sampled = make.repeat(run, 1, "sampling")
    row = scores(run, sampled)[0]["digits-eps-simple"]
    assert row["Run note"].startswith("FID train, FID test, KID, Precision, Recall, IS: mean and spread of 2 sampling")
    assert row["Bits/dim test ±"] == "0.010"


def test_the_untrained_baseline_and_several_data_sets_and_networks_have_rows(scores, make):
    untrained = make.metrics() | {"experiment": "digits-eps-simple-untrained"}
    cifar = make.as_published("eps-simple", 9.4, 0.1, 3.2) | {"experiment": "cifar10-eps-simple"}
    rows, texts = scores(make.metrics(), untrained, cifar)
    assert list(rows) == ["digits-eps-simple", "digits-eps-simple-untrained", "cifar10-eps-simple"]
    assert "| Run | Data set | Network | Images |" in texts["md"]
    assert "| cifar10-eps-simple | cifar10 | Inception |" in texts["md"]
    assert "scored by digits classifier and Inception." in texts["md"]
    _, texts = scores(make.metrics(), untrained)
    assert "| Run | Images |" in texts["md"]  # as the caption names both


def test_a_table_of_no_experiments_is_refused(scores):
    with pytest.raises(UserError, match="scores: a table of experiments needs at least one"):
        scores()


@pytest.mark.parametrize(
    ("value", "decimals", "text", "spread", "beside"),
    [
        (3.174, 2, "3.17", 0.111, "0.11"),
        (0.01234, 2, "0.0123", 0.00071, "0.0007"),
        (987.157, 2, "987.16", 12.0, "12.00"),
        (43_208_498.2, 2, "4.32e+07", 3_677_708.6, "3.7e+06"),  # KID of features that are not Inception's
        (42_019_836.9, 2, "4.20e+07", None, ""),
    ],
)
def test_numbers_have_the_digits_that_can_be_read(value, decimals, text, spread, beside):
    assert format_number(value, decimals) == text
    assert format_spread(spread, text) == beside
