"""The numbers of an experiment and of its repeats with other seeds: mean, spread and standard error, and their text."""

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from statistics import fmean, stdev

from ddpm.config.errors import UserError
from ddpm.report.inputs import ending_of

DASH = "–"  # how the paper prints the entries that were unstable to train
HUGE = 1e5  # from here on numbers are printed with an exponent
# Where each number is from, by its column: the key of metrics.json, or a file beside it.
ENTRIES = {
    "is": "metrics.json:inception_score.mean",
    **{f"fid_{split}": f"metrics.json:fid.{split}" for split in ("train", "test")},
    **{f"fid_{split}_infinity": f"metrics.json:fid_spread.{split}.infinity" for split in ("train", "test")},
    **{f"fid_{split}_low": f"metrics.json:fid_spread.{split}.interval" for split in ("train", "test")},
    **{f"nll_{split}": f"metrics.json:nll.{split}.bits_per_dim" for split in ("train", "test")},
    "kid": "metrics.json:kid.mean",
    **{f"clean_fid_{split}": f"metrics.json:clean_fid.{split}" for split in ("train", "test")},
    "clean_kid": "metrics.json:clean_kid.mean",
    **{name: f"metrics.json:precision_recall.{name}" for name in ("precision", "recall")},
    **dict.fromkeys(("rate", "distortion", "distortion_mean"), "rate_distortion.csv"),
}
PUBLISHED_ENTRY = "metrics.json:published"  # of the scores by the statistics of others
# Numbers that are computed without samples. Another seed of the sampling does not change them.
OF_WEIGHTS = ("nll_test", "nll_train", "rate", "distortion", "distortion_mean")


@dataclass(frozen=True)
class Number:
    """One number of ours, of one run or the mean of several."""

    value: float
    spread: float | None = None
    """The standard deviation over the splits or over the seeds; it is printed after ±."""
    error: float = 0.0
    """The standard error that a verdict uses; 0 where none is known."""
    seeds: str = ""
    """The seeds that it is a mean over, in words; empty for one run."""


def group_repeats(runs: list[dict]) -> list[dict]:
    """The runs without repeats, each with its `repeats`: runs that differ in nothing but the seed.

    The `deviations` of each become those of all runs that enter the mean.

    Raises:
        UserError: the run that a repeat belongs to is missing.
    """
    bases = [run for run in runs if not run["repeat"]]
    repeats: dict[str, list[dict]] = {run["experiment"]: [] for run in bases}
    for run in runs:
        if run["repeat"]:
            if (base := run["repeat"]["of"]) not in repeats:
                raise UserError(f"{run['experiment']} repeats {base}, whose metrics.json is missing: give it too.")
            repeats[base].append(run)
    return [
        run | {"repeats": (own := repeats[run["experiment"]]), "deviations": merge_deviations([run, *own])}
        for run in bases
    ]


def merge_deviations(runs: list[dict]) -> list[dict]:
    """The deviations of the measured runs, each once, with all numbers that it affects in any run."""
    affects: dict[str, dict[str, None]] = {}
    for run in runs:
        for deviation in run["deviations"] if run["status"] == "measured" else []:
            affects.setdefault(deviation["text"], {}).update(dict.fromkeys(deviation["affects"]))
    return [{"text": text, "affects": list(columns)} for text, columns in affects.items()]


def measured_repeats(run: dict) -> list[dict]:
    """The repeats that enter the mean."""
    return [repeat for repeat in run["repeats"] if repeat["status"] == "measured"]


