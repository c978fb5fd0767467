"""The footnotes of a table's rows and numbers, in plain sentences."""

from ddpm.report.inputs import COLUMNS, ending_of, is_untrained, method_of
from ddpm.report.numbers import Number, describe_left_out, describe_seeds, measured_repeats
from ddpm.report.verdicts import Quantity

# The data sets of the paper's tables, by the titles that a footnote gives them.
LSUN = {"bedroom": "lsun-bedroom256", "church": "lsun-church256", "cat": "lsun-cat256"}  # the columns of Table 3
PUBLISHED_SETS = {"cifar10": "CIFAR10", **{data: f"LSUN {part}" for part, data in LSUN.items()}}
PAPERS_OWN = (*PUBLISHED_SETS, "celebahq256")  # no deviation says of these that they are not the paper's


def notes_on_numbers(
    quantities: tuple[Quantity, ...], run: dict | None, ours: dict[str, Number], data: str
) -> dict[str, list[str]]:
    """The footnotes of each of our numbers, by column. Deviations that affect the same numbers share one.

    A number without a footnote was made as the paper made its own.
    """
    printed = [quantity for quantity in quantities if quantity.column in ours]
    texts: dict[tuple[str, ...], list[str]] = {}
    for deviation in list_deviations(run, data) if printed else []:
        affected = tuple(each.column for each in printed if (each.affected_as or each.column) in deviation["affects"])
        texts.setdefault(affected, []).append(deviation["text"])
    notes = {affected: f"Not the paper's protocol: {'; '.join(those)}." for affected, those in texts.items()}
    return {each.column: [note for affected, note in notes.items() if each.column in affected] for each in printed}


def list_deviations(run: dict, data: str) -> list[dict]:
    """Where the run departs from the paper's protocol for `data`. Another data set always does."""
    found, name = run["deviations"], run["data"]["name"]
    if name == data:
        return found
    said = set() if name in PAPERS_OWN else {column for deviation in found for column in deviation["affects"]}
    text = f"data set {name} instead of {PUBLISHED_SETS[data]}"
    return [*found, {"text": text, "affects": [column for column in COLUMNS if column not in said]}]


def notes_on_run(run: dict | None, quantities: tuple[Quantity, ...], ours: dict[str, Number]) -> list[str]:
    """Where an unstable run ended; or which numbers are means over seeds, and which repeats are left out."""
    if run is not None and run["status"] == "unstable":
        return [f"Unstable{ending_of(run)}."]
    if not ours:
        return []
    printed = {quantity.short: ours[quantity.column] for quantity in quantities if quantity.column in ours}
    said = describe_seeds(printed)
    if "IS" in printed and printed["IS"].seeds:
        said.append("The ± of our IS is the spread over these seeds, that of the paper's the spread over splits.")
    said += describe_left_out(run)
    return [" ".join(said)] if said else []


def notes_on_published(ours: dict[str, Number]) -> list[str]:
    """The FID against the statistics that the paper's is against, where they could be fetched."""
    theirs = ours.get("FID train, by TTUR's statistics")
    return [f"FID train against TTUR's published statistics, as the paper's: {theirs.value:.2f}."] if theirs else []


def notes_on_paper(paper: dict[str, str]) -> list[str]:
    """What the paper says elsewhere than in its table."""
    where = "The paper gives this FID against the test set in its text, not in the table."
    return [where] if paper.get("fid_test") else []


def notes_on_choice(runs: list[dict], shown: dict | None) -> list[str]:
    """The runs with the other fixed variance, where both belong to one row."""
    if shown is None:
        return []
    others = [run for run in runs if run is not shown and not is_untrained(run) and method_of(run) == method_of(shown)]
    names = ", ".join(run["experiment"] for run in others)
    return [f"Shown is {shown['experiment']}; {names} also belongs to this row."] if others else []


def notes_on_checkpoint(run: dict | None) -> list[str]:
    """Deviations that affect no number, as whose weights they are; and which weights of a training were scored."""
    if run is None or run["status"] != "measured":
        return []
    said = [each["text"] for each in run["deviations"] if not each["affects"]]
    return [*(f"{text[0].upper()}{text[1:]}." for text in said), *name_checkpoint(run)]


def name_checkpoint(run: dict) -> list[str]:
    """Which weights of a training were scored, where that is recorded; with the steps of all runs in a mean."""
    every = [(one.get("made_from") or {}).get("weights") or {} for one in (run, *measured_repeats(run))]
    steps = list(dict.fromkeys(f"{weights['step']:,}" for weights in every if weights.get("checkpoint")))
    step = f"{'steps' if len(steps) > 1 else 'step'} {' and '.join(steps)}"
    weights = every[0]
    match weights.get("checkpoint"):
        case _ if weights.get("status") == "released":
            return []
        case "final":
            return [f"Checkpoint: final, {step}."]
        case "lowest-fid":
            of = f"of {weights['snapshots']:,} snapshots, {weights['snapshot_images']:,} images each"
            return [f"Checkpoint: lowest FID over training ({of}), {step}."]
    return []
