"""Tables 1 to 4, the paper's numbers beside ours, and one beyond the paper: CSV first, and all else from that CSV."""

from pathlib import Path

import pandas as pd

from ddpm.config.catalogue import SCORES_TABLE, TABLES, is_large
from ddpm.config.errors import UserError
from ddpm.report import rendering
from ddpm.report.inputs import PUBLISHED, find_run, main_run, network_name, read_metrics
from ddpm.report.notes import (
    LSUN,
    notes_on_checkpoint,
    notes_on_choice,
    notes_on_numbers,
    notes_on_paper,
    notes_on_published,
    notes_on_run,
)
from ddpm.report.numbers import DASH, ENTRIES, Number, format_number, format_spread, group_repeats, mean_over_seeds
from ddpm.report.scores import rows_by_experiment
from ddpm.report.verdicts import CODELENGTHS, CURVE, FID, SCORES, Quantity, combine, judge
from ddpm.storage.files import write_text
from ddpm.storage.tables import read_curve, read_table, write_table

Row = dict[str, str]


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

    Args:
        metrics: metrics.json files of one scale, with those of repeats; of one data set, but for table3 and scores.
            A row without a file is marked 'not run'.
        curves: rate_distortion.csv files for table4. The folder of each is named like its experiment.
        columns: for table3: the column (bedroom, church or cat) of each experiment, without repeats. An experiment
            whose name ends in -large is a row of the large model.
    """
    if name not in TABLES:
        raise UserError(f"no table is called {name!r}. Tables: {', '.join(TABLES)}.")
    every = [read_metrics(path) for path in metrics]
    refuse_mixtures(every, name)
    write_table(csv, tabulate(name, group_repeats(every), curves, columns or {}))
    table = read_table(csv, *rendering.REQUIRED)
    write_text(markdown, rendering.to_markdown(table))
    write_text(latex, rendering.to_latex(table))
    write_text(html, rendering.to_html(table))


def tabulate(name: str, runs: list[dict], curves: list[Path], columns: dict[str, str]) -> pd.DataFrame:
    """A table of runs from `group_repeats`, as in its CSV; of the paper's numbers alone where there are none."""
    match name:
        case "table1":
            rows = rows_by_method(name, runs, {"Group": "group", "Model": "model"}, SCORES + CODELENGTHS)
        case "table2":
            rows = rows_by_method(name, runs, {"Prediction": "prediction", "Objective": "loss"}, SCORES)
        case "table3":
            rows = rows_by_category(name, assign_columns(runs, columns), runs)
        case "table4":
            rows = rows_by_time(name, runs, curves)
        case _:
            rows = rows_by_experiment(runs)
    return pd.DataFrame([caption_columns(name, runs) | row for row in rows])


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


def caption_columns(name: str, runs: list[dict]) -> Row:
    """What the caption is made of; blank where nothing was run."""
    return {
        "Table": name,
        "Scale": runs[0]["scale"] if runs else "",
        "Data": ", ".join(dict.fromkeys(run["data"].get("title") or run["data"]["name"] for run in runs)),
    }


def read_published(name: str) -> list[Row]:
    """The rows of the paper's table `name`."""
    return read_table(PUBLISHED / f"{name}.csv").to_dict("records")


def rows_by_method(name: str, runs: list[dict], labels: dict[str, str], quantities: tuple[Quantity, ...]) -> list[Row]:
    """Tables 1 and 2: one row per published row; `labels` maps our label columns to the published ones."""
    rows = []
    for paper in read_published(name):
        method = (paper["parameterization"], paper["objective"], paper["variance"])
        run = find_run(runs, *method) if all(method) else None
        ours = mean_over_seeds(run)
        row = number_cells(quantities, paper, run, ours, runs, own=all(method))
        notes = notes_on_run(run, quantities, ours)
        notes += notes_on_published(ours) if name == "table1" else []
        notes += notes_on_paper(paper) + notes_on_choice(runs, run) + notes_on_checkpoint(run)
        heads = {label: paper[column] for label, column in labels.items()}
        rows.append(heads | experiment_cell(run) | row | verdict_cells(row, quantities, notes))
    return rows


def assign_columns(runs: list[dict], columns: dict[str, str]) -> dict[tuple[str, bool], dict]:
    """The run of each column of Table 3, of the standard (False) and of the large model (True).

    Raises:
        UserError: a run has no column, an unknown one, or the place of another run.
    """
    found: dict[tuple[str, bool], dict] = {}
    for run in runs:
        experiment = run["experiment"]
        if (column := columns.get(experiment)) not in LSUN:
            raise UserError(
                f"table3: say which column {experiment} belongs to, as in --column bedroom:{experiment}. "
                f"Columns: {', '.join(LSUN)}."
            )
        if (other := found.setdefault((column, is_large(experiment)), run)) is not run:
            raise UserError(f"table3: {other['experiment']} and {experiment} have the same place in column {column}.")
    return found


