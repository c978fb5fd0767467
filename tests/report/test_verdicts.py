"""The rule of the verdicts, and what is said of numbers that it cannot be applied to."""

import pytest

from ddpm.report.numbers import Number
from ddpm.report.verdicts import BITS, CURVE, DISTORTION, FID, IS, RATE, RULES, SCORES, combine, compare, judge

PAPER = {"is": "9.46", "is_std": "0.11", "fid_train": "3.17"}
BLANK = {"is": "", "is_std": "", "fid_train": ""}
MEASURED, UNSTABLE = {"status": "measured"}, {"status": "unstable"}


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_without_noise_the_shares_of_the_papers_number_decide(rule, sign):
    for factor, verdict in (
        (0.999 * rule.reproduced, "reproduced"),
        (1.001 * rule.reproduced, "close"),
        (0.999 * rule.close, "close"),
        (1.001 * rule.close, "not reproduced"),
    ):
        assert compare(rule, 3.17, 0.0, Number(3.17 * (1 + sign * factor))) == verdict


def test_the_known_evaluations_of_the_published_weights_reproduce_the_papers_fid():
    assert [compare(FID, 3.17, 0.0, Number(fid)) for fid in (3.21, 3.25, 3.17)] == ["reproduced"] * 3


@pytest.mark.parametrize(
    ("rule", "spread", "error", "allowed"),
    [
        (IS, 0.12, 0.16, 2 * 0.2),  # the paper's spread and ours
        (FID, 0.0, 0.16, 2 * 0.16 * 2**0.5),  # ours, for both
        (BITS, 0.0, 0.04, 2 * 0.04),  # ours alone
        (RATE, 0.0, 0.16, 2 * 0.16),
        (DISTORTION, 0.0, 0.16, 2 * 0.16),
    ],
)
def test_twice_the_combined_standard_error_is_reproduced(rule, spread, error, allowed):
    """Of a number of which the first share is less, and the second more."""
    assert compare(rule, 5.0, spread, Number(5.0 + 0.999 * allowed, error=error)) == "reproduced"
    assert compare(rule, 5.0, spread, Number(5.0 + 1.001 * allowed, error=error)) == "close"


@pytest.mark.parametrize("rule", RULES)
def test_no_uncertainty_reproduces_what_is_far_off(rule):
    assert compare(rule, 5.0, 0.0, Number(5.0 * (1 + 1.001 * rule.close), error=100.0)) == "not reproduced"
    assert compare(rule, 5.0, 0.0, Number(5.0 * (1 + 0.999 * rule.close), error=100.0)) == "reproduced"


def test_shares_of_the_rate_are_taken_of_no_less_than_its_floor():
    assert compare(RATE, 0.0, 0.0, Number(0.03 * 0.0099)) == "reproduced"
    assert compare(RATE, 0.0, 0.0, Number(0.1 * 0.0099)) == "close"
    assert compare(RATE, 0.00013, 0.0, Number(0.00013 + 0.0011)) == "not reproduced"
    assert compare(DISTORTION, 0.0, 0.0, Number(1e-9)) == "not reproduced"


@pytest.mark.parametrize(
    ("paper", "blank", "run", "number", "marked", "verdict"),
    [
        (PAPER, False, None, None, False, "not run"),
        (PAPER, False, UNSTABLE, None, False, "unstable here only"),
        (BLANK, True, UNSTABLE, None, False, "unstable as in the paper"),
        (BLANK, True, MEASURED, Number(9.0), False, "blank in the paper, stable here"),
        (BLANK, True, MEASURED, Number(9.0), True, "blank in the paper, stable here"),
        (BLANK, True, None, None, False, "not run"),
        (BLANK, True, MEASURED, None, False, "not measured"),
        (BLANK, False, MEASURED, Number(9.0), False, ""),
        ({}, False, MEASURED, Number(9.0), False, ""),
        ({}, True, MEASURED, Number(9.0), False, ""),
        (PAPER, False, MEASURED, None, False, "not measured"),
        (PAPER, False, MEASURED, None, True, "not measured"),
        (PAPER, False, MEASURED, Number(9.46), True, "not comparable"),
        (PAPER, False, MEASURED, Number(9.46), False, "reproduced"),
        (PAPER, False, MEASURED, Number(9.46 + 0.21), False, "reproduced"),  # its spread is 0.11
        (PAPER, False, MEASURED, Number(9.46 + 0.23), False, "close"),
        (PAPER | {"is_std": "0.12"}, False, MEASURED, Number(9.46 + 0.23), False, "reproduced"),
    ],
)
def test_judgement(paper, blank, run, number, marked, verdict):
    assert judge(SCORES[0], paper, blank, run, number, marked) == verdict


def test_verdicts_of_a_row_are_summed_up():
    assert combine({"IS": "close", "FID train": "close"}) == "close"
    assert combine({"IS": "close", "FID train": "", "FID test": ""}) == "close"
    assert combine({"IS": "", "FID train": ""}) == combine({}) == ""
    verdicts = {"IS": "reproduced", "FID train": "close", "FID test": "reproduced"}
    assert combine(verdicts) == "IS, FID test: reproduced; FID train: close"


def test_the_curve_is_affected_as_the_test_sets_likelihood_is():
    assert {quantity.affected_as for quantity in CURVE} == {"nll_test"}
