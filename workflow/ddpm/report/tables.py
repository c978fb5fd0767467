"""Tables 1 to 4, the paper's numbers beside ours, and one beyond the paper: CSV first, and all else from that CSV."""

from pathlib import Path

import pandas as pd

from ddpm.config.catalogue import SCORES_TABLE, TABLES, is_large
from ddpm.config.errors import UserError
from ddpm.report import rendering
from ddpm.report.inputs import (
    COLUMNS,
    PUBLISHED,
    find_run,
    is_untrained,
    main_run,
    method_of,
    network_name,
    read_metrics,
)
from ddpm.report.numbers import (
    DASH,
    Number,
    describe_ending,
    describe_left_out,
    describe_seeds,
    format_number,
    format_spread,
    group_repeats,
    mean_over_seeds,
    measured_repeats,
)
from ddpm.report.scores import rows_by_experiment
from ddpm.report.verdicts import CODELENGTHS, CURVE, FID, SCORES, Quantity, combine, judge
from ddpm.storage.files import write_text
from ddpm.storage.tables import read_curve, read_table, write_table

# The columns of Table 3, and the data sets of the tables by the titles that a footnote gives them.
CATEGORIES = {"bedroom": "lsun-bedroom256", "church": "lsun-church256", "cat": "lsun-cat256"}
PUBLISHED_SETS = {"cifar10": "CIFAR10", **{data: f"LSUN {part}" for part, data in CATEGORIES.items()}}
PAPERS_OWN = (*PUBLISHED_SETS, "celebahq256")  # no deviation says of these that they are not the paper's


def make_table(
    name: str,
    metrics: list[Path],
    curves: list[Path],
    csv: Path,
    markdown: Path,
    latex: Path,
    html: Path,
    columns: dict[str, str] | None = None,
) -> None:
    """Write the table `name` (table1 to table4, or scores) as CSV, then render it from that file alone.

    metrics: metrics.json files of one scale, repeats with other seeds among them; of one data set too, but for table3
        and scores. What has none is marked 'not run'.
    curves: rate_distortion.csv files, told apart by the folder (the experiment) that they lie in; for table4.
    columns: the column (bedroom, church or cat) that each experiment belongs to; for table3. An experiment whose name
        ends in -large belongs to the row of the large model. Repeats belong where their experiment does.
    """
    if name not in TABLES:
        raise UserError(f"no table is called {name!r}. Tables: {', '.join(TABLES)}.")
    every = [read_metrics(path) for path in metrics]
    refuse_mixtures(every, name)
    runs = group_repeats(every)
    match name:
        case "table1":
            rows = rows_by_method(name, runs, {"Group": "group", "Model": "model"}, SCORES + CODELENGTHS)
        case "table2":
            rows = rows_by_method(name, runs, {"Prediction": "prediction", "Objective": "loss"}, SCORES)
        case "table3":
            rows = rows_by_category(name, assign_columns(runs, columns or {}), runs)
        case "table4":
            rows = rows_by_time(name, runs, curves)
        case _:
            rows = rows_by_experiment(runs)
    write_table(csv, pd.DataFrame([caption_columns(name, runs) | row for row in rows]))
    table = read_table(csv, *rendering.REQUIRED)
    write_text(markdown, rendering.to_markdown(table))
    write_text(latex, rendering.to_latex(table))
    write_text(html, rendering.to_html(table))


def refuse_mixtures(runs: list[dict], name: str) -> None:
    """A table is of one scale, one feature network and one data set; else it would mislead.

    Table 3 is of several data sets. So is the table of other scores, whose rows name their network.
    """
    kinds = {"scales": {run["scale"] for run in runs}}
    if name != SCORES_TABLE:
        kinds["feature networks"] = {network_name(run) for run in runs if run["status"] == "measured"}
        kinds["data sets"] = {run["data"]["name"] for run in runs if name != "table3"}
    for what, values in kinds.items():
        if len(values) > 1:
            raise UserError(f"one table cannot mix {what}: {', '.join(sorted(values))}. Make one table for each.")


