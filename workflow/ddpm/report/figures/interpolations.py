"""Figures 8 and 9: interpolations of pairs of images that were diffused, mixed and denoised."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ddpm.report.figures import style
from ddpm.report.figures.samples import why_empty
from ddpm.storage.shards import INTERPOLATION, read_shard

MAX_WIDTH = 1800  # pixels across the columns
SCHEMATIC, SHORTEST = 520, 620  # pixels: the width of the drawing on the left of Figure 8, and its least height
HEAD = 0.34  # inches for what stands above the columns


def draw(name: str, sources: list[Path]) -> Figure:
    """sources: interpolation.npz. Figure 8 shows all pairs at the first number of steps, Figure 9 the first pair."""
    keys = ("steps", "timesteps", "lambdas", "sources", "images")
    arrays, header = read_shard(sources[0], *keys, sampler=INTERPOLATION)
    if not len(arrays["images"]):
        raise why_empty(header["status"])
    return draw_figure8(arrays) if name == "figure8" else draw_figure9(arrays)


def draw_figure8(arrays: dict[str, np.ndarray]) -> Figure:
    """The schematic on the left; a row per pair on the right."""
    strip, size, gap = arrange_rows(arrays["sources"], arrays["images"][:, 0])
    height = max(strip.shape[0], SHORTEST)
    left = SCHEMATIC + 60
    figure, axes = style.make_canvas(left + strip.shape[1], height, top=HEAD)
    top = (height - strip.shape[0]) // 2
    style.draw_image(axes, strip, left, top)
    draw_heads(axes, arrays["lambdas"], left, top, size + gap, size)
    draw_schematic(style.add_pixel_axes(figure, SCHEMATIC, height, 0.1, 0.3), height, describe_steps(arrays, 0))
    return figure


def draw_figure9(arrays: dict[str, np.ndarray]) -> Figure:
    """A row per number of steps, for one pair."""
    images = arrays["images"][0]
    strip, size, gap = arrange_rows(arrays["sources"][:1].repeat(len(images), axis=0), images)
    figure, axes = style.make_canvas(strip.shape[1], strip.shape[0], left=0.86, top=HEAD)
    style.draw_image(axes, strip)
    draw_heads(axes, arrays["lambdas"], 0, 0, size + gap, size)
    for row in range(len(images)):
        style.draw_label(axes, -16, row * (size + gap) + size / 2, describe_steps(arrays, row), 8, ha="right")
    return figure


def arrange_rows(sources: np.ndarray, images: np.ndarray) -> tuple[np.ndarray, int, int]:
    """Source, reconstruction, lambda = 0.1 .. 0.9, reconstruction, source; and the pixels of an image and a gap.

    sources [R, 2, H, W, C], images [R, 11, H, W, C].
    """
    return style.arrange_tiles(np.concatenate([sources[:, :1], images, sources[:, 1:]], axis=1), 1440, MAX_WIDTH)


def draw_heads(axes: Axes, lambdas: np.ndarray, left: float, top: float, pitch: float, size: float) -> None:
    """What each column is."""
    names = ["Source", "Rec.", *(f"λ = {value:.1f}" for value in lambdas[1:-1]), "Rec.", "Source"]
    for column, text in enumerate(names):
        style.draw_label(axes, left + column * pitch + size / 2, top - 26, text, 7)


def describe_steps(arrays: dict[str, np.ndarray], row: int) -> str:
    """'500 steps', or '10 of 20 steps' where T is not the paper's."""
    steps, timesteps = arrays["steps"][row], int(arrays["timesteps"])
    return f"{steps} steps" if timesteps == 1000 or not steps else f"{steps} of {timesteps} steps"


def draw_schematic(axes: Axes, height: int, steps: str) -> None:
    """Two images x0 and x0' are diffused, mixed, and denoised; mixed as they are, they leave the images' manifold."""
    middle = height / 2
    x0, x0_, x_t, x_t_ = (70, middle + 130), (450, middle + 130), (120, middle - 130), (400, middle - 130)
    x_bar, made, pixels = (260, middle - 130), (260, middle + 30), (260, middle + 130)
    x = np.linspace(20, 500, 100)
    curve = middle + 30 + 100 * ((x - 260) / 190) ** 2
    axes.plot(x, curve, color=style.INK, linewidth=1.2, clip_on=False)
    style.draw_label(axes, 516, middle + 222, "images", 8, ha="right", color=style.FAINT)
    for start, end, colour in ((x0, x_t, style.ORANGE), (x0_, x_t_, style.ORANGE), (x_bar, made, style.BLUE)):
        axes.annotate(
            "", xy=end, xytext=start,
            arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 1.4, "shrinkA": 6, "shrinkB": 6},
        )  # fmt: skip
    axes.plot(*zip(x_t, x_t_, strict=True), color=style.INK, linewidth=0.9)
    axes.plot(*zip(x0, x0_, strict=True), color=style.FAINT, linewidth=0.9, linestyle="--")
    for point in (x0, x0_, x_t, x_t_, x_bar, made):
        axes.plot(*point, "o", color=style.INK, markersize=4.5)
    axes.plot(*pixels, "o", color="white", markeredgecolor=style.FAINT, markersize=4.5)
    for (px, py), text, dx, dy in (
        (x0, "$x_0$", -34, -10), (x0_, "$x'_0$", 38, -10), (x_t, "$x_t$", -34, -14), (x_t_, "$x'_t$", 36, -14),
        (x_bar, "$\\bar{x}_t$", 0, -34), (made, "$\\bar{x}_0$", 40, -16),
    ):  # fmt: skip
        style.draw_label(axes, px + dx, py + dy, text, 9)
    style.draw_label(axes, 66, middle, "q", 9, style="italic", weight="bold", color=style.ORANGE)
    style.draw_label(axes, 452, middle, "q", 9, style="italic", weight="bold", color=style.ORANGE)
    style.draw_label(axes, 240, middle - 50, "p", 9, style="italic", weight="bold", color=style.BLUE)
    style.draw_label(axes, 260, middle + 160, "mixed pixels", 7, color=style.FAINT)
    style.draw_label(axes, 260, middle - 220, f"diffuse for {steps}, mix, denoise", 8)
