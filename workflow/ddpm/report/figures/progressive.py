"""Figures 6 and 14, progressive generation: x0-hat from noise (left) to the final sample (right)."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ddpm.report.figures import style
from ddpm.report.figures.samples import draw_why_empty, read_samples

ROWS = {"figure6": 6, "figure14": 16}


def draw(name: str, sources: list[Path], outputs: list[Path], stamp: str) -> None:
    """sources: sample shards in order."""
    style.save(draw_progressive(sources, ROWS[name]), outputs, stamp)


def draw_progressive(shards: list[Path], rows: int) -> Figure:
    """The predictions of the first samples, as many as there are rows."""
    samples, status = read_samples(shards, rows, previews=True)
    if not len(samples["images"]):
        return draw_why_empty(status)
    if not samples["previews"].shape[1]:
        return style.draw_message("Nothing to draw", "This experiment's sampling kept no predictions of x0 on the way.")
    # Slots run from clean to noise; the figure is read in the order in which the sampler works.
    images = samples["previews"][:, ::-1]
    times = samples["preview_times"][::-1] + 1
    return draw_grid(images, times)


def draw_grid(images: np.ndarray, times: np.ndarray) -> Figure:
    """images [R, K, H, W, C] under their 1-based times [K], of which as many are labelled as fit."""
    columns = images.shape[1]
    images, zoom = style.fit_images(images, columns, 1440)
    size = images.shape[3]
    gap = max(2, size * zoom // 24)
    grid = style.make_grid(images, zoom, gap)
    height, width = grid.shape[:2]
    figure, axes = style.make_canvas(width, height, left=0.12, right=0.12, top=0.52)
    style.draw_image(axes, grid)
    pitch = size * zoom + gap
    every = -(-62 // pitch)  # a label of four digits needs some 60 pixels
    for k in range(columns):
        if (columns - 1 - k) % every == 0:
            style.draw_label(axes, k * pitch + size * zoom / 2, -20, f"{times[k]}", 7, color=style.FAINT)
    style.draw_label(axes, 0, -66, "$\\hat{x}_0$ predicted from $x_t$ at t =", 8, ha="left")
    style.draw_label(axes, width, -66, "final sample", 8, ha="right")
    return figure
