"""Every number of every table, reproduced against published: on the dashed line they are equal."""

from collections import defaultdict
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ddpm.report.comparisons import Comparison, compare_numbers
from ddpm.report.figures import charts, style
from ddpm.report.figures.samples import NothingToDraw
from ddpm.report.rendering import NOTE_SEPARATOR, REQUIRED, is_number
from ddpm.storage.tables import read_table

# The panels in order, by the first word of a quantity's name.
TITLES = {
    "IS": "Inception Score",
    "FID": "FID",
    "NLL": "NLL (bits/dim, upper bounds)",
    "Rate": "Rate (bits/dim)",
    "Distortion": "Distortion (RMSE, 0 to 255)",
    **{part: f"FID, LSUN {part}" for part in ("Bedroom", "Church", "Cat")},  # Table 3's columns
}
# How the kinds of one quantity are told apart; a quantity without kinds has the last look.
LOOKS = {"train": (style.ORANGE, "o"), "test": (style.GREEN, "s"), "": (style.BLUE, "o")}
WORDS = {"train": "training set", "test": "test set"}
# Where a name may stand, in points: right and left of its mark, ever further up and down.
OFFSETS = [
    (side * 5, rise, ha) for rise in (0, 7, -7, 13, -13, 19, -19, 25, -25) for side, ha in ((1, "left"), (-1, "right"))
]
MARK = 4.5


def draw(name: str, sources: list[Path]) -> Figure:
    """sources: the tables' CSV files, in order; a number that two of them hold is drawn once."""
    tables = [read_table(path, *REQUIRED) for path in sources if path.suffix == ".csv"]
    points = [each for each in compare_numbers(tables) if is_number(each.ours)]
    if not points:
        notes = [note for table in tables for notes in table["Verdict note"] for note in notes.split(NOTE_SEPARATOR)]
        failed = " ".join(dict.fromkeys(note for note in notes if note.startswith("Unstable")))
        headline = "Nothing to draw: no number is both here and in the paper"
        raise NothingToDraw(headline, failed or "Nothing was run.")
    return draw_panels(points)


def kind_of(point: Comparison) -> str:
    """'train', 'test', or neither."""
    return next((kind for kind in WORDS if kind in point.quantity.split()), "")


def draw_panels(points: list[Comparison]) -> Figure:
    charts.use_theme()
    groups = defaultdict(list)
    for point in points:
        groups[point.quantity.partition(" ")[0]].append(point)
    groups = {name: groups[name] for name in TITLES if name in groups}
    columns = min(3, len(groups))
    lines = -(-len(groups) // columns)
    width, height = max(2.75 * columns, 6), 2.75 * lines + 0.55
    figure = Figure(figsize=(width, height), layout="constrained", dpi=style.DPI)
    figure.get_layout_engine().set(rect=(0, 0.5 / height, 1, 1 - 0.6 / height), wspace=0.06, hspace=0.06)
    every = figure.subplots(lines, columns, squeeze=False).flatten()
    for axes in every[len(groups) :]:
        axes.remove()
    for axes, (name, group) in zip(every, groups.items(), strict=False):
        draw_panel(axes, TITLES[name], group)
    figure.legend(
        handles=legend_handles(points),
        loc="lower left",
        bbox_to_anchor=(0, 0.12 / height),
        ncols=5,
        frameon=False,
        fontsize=7,
        columnspacing=1.5,
        handletextpad=0.4,
    )
    figure.draw_without_rendering()  # places the panels, and names are placed in them
    figure.set_layout_engine("none")
    for axes, group in zip(every, groups.values(), strict=False):
        name_points(axes, group)
    return figure


def draw_panel(axes: Axes, title: str, points: list[Comparison]) -> None:
    """Points of one quantity over the line where reproduced and published are equal, on equal axes."""
    for point in points:
        colour, marker = LOOKS[kind_of(point)]
        x_error, y_error = point.errors
        axes.errorbar(
            point.published, point.reproduced, xerr=x_error or None, yerr=y_error or None, fmt=marker, color=colour,
            markersize=MARK, elinewidth=0.9, capsize=1.5, markerfacecolor="white" if point.marked else colour,
        )  # fmt: skip
    axes.set_title(title, fontsize=9)
    axes.set(xlabel="published", ylabel="reproduced", box_aspect=1)
    limits = set_scale(axes, np.array([[point.published, point.reproduced] for point in points]).flatten())
    axes.plot(limits, limits, color=style.FAINT, linestyle="--", linewidth=0.8, zorder=0)
    axes.set(xlim=limits, ylim=limits)


def set_scale(axes: Axes, values: np.ndarray) -> tuple[float, float]:
    """Limits of both axes, which are logarithmic where most values are small; and linear around 0 if 0 is one."""
    low, high = values.min(), values.max()
    if low < 0 or np.median(values) > high / 10:
        margin = 0.12 * (high - low) or 0.1 * abs(high) or 1
        return low - margin, high + margin
    if low > 0:
        axes.set(xscale="log", yscale="log")
        return low / 1.8, high * 1.8
    smallest = values[values > 0].min()
    axes.set_xscale("symlog", linthresh=smallest)
    axes.set_yscale("symlog", linthresh=smallest)
    return -0.3 * smallest, 3 * high


def name_points(axes: Axes, points: list[Comparison]) -> None:
    """The row's name beside each point, where it hides no mark, no bar and no other name."""
    to_pixels, reach = axes.transData.transform, style.DPI / 72 * MARK / 2
    centres = to_pixels([(point.published, point.reproduced) for point in points])
    taken = []
    for (x, y), point in zip(centres, points, strict=True):
        right, above = to_pixels((point.published + point.errors[0], point.reproduced + point.errors[1])) - (x, y)
        taken += [(x - right - reach, y - reach, x + right + reach, y + reach)]
        taken += [(x - reach, y - above - reach, x + reach, y + above + reach)]
    inside = axes.get_window_extent()
    for point in points:
        for dx, dy, ha in OFFSETS:
            text = axes.annotate(
                point.row, (point.published, point.reproduced), xytext=(dx, dy), textcoords="offset points", fontsize=6,
                ha=ha, va="center", color=style.INK,
            )  # fmt: skip
            box = text.get_window_extent()
            if (
                inside.contains(*box.min)
                and inside.contains(*box.max)
                and not any(overlap(box.extents, b) for b in taken)
            ):
                taken.append(tuple(box.extents))
                break
            text.remove()


def overlap(one, other) -> bool:
    """Whether two boxes (left, bottom, right, top) have a common point."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def legend_handles(points: list[Comparison]) -> list[Line2D]:
    """What the marks mean; nothing is said of marks that are not there."""
    handles = [Line2D([], [], color=style.FAINT, linestyle="--", linewidth=0.8, label="reproduced = published")]
    for kind, words in WORDS.items():
        if any(kind_of(point) == kind for point in points):
            colour, marker = LOOKS[kind]
            handles.append(Line2D([], [], linestyle="", color=colour, marker=marker, markersize=MARK, label=words))
    mark = {"linestyle": "", "marker": "o", "color": style.INK, "markersize": MARK}
    if any(not point.marked for point in points):
        handles.append(Line2D([], [], label="the paper's protocol", **mark))
    if any(point.marked for point in points):
        label = "not the paper's protocol: not comparable"
        handles.append(Line2D([], [], markerfacecolor="white", label=label, **mark))
    return handles
