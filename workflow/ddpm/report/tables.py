"""Tables 1 to 4: the paper's numbers beside ours, as CSV first and everything else from that CSV."""

from dataclasses import dataclass
from pathlib import Path

from ddpm.files import UserError, write_text
from ddpm.report import rendering
from ddpm.report.inputs import (
    PUBLISHED,
    find_run,
    is_large,
    is_untrained,
    main_run,
    network_name,
    read_curve,
    read_metrics,
    read_rows,
    row_of,
    write_rows,
)

DASH = "–"  # how the paper prints the entries that were unstable to train
BANDS = (1, 2, 5, 10, 20, 50)  # per cent: a verdict names the narrowest band that holds the whole row


@dataclass(frozen=True)
class Quantity:
    """One measured quantity: its title, and the published and measured columns that it is read from."""

    title: str
    column: str
    by_network: bool = False  # whether the title of our number names the feature network, or else the data set
    spread: str | None = None  # the column of the standard deviation
    bound: str | None = None  # the column that holds "<=" where the number is an upper bound
    decimals: int = 2
    floor: float = 0.0  # relative differences are taken against no less than this


SCORES = (
    Quantity("IS", "is", by_network=True, spread="is_std"),
    Quantity("FID train", "fid_train", by_network=True),
    Quantity("FID test", "fid_test", by_network=True),
)
CODELENGTHS = (
    Quantity("NLL test (bits/dim)", "nll_test", bound="nll_bound"),
    Quantity("NLL train (bits/dim)", "nll_train", bound="nll_bound"),
)
CURVE = (
    # Below 0.01 bits/dim the paper's rates have few digits left, and the last is 0.
    Quantity("Rate (bits/dim)", "rate", decimals=5, floor=0.01),
    Quantity("Distortion (RMSE)", "distortion", decimals=5),
    Quantity("Distortion (mean of per-image RMSE)", "distortion_mean", decimals=5),
)


# The columns of Table 3, and the paper's data sets by the title that a footnote gives them.
CATEGORIES = {"bedroom": "lsun-bedroom256", "church": "lsun-church256", "cat": "lsun-cat256"}
PUBLISHED_SETS = {"cifar10": "CIFAR10", **{data: f"LSUN {part}" for part, data in CATEGORIES.items()}}


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
    """Write the table `name` (table1 to table4) as CSV, then render it from that file alone.

    metrics: metrics.json files of one scale; of one data set too, but for table3. What has none is marked 'not run'.
    curves: rate_distortion.csv files, told apart by the folder (the experiment) that they lie in; for table4.
    columns: the column (bedroom, church or cat) that each experiment belongs to; for table3. An experiment whose name
        ends in -large belongs to the row of the large model.
    """
    runs = [read_metrics(path) for path in metrics]
    refuse_mixtures(runs, one_data_set=name != "table3")
    if name == "table1":
        rows = rows_by_method(name, runs, {"Group": "group", "Model": "model"}, SCORES + CODELENGTHS)
    elif name == "table2":
        rows = rows_by_method(name, runs, {"Prediction": "prediction", "Objective": "loss"}, SCORES)
    elif name == "table3":
        rows = rows_by_category(name, by_category(runs, columns or {}), runs)
    elif name == "table4":
        rows = rows_by_time(name, runs, curves)
    else:
        raise UserError(f"no table is called {name!r}. Tables: table1, table2, table3, table4.")
    write_rows(csv, rows)
    rows = read_rows(csv, *rendering.REQUIRED)
    write_text(markdown, rendering.markdown(rows))
    write_text(latex, rendering.latex(rows))
    write_text(html, rendering.html(rows))


def refuse_mixtures(runs: list[dict], one_data_set: bool = True) -> None:
    """A table is of one scale and one feature network, and all but Table 3 of one data set; else it would mislead."""
    for what, values in {
        "data sets": {run["data"]["name"] for run in runs if one_data_set},
        "scales": {run["scale"] for run in runs},
        "feature networks": {network_name(run) for run in runs if run["status"] == "measured"},
    }.items():
        if len(values) > 1:
            raise UserError(f"one table cannot mix {what}: {', '.join(sorted(values))}. Make one table for each.")


