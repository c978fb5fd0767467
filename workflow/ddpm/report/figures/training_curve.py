"""How training went: the loss, FID of snapshots on the way, and what the network drew at each of them."""

from math import isqrt
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ddpm.report.figures import charts, style
from ddpm.report.figures.samples import NothingToDraw, read_run, why_empty
from ddpm.storage.files import read_npz
from ddpm.storage.tables import read_curve

SCORES = ("step", "images", "fid_train", "fid_test")
COLUMNS, SIDE = 8, 2  # most snapshots in the strip, and rows and columns of images of each
WORDS = 0.28  # inches for the words above an unstable run


def draw(name: str, sources: list[Path]) -> Figure:
    """sources: training.csv; and, each if there is one, snapshots.csv, snapshots.npz and metrics.json."""
    files = {path.name: path for path in sources}
    history = read_curve(files["training.csv"], "step", "loss")
    scores = read_curve(files["snapshots.csv"], *SCORES) if "snapshots.csv" in files else None
    pictures = read_npz(files["snapshots.npz"], "steps", "ema", "raw") if "snapshots.npz" in files else None
    run = read_run(sources)
    if not len(history):
        raise why_empty(run) if run.get("status") == "unstable" else NothingToDraw("Nothing to draw", "No training.")
    return draw_curves_and_pictures(history, scores, pictures, run)


def draw_curves_and_pictures(
    history: pd.DataFrame, scores: pd.DataFrame | None, pictures: dict | None, run: dict
) -> Figure:
    charts.use_theme()
    grid = arrange_snapshots(pictures) if pictures is not None and len(pictures["steps"]) else None
    measured, unstable = scores is not None and len(scores), run.get("status") == "unstable"
    figure, axes, beneath = charts.stack_panels(1 + bool(measured), WORDS * unstable, grid and grid[0])
    if unstable:
        width, height = figure.get_size_inches()
        said = ". ".join(why_empty(run).args).partition(": ")[2]
        figure.text(0.1 / width, 1 - 0.16 / height, said, fontsize=8, va="center")
    draw_loss(axes[0], history)
    if measured:
        draw_fid(axes[1], scores, run.get("made_from", {}).get("weights", {}).get("step"))
    if grid:
        draw_snapshots(beneath, *grid)
    return figure


def draw_loss(axes: Axes, history: pd.DataFrame) -> None:
    """The loss as it was logged, and its running median, both logarithmic."""
    kept = history[np.isfinite(history["loss"]) & (history["loss"] > 0)]
    charts.draw_line(axes, kept, "step", "loss", style.BLUE, None, linewidth=0.7, alpha=0.4, label="logged")
    window = running_window(len(kept))
    if window > 1:
        median = kept.assign(loss=running_median(kept["loss"].to_numpy(), window))
        label = f"running median of {window} values"
        charts.draw_line(axes, median, "step", "loss", style.BLUE, None, linewidth=1.5, label=label)
    axes.set(xlabel="Training step", ylabel="Loss", xscale="log", yscale="log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(format_tick)
        axis.set_minor_formatter(format_tick if axis is axes.yaxis else "")
    charts.place_legend(axes)


def format_tick(value: float, position: int) -> str:
    """A label for some multiples of a power of ten, without that power."""
    return f"{value:,g}" if f"{value:.0e}"[0] in "12357" else ""


def running_window(count: int) -> int:
    """An odd number of values: about a fortieth of them, but five at least, and one where there are few."""
    return max(5, count // 40 | 1) if count >= 10 else 1


def running_median(values: np.ndarray, window: int) -> np.ndarray:
    """The median of the `window` values around each; towards the ends, of as many as there are on both sides."""
    halves = [min(window // 2, i, len(values) - 1 - i) for i in range(len(values))]
    return np.array([np.median(values[i - half : i + half + 1]) for i, half in enumerate(halves)])


def draw_fid(axes: Axes, scores: pd.DataFrame, chosen: int | None) -> None:
    """FID of the snapshots, and the step whose weights were kept."""
    charts.draw_fids(axes, scores, "step")
    if chosen is not None:
        axes.axvline(chosen, color=style.INK, linestyle="--", linewidth=1, label=f"kept: step {chosen:,}")
    fewest, most = scores["images"].agg(["min", "max"])
    images = f"{fewest:,.0f}" if fewest == most else f"{fewest:,.0f} to {most:,.0f}"
    axes.set(xlabel="Training step", ylabel=f"FID ({images} samples)", ylim=(0, None), xlim=(0, None))
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    charts.place_legend(axes)


def arrange_snapshots(pictures: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Averaged weights above, raw ones below, over the steps; and the steps that are shown.

    ema and raw are [S, k, H, W, C]; each cell holds the largest square of at most SIDE x SIDE of the k images.
    """
    shown = np.unique(np.linspace(0, len(pictures["steps"]) - 1, COLUMNS).round().astype(int))
    side = min(SIDE, isqrt(pictures["ema"].shape[1]))
    cells = np.stack([pictures[kind][shown, : side**2] for kind in ("ema", "raw")])  # [2, S, side^2, H, W, C]
    across = -(-max(len(shown), COLUMNS) * (8 * side + 3) // 8)  # in images, with the gaps
    cells, zoom = style.fit_images(cells, across, charts.PICTURE, most=charts.PICTURE)
    gap = max(1, cells.shape[4] * zoom // 24)
    tiles = [[style.make_grid(cell.reshape(side, side, *cell.shape[1:]), zoom, gap) for cell in row] for row in cells]
    between = max(12, tiles[0][0].shape[1] // 8)
    return style.make_grid(np.array(tiles), 1, between), pictures["steps"][shown]


def draw_snapshots(axes: Axes, picture: np.ndarray, steps: np.ndarray) -> None:
    style.draw_image(axes, picture)
    height, width = picture.shape[:2]
    for column, step in enumerate(steps):
        style.draw_label(axes, (column + 0.5) * width / len(steps), -18, f"{step:,}", 7, color=style.FAINT)
    style.draw_label(axes, -14, -18, "step", 7, ha="right", color=style.FAINT)
    for row, text in enumerate(("averaged\n(EMA)", "raw")):
        style.draw_label(axes, -14, (row + 0.5) * height / 2, text, 7, ha="right")
