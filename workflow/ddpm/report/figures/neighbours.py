"""Figures 12 and 15: generated samples and their nearest neighbours in the training set."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ddpm.report.figures import style
from ddpm.report.figures.samples import first_of, read_run, shrink, why_empty
from ddpm.report.inputs import network_name
from ddpm.storage.files import read_npz


def draw(name: str, sources: list[Path]) -> Figure:
    """sources: neighbours.npz or neighbours-crop.npz, and metrics.json if the feature network is to be named.

    For Figure 12, an array `crop` [top, left, height, width] says which part of the images was compared.
    """
    crop = ["crop"] if name == "figure12" else []
    arrays, run = read_npz(first_of(sources, ".npz"), "samples", "pixel", "feature", *crop), read_run(sources)
    if not len(arrays["samples"]):
        raise why_empty(run)
    return draw_panels(arrays, network_name(run))


def draw_panels(arrays: dict[str, np.ndarray], network: str) -> Figure:
    """Pixel-space neighbours and feature-space neighbours, one sample per row; large images one above the other."""
    samples, k = arrays["samples"], arrays["pixel"].shape[1]
    full, crop = samples.shape[2], arrays.get("crop")
    beside = 2 * (k + 1) * full <= style.MAX_WIDTH
    samples, zoom = style.fit_images(samples, (2 if beside else 1) * (k + 1), 1560)
    pixel, feature = (shrink(arrays[space], full // samples.shape[2]) for space in ("pixel", "feature"))
    tile = samples.shape[2] * zoom
    gap = max(2, tile // 24)
    apart = tile // 3  # sets the sample off from its neighbours
    width, height = (k + 1) * tile + apart + (k - 1) * gap, len(samples) * (tile + gap) - gap
    head, between = 124, max(tile, 60)
    size = (2 * width + between, height) if beside else (width, 2 * height + head + 60)
    second = (width + between, 0) if beside else (0, height + head + 60)
    figure, axes = style.make_canvas(*size, left=0.12, right=0.12, top=head / style.DPI)
    titles = ("(a) nearest in pixel space", "(b) nearest in feature space")
    order = "training images, nearest first" + ("" if crop is None else f" by their {crop[2]}×{crop[3]} crop")
    style.draw_note(figure, f"features in (b): {network}")
    for (left, top), neighbours, title in zip(((0, 0), second), (pixel, feature), titles, strict=True):
        beyond = left + tile + apart
        style.draw_image(axes, style.make_grid(samples[:, None], zoom, gap), left, top)
        style.draw_image(axes, style.make_grid(neighbours, zoom, gap), beyond, top)
        middle = beyond - apart / 2
        axes.plot([middle, middle], [top, top + height], color=style.FAINT, linewidth=0.8, clip_on=False)
        style.draw_label(axes, left, top - 84, title, 9, ha="left", weight="bold")
        style.draw_label(axes, left, top - 28, "sample", 7, ha="left", color=style.FAINT)
        style.draw_label(axes, beyond, top - 28, order, 7, ha="left", color=style.FAINT)
        if crop is not None:
            for row in range(len(samples)):
                draw_frame(axes, crop * tile / full, left, top + row * (tile + gap))
    return figure


def draw_frame(axes: Axes, crop: np.ndarray, left: float, top: float) -> None:
    """What was compared of the image at (left, top), where that is less than all of it."""
    y, x, height, width = crop
    axes.add_patch(
        Rectangle((left + x, top + y), width, height, fill=False, edgecolor=style.ORANGE, linewidth=1, clip_on=False)
    )