def rows_by_method(
    name: str, runs: list[dict], labels: dict[str, str], quantities: tuple[Quantity, ...]
) -> list[dict[str, str]]:
    """Tables 1 and 2: one row per published row; `labels` maps our label columns to the published ones."""
    rows = []
    for paper in read_rows(PUBLISHED / f"{name}.csv"):
        method = (paper["parameterization"], paper["objective"], paper["variance"])
        run = find_run(runs, *method) if all(method) else None
        ours = flatten(run) if run else {}
        if not all(method):
            verdict, notes = "baseline", []
        else:
            verdict, notes = judge(quantities, paper, run, ours)
        notes += notes_on_paper(paper) + notes_on_choice(runs, run) + notes_on_checkpoint(run)
        rows.append(
            head(name, runs)
            | {label: paper[column] for label, column in labels.items()}
            | {"Experiment": run["experiment"] if run else ""}
            | cells(quantities, paper, run, ours, runs)
            | {"Verdict": verdict, "Footnote": rendering.NOTE_SEPARATOR.join(notes)}
        )
    return rows


def by_category(runs: list[dict], columns: dict[str, str]) -> dict[tuple[str, bool], dict]:
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
    rows = []
    for paper in read_rows(PUBLISHED / f"{name}.csv"):
        here = {part: found.get((part, paper["size"] == "large")) for part in CATEGORIES if paper["size"]}
        cells, verdicts, said = {}, {}, {}
        for part, data in CATEGORIES.items():
            quantity = Quantity(part.capitalize(), part)
            run, title, star = here.get(part), quantity.title, "*" if part in paper["starred"].split() else ""
            ours = {part: flatten(run)["fid_train"]} if run else {}
            unstable = run is not None and run["status"] == "unstable"
            cells[f"{title}, paper"] = f"{paper[part]}{star}" or DASH
            cells[f"{title}, {network_of(runs)}"] = DASH if unstable else number(ours.get(part), quantity.decimals)
            comparable = run is not None and not unstable and paper[part] and not deviations_of(run, data)
            cells[f"{title}, difference"] = f"{ours[part] - float(paper[part]):+.2f}" if comparable else ""
            if paper["size"] and (run or paper[part]):
                verdicts[title], notes = judge((quantity,), paper, run, ours, data)
                for note in notes + notes_on_checkpoint(run):
                    said.setdefault(note, []).append(title)
        notes = [f"{', '.join(titles)}: {note}" for note, titles in said.items()]
        if paper["starred"]:
            notes.append("* Reported by StyleGAN2's authors as baselines.")
        rows.append(
            head(name, runs)
            | {"Model": paper["model"], "Experiment": ", ".join(run["experiment"] for run in here.values() if run)}
            | cells
            | {"Verdict": together(verdicts) or "baseline", "Footnote": rendering.NOTE_SEPARATOR.join(notes)}
        )
    return rows


def together(verdicts: dict[str, str]) -> str:
    """One verdict where all columns have the same; else each, with the columns that have it."""
    columns = {verdict: [title for title, own in verdicts.items() if own == verdict] for verdict in verdicts.values()}
    if len(columns) == 1:
        return next(iter(columns))
    return "; ".join(f"{', '.join(titles)}: {verdict}" for verdict, titles in columns.items())


def rows_by_time(name: str, runs: list[dict], curves: list[Path]) -> list[dict[str, str]]:
    """Table 4: rate and distortion of the L_simple run at the paper's ten reverse process times."""
    run = main_run(runs)
    curve, total = curve_of(run, curves)
    rows = []
    for paper in read_rows(PUBLISHED / f"{name}.csv"):
        reverse_time = matching_time(int(paper["reverse_time"]), total)
        ours = curve.get(reverse_time, {})
        measured = run if curve else None
        if run and run["status"] == "unstable":
            verdict, notes = judge(CURVE, paper, run, {})
        elif curve and not ours:
            verdict, notes = (
                "no such time here",
                [f"With T = {total} no whole step lies at this fraction of T."],
            )
        else:
            verdict, notes = judge(CURVE, paper, measured, ours)
        if ours and total != 1000:
            notes.append(f"Here T = {total}: rows are matched at the same fraction of T.")
        notes += notes_on_checkpoint(run)
        rows.append(
            head(name, runs)
            | {"Reverse process time (T − t + 1)": paper["reverse_time"]}
            | {"Time matched here": f"{reverse_time} of {total}" if ours else ""}
            | {"Experiment": run["experiment"] if run else ""}
            | cells(CURVE, paper, run, ours, runs)
            | {"Verdict": verdict, "Footnote": rendering.NOTE_SEPARATOR.join(notes)}
        )
    return rows


