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
# Where a name may stand, in points from its mark: right and left of it, and ever further away.
NEAR = 5
OFFSETS = sorted(
    ((side * across, rise) for side in (1, -1) for across in (NEAR, 14, 26, 40, 54) for rise in range(-77, 78, 7)),
    key=lambda place: (np.hypot(place[0], 1.5 * place[1]), -place[0]),  # flat lines part sooner
)
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
    """The row's name near each point, where it hides no mark, bar, line or name; a thin line leads to a far one."""
    to_pixels, point = axes.transData.transform, style.DPI / 72
    centres = to_pixels([(each.published, each.reproduced) for each in points])
    reach, panel = MARK / 2 * point, axes.get_window_extent()
    marks, names = [], np.empty((0, 4))
    ruler = around(np.linspace(panel.min, panel.max, 200))  # the line where both numbers are equal
    for centre, each in zip(centres, points, strict=True):
        bars = to_pixels((each.published + each.errors[0], each.reproduced + each.errors[1])) - centre
        for reached in (np.array([bars[0], 0]) + reach, np.array([0, bars[1]]) + reach):
            marks.append((*(centre - reached), *(centre + reached)))
    for centre, each in sorted(zip(centres, points, strict=True), key=lambda pair: -pair[0][1]):  # from the top down
        text = axes.text(0, 0, each.row, fontsize=6)
        width, height = text.get_window_extent().size
        text.remove()
        for dx, dy in OFFSETS:
            x, y = end = centre + np.array([dx, dy]) * point
            box = np.array([x - width * (dx < 0), y - height / 2, x + width * (dx > 0), y + height / 2])
            far = (abs(dx), dy) != (NEAR, 0)
            line = around(np.linspace(centre, end, 50)[15:]) if far else np.empty((0, 4))
            inside = (box[:2] > panel.min).all() and (box[2:] < panel.max).all()
            if inside and not meet(box[None], [*ruler, *marks, *names]) and not meet(line, [*marks, *names]):
                break
        else:
            continue
        names = np.concatenate([names, box[None], line])
        look = {"color": style.FAINT, "lw": 0.5, "shrinkA": 1, "shrinkB": MARK / 2, "relpos": (dx < 0, 0.5)}
        axes.annotate(
            each.row, (each.published, each.reproduced), xytext=(dx, dy), textcoords="offset points", fontsize=6,
            ha="left" if dx > 0 else "right", va="center", color=style.INK,
            arrowprops={"arrowstyle": "-"} | look if far else None,
        )  # fmt: skip


def around(places: np.ndarray) -> np.ndarray:
    """Small boxes around places [N, 2] of a line."""
    return np.concatenate([places - 1, places + 1], axis=1)


def meet(some, others) -> bool:
    """Whether one of some boxes (left, bottom, right, top) has a common point with one of the others."""
    a, b = np.reshape(some, (-1, 1, 4)), np.reshape(others, (1, -1, 4))
    return bool(((a[..., :2] < b[..., 2:]) & (b[..., :2] < a[..., 2:])).all(-1).any())


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