def rows_by_method(
    name: str, runs: list[dict], labels: dict[str, str], quantities: tuple[Quantity, ...]
) -> list[dict[str, str]]:
    """Tables 1 and 2: one row per published row; `labels` maps our label columns to the published ones."""
    rows = []
    for paper in read_table(PUBLISHED / f"{name}.csv").to_dict("records"):
        method = (paper["parameterization"], paper["objective"], paper["variance"])
        run = find_run(runs, *method) if all(method) else None
        ours = mean_over_seeds(run)
        row = number_cells(quantities, paper, run, ours, runs, own=all(method))
        notes = notes_on_run(run) + notes_on_seeds(run, quantities, ours)
        notes += notes_on_paper(paper) + notes_on_choice(runs, run) + notes_on_checkpoint(run)
        rows.append(
            {label: paper[column] for label, column in labels.items()}
            | {"Experiment": run["experiment"] if run else ""}
            | row
            | {"Verdict": summarise(row, quantities), "Verdict note": rendering.NOTE_SEPARATOR.join(notes)}
        )
    return rows


def assign_columns(runs: list[dict], columns: dict[str, str]) -> dict[tuple[str, bool], dict]:
    """The run of each column of Table 3, of the standard (False) and of the large model (True).

    Raises:
        UserError: a run has no column, or none of this name, or the place of another.
    """
    found: dict[tuple[str, bool], dict] = {}
    for run in runs:
        experiment = run["experiment"]
        if (column := columns.get(experiment)) not in CATEGORIES:
            raise UserError(
                f"table3: say which column {experiment} belongs to, as in --column bedroom:{experiment}. "
                f"Columns: {', '.join(CATEGORIES)}."
            )
        if (other := found.setdefault((column, is_large(run["experiment"])), run)) is not run:
            raise UserError(f"table3: {other['experiment']} and {experiment} have the same place in column {column}.")
    return found


def rows_by_category(name: str, found: dict[tuple[str, bool], dict], runs: list[dict]) -> list[dict[str, str]]:
    """Table 3: one row per published row, and in it the FID of each category of LSUN."""
    quantities = {part: Quantity(part.capitalize(), "fid_train", FID, by_network=True) for part in CATEGORIES}
    rows = []
    for paper in read_table(PUBLISHED / f"{name}.csv").to_dict("records"):
        here = {part: found.get((part, paper["size"] == "large")) for part in CATEGORIES if paper["size"]}
        row, said = {}, {}
        for part, data in CATEGORIES.items():
            quantity, run = quantities[part], here.get(part)
            ours, own = mean_over_seeds(run), bool(paper["size"] and (run or paper[part]))
            row |= number_cells((quantity,), {"fid_train": paper[part]}, run, ours, runs, data, own)
            if part in paper["starred"].split():
                row[f"{quantity.title}, paper"] += "*"
            for note in notes_on_run(run) + notes_on_seeds(run, (quantity,), ours) + notes_on_checkpoint(run):
                said.setdefault(note, []).append(quantity.title)
        notes = [f"{', '.join(titles)}: {note}" for note, titles in said.items()]
        if paper["starred"]:
            notes.append("* Reported by StyleGAN2's authors as baselines.")
        rows.append(
            {"Model": paper["model"], "Experiment": ", ".join(run["experiment"] for run in here.values() if run)}
            | row
            | {"Verdict": summarise(row, quantities.values()), "Verdict note": rendering.NOTE_SEPARATOR.join(notes)}
        )
    return rows


