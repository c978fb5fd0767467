"""Figure 7: samples that share a latent x_t, beside that x_t."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ddpm.report.figures import style
from ddpm.report.figures.samples import why_empty
from ddpm.storage.shards import LATENTS, read_shard

MAX_WIDTH = 1700  # pixels across; half of the picture is noise, which does not compress


def draw(name: str, sources: list[Path]) -> Figure:
    """sources: latents.npz, which holds times [K], latents [R, K, H, W, C] and images [R, K, samples, H, W, C].

    A row per chain and a column per time t: three samples from the same x_t and, bottom right, x_t itself.
    """
    arrays, header = read_shard(sources[0], "times", "latents", "images", sampler=LATENTS)
    if not len(arrays["images"]):
        raise why_empty(header["status"])
    latents = arrays["latents"]
    rows, columns = latents.shape[:2]
    quadrants = np.concatenate([arrays["images"][:, :, :3], latents[:, :, None]], axis=2)
    quadrants, zoom = style.fit_images(quadrants, 2 * columns, 1440, MAX_WIDTH)
    side = quadrants.shape[4] * zoom
    inner, gap = max(2, side // 24), max(12, side // 6)
    tile = 2 * side + inner
    figure, axes = style.make_canvas(columns * (tile + gap) - gap, rows * (tile + gap) - gap, top=0.36)
    for column in range(columns):
        left = column * (tile + gap)
        style.draw_label(axes, left + tile / 2, -34, f"share $x_{{{arrays['times'][column]}}}$", 10)
        for row in range(rows):
            quadrant = quadrants[row, column].reshape(2, 2, *quadrants.shape[3:])
            style.draw_image(axes, style.make_grid(quadrant, zoom, inner), left, row * (tile + gap))
    return figure
