"""Figure 5: distortion and rate over the reverse process, and one against the other."""

from pathlib import Path

import seaborn
from matplotlib.figure import Figure

from ddpm.report.figures import charts, style
from ddpm.report.figures.samples import read_status, why_none
from ddpm.report.inputs import read_curve


def draw(sources: list[Path], outputs: list[Path], stamp: str) -> None:
    """sources: rate_distortion.csv, and metrics.json if the reason of an unstable run is to be told."""
    curve = read_curve(next(path for path in sources if path.suffix == ".csv"), "reverse_time", "rate", "distortion")
    figure = panels(curve) if len(curve["rate"]) else why_none(read_status(sources) or {"status": "unstable"})
    style.save(figure, outputs, stamp)


def panels(curve: dict) -> Figure:
    charts.use_theme()
    steps = curve["reverse_time"] - 1  # the figure's axis is T - t, Table 4's column T - t + 1
    names = ("Reverse process steps (T − t)", "Distortion (RMSE, 0 to 255)", "Rate (bits/dim)")
    time, distortion, rate = (
        (name, values) for name, values in zip(names, (steps, curve["distortion"], curve["rate"]), strict=True)
    )
    figure = Figure(figsize=(8.4, 2.7), layout="constrained")
    figure.get_layout_engine().set(rect=(0, 0.06, 1, 0.94), wspace=0.06)
    for axes, (x_name, x), (y_name, y), colour in zip(
        figure.subplots(1, 3), (time, time, rate), (distortion, rate, distortion),
        (style.BLUE, style.ORANGE, style.GREEN), strict=True,
    ):  # fmt: skip
        # Few times are marked one by one; over a thousand the marks would be all there is to see.
        marker = "o" if len(x) <= 100 else None
        seaborn.lineplot(
            x=x, y=y, ax=axes, color=colour, sort=False, estimator=None,
            marker=marker, markersize=3, markeredgewidth=0,
        )  # fmt: skip
        axes.set(xlabel=x_name, ylabel=y_name, ylim=(0, None), xlim=(0, None))
    return figure
