"""Every number of every table, reproduced against published: on the dashed line they are equal."""

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ddpm.report.figures import charts, style
from ddpm.report.inputs import read_rows
from ddpm.report.rendering import NOTE_SEPARATOR, REQUIRED, is_number

# The panels in order, by the first word of a quantity's name.
TITLES = {
    "IS": "Inception Score",
    "FID": "FID",
    "NLL": "NLL (bits/dim, upper bounds)",
    "Rate": "Rate (bits/dim)",
    "Distortion": "Distortion (RMSE, 0 to 255)",
}
TIME = "Reverse process time (T − t + 1)"  # what tells the rows of Table 4 apart
COLOURS = (style.BLUE, style.ORANGE, style.GREEN)
MARKERS = "os^D"
WIDE = 20  # the largest number over the smallest, from which on the axes are logarithmic
SPREAD = "the bars are standard deviations over the splits of the Inception Score"


@dataclass(frozen=True)
class Point:
    """One number of a table, published and reproduced."""

    quantity: str  # 'FID train', 'Rate (bits/dim)', ...
    row: str
    published: float
    reproduced: float
    errors: tuple[float, float]  # of the two, 0 where none is given
    comparable: bool

    @property
    def panel(self) -> str:
        return self.quantity.partition(" ")[0]


def draw(name: str, sources: list[Path], outputs: list[Path], stamp: str) -> None:
    """sources: the tables' CSV files, in order; a number that two of them hold is drawn once."""
    tables = [read_rows(path, *REQUIRED) for path in sources if path.suffix == ".csv"]
    points = list(dict.fromkeys(point for rows in tables for row in rows for point in points_of(row)))
    if points:
        figure = panels(points)
    else:
        notes = [note for rows in tables for row in rows for note in row["Footnote"].split(NOTE_SEPARATOR)]
        failed = " ".join(dict.fromkeys(note for note in notes if note.startswith("Unstable")))
        figure = style.message("Nothing to draw: no number is both here and in the paper", failed or "Nothing was run.")
    style.save(figure, outputs, stamp)


def points_of(row: dict[str, str]) -> list[Point]:
    """The numbers of a table's row that are both in the paper ('IS, paper') and here ('IS, Inception')."""
    points = []
    for column in row:
        if not column.endswith(", paper"):
            continue
        quantity = column.removesuffix(", paper")
        ours = next(
            other for other in row
            if other.startswith(f"{quantity}, ") and not other.endswith((", paper", ", difference", " ±", " ≤"))
        )  # fmt: skip
        if is_number(row[column]) and is_number(row[ours]):
            errors = tuple(float(row.get(f"{side} ±") or 0) for side in (column, ours))
            numbers = float(row[column]), float(row[ours])
            comparable = row["Verdict"] != "not comparable"
            points.append(Point(quantity, row_name(row), *numbers, errors, comparable))
    return points


def row_name(row: dict[str, str]) -> str:
    """'eps-simple' for an experiment of that method, and the time for a row of Table 4."""
    return row.get(TIME) or re.sub(r"^.*?-(?=(eps|mu|x0)-)", "", row["Experiment"])