def curve_of(run: dict | None, curves: list[Path]) -> tuple[dict[int, dict[str, float]], int]:
    """The run's rate and distortion by reverse time (T - t + 1), and T; nothing and 0 where it has none."""
    paths = [path for path in curves if run and Path(path).parent.name == run["experiment"]]
    if not paths:
        return {}, 0
    table = read_curve(paths[0], "reverse_time", "rate", "distortion", "distortion_mean")
    times = [int(time) for time in table.pop("reverse_time")]
    by_time = {time: {key: float(table[key][i]) for key in table} for i, time in enumerate(times)}
    return by_time, max(times, default=0)


def matching_time(paper_time: int, total: int) -> int | None:
    """Our reverse time at the same fraction of T as `paper_time` is of 1000, if a whole step lies there."""
    time, rest = divmod(paper_time * total, 1000)
    return time if total and not rest else None


def head(name: str, runs: list[dict]) -> dict[str, str]:
    """What the caption is made of; blank where nothing was run."""
    return {
        "Table": name,
        "Scale": runs[0]["scale"] if runs else "",
        "Data": ", ".join(dict.fromkeys(run["data"].get("title") or run["data"]["name"] for run in runs)),
    }


def flatten(run: dict) -> dict[str, float | str | None]:
    """The numbers of a metrics.json under the published tables' column names; None where not measured."""
    score, fid, nll = run["inception_score"] or {}, run["fid"] or {}, run["nll"] or {}
    return {
        "is": score.get("mean"),
        "is_std": score.get("std"),
        "fid_train": fid.get("train"),
        "fid_test": fid.get("test"),
        "nll_bound": "<=",  # a variational bound on the codelength, in the paper and here
        "nll_test": (nll.get("test") or {}).get("bits_per_dim"),
        "nll_train": (nll.get("train") or {}).get("bits_per_dim"),
    }


def cells(
    quantities: tuple[Quantity, ...], paper: dict[str, str], run: dict | None, ours: dict, runs: list[dict]
) -> dict[str, str]:
    """Paper, ours and difference for each quantity; ' ±' and ' ≤' columns belong to the one before them."""
    unstable = run is not None and run["status"] == "unstable"
    blank_in_paper = is_blank(quantities, paper)
    comparable = run is not None and not unstable and not deviations_of(run)
    row = {}
    for quantity in quantities:
        published = paper.get(quantity.column)
        value = None if unstable else ours.get(quantity.column)
        if published is not None:
            title = f"{quantity.title}, paper"
            row[title] = DASH if blank_in_paper else published
            if quantity.spread:
                row[f"{title} ±"] = paper[quantity.spread]
            if quantity.bound:
                row[f"{title} ≤"] = paper[quantity.bound] if published else ""
        title = f"{quantity.title}, {measured_with(quantity, runs)}"
        row[title] = DASH if unstable else number(value, quantity.decimals)
        if quantity.spread:
            spread = ours.get(quantity.spread)
            row[f"{title} ±"] = "" if value is None or spread is None else f"{spread:.{quantity.decimals}f}"
        if quantity.bound:
            row[f"{title} ≤"] = "" if value is None else ours[quantity.bound]
        if published is not None:
            known = comparable and published and value is not None
            row[f"{quantity.title}, difference"] = f"{value - float(published):+.{quantity.decimals}f}" if known else ""
    return row


def measured_with(quantity: Quantity, runs: list[dict]) -> str:
    """What the title of our column says: no score without its feature network."""
    if quantity.by_network:
        return network_of(runs)
    return runs[0]["data"]["name"] if runs else "this run"


