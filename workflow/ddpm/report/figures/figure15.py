"""Figure 15: generated samples and their nearest neighbours in the training set."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ddpm.files import read_npz
from ddpm.report.figures import style
from ddpm.report.figures.samples import read_status, why_none
from ddpm.report.inputs import network_name


def draw(sources: list[Path], outputs: list[Path], stamp: str) -> None:
    """sources: neighbours.npz, and metrics.json if the feature network is to be named."""
    arrays = read_npz(next(path for path in sources if path.suffix == ".npz"), "samples", "pixel", "feature")
    status = read_status(sources)
    if len(arrays["samples"]):
        figure = two_grids(arrays, network_name(status) if status else "classifier")
    else:
        figure = why_none(status or {"status": "unstable"})
    style.save(figure, outputs, stamp)


def two_grids(arrays: dict[str, np.ndarray], network: str) -> Figure:
    """Pixel-space neighbours on the left, feature-space neighbours on the right, one sample per row."""
    samples = arrays["samples"]
    size, neighbours = samples.shape[2], arrays["pixel"].shape[1]
    zoom = style.zoom_for(2 * (neighbours + 1) * size, 1560)
    gap = max(2, size * zoom // 24)
    apart = size * zoom // 3  # sets the sample off from its neighbours
    left_column = style.image_grid(samples[:, None], zoom, gap)
    grids = [style.image_grid(arrays[space], zoom, gap) for space in ("pixel", "feature")]
    panel = left_column.shape[1] + apart + grids[0].shape[1]
    between = max(size * zoom, 60)
    figure, axes = style.canvas(2 * panel + between, left_column.shape[0], left=0.12, right=0.12, top=0.62)
    titles = ("(a) nearest in pixel space", f"(b) nearest in feature space ({network})")
    for left, grid, title in zip((0, panel + between), grids, titles, strict=True):
        style.place(axes, left_column, left)
        style.place(axes, grid, left + left_column.shape[1] + apart)
        middle = left + left_column.shape[1] + apart / 2
        axes.plot([middle, middle], [0, left_column.shape[0]], color=style.FAINT, linewidth=0.8, clip_on=False)
        style.label(axes, left, -84, title, 9, ha="left", weight="bold")
        style.label(axes, left, -28, "sample", 7, ha="left", color=style.FAINT)
        style.label(
            axes, left + left_column.shape[1] + apart, -28, "training images, nearest first", 7, ha="left",
            color=style.FAINT,
        )  # fmt: skip
    return figure
