"""Tables 1, 2 and 4: the paper's numbers beside ours, as CSV first and everything else from that CSV."""

from dataclasses import dataclass
from pathlib import Path

from ddpm.files import UserError, write_text
from ddpm.report import rendering
from ddpm.report.inputs import (
    PUBLISHED,
    find_run,
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


def make_table(
    name: str, metrics: list[Path], curves: list[Path], csv: Path, markdown: Path, latex: Path, html: Path
) -> None:
    """Write the table `name` (table1, table2 or table4) as CSV, then render it from that file alone.

    metrics: metrics.json files of one data set at one scale; rows without one are marked 'not run'.
    curves: rate_distortion.csv files, told apart by the folder (the experiment) that they lie in; for table4.
    """
    runs = [read_metrics(path) for path in metrics]
    refuse_mixtures(runs)
    if name == "table1":
        rows = rows_by_method(name, runs, {"Group": "group", "Model": "model"}, SCORES + CODELENGTHS)
    elif name == "table2":
        rows = rows_by_method(name, runs, {"Prediction": "prediction", "Objective": "loss"}, SCORES)
    elif name == "table4":
        rows = rows_by_time(name, runs, curves)
    else:
        raise UserError(f"no table is called {name!r}. Tables: table1, table2, table4.")
    write_rows(csv, rows)
    rows = read_rows(csv, *rendering.REQUIRED)
    write_text(markdown, rendering.markdown(rows))
    write_text(latex, rendering.latex(rows))
    write_text(html, rendering.html(rows))


def refuse_mixtures(runs: list[dict]) -> None:
    """A table is of one data set, one scale and one feature network; anything else would mislead."""
    for what, values in {
        "data sets": {run["data"]["name"] for run in runs},
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
        notes += notes_on_paper(paper) + notes_on_choice(runs, run)
        rows.append(
            head(name, runs)
            | {label: paper[column] for label, column in labels.items()}
            | {"Experiment": run["experiment"] if run else ""}
            | cells(quantities, paper, run, ours, runs)
            | {"Verdict": verdict, "Footnote": rendering.NOTE_SEPARATOR.join(notes)}
        )
    return rows


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
    run = runs[0] if runs else None
    return {
        "Table": name,
        "Scale": run["scale"] if run else "",
        "Data": run["data"].get("title") or run["data"]["name"] if run else "",
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
    if not runs:
        return "this run"
    if not quantity.by_network:
        return runs[0]["data"]["name"]
    measured = [run for run in runs if run["status"] == "measured"]
    return network_name((measured or runs)[0])


def number(value: float | None, decimals: int) -> str:
    """Fixed decimals as the paper prints them, but never fewer than three digits of a small number."""
    if value is None:
        return ""
    return f"{value:#.3g}" if decimals == 2 and 0.001 <= abs(value) < 1 else f"{value:.{decimals}f}"


def judge(
    quantities: tuple[Quantity, ...], paper: dict[str, str], run: dict | None, ours: dict
) -> tuple[str, list[str]]:
    """The verdict on one row, and the footnotes that it needs."""
    if run is None:
        return "not run", []
    blank_in_paper = is_blank(quantities, paper)
    if run["status"] == "unstable":
        place = f" at step {run['step']:,}" if run.get("step") is not None else ""
        note = f"Unstable{place}: {str(run.get('reason') or 'no reason was recorded').rstrip('.')}."
        return ("unstable, as in the paper" if blank_in_paper else "unstable here only"), [note]
    deviations = deviations_of(run)
    notes = [f"Not the paper's protocol: {'; '.join(deviations)}."] if deviations else []
    if blank_in_paper:
        return "blank in the paper, stable here", notes
    if deviations:
        return "not comparable", notes
    return closeness(quantities, paper, ours), notes


def deviations_of(run: dict) -> list[str]:
    """Where the run departs from the paper's protocol; another data set always does."""
    deviations = list(run["deviations"])
    if not deviations and run["data"]["name"] != "cifar10":
        deviations = [f"data set {run['data']['name']} instead of CIFAR10"]
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


def notes_on_choice(runs: list[dict], shown: dict | None) -> list[str]:
    """Say so where two fixed variances were run for one row."""
    if shown is None:
        return []
    others = [run for run in runs if run is not shown and not is_untrained(run) and row_of(run) == row_of(shown)]
    names = ", ".join(run["experiment"] for run in others)
    return [f"Shown is {shown['experiment']}; {names} also belongs to this row."] if others else []
