"""What the figures share: theme, image grids, and saving with the same bytes every time."""

import textwrap
from io import BytesIO
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ddpm.config.errors import UserError
from ddpm.report.figures.samples import shrink
from ddpm.storage.files import atomic_write

DPI = 200
MAX_WIDTH = 2000  # pixels across a picture made of images: more would make files of many megabytes
INK, FAINT = "#1f2430", "#6b7280"
BLUE, ORANGE, GREEN = "#0173b2", "#de8f05", "#029e73"  # seaborn's palette for the colour-blind
# What would put the date or a random name into a file, by suffix.
METADATA = {".png": {"Software": None}, ".pdf": {"CreationDate": None}, ".svg": {"Date": None}}

matplotlib.use("Agg")  # there is no screen in a job
matplotlib.rcParams.update(
    {
        "font.family": "DejaVu Sans",  # ships with matplotlib, so it is the same everywhere
        "text.color": INK,
        "pdf.fonttype": 42,
        "svg.hashsalt": "ddpm",
    }
)


def make_grid(images: np.ndarray, zoom: int = 1, gap: int = 1, background: int = 255) -> np.ndarray:
    """Lay out images [R, C, H, W, ch] as one uint8 picture of R rows and C columns.

    Every pixel becomes zoom x zoom equal ones (nearest neighbour: nothing is invented); `gap` pixels of
    `background` lie between the images, none around them. Returns
    [R * H * zoom + (R - 1) * gap, C * W * zoom + (C - 1) * gap, ch].
    """
    tiles = images.repeat(zoom, axis=2).repeat(zoom, axis=3)
    tiles = np.pad(tiles, ((0, 0), (0, 0), (0, gap), (0, gap), (0, 0)), constant_values=background)
    rows, columns, height, width, channels = tiles.shape
    grid = tiles.swapaxes(1, 2).reshape(rows * height, columns * width, channels)
    return grid[: rows * height - gap, : columns * width - gap]


def arrange_tiles(tiles: np.ndarray, target: int, most: int = MAX_WIDTH) -> tuple[np.ndarray, int, int]:
    """Images [R, C, H, W, ch] as a picture near to `target` pixels wide, and the pixels of an image and a gap in it."""
    tiles, zoom = fit_images(tiles, tiles.shape[1], target, most)
    size = tiles.shape[3] * zoom
    gap = max(2, size // 24)
    return make_grid(tiles, zoom, gap), size, gap


def zoom_for(pixels: int, target: int) -> int:
    """The whole factor that brings `pixels` nearest to, but not above, `target`; at least 1."""
    return max(1, target // pixels)


def fit_images(images: np.ndarray, across: int, target: int, most: int = MAX_WIDTH) -> tuple[np.ndarray, int]:
    """`images` [..., H, W, C] and the zoom by which `across` of them side by side come near to `target` pixels.

    Where they take more than `most` pixels, they are averaged down by a whole factor.
    """
    images = shrink(images, -(-across * images.shape[-2] // most))
    return images, zoom_for(across * images.shape[-2], target)


def make_canvas(width: int, height: int, left: float = 0.1, right: float = 0.1, top: float = 0.1, bottom: float = 0.3):
    """A figure whose one axes is exactly width x height pixels at DPI, its origin at the top left.

    Margins are in inches. Pixel coordinates reach into the margins, so labels are placed in them too.
    """
    figure = Figure(figsize=(width / DPI + left + right, height / DPI + top + bottom), dpi=DPI)
    return figure, add_pixel_axes(figure, width, height, left, bottom)


def add_pixel_axes(figure: Figure, width: int, height: int, left: float, bottom: float) -> Axes:
    """Axes of exactly width x height pixels at DPI, `left` and `bottom` inches from the figure's corner."""
    full_width, full_height = figure.get_size_inches()
    axes = figure.add_axes(
        (left / full_width, bottom / full_height, width / DPI / full_width, height / DPI / full_height)
    )
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    return axes


def draw_image(axes: Axes, grid: np.ndarray, left: float = 0, top: float = 0) -> None:
    """Put a picture [h, w, 1 or 3] on a canvas, one of its pixels for one of the canvas's."""
    height, width, channels = grid.shape
    axes.imshow(
        grid[..., 0] if channels == 1 else grid,
        cmap="gray",
        vmin=0,
        vmax=255,
        interpolation="none",
        extent=(left, left + width, top + height, top),
        aspect="auto",
        clip_on=False,
    )
    axes.set(xlim=axes.get_xlim(), autoscale_on=False)


def draw_label(axes: Axes, x: float, y: float, text: str, size: float = 8, **options) -> None:
    """Text at canvas pixel coordinates, in the margins too."""
    axes.text(x, y, text, fontsize=size, **{"ha": "center", "va": "center"} | options)


def draw_message(headline: str, text: str) -> Figure:
    """A picture that says in words why there is no picture."""
    figure = Figure(figsize=(6, 2.4), dpi=DPI)
    figure.text(0.5, 0.66, headline, ha="center", va="center", fontsize=13, weight="bold")
    figure.text(0.5, 0.38, textwrap.fill(text, 80), ha="center", va="center", fontsize=9, color=INK)
    return figure


def draw_note(figure: Figure, text: str) -> None:
    """Small print in the lower left corner, across from the stamp."""
    width, height = figure.get_size_inches()
    figure.text(0.06 / width, 0.05 / height, text, ha="left", va="bottom", fontsize=6, color=FAINT)


def save(figure: Figure, outputs: list[Path], stamp: str) -> None:
    """Write the figure to every output: .png at 200 dpi, .pdf or .svg as vectors; always the same bytes."""
    width, height = figure.get_size_inches()
    figure.text(1 - 0.06 / width, 0.05 / height, stamp, ha="right", va="bottom", fontsize=6, color=FAINT)
    for path in outputs:
        suffix = Path(path).suffix
        if suffix not in METADATA:
            raise UserError(f"{path}: a figure is written as {', '.join(METADATA)}, not as {suffix or 'that'}")
        drawn = BytesIO()  # where a disk gets full under matplotlib, it fails in ways that do not say so
        figure.savefig(drawn, format=suffix[1:], dpi=DPI, metadata=METADATA[suffix], facecolor="white")
        write_picture(path, drawn.getvalue())


def write_picture(path: Path, data: bytes) -> None:
    with atomic_write(path) as part:
        part.write_bytes(data)
