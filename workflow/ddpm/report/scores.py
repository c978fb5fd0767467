"""The table beyond the paper: all other scores of every experiment, and how certain they are."""

from ddpm.config.errors import UserError
from ddpm.report import rendering
from ddpm.report.inputs import ending_of, network_name
from ddpm.report.numbers import (
    DASH,
    ENTRIES,
    PUBLISHED_ENTRY,
    Number,
    by_published,
    describe_left_out,
    describe_seeds,
    format_number,
    format_spread,
    mean_over_seeds,
)

CLEAN = {"clean_fid_train": "Clean-FID train", "clean_fid_test": "Clean-FID test", "clean_kid": "Clean-KID × 1000"}
TITLES = {
    "fid_train": "FID train",
    "fid_test": "FID test",
    "kid": "KID",
    "precision": "Precision",
    "recall": "Recall",
    "is": "IS",
    "nll_test": "Bits/dim",
}


def rows_by_experiment(runs: list[dict]) -> list[dict[str, str]]:
    """One row per run from `numbers.group_repeats`, in their order; a dash stands for what was not measured.

    Raises:
        UserError: there are no runs.
    """
    if not runs:
        raise UserError("scores: a table of experiments needs at least one. Give it a --metrics.")
    numbers = [mean_over_seeds(run) for run in runs]
    published = {name: name for run in runs for name in map(by_published, run.get("published", ()))}
    shown = {column: title for column, title in (CLEAN | published).items() if any(column in ours for ours in numbers)}
    return [make_row(run, ours, shown) for run, ours in zip(runs, numbers, strict=True)]


def make_row(run: dict, ours: dict[str, Number], further: dict[str, str]) -> dict[str, str]:
    """The cells of a run. `further`: scores that only some tables have, and their titles."""

    def entry(column: str) -> str:
        return f"{run['experiment']}/{ENTRIES.get(column, PUBLISHED_ENTRY)}" if column in ours else ""

    images = (run["made_from"] or {}).get("images") if run["status"] == "measured" else None
    row = {
        "Experiment": run["experiment"],
        "Run": run["experiment"],
        "Run note": rendering.NOTE_SEPARATOR.join(notes_on_row(run, ours, TITLES | further)),
        "Data set": run["data"]["name"],
        "Network": network_name(run),
        "Images": f"{images:,}" if images else DASH,
    }
    for split in ("train", "test"):
        column, note = f"fid_{split}", note_on_fid(run, split)
        row |= cell_columns(f"FID {split}, of these", ours.get(column), note, entry=entry(column))
        low, high = ours.get(f"{column}_low"), ours.get(f"{column}_high")
        known = low is not None and high is not None
        row[f"FID {split}, 95 % interval"] = (
            f"{format_number(low.value, 2)} to {format_number(high.value, 2)}" if known else DASH
        )
        row[f"FID {split}, 95 % interval from"] = entry(f"{column}_low")
        if split == "train":
            infinity = ours.get(f"{column}_infinity")
            note, title = "" if infinity else note, f"FID {split}, of infinitely many"
            row |= cell_columns(title, infinity, note, entry=entry(f"{column}_infinity"))
    row |= cell_columns("KID × 1000", ours.get("kid"), note_on_kid(run), entry=entry("kid"))
    for name in ("precision", "recall"):
        note = note_on_neighbours(run)
        row |= cell_columns(name.capitalize(), ours.get(name), note, decimals=3, entry=entry(name))
    row |= cell_columns("IS", ours.get("is"), note_on_left_out(run, "inception_score"), entry=entry("is"))
    if bits := ours.get("nll_test"):
        bits = Number(bits.value, bits.spread or bits.error or None)
    row |= cell_columns("Bits/dim test", bits, decimals=3, entry=entry("nll_test"))
    row |= {"Bits/dim test ≤": "<=" if bits else ""}
    reasons = {by_published(each): each["reason"] for each in run.get("published", ())} | run.get("left_out", {})
    for column, title in further.items():
        reason = None if column in ours else reasons.get(column) or reasons.get(column.rpartition("_")[0])
        note = f"{title}: {reason}." if reason else ""
        row |= cell_columns(title, ours.get(column), note, entry=entry(column))
    return row


def cell_columns(
    title: str, value: Number | None, note: str = "", decimals: int = 2, entry: str = ""
) -> dict[str, str]:
    """A cell and its companions."""
    text = format_number(value.value, decimals) if value else DASH
    spread = format_spread(value.spread, text) if value else ""
    return {title: text, f"{title} ±": spread, f"{title} note": note, f"{title} from": entry}


def notes_on_row(run: dict, ours: dict[str, Number], titles: dict[str, str]) -> list[str]:
    """Where an unstable run ended, and which seeds a row is the mean of."""
    if run["status"] == "unstable":
        return [f"Unstable{ending_of(run)}."]
    said = describe_seeds({title: ours[column] for column, title in titles.items() if column in ours})
    if said and "fid_train_low" in ours:
        said.append("The ends of intervals are means too.")
    said += describe_left_out(run)
    return [" ".join(said)] if said else []


def note_on_fid(run: dict, split: str) -> str:
    """What the evaluation says about the FID: that its covariance is singular, or that there are too few images."""
    return ((run["fid_spread"] or {}).get(split) or {}).get("note") or note_on_left_out(run, f"fid_{split}", "fid")


def note_on_kid(run: dict) -> str:
    kid = run["kid"]
    return (
        f"KID: over {kid['subsets']:,} subsets of {kid['subset_size']:,} images."
        if kid
        else note_on_left_out(run, "kid")
    )


def note_on_neighbours(run: dict) -> str:
    those = run["precision_recall"]
    return (
        f"By the {those['neighbours']} nearest neighbours among {those['images']:,} images."
        if those
        else note_on_left_out(run, "precision_recall")
    )


def note_on_left_out(run: dict, *names: str) -> str:
    """Why there is no such score, by the first of these names that metrics.json gives a reason for."""
    reasons = [reason for name in names if (reason := run.get("left_out", {}).get(name))]  # earlier versions had none
    return f"Left out: {reasons[0]}." if reasons else ""
