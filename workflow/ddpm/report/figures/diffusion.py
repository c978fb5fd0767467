"""The idea in one picture, still and moving: q makes noise of an image, p makes an image of noise."""

import io
from math import ceil, sqrt
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageColor, ImageDraw, ImageFont

from ddpm.report.figures import style
from ddpm.report.figures.samples import first_of, read_run, shrink, why_empty
from ddpm.storage.files import read_npz

STRIP = 9  # images in a row of the strip
GIF_BYTES = 400_000
HOLD_MS = 2500  # how long the animation rests on its last frame
# Tried in turn until the animation fits: images on each side, pixels across a side, one frame of how many.
BUDGETS = (
    *((6, 240, 1), (6, 240, 2), (4, 224, 2), (4, 192, 2), (4, 160, 2), (4, 160, 3)),
    *((2, 160, 2), (2, 160, 3), (1, 128, 4), (1, 128, 8)),
)
GREYS, COLOURS = 24, 64
TRACK = "#e5e7eb"  # what a bar lies on


def draw(name: str, sources: list[Path]) -> Figure:
    """sources: trajectory.npz, and metrics.json if the reason of an unstable run is to be told."""
    arrays = read_npz(first_of(sources, ".npz"), "times", "q", "p")
    if not len(arrays["p"]) or not len(arrays["q"]):
        raise why_empty(read_run(sources))
    return draw_strip(arrays["times"], arrays["q"][0], arrays["p"][0])


def animate(sources: list[Path], figure: Figure, stamp: str) -> bytes:
    """The animation; of an unstable run, the `figure` that says so and already has its stamp."""
    arrays = read_npz(first_of(sources, ".npz"), "times", "q", "p")
    if len(arrays["p"]) and len(arrays["q"]):
        return make_animation(**arrays, stamp=stamp)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100, facecolor="white")
    return encode_gif([Image.open(buffer).convert("RGB")], HOLD_MS, grey=True)


# The strip


def draw_strip(times: np.ndarray, q: np.ndarray, p: np.ndarray) -> Figure:
    """q, p [P, H, W, C] at times [P], descending: q is read from clean to noise, p from noise to clean."""
    shown = np.unique(np.linspace(0, len(times) - 1, min(STRIP, len(times))).round().astype(int))
    count = len(shown)
    (q, zoom), (p, _) = (style.fit_images(chain, count, 1400) for chain in (q, p))
    size = q.shape[1]
    gap = max(6, size * zoom // 8)
    ends = {0: "\n(image)", times.max(): "\n(noise)"}  # in words that anybody understands
    forward = "adds a little noise at every step, until nothing else is left"
    backward = "learns to undo one step at a time, and so makes a new image from pure noise"
    rows = ((q, shown[::-1], "q", forward, style.ORANGE), (p, shown, "p", backward, style.BLUE))
    tile, pitch = size * zoom, size * zoom + gap
    width = count * pitch - gap
    row_height = 150 + tile + 84
    figure, axes = style.make_canvas(width, 2 * row_height, left=0.15, right=0.15, top=0.05, bottom=0.22)
    for i, (images, order, letter, does, colour) in enumerate(rows):
        top = i * row_height
        style.draw_label(axes, 0, top + 40, f"{letter}", 15, ha="left", style="italic", weight="bold", color=colour)
        style.draw_label(axes, 44, top + 42, does, 9.5, ha="left")
        axes.annotate(
            "", xy=(width, top + 100), xytext=(0, top + 100), annotation_clip=False,
            arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 1.6, "shrinkA": 0, "shrinkB": 0},
        )  # fmt: skip
        for k, frame in enumerate(order):
            style.draw_image(axes, style.make_grid(images[None, frame, None], zoom), k * pitch, top + 132)
            label = f"t = {times[frame]}{ends.get(times[frame], '')}"
            style.draw_label(axes, k * pitch + tile / 2, top + 132 + tile + 16, label, 8, va="top")
    return figure


# The animation


