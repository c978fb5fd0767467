"""Figure 2: the directed graphical model. A drawing: nothing is computed for it."""

from itertools import pairwise
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch

from ddpm.report.figures import style

RADIUS = 0.36
# Where the nodes stand, and the dots for those that are left out.
NODES = {"$x_T$": 0.0, "$\\cdots$": 1.6, "$x_t$": 3.2, "$x_{t-1}$": 5.6, "$\\cdots $": 7.2, "$x_0$": 8.8}
OBSERVED = "$x_0$"


def draw(name: str, sources: list[Path]) -> Figure:
    """sources: none."""
    figure = Figure(figsize=(7.2, 1.6), dpi=style.DPI)
    axes = figure.add_axes((0, 0.08, 1, 0.9))
    axes.set(xlim=(-0.7, 9.5), ylim=(-1.25, 0.8), aspect="equal")
    axes.axis("off")
    for text, x in NODES.items():
        if "cdots" not in text:
            colour = "#e5e7eb" if text == OBSERVED else "white"
            axes.add_patch(Circle((x, 0), RADIUS, facecolor=colour, edgecolor=style.INK, linewidth=1.1))
        axes.text(x, 0, text, fontsize=11, ha="center", va="center")
    places = list(NODES.values())
    for left, right in pairwise(places):
        draw_arrow(axes, (left + RADIUS, 0), (right - RADIUS, 0), style.BLUE)
    x_t, before = NODES["$x_t$"], NODES["$x_{t-1}$"]
    draw_arrow(axes, (before - 0.2, -RADIUS + 0.06), (x_t + 0.2, -RADIUS + 0.06), style.ORANGE, "--", bend=-0.35)
    axes.text((x_t + before) / 2, 0.3, "$p_\\theta(x_{t-1} | x_t)$", fontsize=11, ha="center", color=style.BLUE)
    axes.text((x_t + before) / 2, -1.08, "$q(x_t | x_{t-1})$", fontsize=11, ha="center", color=style.ORANGE)
    axes.text(NODES["$x_T$"], -0.85, "noise", fontsize=8, ha="center", color=style.FAINT)
    axes.text(NODES[OBSERVED], -0.85, "image", fontsize=8, ha="center", color=style.FAINT)
    return figure


def draw_arrow(axes, start, end, colour, line="-", bend=0.0) -> None:
    axes.add_patch(
        FancyArrowPatch(
            start, end, arrowstyle="-|>", mutation_scale=11, linewidth=1.3, linestyle=line, color=colour,
            shrinkA=1, shrinkB=1, connectionstyle=f"arc3,rad={bend}",
        )
    )  # fmt: skip
