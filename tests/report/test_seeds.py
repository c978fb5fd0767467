"""Repeats with other seeds: a mean, a spread and a word about it in the row of what they repeat."""

from statistics import stdev

import pytest
from records import read_records

from ddpm.config.errors import UserError
from ddpm.report.inputs import find_run, main_run
from ddpm.report.numbers import Number, group_repeats, mean_over_seeds
from ddpm.report.ordering import describe_ordering
from ddpm.report.tables import make_table
from ddpm.storage.files import write_text


@pytest.fixture
def base(make):
    """The main run by the paper's protocol, of whose seeds the FID differs by more than its bootstrap says."""
    return make.as_published("eps-simple", 9.4, 0.1, 3.1) | {"nll": make.bits(3.75, 3.72, 0.001)}


@pytest.fixture
def write(tmp_path, results):
    """Make a table of runs; give the rows with an experiment by its name."""

    def build(name, *runs, curves=()):
        paths = [tmp_path / f"{name}.{suffix}" for suffix in ("csv", "md", "tex", "html")]
        make_table(name, [results.add(run) for run in runs], list(curves), *paths)
        rows = [row for row in read_records(paths[0]) if row["Experiment"]]
        return rows, paths[1].read_text()

    return build


def scored(score, fid, make, **changes):
    """What differs in a repeat: the Inception Score and FID."""
    return {
        "inception_score": {"mean": score, "std": 0.2, "splits": 10},
        "fid": {"train": fid, "test": fid + 2},
        "fid_spread": {"train": make.certainty(fid), "test": make.certainty(fid + 2)},
    } | changes


def test_a_row_is_the_mean_over_training_seeds_with_their_spread(write, base, make):
    others = [make.repeat(base, k, **scored(9.4 + 0.1 * k, 3.1 + 0.3 * k, make)) for k in (1, 2)]
    rows, text = write("table2", *others, base)
    (row,) = rows
    assert row["Experiment"] == base["experiment"]
    assert (row["IS, Inception"], row["IS, Inception ±"]) == ("9.50", "0.10")
    assert (row["FID train, Inception"], row["FID train, Inception ±"]) == ("3.40", "0.30")
    assert (row["FID train, difference"], row["FID train, verdict"]) == ("+0.23", "reproduced")
    assert row["Verdict note"] == (
        "Mean and spread of 3 training seeds. The ± of our IS is the spread over these seeds, "
        "that of the paper's the spread over splits."
    )
    assert "3.40 ± 0.30" in text
    (alone,), _ = write("table2", base | {"fid": {"train": 3.4, "test": 5.4}})
    assert (alone["FID train, Inception ±"], alone["FID train, verdict"]) == ("", "close")
    assert (alone["IS, Inception ±"], alone["Verdict note"]) == ("0.10", "")


def test_the_larger_of_both_errors_counts(base, make):
    wide = make.repeat(base, 1, **scored(9.4 + 0.5, 3.1 + 0.001, make))
    (run,) = group_repeats([base, wide])
    found = mean_over_seeds(run)
    assert found["is"].error == pytest.approx(stdev((9.4, 9.9)))
    assert found["fid_train"].error == 0.02 > found["fid_train"].spread
    assert found["nll_test"].error == 0.001 and found["nll_test"].spread == 0


def test_sampling_seeds_leave_what_samples_have_no_part_in(write, base, make):
    training = make.repeat(base, 1, **scored(9.6, 3.3, make, nll=make.bits(3.85, 3.82)))
    sampling = make.repeat(base, 2, "sampling", **scored(9.8, 3.5, make, nll=make.bits(9.99, 9.99)))
    (row,), _ = write("table1", base, training, sampling)
    assert (row["FID train, Inception"], row["NLL test (bits/dim), cifar10"]) == ("3.30", "3.80")
    assert row["NLL test (bits/dim), cifar10 ±"] == "0.07"
    assert row["Verdict note"].startswith(
        "IS, FID train, FID test: mean and spread of 2 training seeds and 2 sampling seeds. "
        "NLL test, NLL train: mean and spread of 2 training seeds. The ± of our IS"
    )
    (row,), _ = write("table1", base, sampling)
    assert (row["NLL test (bits/dim), cifar10"], row["NLL test (bits/dim), cifar10 ±"]) == ("3.75", "")
    assert row["Verdict note"].startswith("IS, FID train, FID test: mean and spread of 2 sampling seeds. The ±")