def make_animation(times: np.ndarray, q: np.ndarray, p: np.ndarray, stamp: str) -> bytes:
    """A looping GIF of q [m, P, H, W, C] beside p, under GIF_BYTES: fewer images and frames until it fits."""
    last = len(times) - 1
    for images, panel, stride in BUDGETS:
        shown = sorted({*range(0, last, stride), last})
        # Large images are averaged down to about 64 pixels: the animation must be small.
        forward, backward = (shrink(array[:images], array.shape[3] // 64) for array in (q, p))
        frames = [
            draw_frame(forward[:, last - k], backward[:, k], times[last - k], times[k], times.max(), panel, stamp)
            for k in shown
        ]
        data = encode_gif(frames, min(300, max(60, 5000 // len(frames))), grey=q.shape[-1] == 1)
        if len(data) < GIF_BYTES:
            break
    return data


def draw_frame(q: np.ndarray, p: np.ndarray, q_time: int, p_time: int, end: int, panel: int, stamp: str) -> Image.Image:
    """One frame: q [m, H, W, C] at time q_time of `end` on the left, p at p_time on the right."""
    blocks = (tile_images(q, panel), tile_images(p, panel))
    side, height = max(blocks[0].width, 196), blocks[0].height  # the words need 196 pixels
    margin, head, foot = 16, 58, 64
    picture = Image.new("RGB", (2 * side + 3 * margin, head + height + foot), "white")
    pen = ImageDraw.Draw(picture)
    halves = (("q", "adds noise", style.ORANGE, q_time), ("p", "takes it away", style.BLUE, p_time))
    for i, (block, (letter, does, colour, time)) in enumerate(zip(blocks, halves, strict=True)):
        x, accent = margin + i * (side + margin), ImageColor.getrgb(colour)
        pen.text((x, 8), letter, accent, load_font("DejaVuSans-BoldOblique", 20))
        pen.text((x + 20, 13), does, style.INK, load_font("DejaVuSans", 14))
        pen.text((x + side, 14), f"t = {time}", style.FAINT, load_font("DejaVuSans", 13), anchor="ra")
        # The bar is full at t = T: it grows on the left while it shrinks on the right.
        pen.rectangle((x, 40, x + side - 1, 45), TRACK)
        if time:
            pen.rectangle((x, 40, x + (side - 1) * int(time) // int(end), 45), accent)
        picture.paste(block, (x + (side - block.width) // 2, head))
    for line, text in enumerate(("Left: real images turn into noise.", "Right: noise turns into new images.")):
        middle = (picture.width / 2, head + height + 8 + 18 * line)
        pen.text(middle, text, style.INK, load_font("DejaVuSans", 13), anchor="ma")
    corner = (picture.width - 6, picture.height - 4)
    pen.text(corner, stamp, style.FAINT, load_font("DejaVuSans", 9), anchor="rd")
    return picture


def tile_images(images: np.ndarray, panel: int) -> Image.Image:
    """images [m, H, W, C] as a block at most `panel` pixels wide, gaps aside."""
    columns = ceil(sqrt(len(images)))
    rows = ceil(len(images) / columns)
    zoom = style.zoom_for(columns * images.shape[2], panel)
    block = np.full((rows * columns, *images.shape[1:]), 255, np.uint8)
    block[: len(images)] = images
    grid = style.make_grid(block.reshape(rows, columns, *images.shape[1:]), zoom, gap=6)
    return Image.fromarray(grid[..., 0] if grid.shape[2] == 1 else grid).convert("RGB")


def load_font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """A font that ships with matplotlib, so that the picture is the same everywhere."""
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf", size)


def encode_gif(frames: list[Image.Image], step_ms: int, grey: bool) -> bytes:
    """Frames as a GIF that loops for ever and rests on the last one."""
    colours = choose_palette(frames, grey)
    reduced = [image.quantize(palette=colours, dither=Image.Dither.NONE) for image in frames]
    durations = [4 * step_ms, *[step_ms] * (len(frames) - 2), HOLD_MS][-len(frames) :]
    buffer = io.BytesIO()
    reduced[0].save(buffer, "GIF", save_all=True, append_images=reduced[1:], loop=0, duration=durations)
    return buffer.getvalue()


def choose_palette(frames: list[Image.Image], grey: bool) -> Image.Image:
    """One palette for all frames, so that what stands still is stored once: the accents and few others.

    Noise does not compress, and the size of the file grows with the number of its colours.
    """
    chosen = [value for colour in (style.ORANGE, style.BLUE) for value in ImageColor.getrgb(colour)]
    if grey:
        chosen += [level for level in np.linspace(0, 255, GREYS).round().astype(int).tolist() for _ in range(3)]
    else:
        # The two ends hold the clean images of either side, which show a wrong tint most.
        ends = Image.new("RGB", (frames[0].width, 2 * frames[0].height))
        ends.paste(frames[0], (0, 0))
        ends.paste(frames[-1], (0, frames[0].height))
        chosen += ends.quantize(COLOURS, dither=Image.Dither.NONE).getpalette()[: 3 * COLOURS]
    colours = Image.new("P", (1, 1))
    colours.putpalette(chosen)
    return colours