def panels(points: list[Point]) -> Figure:
    charts.use_theme()
    groups = defaultdict(list)
    for point in sorted(points, key=lambda point: list(TITLES).index(point.panel) if point.panel in TITLES else 99):
        groups[point.panel].append(point)
    columns = min(3, len(groups))
    lines = -(-len(groups) // columns)
    width, height = max(2.75 * columns, 6), 2.75 * lines + 0.55
    figure = Figure(figsize=(width, height), layout="constrained", dpi=style.DPI)
    figure.get_layout_engine().set(rect=(0, 0.5 / height, 1, 1 - 0.5 / height), wspace=0.06, hspace=0.06)
    every = figure.subplots(lines, columns, squeeze=False).flatten()
    for axes in every[len(groups) :]:
        axes.remove()
    for axes, (name, group) in zip(every, groups.items(), strict=False):
        panel(axes, TITLES.get(name, name), group)
    figure.legend(
        handles=legend(points), loc="lower left", bbox_to_anchor=(0, 0.16 / height), ncols=3, frameon=False, fontsize=7
    )
    figure.draw_without_rendering()  # places the panels, which labels need
    for axes, group in zip(every, groups.values(), strict=False):
        name_points(axes, group)
    return figure


def panel(axes: Axes, title: str, points: list[Point]) -> None:
    """Points of one quantity over the line where reproduced and published are equal, on equal axes."""
    quantities = list(dict.fromkeys(point.quantity for point in points))
    for quantity, colour, marker in zip(quantities, COLOURS, MARKERS, strict=False):
        for point in points:
            if point.quantity == quantity:
                x_error, y_error = point.errors
                axes.errorbar(
                    point.published, point.reproduced, xerr=x_error or None, yerr=y_error or None, fmt=marker,
                    color=colour, markersize=4.5, elinewidth=0.9, capsize=1.5,
                    markerfacecolor=colour if point.comparable else "white",
                )  # fmt: skip
    values = np.array([[point.published, point.reproduced] for point in points]).flatten()
    axes.set(title=title, xlabel="published", ylabel="reproduced")
    axes.title.set_size(9)
    limits = scale(axes, values)
    axes.plot(limits, limits, color=style.FAINT, linestyle="--", linewidth=0.8, zorder=0)
    axes.set(xlim=limits, ylim=limits, box_aspect=1)
    if len(quantities) > 1:
        kinds = [quantity.removeprefix(points[0].panel).partition("(")[0].strip() for quantity in quantities]
        handles = [
            Line2D([], [], linestyle="", marker=marker, color=colour, markersize=4.5)
            for _, colour, marker in zip(quantities, COLOURS, MARKERS, strict=False)
        ]
        axes.legend(handles, kinds, loc="upper left", frameon=False, fontsize=7, handletextpad=0.1)


def scale(axes: Axes, values: np.ndarray) -> tuple[float, float]:
    """Limits of both axes, which are logarithmic where `values` reach far, and linear around 0 where some are 0."""
    low, high = values.min(), values.max()
    if low <= 0 or high / low < WIDE:
        smallest = values[values > 0].min(initial=np.inf)
        if low == 0 and high / smallest >= WIDE:
            axes.set_xscale("symlog", linthresh=smallest, linscale=0.5)
            axes.set_yscale("symlog", linthresh=smallest, linscale=0.5)
            return -0.3 * smallest, 2.5 * high
        margin = 0.12 * (high - low) or 0.1 * abs(high) or 1
        return low - margin, high + margin
    axes.set(xscale="log", yscale="log")
    return low / 1.8, high * 1.8


def name_points(axes: Axes, points: list[Point]) -> None:
    """The row's name beside each point, where it hides no other point and no other name."""
    places = axes.transData.transform([(point.published, point.reproduced) for point in points])
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in places]
    inside = axes.get_window_extent()
    for (x, y), point in zip(places, points, strict=True):
        for dx, dy, ha in OFFSETS:
            text = axes.annotate(
                point.row, (x, y), xytext=(dx, dy), textcoords="offset points", xycoords="figure pixels", fontsize=6,
                ha=ha, va="center", color=style.INK,
            )  # fmt: skip
            box = text.get_window_extent()
            if inside.x0 < box.x0 and box.x1 < inside.x1 and not any(overlap(box.extents, other) for other in taken):
                taken.append(tuple(box.extents))
                break
            text.remove()


# Where a name may stand: right and left of its point, then above and below, ever further away.
OFFSETS = [
    (side * 5, rise, ha) for rise in (0, 7, -7, 13, -13, 19, -19, 25, -25) for side, ha in ((1, "left"), (-1, "right"))
]


def overlap(one, other) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def legend(points: list[Point]) -> list[Line2D]:
    """What the marks mean; nothing is said of marks that are not there."""
    handles = [Line2D([], [], color=style.FAINT, linestyle="--", linewidth=0.8, label="reproduced = published")]
    mark = {"linestyle": "", "marker": "o", "color": style.INK, "markersize": 4.5}
    if any(point.comparable for point in points):
        handles.append(Line2D([], [], label="the paper's protocol", **mark))
    if not all(point.comparable for point in points):
        label = "not the paper's protocol: not comparable"
        handles.append(Line2D([], [], markerfacecolor="white", label=label, **mark))
    return handles