def rows_by_category(name: str, found: dict[tuple[str, bool], dict], runs: list[dict]) -> list[Row]:
    """Table 3: one row per published row, and in it the FID of each category of LSUN."""
    quantities = {part: Quantity(part.capitalize(), "fid_train", FID, by_network=True) for part in LSUN}
    rows = []
    for paper in read_published(name):
        here = {part: found.get((part, paper["size"] == "large")) for part in LSUN if paper["size"]}
        row, said = {}, {}
        for part, data in LSUN.items():
            quantity, run = quantities[part], here.get(part)
            ours, own = mean_over_seeds(run), bool(paper["size"] and (run or paper[part]))
            row |= number_cells((quantity,), {"fid_train": paper[part]}, run, ours, runs, data, own)
            if part in paper["starred"].split():
                row[f"{quantity.title}, paper"] += "*"
            for note in notes_on_run(run, (quantity,), ours) + notes_on_checkpoint(run):
                said.setdefault(note, []).append(quantity.title)
        notes = [f"{', '.join(titles)}: {note}" for note, titles in said.items()]
        if paper["starred"]:
            notes.append("* Reported by StyleGAN2's authors as baselines.")
        heads = {"Model": paper["model"]} | experiment_cell(*here.values())
        rows.append(heads | row | verdict_cells(row, quantities.values(), notes))
    return rows


def rows_by_time(name: str, runs: list[dict], paths: list[Path]) -> list[Row]:
    """Table 4: rate and distortion of the L_simple run at the paper's ten reverse process times."""
    run = main_run(runs)
    curves = {path.parent.name: read_numbers_by_time(path) for path in map(Path, paths)}
    curve = curves.get(run["experiment"], {}) if run else {}
    total = max(curve, default=0)
    shown = run if curve or (run and run["status"] == "unstable") else None
    rows = []
    for paper in read_published(name):
        time = matching_time(int(paper["reverse_time"]), total)
        ours = mean_over_seeds(shown, lambda one, time=time: curves.get(one["experiment"], {}).get(time, {}))
        row = number_cells(CURVE, paper, shown, ours, runs)
        notes = notes_on_run(shown, CURVE, ours)
        if curve and not ours:
            row |= {column: "no such time here" for column in row if column.endswith(", verdict")}
            notes = [f"With T = {total} no whole step lies at this fraction of T."]
        elif ours and total != 1000:
            notes.append(f"Here T = {total}: rows are matched at the same fraction of T.")
        heads = {"Reverse process time (T − t + 1)": paper["reverse_time"]}
        heads |= {"Time matched here": f"{time} of {total}" if ours else ""} | experiment_cell(run)
        rows.append(heads | row | verdict_cells(row, CURVE, notes + notes_on_checkpoint(run)))
    return rows


def read_numbers_by_time(path: Path) -> dict[int, dict[str, Number]]:
    """Rate and distortion by reverse time (T - t + 1)."""
    curve = read_curve(path, "reverse_time", "rate", "distortion", "distortion_mean").set_index("reverse_time")
    return {int(time): dict(zip(curve, map(Number, values), strict=True)) for time, *values in curve.itertuples()}


def matching_time(paper_time: int, total: int) -> int | None:
    """Our reverse time at the same fraction of T as `paper_time` is of 1000, if a whole step lies there."""
    time, rest = divmod(paper_time * total, 1000)
    return time if total and not rest else None


def experiment_cell(*runs: dict | None) -> Row:
    """The names of the experiments whose numbers a row shows."""
    return {"Experiment": ", ".join(run["experiment"] for run in runs if run)}


def number_cells(
    quantities: tuple[Quantity, ...],
    paper: Row,
    run: dict | None,
    ours: dict[str, Number],
    runs: list[dict],
    data: str = "cifar10",
    own: bool = True,
) -> Row:
    """The paper's number, ours, their difference and the verdict, for each quantity of a row.

    The columns ' ±', ' ≤' and ' note' belong to the one before them.

    Args:
        data: the data set of the published numbers. own: whether the row is one of the paper's own models.
    """
    unstable = run is not None and run["status"] == "unstable"
    blank = not any(paper.get(quantity.column) for quantity in quantities)  # in the paper: unstable to train
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
        row[f"{title} from"] = f"{run['experiment']}/{ENTRIES[quantity.column]}" if value else ""
        if published is not None:
            known = published and value and not note
            difference = f"{value.value - float(published):+.{quantity.decimals}f}" if known else ""
            row[f"{quantity.title}, difference"] = difference
            row[f"{quantity.title}, verdict"] = judge(quantity, paper, blank, run, value, bool(note)) if own else ""
    return row


def measured_by(quantity: Quantity, runs: list[dict]) -> str:
    """What the title of our column says: the feature network of a score, the data set of any other number."""
    if not runs:
        return "this run"
    if not quantity.by_network:
        return runs[0]["data"]["name"]
    return network_name(next((run for run in runs if run["status"] == "measured"), runs[0]))


def verdict_cells(row: Row, quantities: tuple[Quantity, ...], notes: list[str]) -> Row:
    """The verdicts of a row in one, and the row's footnotes. A row without a verdict is a baseline's."""
    judged = {each.short: row[column] for each in quantities if (column := f"{each.title}, verdict") in row}
    return {"Verdict": combine(judged) or "baseline", "Verdict note": rendering.NOTE_SEPARATOR.join(notes)}
