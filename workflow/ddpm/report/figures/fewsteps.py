"""Few-step sampling with DDIM against ancestral sampling: an addition, in no table or figure of the paper."""

from itertools import cycle
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from ddpm.report.figures import charts, style
from ddpm.report.figures.charts import seaborn
from ddpm.report.figures.samples import first_of, read_run, why_empty
from ddpm.report.inputs import network_name
from ddpm.storage.shards import DDIM, read_shard
from ddpm.storage.tables import read_curve

TITLE = "An addition: few steps with DDIM (Song et al. 2021), in no table or figure of the paper"
COLUMNS = ("eta", "evaluations", "images", "fid_train", "inception_score", "inception_score_std")
MARKERS = "os^D"
COLUMN_COUNT = 20  # about how many x_T are shown
WORDS = 0.5  # inches for the words above


def draw(name: str, sources: list[Path]) -> Figure:
    """sources: few_steps.csv, the metrics.json of ancestral sampling, and the shards of few-step samples."""
    shards = [path for path in sources if path.suffix == ".npz"]
    statuses = [read_shard(path, sampler=DDIM)[1]["status"] for path in shards]
    if failed := next((status for status in statuses if status["status"] == "unstable"), None):
        raise why_empty(failed)
    arrays, _ = read_shard(shards[0], "images", "eta", "evaluations", sampler=DDIM)
    return draw_scores_and_pictures(read_curve(first_of(sources, ".csv"), *COLUMNS), read_run(sources), arrays)


def draw_scores_and_pictures(curve: pd.DataFrame, ancestral: dict, arrays: dict[str, np.ndarray]) -> Figure:
    """The scores over the evaluations of the network, and beneath them the images of the smallest eta."""
    charts.use_theme()
    eta = arrays["eta"].min()
    slots = np.flatnonzero(arrays["eta"] == eta)
    grid = arrange_by_noise(arrays["images"][:, slots])
    figure, panels, beneath = charts.stack_panels(2, WORDS, grid)
    width, height = figure.get_size_inches()
    figure.text(0.1 / width, 1 - 0.18 / height, TITLE, fontsize=9, va="center")
    counts = f"{curve['images'][0]:,.0f} images per point, {ancestral['made_from']['images']:,} for ancestral sampling"
    figure.text(0.1 / width, 1 - 0.37 / height, f"Scores of {counts}", fontsize=7, va="center", color=style.FAINT)
    draw_panels(*panels, curve, ancestral)
    draw_rows(beneath, grid, arrays["evaluations"][slots], eta)
    return figure


def draw_panels(fid_axes: Axes, score_axes: Axes, curve: pd.DataFrame, ancestral: dict) -> None:
    """FID and Inception Score, a curve per eta, and where ancestral sampling stands if it was measured."""
    network = network_name(ancestral)
    by_eta = curve.groupby("eta")
    colours = seaborn.color_palette("colorblind", len(by_eta))
    for (eta, own), colour, marker in zip(by_eta, colours, cycle(MARKERS), strict=False):
        charts.draw_line(fid_axes, own, "evaluations", "fid_train", colour, marker, label=f"DDIM, η = {eta:g}")
        charts.draw_line(score_axes, own, "evaluations", "inception_score", colour, marker)
        charts.draw_spread(score_axes, own, "evaluations", "inception_score", colour, alpha=0.15)
    if ancestral["status"] == "measured":
        label = f"ancestral, all {ancestral['made_from']['process']['timesteps']:,} steps"
        dashed = {"color": style.INK, "linestyle": "--", "linewidth": 1}
        fid_axes.axhline(ancestral["fid"]["train"], label=label, **dashed)
        score_axes.axhline(ancestral["inception_score"]["mean"], **dashed)
    fid_axes.set(ylabel=charts.name_score("FID, training set", network), ylim=(0, None))
    score_axes.set(ylabel=charts.name_score("Inception Score", network))
    charts.place_legend(fid_axes)
    counts = sorted(curve["evaluations"].unique())
    for axes in (fid_axes, score_axes):
        axes.set(xlabel="Network evaluations per image", xscale="log")
        axes.set_xticks(counts, [f"{count:g}" for count in counts])
        axes.xaxis.set_minor_locator(NullLocator())


def arrange_by_noise(images: np.ndarray) -> np.ndarray:
    """images [n, settings, H, W, C] as a grid of one row per setting and as many columns, one per x_T, as fit."""
    width, size = charts.PICTURE, images.shape[3]
    zoom = style.zoom_for(COLUMN_COUNT * (size + 1), width)
    gap = max(2, size * zoom // 24)
    return style.make_grid(images[: (width + gap) // (size * zoom + gap)].swapaxes(0, 1), zoom, gap)


def draw_rows(axes: Axes, grid: np.ndarray, evaluations: np.ndarray, eta: float) -> None:
    style.draw_image(axes, grid)
    style.draw_label(axes, 0, -30, f"From the same noise $x_T$ in each column, η = {eta:g}", 8, ha="left")
    for row, count in enumerate(evaluations):
        middle = (row + 0.5) * grid.shape[0] / len(evaluations)
        style.draw_label(axes, -14, middle, f"{count} steps", 7, ha="right", color=style.FAINT)
