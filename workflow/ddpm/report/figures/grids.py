"""Uncurated samples: the first ones, in the order in which they were made; at their end, or as they came about."""

from math import isqrt
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ddpm.report.figures import style
from ddpm.report.figures.samples import NothingToDraw, read_run, read_samples, why_empty
from ddpm.report.inputs import network_name

# As many rows and columns at most; 7 by 7 photographs of 256x256 pixels make a file of some 7 MB.
SIDES = {
    **{"figure3": 4, "figure4": 4, "figure11": 10, "figure13": 16},
    **{"figure16": 7, "figure17": 7, "figure18": 7, "figure19": 7},
}
PROGRESSIVE_ROWS = {"figure6": 6, "figure14": 16}


def draw(name: str, sources: list[Path]) -> Figure:
    """sources: sample shards in order, and metrics.json if their FID is to be told."""
    shards = [path for path in sources if path.suffix == ".npz"]
    if name in PROGRESSIVE_ROWS:
        return draw_progressive(shards, PROGRESSIVE_ROWS[name])
    samples, status = read_samples(shards, SIDES[name] ** 2)
    if not len(samples["images"]):
        raise why_empty(status)
    figure = draw_square(samples["images"], SIDES[name])
    style.draw_note(figure, describe_fid(read_run(sources)))
    return figure


def draw_square(images: np.ndarray, most: int) -> Figure:
    """images [n, H, W, C] as the largest full square of at most `most` rows and columns."""
    side = min(isqrt(len(images)), most)
    grid, _, _ = style.arrange_tiles(images[: side**2].reshape(side, side, *images.shape[1:]), 1280)
    figure, axes = style.make_canvas(grid.shape[1], grid.shape[0])
    style.draw_image(axes, grid)
    return figure


def describe_fid(run: dict) -> str:
    """The FID of a metrics.json, with what it was measured with; nothing where there is none."""
    if run.get("status") != "measured":
        return ""
    count = run["made_from"]["images"]
    return f"FID {run['fid']['train']:.4g}: {count:,} samples, against the training set ({network_name(run)})"


def draw_progressive(shards: list[Path], rows: int) -> Figure:
    """x0-hat of the first samples, from noise (left) to the final sample (right), under the time of its prediction."""
    samples, status = read_samples(shards, rows, previews=True)
    if not len(samples["images"]):
        raise why_empty(status)
    if not samples["previews"].shape[1]:
        raise NothingToDraw("Nothing to draw", "This experiment's sampling kept no predictions of x0 on the way.")
    # Slots run from clean to noise; the figure is read in the order in which the sampler works.
    times = samples["preview_times"][::-1] + 1  # 1-based
    grid, size, gap = style.arrange_tiles(samples["previews"][:, ::-1], 1440)
    height, width = grid.shape[:2]
    figure, axes = style.make_canvas(width, height, left=0.12, right=0.12, top=0.52)
    style.draw_image(axes, grid)
    every = -(-62 // (size + gap))  # a label of four digits needs some 60 pixels
    for k in range(len(times)):
        if (len(times) - 1 - k) % every == 0:
            style.draw_label(axes, k * (size + gap) + size / 2, -20, f"{times[k]}", 7, color=style.FAINT)
    style.draw_label(axes, 0, -66, "$\\hat{x}_0$ predicted from $x_t$ at t =", 8, ha="left")
    style.draw_label(axes, width, -66, "final sample", 8, ha="right")
    return figure