def network_of(runs: list[dict]) -> str:
    """The feature network of what was measured."""
    measured = [run for run in runs if run["status"] == "measured"]
    return network_name((measured or runs)[0]) if runs else "this run"


def number(value: float | None, decimals: int) -> str:
    """Fixed decimals as the paper prints them, but never fewer than three digits of a small number."""
    if value is None:
        return ""
    return f"{value:#.3g}" if decimals == 2 and 0.001 <= abs(value) < 1 else f"{value:.{decimals}f}"


def judge(
    quantities: tuple[Quantity, ...], paper: dict[str, str], run: dict | None, ours: dict, data: str = "cifar10"
) -> tuple[str, list[str]]:
    """The verdict on one row, whose published numbers are of `data`, and the footnotes that it needs."""
    if run is None:
        return "not run", []
    blank_in_paper = is_blank(quantities, paper)
    if run["status"] == "unstable":
        place = f" at step {run['step']:,}" if run.get("step") is not None else ""
        note = f"Unstable{place}: {str(run.get('reason') or 'no reason was recorded').rstrip('.')}."
        return ("unstable, as in the paper" if blank_in_paper else "unstable here only"), [note]
    deviations = deviations_of(run, data)
    notes = [f"Not the paper's protocol: {'; '.join(deviations)}."] if deviations else []
    if blank_in_paper:
        return "blank in the paper, stable here", notes
    if deviations:
        return "not comparable", notes
    return closeness(quantities, paper, ours), notes


def deviations_of(run: dict, data: str = "cifar10") -> list[str]:
    """Where the run departs from the paper's protocol for `data`; another data set always does."""
    deviations = list(run["deviations"])
    if not deviations and run["data"]["name"] != data:
        deviations = [f"data set {run['data']['name']} instead of {PUBLISHED_SETS[data]}"]
    return deviations


def closeness(quantities: tuple[Quantity, ...], paper: dict[str, str], ours: dict) -> str:
    """'within 5 %', the narrowest band that holds every number of the row, or which one is furthest off."""
    distances = {
        quantity.title: 100 * abs(ours[quantity.column] - float(paper[quantity.column]))
        / max(abs(float(paper[quantity.column])), quantity.floor)
        for quantity in quantities
        if paper.get(quantity.column) and ours.get(quantity.column) is not None
    }  # fmt: skip
    if not distances:
        return "nothing in common"
    furthest = max(distances, key=distances.__getitem__)
    band = next((band for band in BANDS if distances[furthest] <= band), None)
    return f"within {band} %" if band else f"{furthest} more than {BANDS[-1]} % away"


def is_blank(quantities: tuple[Quantity, ...], paper: dict[str, str]) -> bool:
    """Whether the paper leaves the whole row blank: unstable to train."""
    return not any(paper.get(quantity.column) for quantity in quantities)


def notes_on_paper(paper: dict[str, str]) -> list[str]:
    """What the printed table itself does not hold."""
    return (
        ["The paper gives this FID against the test set in its text, not in the table."]
        if paper.get("fid_test")
        else []
    )


def notes_on_checkpoint(run: dict | None) -> list[str]:
    """Which of a training's weights were scored, where that is recorded."""
    measured = run is not None and run["status"] == "measured"
    weights = (run.get("made_from") or {}).get("weights") or {} if measured else {}
    match weights.get("checkpoint"):
        case "final":
            return [f"Checkpoint: final, step {weights['step']:,}."]
        case "lowest-fid":
            of = f"of {weights['snapshots']:,} snapshots, {weights['snapshot_images']:,} images each"
            return [f"Checkpoint: lowest FID over training ({of}), step {weights['step']:,}."]
    return []


def notes_on_choice(runs: list[dict], shown: dict | None) -> list[str]:
    """Say so where two fixed variances were run for one row."""
    if shown is None:
        return []
    others = [run for run in runs if run is not shown and not is_untrained(run) and row_of(run) == row_of(shown)]
    names = ", ".join(run["experiment"] for run in others)
    return [f"Shown is {shown['experiment']}; {names} also belongs to this row."] if others else []
