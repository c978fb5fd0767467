"""Figure 10: quality of x0-hat over the reverse process, as Inception Score and FID."""

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ddpm.report.figures import charts, style
from ddpm.report.figures.samples import first_of, read_run, why_empty
from ddpm.report.inputs import network_name
from ddpm.storage.tables import read_curve

COLUMNS = ("reverse_steps", "inception_score", "inception_score_std", "fid_train", "fid_test")


def draw(name: str, sources: list[Path]) -> Figure:
    """sources: progressive.csv and the metrics.json that names the feature network."""
    curve, run = read_curve(first_of(sources, ".csv"), *COLUMNS), read_run(sources)
    if not len(curve):
        raise why_empty(run)
    network = network_name(run)
    charts.use_theme()
    figure = Figure(figsize=(7, 2.9), layout="constrained")
    figure.get_layout_engine().set(rect=(0, 0.06, 1, 0.94), wspace=0.06)
    score_axes, fid_axes = figure.subplots(1, 2)
    charts.draw_line(score_axes, curve, "reverse_steps", "inception_score", style.BLUE)
    charts.draw_spread(score_axes, curve, "reverse_steps", "inception_score", style.BLUE, alpha=0.2)
    score_axes.set(ylabel=charts.name_score("Inception Score", network), ylim=(1, None))  # 1 is the least it can be
    charts.draw_fids(fid_axes, curve, "reverse_steps")
    fid_axes.set(ylabel=charts.name_score("FID", network), ylim=(0, None))
    charts.place_legend(fid_axes)
    for axes in (score_axes, fid_axes):
        axes.set(xlabel="Reverse process steps (T − t)", xlim=(0, None))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure
