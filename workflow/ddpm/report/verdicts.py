"""The verdict on each number, by one rule: does it reproduce the paper's?"""

from dataclasses import dataclass
from math import hypot

from ddpm.report.numbers import Number, titles_by

REPRODUCED, CLOSE, NOT_REPRODUCED = "reproduced", "close", "not reproduced"
NOT_COMPARABLE, NOT_MEASURED, NOT_RUN = "not comparable", "not measured", "not run"
BLANK, UNSTABLE, UNSTABLE_HERE = (
    "blank in the paper, stable here",
    "unstable as in the paper",
    "unstable here only",
)


@dataclass(frozen=True)
class Rule:
    """How close to the paper's number ours must be."""

    name: str
    reproduced: float
    """The largest distance, as a share of the paper's number."""
    close: float
    error: str
    """What the standard error is, in words."""
    both: bool = False
    """Whether the paper's number is given our standard error, as it has none."""
    floor: float = 0.0
    """Of a smaller number than this, shares are taken of this."""


IS = Rule("Inception Score", 0.02, 0.1, "the spread over the splits, of the paper's number as of ours")
# Two evaluations of the authors' own published weights, by PyTorch and TensorFlow, gave 3.21 and 3.25 for 3.17.
FID = Rule("FID", 0.03, 0.1, "the bootstrap's, for the paper's number too, as it gives none", both=True)
BITS = Rule("Bits/dim", 0.005, 0.02, "that over the images, of ours alone: the paper's images are the same")
# Below 0.01 bits/dim the paper's rates have few digits left, and the last is 0.
RATE = Rule("Rate", 0.03, 0.1, "none", floor=0.01)
DISTORTION = Rule("Distortion", 0.03, 0.1, "none")
RULES = (IS, FID, BITS, RATE, DISTORTION)


@dataclass(frozen=True)
class Quantity:
    """One measured quantity: its title, the published and measured columns that it is read from, and its rule."""

    title: str
    column: str
    rule: Rule
    by_network: bool = False  # whether the title of our number names the feature network, or else the data set
    spread: str | None = None  # the published column of the standard deviation over splits
    bound: str | None = None  # the published column that holds "<=" where the number is an upper bound
    decimals: int = 2
    affected_as: str = ""  # the name under which deviations affect it, if not its column

    @property
    def short(self) -> str:
        """Its title without what stands in brackets."""
        return self.title.partition(" (")[0]


SCORES = (
    Quantity("IS", "is", IS, by_network=True, spread="is_std"),
    Quantity("FID train", "fid_train", FID, by_network=True),
    Quantity("FID test", "fid_test", FID, by_network=True),
)
CODELENGTHS = (
    Quantity("NLL test (bits/dim)", "nll_test", BITS, bound="nll_bound"),
    Quantity("NLL train (bits/dim)", "nll_train", BITS, bound="nll_bound"),
)
CURVE = (
    Quantity("Rate (bits/dim)", "rate", RATE, decimals=5, affected_as="nll_test"),
    Quantity("Distortion (RMSE)", "distortion", DISTORTION, decimals=5, affected_as="nll_test"),
    Quantity(
        "Distortion (mean of per-image RMSE)", "distortion_mean", DISTORTION, decimals=5, affected_as="nll_test"
    ),
)  # fmt: skip


def judge(
    quantity: Quantity, paper: dict[str, str], blank: bool, run: dict | None, number: Number | None, marked: bool
) -> str:
    """The verdict on one number; empty where the paper has no number to compare it with.

    Args:
        paper: the published row. blank: whether the paper leaves that row blank, as unstable to train.
        marked: whether a deviation affects our number.
    """
    published = paper.get(quantity.column)
    if not published and not (blank and quantity.column in paper):
        return ""
    if run is None:
        return NOT_RUN
    if run["status"] == "unstable":
        return UNSTABLE if blank else UNSTABLE_HERE
    if number is None:
        return NOT_MEASURED
    if blank:
        return BLANK
    if marked:
        return NOT_COMPARABLE
    return compare(quantity.rule, float(published), float(paper.get(quantity.spread) or 0), number)


def compare(rule: Rule, paper: float, spread: float, ours: Number) -> str:
    """Reproduced, close or not, by `rule`. `spread` is that of the paper's number; 0 where the paper gives none."""
    distance, scale = abs(ours.value - paper), max(abs(paper), rule.floor)
    noise = 2 * hypot(ours.error, ours.error if rule.both else spread)
    if distance > rule.close * scale:  # however large the noise is: so uncertain a number reproduces nothing
        return NOT_REPRODUCED
    return REPRODUCED if distance <= max(noise, rule.reproduced * scale) else CLOSE


def combine(verdicts: dict[str, str]) -> str:
    """The verdict of a row: one where all titles have the same, else each with its titles. Empty ones do not count."""
    titles = titles_by(verdicts)
    if len(titles) == 1:
        return next(iter(titles))
    return "; ".join(f"{', '.join(those)}: {verdict}" for verdict, those in titles.items())