def read_numbers(run: dict) -> dict[str, Number]:
    """The numbers of one metrics.json, by the column names of the published tables and of the table of other scores."""
    found = {}
    if score := run["inception_score"]:
        found["is"] = Number(score["mean"], score["std"], score["std"])
    for split in ("train", "test"):
        if (fid := (run["fid"] or {}).get(split)) is not None:
            spread = (run["fid_spread"] or {}).get(split) or {}
            found[f"fid_{split}"] = Number(fid, error=known_error(spread.get("std")))
            low, high = spread.get("interval") or (None, None)
            for name, value in (("low", low), ("high", high), ("infinity", spread.get("infinity"))):
                if value is not None:
                    found[f"fid_{split}_{name}"] = Number(value)
        if (bound := (run["nll"] or {}).get(split)) and bound["bits_per_dim"] is not None:
            found[f"nll_{split}"] = Number(bound["bits_per_dim"], error=known_error(bound["standard_error"]))
        if (clean := (run.get("clean_fid") or {}).get(split)) is not None:  # not in those of earlier versions
            found[f"clean_fid_{split}"] = Number(clean)
    for each in run.get("published", ()):
        if each["value"] is not None:
            found[by_published(each)] = Number(each["value"])
    for name in ("kid", "clean_kid"):
        if kid := run.get(name):
            found[name] = Number(1000 * kid["mean"], 1000 * kid["std"])
    for name in ("precision", "recall") if run["precision_recall"] else ():
        found[name] = Number(run["precision_recall"][name])
    return found


def by_published(score: dict) -> str:
    """The name of a score against published statistics: 'FID train, by TTUR's statistics'."""
    return f"{score['score']} {score['split']}, by {score['publisher'] or score['source']}'s statistics"


def known_error(error: float | None) -> float:
    """A standard error; 0 where none is known, as for a single image."""
    return error if error is not None and isfinite(error) else 0.0


def mean_over_seeds(run: dict | None, of: Callable[[dict], dict[str, Number]] = read_numbers) -> dict[str, Number]:
    """The numbers of a run from `group_repeats` by column: the mean over it and its repeats, where there are any.

    None, and a run that was unstable, have none. `of` reads those of one run.
    """
    if run is None or run["status"] != "measured":
        return {}
    repeats = [(repeat["repeat"]["varies"], of(repeat)) for repeat in measured_repeats(run)]
    found = {}
    for column, own in of(run).items():
        others = [
            (kind, theirs[column])
            for kind, theirs in repeats
            if column in theirs and not (kind == "sampling" and column in OF_WEIGHTS)
        ]
        found[column] = mean_of([own, *(number for _, number in others)], [kind for kind, _ in others])
    return found


def mean_of(of: list[Number], varied: list[str]) -> Number:
    """The mean of a run's number and its repeats', whose seeds of the kinds `varied` are others."""
    if len(of) == 1:
        return of[0]
    values = [number.value for number in of]
    spread = stdev(values)
    seeds = " and ".join(f"{1 + varied.count(kind)} {kind} seeds" for kind in dict.fromkeys(varied))
    return Number(fmean(values), spread, max(spread, *(number.error for number in of)), seeds)


def titles_by(said: dict[str, str]) -> dict[str, list[str]]:
    """The titles of each text that is said of one or more of them; an empty text counts as none."""
    titles: dict[str, list[str]] = {}
    for title, text in said.items():
        if text:
            titles.setdefault(text, []).append(title)
    return titles


def describe_seeds(printed: dict[str, Number]) -> list[str]:
    """Sentences that say which numbers of a row, by title, are means over which seeds."""
    means = titles_by({title: each.seeds for title, each in printed.items()})
    return [
        f"{', '.join(titles)}: mean and spread of {seeds}."
        if len(titles) < len(printed)
        else f"Mean and spread of {seeds}."
        for seeds, titles in means.items()
    ]


def format_number(value: float | None, decimals: int) -> str:
    """With fixed decimals, as the paper prints it; with three digits where it is small or huge."""
    if value is None:
        return ""
    if abs(value) >= HUGE:
        return f"{value:#.3g}"
    return f"{value:#.3g}" if decimals == 2 and 0.001 <= abs(value) < 1 else f"{value:.{decimals}f}"


def format_spread(spread: float | None, text: str) -> str:
    """A spread with as many decimals as the number `text` that it belongs to."""
    if spread is None or not text:
        return ""
    return f"{spread:#.2g}" if "e" in text else f"{spread:.{len(text.partition('.')[2])}f}"


def describe_left_out(run: dict) -> list[str]:
    """The repeats that do not enter the mean, and why."""
    ended = [repeat for repeat in run["repeats"] if repeat["status"] != "measured"]
    return [f"{repeat['experiment']} is left out: unstable{ending_of(repeat)}." for repeat in ended]
