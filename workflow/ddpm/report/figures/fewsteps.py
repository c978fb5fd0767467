"""Few-step sampling with DDIM against ancestral sampling: an addition, in no table or figure of the paper."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from ddpm.report.figures import charts, style
from ddpm.report.figures.charts import seaborn
from ddpm.report.figures.samples import first_of, read_run, why_empty
from ddpm.report.inputs import PUBLISHED, network_name
from ddpm.storage.shards import DDIM, read_few_steps, read_shard
from ddpm.storage.tables import read_curve, read_table

TITLE = "An addition: few steps with DDIM (Song et al. 2021), in no table or figure of the paper"
NUMBERS = ("eta", "steps", "evaluations", "images", "fid_train", "inception_score", "inception_score_std")
LINES = {"quadratic": ("o", "-"), "uniform": ("^", ":")}  # marker and line of each spacing
PUBLISHED_MARKER = LINES["quadratic"][0]  # the spacing of DDIM's authors for CIFAR-10
PUBLISHED_OF = ({"name": "cifar10", "title": "CIFAR-10"}, "Inception (2015-12-05)", 1000)  # no copy encoded anew
COLUMN_COUNT = 20  # about how many x_T are shown
WORDS = 0.5  # inches for the words above


def draw(name: str, sources: list[Path]) -> Figure:
    """sources: few_steps.csv, the metrics.json of ancestral sampling, and the shards of few-step samples."""
    shards = [path for path in sources if path.suffix == ".npz"]
    statuses = [read_shard(path, sampler=DDIM)[1]["status"] for path in shards]
    if failed := next((status for status in statuses if status["status"] == "unstable"), None):
        raise why_empty(failed)
    table = first_of(sources, ".csv")
    curve = read_curve(table, *NUMBERS).assign(spacing=read_table(table, "spacing")["spacing"])
    return draw_scores_and_pictures(curve, read_run(sources), read_few_steps(shards[0])[0])


def draw_scores_and_pictures(curve: pd.DataFrame, ancestral: dict, arrays: dict[str, np.ndarray]) -> Figure:
    """The scores over the evaluations of the network; beneath, images of the smallest eta and the first spacing."""
    charts.use_theme()
    eta, spacing = arrays["eta"].min(), arrays["spacing"][0]
    slots = np.flatnonzero((arrays["eta"] == eta) & (arrays["spacing"] == spacing))
    grid = arrange_by_noise(arrays["images"][:, slots])
    figure, panels, beneath = charts.stack_panels(2, WORDS, grid)
    width, height = figure.get_size_inches()
    figure.text(0.1 / width, 1 - 0.18 / height, TITLE, fontsize=9, va="center")
    counts = f"{curve['images'][0]:,.0f} images per point, {ancestral['made_from']['images']:,} for ancestral sampling"
    figure.text(0.1 / width, 1 - 0.37 / height, f"Scores of {counts}", fontsize=7, va="center", color=style.FAINT)
    draw_panels(*panels, curve, ancestral)
    draw_rows(beneath, grid, arrays["evaluations"][slots], f"{spacing}, η = {eta:g}")
    return figure


def draw_panels(fid_axes: Axes, score_axes: Axes, curve: pd.DataFrame, ancestral: dict) -> None:
    """FID and Inception Score, a curve per spacing and eta, and where ancestral sampling stands if it was measured.

    The colour is that of the eta, the line and the marker those of the spacing. Published numbers are hollow markers.
    """
    network = network_name(ancestral)
    etas = sorted(curve["eta"].unique())
    colours = dict(zip(etas, seaborn.color_palette("colorblind", len(etas)), strict=True))
    steps = set(curve["steps"])  # rather than evaluations, of which quadratic times have a few less than uniform ones
    for (spacing, eta), own in curve.groupby(["spacing", "eta"], sort=False):
        marker, line = LINES[spacing]
        options = {"linestyle": line, "label": f"{spacing}, η = {eta:g}"}
        charts.draw_line(fid_axes, own, "evaluations", "fid_train", colours[eta], marker, **options)
        charts.draw_line(score_axes, own, "evaluations", "inception_score", colours[eta], marker, linestyle=line)
        charts.draw_spread(score_axes, own, "evaluations", "inception_score", colours[eta], alpha=0.15)
    theirs = draw_published(fid_axes, colours) if is_comparable(ancestral) else set()
    if ancestral["status"] == "measured":
        label = f"ancestral, all {ancestral['made_from']['process']['timesteps']:,} steps"
        dashed = {"color": style.INK, "linestyle": "--", "linewidth": 1}
        fid_axes.axhline(ancestral["fid"]["train"], label=label, **dashed)
        score_axes.axhline(ancestral["inception_score"]["mean"], **dashed)
    fid_axes.set(ylabel=charts.name_score("FID, training set", network), ylim=(0, None))
    score_axes.set(ylabel=charts.name_score("Inception Score", network))
    charts.place_legend(fid_axes)
    for axes, ticks in ((fid_axes, sorted(steps | theirs)), (score_axes, sorted(steps))):
        axes.set(xlabel="Network evaluations per image", xscale="log")
        axes.set_xticks(ticks, [f"{count:g}" for count in ticks])
        axes.xaxis.set_minor_locator(NullLocator())


def is_comparable(run: dict) -> bool:
    """Whether DDIM's published FIDs are of the data and the network of ours, and of as many timesteps."""
    timesteps = run.get("made_from", {}).get("process", {}).get("timesteps")
    return (run["data"], network_name(run), timesteps) == PUBLISHED_OF


def draw_published(axes: Axes, colours: dict) -> set[int]:
    """The FIDs of DDIM's Table 1 as hollow markers, and that of all steps with the larger variance, as ancestral ones.

    Args:
        colours: of each eta that is shown.

    Returns:
        The numbers of steps that there are.
    """
    table = read_table(PUBLISHED / "ddim.csv", "noise", "steps", "fid_train").astype({"steps": int, "fid_train": float})
    colours = {f"{eta:g}": colour for eta, colour in colours.items()}
    shown = table[table["noise"].isin(colours) | ((table["noise"] == "sigma-hat") & (table["steps"] == 1000))]
    for noise, own in shown.groupby("noise"):
        axes.plot(
            own["steps"], own["fid_train"], PUBLISHED_MARKER, color=colours.get(noise, style.INK), markersize=6,
            markerfacecolor="none", label=None if noise in colours else "hollow: published",
        )  # fmt: skip
    return set(shown["steps"])


def arrange_by_noise(images: np.ndarray) -> np.ndarray:
    """images [n, settings, H, W, C] as a grid of one row per setting and as many columns, one per x_T, as fit."""
    width, size = charts.PICTURE, images.shape[3]
    zoom = style.zoom_for(COLUMN_COUNT * (size + 1), width)
    gap = max(2, size * zoom // 24)
    return style.make_grid(images[: (width + gap) // (size * zoom + gap)].swapaxes(0, 1), zoom, gap)


def draw_rows(axes: Axes, grid: np.ndarray, evaluations: np.ndarray, which: str) -> None:
    style.draw_image(axes, grid)
    style.draw_label(axes, 0, -30, f"From the same noise $x_T$ in each column, {which}", 8, ha="left")
    for row, count in enumerate(evaluations):
        middle = (row + 0.5) * grid.shape[0] / len(evaluations)
        style.draw_label(axes, -14, middle, f"{count} steps", 7, ha="right", color=style.FAINT)
