"""Figure 1: samples of two data sets, large images on the left and small ones on the right."""

import textwrap
from itertools import groupby
from math import isqrt
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ddpm.report.figures import style
from ddpm.report.figures.samples import read_samples, why_empty

SIDES = (4, 8)  # as many rows and columns at most, on the left and on the right
PANEL = 1060  # pixels across a side of either panel: four images of 256x256 pixels and their gaps
BETWEEN = 60


def draw(name: str, sources: list[Path]) -> Figure:
    """sources: results/SCALE/EXPERIMENT/samples/*.npz of two experiments, the left one first; or of one for both."""
    experiments = [list(shards) for _, shards in groupby(sources, key=lambda path: path.parent)]
    if len(experiments) == 1:  # one data set stands for both
        experiments *= 2
    figure, axes = style.make_canvas(len(SIDES) * (PANEL + BETWEEN) - BETWEEN, PANEL)
    for i, (shards, most) in enumerate(zip(experiments, SIDES, strict=False)):
        samples, status = read_samples(shards, most**2)
        left = i * (PANEL + BETWEEN)
        if len(samples["images"]):
            draw_square(axes, samples["images"], most, left)
        else:
            headline, text = why_empty(status).args
            style.draw_label(axes, left + PANEL / 2, PANEL / 2 - 60, headline, 10, weight="bold")
            style.draw_label(axes, left + PANEL / 2, PANEL / 2 + 20, textwrap.fill(text, 60), 8)
    return figure


def draw_square(axes: Axes, images: np.ndarray, most: int, left: int) -> None:
    """The first of images [n, H, W, C] as a full square of PANEL pixels; the gaps take up what zooming leaves."""
    side = min(isqrt(len(images)), most)
    images, zoom = style.fit_images(images, side, PANEL - 2 * (side - 1), most=PANEL)
    tile = images.shape[2] * zoom
    starts = np.linspace(0, PANEL - tile, side).round().astype(int)
    for k, image in enumerate(images[: side**2]):
        style.draw_image(axes, style.make_grid(image[None, None], zoom), left + starts[k % side], starts[k // side])
