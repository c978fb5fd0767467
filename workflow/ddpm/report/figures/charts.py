"""How curves are drawn. `style` does without this module, as pictures of images do not need seaborn."""

import sys
import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# seaborn loads scipy.stats for densities, which no figure has: half of the time of its start. So it finds no scipy.
if without := "scipy" not in sys.modules:
    sys.modules["scipy"] = None
import seaborn

if without:
    del sys.modules["scipy"]

from ddpm.report.figures.style import DPI, FAINT, GREEN, INK, ORANGE, add_pixel_axes

# In inches, of panels over a picture: the width of all, the height of the panels, the margins of the picture.
WIDTH, PANELS = 7, 2.6
LEFT, RIGHT, ABOVE, BELOW = 0.62, 0.08, 0.44, 0.22
PICTURE = int((WIDTH - LEFT - RIGHT) * DPI)  # pixels across that picture


def use_theme() -> None:
    """Set the look of all curves that are drawn from now on."""
    seaborn.set_theme(
        context="paper",
        style="ticks",
        font="DejaVu Sans",
        rc={
            "axes.grid": True,
            "grid.color": "#e5e7eb",
            "grid.linewidth": 0.6,
            "axes.edgecolor": FAINT,
            "axes.labelcolor": INK,
            "text.color": INK,
            "xtick.color": FAINT,
            "ytick.color": FAINT,
            "xtick.labelcolor": INK,
            "ytick.labelcolor": INK,
            "axes.spines.top": False,
            "axes.spines.right": False,
        },
    )


def stack_panels(count: int, words: float, picture: np.ndarray | None) -> tuple[Figure, Sequence[Axes], Axes | None]:
    """A figure of `words` inches for words, `count` panels of curves below, and below these axes for `picture`."""
    beneath = 0.22 if picture is None else ABOVE + picture.shape[0] / DPI + BELOW
    height = words + PANELS + beneath
    figure = Figure(figsize=(WIDTH, height), layout="constrained", dpi=DPI)
    figure.get_layout_engine().set(rect=(0, beneath / height, 1, PANELS / height), wspace=0.06)
    panels = figure.subplots(1, count, squeeze=False)[0]
    return figure, panels, None if picture is None else add_pixel_axes(figure, *picture.shape[1::-1], LEFT, BELOW)


def name_score(score: str, network: str) -> str:
    """The label of an axis: a score, and below it the network that gives it, in lines no longer than an axis."""
    return f"{score}\n{textwrap.fill(f'({network})', 24)}"


def place_legend(axes: Axes, columns: int = 2) -> None:
    """A legend above the axes, where it can lie on no curve."""
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, frameon=False, fontsize=7, borderaxespad=0.2,
        columnspacing=1.2, handlelength=1.6,
    )  # fmt: skip


def draw_line(axes: Axes, curve: pd.DataFrame, x: str, y: str, colour, marker: str | None = "o", **options) -> None:
    """Column `y` of a frame over column `x`: marked points, joined in the order of the rows."""
    seaborn.lineplot(
        curve, x=x, y=y, ax=axes, color=colour, marker=marker, sort=False, estimator=None,
        **{"markersize": 4, "markeredgewidth": 0} | options,
    )  # fmt: skip


def draw_spread(axes: Axes, curve: pd.DataFrame, x: str, y: str, colour, alpha: float) -> None:
    """A band around `y`, as wide on each side as column `y`_std says."""
    low, high = curve[y] - curve[f"{y}_std"], curve[y] + curve[f"{y}_std"]
    axes.fill_between(curve[x], low, high, color=colour, alpha=alpha, linewidth=0)


def draw_fids(axes: Axes, scores: pd.DataFrame, x: str) -> None:
    """FID over column `x` against the training set, and against the test set where there is one: else it is nan."""
    draw_line(axes, scores, x, "fid_train", ORANGE, "o", label="against the training set")
    if scores["fid_test"].notna().any():
        draw_line(axes, scores, x, "fid_test", GREEN, "s", label="against the test set")
