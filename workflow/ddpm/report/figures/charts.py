"""The theme of curves. Apart from `style`, since pictures of images need not wait for seaborn to load."""

import sys

import numpy as np

# seaborn would load scipy.stats for densities, which no figure has: half of the seconds that it takes.
if without := "scipy" not in sys.modules:
    sys.modules["scipy"] = None
import seaborn

if without:
    del sys.modules["scipy"]

from ddpm.report.figures.style import FAINT, GREEN, INK, ORANGE


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


def line(axes, x, y, colour, marker: str = "o", **options) -> None:
    """A curve through marked points, in the order in which they are given."""
    seaborn.lineplot(
        x=x, y=y, ax=axes, color=colour, sort=False, estimator=None, marker=marker, markersize=4,
        markeredgewidth=0, **options,
    )  # fmt: skip


def fids(axes, x, scores: dict[str, np.ndarray]) -> None:
    """FID over `x` against the training set, and against the test set where there is one: else it is nan."""
    line(axes, x, scores["fid_train"], ORANGE, "o", label="against the training set")
    if not np.isnan(scores["fid_test"]).all():
        line(axes, x, scores["fid_test"], GREEN, "s", label="against the test set")