def test_an_unstable_repeat_is_named_and_left_out(write, base, make):
    other = make.repeat(base, 1, **scored(9.6, 3.3, make))
    broken = make.repeat(base, 2, status="unstable", step=17, reason="boom", **make.nothing)
    broken["deviations"] = [{"text": "of the broken one", "affects": make.every}]
    (row,), text = write("table2", base, other, broken)
    assert row["FID train, Inception"] == "3.20" and row["Verdict"] == "reproduced"
    assert row["Verdict note"].startswith("Mean and spread of 2 training seeds.")
    assert row["Verdict note"].endswith(f"{broken['experiment']} is left out: unstable at step 17: boom.")
    assert "of the broken one" not in text
    (run,) = group_repeats([base, broken | {"fid": {"train": 900.0, "test": None}}])  # whatever it left
    assert mean_over_seeds(run)["fid_train"].value == 3.1
    (row,), _ = write("table2", base, broken)
    assert row["FID train, Inception"] == "3.10" and row["FID train, Inception ±"] == ""
    assert row["Verdict note"] == f"{broken['experiment']} is left out: unstable at step 17: boom."


def test_a_row_whose_own_run_is_unstable_is_unstable(write, base, make):
    broken = base | {"status": "unstable", "step": 17, "reason": "boom"} | make.nothing
    (row,), _ = write("table2", broken, make.repeat(base, 1))
    assert row["Verdict"] == "unstable here only" and row["FID train, Inception"] == "–"
    assert row["Verdict note"] == "Unstable at step 17: boom."


def test_the_deviations_of_all_that_enter_the_mean_mark_it(write, base, make):
    one = make.repeat(base, 1, deviations=[{"text": "short", "affects": ["is"]}])
    two = make.repeat(base, 2, deviations=[{"text": "short", "affects": ["fid_train"]}])
    (row,), _ = write("table2", base, one, two)
    marked = {title: row[f"{title}, Inception note"] for title in ("IS", "FID train", "FID test")}
    note = "Not the paper's protocol: short."
    assert marked == {"IS": note, "FID train": note, "FID test": ""}
    assert (row["IS, verdict"], row["FID train, verdict"]) == ("not comparable", "not comparable")


def test_table4_is_the_mean_of_the_curves_of_all_trainings(write, results, base, make):
    other, sampled = make.repeat(base, 1), make.repeat(base, 2, "sampling")
    curves = [results.rate_distortion(1000, run["experiment"]) for run in (base, other, sampled)]
    for path, value in zip(curves, (60.0, 64.0, 99.0), strict=True):
        lines = ["t,reverse_time,rate,distortion,distortion_mean"]
        lines += [f"{t},{1001 - t},0.5,{value},{value}" for t in range(1, 1001)]
        write_text(path, "\n".join(lines) + "\n")
    rows, _ = write("table4", base, other, sampled, curves=curves)
    assert {(row["Distortion (RMSE), cifar10"], row["Distortion (RMSE), cifar10 ±"]) for row in rows} == {
        ("62.00000", "2.82843")
    }
    assert {row["Verdict note"] for row in rows} == {"Mean and spread of 2 training seeds."}


def test_every_training_of_a_mean_says_which_step_was_taken(write, base, make):
    for run, step in ((base, 900), (other := make.repeat(base, 1), 800)):
        run["made_from"] = run["made_from"] | {"weights": {"checkpoint": "final", "step": step}}
    (row,), _ = write("table2", base, other)
    assert row["Verdict note"].endswith("Checkpoint: final, steps 900 and 800.")


def test_repeats_have_no_row_of_their_own(base, make):
    better = make.repeat(base, 1, method=base["method"] | {"variance": "fixedlarge"})
    base["method"] = base["method"] | {"variance": "fixedsmall"}
    runs = [better, base]
    assert find_run(runs, "eps", "simple", "fixed") is base is main_run(runs)
    assert [run["experiment"] for run in group_repeats(runs)] == [base["experiment"]]
    assert "fewer than two rows" in describe_ordering(group_repeats(runs))[1]


def test_a_repeat_of_what_is_not_there_is_refused(base, make):
    with pytest.raises(UserError, match=r"digits-eps-simple-training-1 repeats digits-eps-simple, whose metrics"):
        group_repeats([make.repeat(base, 1)])


def test_an_error_that_nobody_knows_is_none(base, make):
    base["nll"] = make.bits(3.75, 3.72, float("nan"))
    base["fid_spread"] = {"train": None, "test": None}
    (run,) = group_repeats([base])
    found = mean_over_seeds(run)
    assert found["nll_test"] == Number(3.75) and found["fid_train"] == Number(3.1)
