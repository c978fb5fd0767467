"""The theme of curves. Apart from `style`, since pictures of images need not wait for seaborn to load."""

import seaborn

from ddpm.report.figures.style import FAINT, INK


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