def rows_by_time(name: str, runs: list[dict], paths: list[Path]) -> list[dict[str, str]]:
    """Table 4: rate and distortion of the L_simple run at the paper's ten reverse process times."""
    run = main_run(runs)
    curves = {path.parent.name: read_numbers_by_time(path) for path in map(Path, paths)}
    curve = curves.get(run["experiment"], {}) if run else {}
    total = max(curve, default=0)
    shown = run if curve or (run and run["status"] == "unstable") else None
    rows = []
    for paper in read_table(PUBLISHED / f"{name}.csv").to_dict("records"):
        time = matching_time(int(paper["reverse_time"]), total)
        ours = mean_over_seeds(shown, lambda one, time=time: curves.get(one["experiment"], {}).get(time, {}))
        row = number_cells(CURVE, paper, shown, ours, runs)
        notes = notes_on_run(shown) + notes_on_seeds(shown, CURVE, ours)
        if curve and not ours:
            row |= {column: "no such time here" for column in row if column.endswith(", verdict")}
            notes = [f"With T = {total} no whole step lies at this fraction of T."]
        elif ours and total != 1000:
            notes.append(f"Here T = {total}: rows are matched at the same fraction of T.")
        notes += notes_on_checkpoint(run)
        rows.append(
            {"Reverse process time (T − t + 1)": paper["reverse_time"]}
            | {"Time matched here": f"{time} of {total}" if ours else ""}
            | {"Experiment": run["experiment"] if run else ""}
            | row
            | {"Verdict": summarise(row, CURVE), "Verdict note": rendering.NOTE_SEPARATOR.join(notes)}
        )
    return rows


def read_numbers_by_time(path: Path) -> dict[int, dict[str, Number]]:
    """Rate and distortion by reverse time (T - t + 1)."""
    curve = read_curve(path, "reverse_time", "rate", "distortion", "distortion_mean").set_index("reverse_time")
    return {int(time): dict(zip(curve, map(Number, values), strict=True)) for time, *values in curve.itertuples()}


def matching_time(paper_time: int, total: int) -> int | None:
    """Our reverse time at the same fraction of T as `paper_time` is of 1000, if a whole step lies there."""
    time, rest = divmod(paper_time * total, 1000)
    return time if total and not rest else None


def caption_columns(name: str, runs: list[dict]) -> dict[str, str]:
    """What the caption is made of; blank where nothing was run."""
    return {
        "Table": name,
        "Scale": runs[0]["scale"] if runs else "",
        "Data": ", ".join(dict.fromkeys(run["data"].get("title") or run["data"]["name"] for run in runs)),
    }


def number_cells(
    quantities: tuple[Quantity, ...],
    paper: dict[str, str],
    run: dict | None,
    ours: dict[str, Number],
    runs: list[dict],
    data: str = "cifar10",
    own: bool = True,
) -> dict[str, str]:
    """Paper, ours, difference and verdict for each quantity of a row whose published numbers are of `data`.

    ' ±', ' ≤' and ' note' columns belong to the one before them. own: whether the row is one of the paper's own models.
    """
    unstable = run is not None and run["status"] == "unstable"
    blank = is_blank(quantities, paper)
    notes = notes_on_numbers(quantities, run, ours, data)
    row = {}
    for quantity in quantities:
        published, value = paper.get(quantity.column), ours.get(quantity.column)
        if published is not None:
            title = f"{quantity.title}, paper"
            row[title] = DASH if blank else published
            if quantity.spread:
                row[f"{title} ±"] = paper[quantity.spread]
            if quantity.bound:
                row[f"{title} ≤"] = paper[quantity.bound] if published else ""
        title = f"{quantity.title}, {measured_by(quantity, runs)}"
        note = notes.get(quantity.column, [])
        row[title] = DASH if unstable else format_number(value.value, quantity.decimals) if value else ""
        row[f"{title} ±"] = format_spread(value.spread, row[title]) if value else ""
        if quantity.bound:  # a variational bound on the codelength, in the paper and here
            row[f"{title} ≤"] = "<=" if value else ""
        row[f"{title} note"] = rendering.NOTE_SEPARATOR.join(note)
        if published is not None:
            known = published and value and not note
            difference = f"{value.value - float(published):+.{quantity.decimals}f}" if known else ""
            row[f"{quantity.title}, difference"] = difference
            row[f"{quantity.title}, verdict"] = judge(quantity, paper, blank, run, value, bool(note)) if own else ""
    return row


def summarise(row: dict[str, str], quantities: tuple[Quantity, ...]) -> str:
    """The verdicts of a row in one; a row without any is a baseline's."""
    judged = {each.short: row[column] for each in quantities if (column := f"{each.title}, verdict") in row}
    return combine(judged) or "baseline"


def measured_by(quantity: Quantity, runs: list[dict]) -> str:
    """What the title of our column says: no score without its feature network."""
    if quantity.by_network:
        return network_of(runs)
    return runs[0]["data"]["name"] if runs else "this run"


