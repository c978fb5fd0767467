"""Figure 13: uncurated samples: the first ones, in the order in which they were made."""

from math import isqrt
from pathlib import Path

from matplotlib.figure import Figure

from ddpm.report.figures import style
from ddpm.report.figures.samples import read_samples, why_none

SIDE = 16  # as many rows and columns at most


def draw(sources: list[Path], outputs: list[Path], stamp: str) -> None:
    """sources: sample shards in order."""
    samples, status = read_samples(sources, SIDE**2)
    images = samples["images"]
    style.save(square(images) if len(images) else why_none(status), outputs, stamp)


def square(images) -> Figure:
    """images [n, H, W, C] as the largest full square of at most SIDE columns; large images get fewer."""
    size = images.shape[2]
    side = max(1, min(isqrt(len(images)), SIDE, 2048 // size))
    zoom = style.zoom_for(side * size, 1280)
    tiles = images[: side**2].reshape(side, side, *images.shape[1:])
    grid = style.image_grid(tiles, zoom, gap=max(2, size * zoom // 24))
    figure, axes = style.canvas(grid.shape[1], grid.shape[0])
    style.place(axes, grid)
    return figure
