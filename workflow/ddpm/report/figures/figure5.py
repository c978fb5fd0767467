"""Figure 5: distortion and rate over the reverse process, and one against the other."""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple

from ddpm.report.figures import charts, style
from ddpm.report.figures.samples import first_of, read_run, why_empty
from ddpm.report.inputs import PUBLISHED
from ddpm.storage.tables import read_curve

STEPS, DISTORTION, RATE = "Reverse process steps (T − t)", "Distortion (RMSE, 0 to 255)", "Rate (bits/dim)"
PANELS = (  # the titles of the axes x and y, and a colour
    (STEPS, DISTORTION, style.BLUE),
    (STEPS, RATE, style.ORANGE),
    (RATE, DISTORTION, style.GREEN),
)
PAPER = "paper, Table 4 (CIFAR-10)"


def draw(name: str, sources: list[Path]) -> Figure:
    """sources: rate_distortion.csv, and metrics.json, which names the data or the reason of an unstable run."""
    curve = read_curve(first_of(sources, ".csv"), "reverse_time", "rate", "distortion")
    run = read_run(sources)
    if not len(curve):
        raise why_empty(run)
    data = run.get("data", {"name": "cifar10"})
    title = data.get("title") or data["name"]
    return draw_panels(curve, "here" if title in ("CIFAR-10", "cifar10") else f"here ({title})")


def draw_panels(curve: pd.DataFrame, ours: str) -> Figure:
    """Our curves, called `ours`, and the paper's ten points over them."""
    charts.use_theme()
    paper = read_curve(PUBLISHED / "table4.csv", "reverse_time", "rate", "distortion")
    # Where T is not the paper's 1000, its times stand at the same fraction of T.
    paper["reverse_time"] *= curve["reverse_time"].max() / 1000
    curve, paper = with_titles(curve), with_titles(paper)
    # Few times are marked one by one; over a thousand the marks would be all there is to see.
    marker = "o" if len(curve) <= 100 else None
    figure = Figure(figsize=(8.4, 3.0), layout="constrained")
    figure.get_layout_engine().set(rect=(0, 0.05, 1, 0.87), wspace=0.06)
    for axes, (x, y, colour) in zip(figure.subplots(1, 3), PANELS, strict=True):
        charts.draw_line(axes, curve, x, y, colour, marker, markersize=3)
        axes.plot(
            x, y, "o", data=paper, markerfacecolor="none", markeredgecolor=style.INK,
            markersize=5, markeredgewidth=0.9, clip_on=False, zorder=3,
        )  # fmt: skip
        axes.set(ylim=(0, None), xlim=(0, None))
    handles = [tuple(axes.lines[0] for axes in figure.axes), figure.axes[0].lines[1]]
    figure.legend(
        handles, [ours, PAPER], loc="upper left", ncols=2, frameon=False, fontsize=8,
        handler_map={tuple: HandlerTuple(ndivide=None, pad=0)}, handlelength=3,
    )  # fmt: skip
    return figure


def with_titles(curve: pd.DataFrame) -> pd.DataFrame:
    """The columns under the titles of their axes. Table 4 counts T - t + 1, Figure 5 counts T - t."""
    return pd.DataFrame({STEPS: curve["reverse_time"] - 1, DISTORTION: curve["distortion"], RATE: curve["rate"]})