def network_of(runs: list[dict]) -> str:
    """The feature network of what was measured."""
    measured = [run for run in runs if run["status"] == "measured"]
    return network_name((measured or runs)[0]) if runs else "this run"


def notes_on_numbers(
    quantities: tuple[Quantity, ...], run: dict | None, ours: dict[str, Number], data: str
) -> dict[str, list[str]]:
    """The footnotes of each of our numbers by column, one for all deviations that affect the same numbers of the row.

    A number without a footnote was made as the paper made its own.
    """
    printed = [quantity for quantity in quantities if quantity.column in ours]
    texts: dict[tuple[str, ...], list[str]] = {}
    for deviation in deviations_of(run, data) if printed else []:
        affected = tuple(each.column for each in printed if (each.affected_as or each.column) in deviation["affects"])
        texts.setdefault(affected, []).append(deviation["text"])
    notes = {affected: f"Not the paper's protocol: {'; '.join(those)}." for affected, those in texts.items()}
    return {each.column: [note for affected, note in notes.items() if each.column in affected] for each in printed}


def deviations_of(run: dict, data: str) -> list[dict]:
    """Where the run departs from the paper's protocol for `data`; another data set always does."""
    found, name = run["deviations"], run["data"]["name"]
    if name == data:
        return found
    said = set() if name in PAPERS_OWN else {column for deviation in found for column in deviation["affects"]}
    text = f"data set {name} instead of {PUBLISHED_SETS[data]}"
    return [*found, {"text": text, "affects": [column for column in COLUMNS if column not in said]}]


def is_blank(quantities: tuple[Quantity, ...], paper: dict[str, str]) -> bool:
    """Whether the paper leaves the whole row blank: unstable to train."""
    return not any(paper.get(quantity.column) for quantity in quantities)


def notes_on_run(run: dict | None) -> list[str]:
    """Where an unstable run ended."""
    return [describe_ending(run)] if run is not None and run["status"] == "unstable" else []


def notes_on_seeds(run: dict | None, quantities: tuple[Quantity, ...], ours: dict[str, Number]) -> list[str]:
    """Which numbers of a row are means over seeds, what their spread is, and which repeats are left out."""
    if not ours:
        return []
    printed = {quantity.short: ours[quantity.column] for quantity in quantities if quantity.column in ours}
    said = describe_seeds(printed)
    if "IS" in printed and printed["IS"].seeds:
        said.append("The ± of our IS is the spread over these seeds, that of the paper's the spread over splits.")
    said += describe_left_out(run)
    return [" ".join(said)] if said else []


def notes_on_paper(paper: dict[str, str]) -> list[str]:
    """What the printed table itself does not hold."""
    return (
        ["The paper gives this FID against the test set in its text, not in the table."]
        if paper.get("fid_test")
        else []
    )


def notes_on_checkpoint(run: dict | None) -> list[str]:
    """Which of a training's weights were scored, where that is recorded; of all runs that enter a mean."""
    if run is None or run["status"] != "measured":
        return []
    every = [(one.get("made_from") or {}).get("weights") or {} for one in (run, *measured_repeats(run))]
    steps = list(dict.fromkeys(f"{weights['step']:,}" for weights in every if weights.get("checkpoint")))
    step = f"{'steps' if len(steps) > 1 else 'step'} {' and '.join(steps)}"
    weights = every[0]
    match weights.get("checkpoint"):
        case "final":
            return [f"Checkpoint: final, {step}."]
        case "lowest-fid":
            of = f"of {weights['snapshots']:,} snapshots, {weights['snapshot_images']:,} images each"
            return [f"Checkpoint: lowest FID over training ({of}), {step}."]
    return []


def notes_on_choice(runs: list[dict], shown: dict | None) -> list[str]:
    """Say so where two fixed variances were run for one row."""
    if shown is None:
        return []
    others = [run for run in runs if run is not shown and not is_untrained(run) and method_of(run) == method_of(shown)]
    names = ", ".join(run["experiment"] for run in others)
    return [f"Shown is {shown['experiment']}; {names} also belongs to this row."] if others else []
