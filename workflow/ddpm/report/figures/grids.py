"""Uncurated samples: the first ones, in the order in which they were made."""

from math import isqrt
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ddpm.report.figures import style
from ddpm.report.figures.samples import draw_why_empty, read_samples, read_status
from ddpm.report.inputs import network_name

# As many rows and columns at most; 7 by 7 photographs of 256x256 pixels make a file of some 7 MB.
SIDES = {
    **{"figure3": 4, "figure4": 4, "figure11": 10, "figure13": 16},
    **{"figure16": 7, "figure17": 7, "figure18": 7, "figure19": 7},
}


def draw(name: str, sources: list[Path], outputs: list[Path], stamp: str) -> None:
    """sources: sample shards in order, and metrics.json if their FID is to be told."""
    samples, status = read_samples([path for path in sources if path.suffix == ".npz"], SIDES[name] ** 2)
    images = samples["images"]
    if len(images):
        figure = draw_square(images, SIDES[name])
        style.draw_note(figure, describe_fid(read_status(sources)))
    else:
        figure = draw_why_empty(status)
    style.save(figure, outputs, stamp)


def draw_square(images: np.ndarray, most: int) -> Figure:
    """images [n, H, W, C] as the largest full square of at most `most` rows and columns."""
    side = min(isqrt(len(images)), most)
    images, zoom = style.fit_images(images[: side**2], side, 1280)
    size = images.shape[2]
    tiles = images.reshape(side, side, *images.shape[1:])
    grid = style.make_grid(tiles, zoom, gap=max(2, size * zoom // 24))
    figure, axes = style.make_canvas(grid.shape[1], grid.shape[0])
    style.draw_image(axes, grid)
    return figure


def describe_fid(run: dict) -> str:
    """The FID of a metrics.json, with what it was measured with; nothing where there is none."""
    if run.get("status") != "measured":
        return ""
    count = run["made_from"]["images"]
    return f"FID {run['fid']['train']:.4g}: {count:,} samples, against the training set ({network_name(run)})"
