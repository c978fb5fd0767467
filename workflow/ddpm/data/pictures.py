"""Encoded images to pixels: Pillow decodes, crops and resizes them."""

import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from PIL import Image

from ddpm.config.errors import DamagedFile
from ddpm.data.streams import ordered

BATCH = 64  # images in an array that is passed on
MODES = {1: "L", 3: "RGB"}
DOWNLOAD_AGAIN = "Download it again."
# Pillow knows 43 formats, and for one of them it starts a program (EPS: Ghostscript). Here it tries only the formats
# that are named. Pillow brings the libraries that decode these.
PUBLISHED_FORMATS = ("JPEG", "PNG", "WEBP")  # what data sets are published in
USER_FORMATS = (*PUBLISHED_FORMATS, "BMP", "GIF", "PPM", "TIFF")  # what a user's own folder may hold
MAX_PIXELS = 2**26  # of one image, of which each thread holds one: 200 MB


class Undecodable(Exception):
    """Bytes that are no whole image."""


def decode(content: bytes, channels: int, formats: Sequence[str] = PUBLISHED_FORMATS) -> tuple[Image.Image, str]:
    """The image in `content`, grey (1 channel) or RGB (3), and how it was encoded, as in "JPEG 178x218".

    Args:
        formats: those of Pillow's that it may be in.

    Raises:
        Undecodable: Pillow cannot read it to the end, it is in no such format, or too large.
    """
    try:
        image = Image.open(io.BytesIO(content), formats=formats)
        if image.width * image.height > MAX_PIXELS:
            raise Undecodable(f"{image.width}x{image.height} pixels are more than {MAX_PIXELS:,}: make it smaller")
        return image.convert(MODES[channels]), f"{image.format} {image.width}x{image.height}"
    except Exception as error:  # Pillow's decoders raise errors of any kind
        raise Undecodable(str(error)) from error


def format_of(content: bytes) -> str:
    """How an image is encoded, as in "JPEG"; "no image" where Pillow does not know it."""
    try:
        return Image.open(io.BytesIO(content), formats=USER_FORMATS).format
    except Exception:  # Pillow's decoders raise errors of any kind
        return "no image"


def crop(image: Image.Image, top: int, left: int, side: int) -> Image.Image:
    """The square of side x side pixels whose upper left one is at row `top` and column `left`."""
    return image.crop((left, top, left + side, top + side))


def resize(image: Image.Image, size: int, filter: Image.Resampling) -> Image.Image:
    """The image in size x size. An image of that size is not filtered."""
    return image.resize((size, size), filter)


def crop_centre(image: Image.Image) -> Image.Image:
    """The middle of an image, as wide and high as its shorter side; halves of a pixel go to the left and the top.

    torchvision's center_crop rounds them to the nearest even pixel: of 3 pixels, 2 go to the left.
    """
    side = min(image.size)
    return crop(image, (image.height - side) // 2, (image.width - side) // 2, side)


def crop_and_resize(image: Image.Image, size: int) -> Image.Image:
    """StyleGAN2's preparation of LSUN: the centre, to the shorter side, then size x size by Lanczos."""
    return resize(crop_centre(image), size, Image.Resampling.LANCZOS)


def to_array(image: Image.Image) -> np.ndarray:
    """[H, W, C] uint8."""
    return np.asarray(image).reshape(image.height, image.width, -1)


def decode_all(
    contents: Iterable[tuple[str, bytes]],
    shape: Callable[[Image.Image], Image.Image],
    channels: int,
    threads: int,
    seen: Counter,
    remedy: str = DOWNLOAD_AGAIN,
    formats: Sequence[str] = PUBLISHED_FORMATS,
) -> Iterator[np.ndarray]:
    """Decode images in `threads` threads and apply `shape` to each; yields arrays [n, H, W, C] uint8, in order.

    Args:
        contents: the encoded images, each with its name for messages.
        seen: is filled with the number of images by encoding.
        formats: see `decode`.

    Raises:
        DamagedFile: an image cannot be decoded; it is named.
    """

    def work(item: tuple[str, bytes]) -> tuple[np.ndarray, str]:
        name, content = item
        try:
            image, encoding = decode(content, channels, formats)
            return to_array(shape(image)), encoding
        except Undecodable as error:
            raise DamagedFile(name, f"is no whole image ({error})", remedy) from error

    batch = []
    for image, encoding in ordered(work, contents, threads):
        seen[encoding] += 1
        batch.append(image)
        if len(batch) == BATCH:
            yield np.stack(batch)
            batch = []
    if batch:
        yield np.stack(batch)
