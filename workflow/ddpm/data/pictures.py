"""Encoded images to pixels: Pillow decodes them, torchvision crops and resizes them, by Pillow's own filters."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

MODES = {1: "L", 3: "RGB"}
# Pillow knows 43 formats, and for one of them it starts a program (EPS: Ghostscript). Here it tries only the formats
# that are named. Pillow brings the libraries that decode these.
PUBLISHED_FORMATS = ("JPEG", "PNG", "WEBP")  # what data sets are published in
# What a user's own folder may hold. TGA comes last: it is known by no first bytes.
USER_FORMATS = (*PUBLISHED_FORMATS, "AVIF", "BMP", "GIF", "JPEG2000", "PPM", "TIFF", "TGA")
WHITE_IS_ZERO = 0
LARGEST = {"L;2": 3, "L;4": 15}  # values of grey PNGs of 2 and 4 bits
MAX_PIXELS = 2**26  # of one image, of which each thread holds one: 200 MB
WHITE = (255, 255, 255)
# Pillow's modes of grey images of more than 8 bits, which its `convert` clips; I holds what has up to 32 bits.
DEEP_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I")
BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339  # of TIFF's tags

Facts = list[tuple[str, str]]
"""What was met in an image: a key of card.json, and a value that is counted there."""


class Undecodable(Exception):
    """Bytes that are no whole image, or one of a kind that is not taken; the message says which, behind a name."""


def decode(
    content: bytes,
    channels: int,
    formats: Sequence[str] = PUBLISHED_FORMATS,
    background: tuple[int, int, int] = WHITE,
    depth: int | None = None,
) -> tuple[Image.Image, Facts]:
    """The image in `content`, grey (1 channel) or RGB (3), upright, and what it was, as in ("modes", "RGBA").

    Args:
        formats: those of Pillow's that it may be in.
        background: what transparent pixels are laid on.
        depth: see `reduce_depth`.

    Raises:
        Undecodable: Pillow cannot read it to the end, it is in no such format or mode, or too large.
    """
    try:
        image = Image.open(io.BytesIO(content), formats=formats)
        if image.width * image.height > MAX_PIXELS:
            limit = f"more than the {MAX_PIXELS:,} that guard against bombs: make it smaller"
            raise Undecodable(f"is too large ({image.width}x{image.height} pixels are {limit})")
        rawmode = str(image.tile[0].args) if image.tile else ""
        deep = ";16" in str(image.tile) and ";" not in image.mode  # of which Pillow takes the upper eight bits
        facts = [
            ("published_as", f"{image.format} {image.width}x{image.height}"),
            ("modes", image.mode + ";16" * deep),
        ]
        if getattr(image, "is_animated", False):
            facts.append(("treated", "first of several frames or pages taken"))
        if image.getexif().get(ExifTags.Base.Orientation) in range(2, 9):
            facts.append(("treated", "turned as the EXIF orientation says"))
        ImageOps.exif_transpose(image, in_place=True)
        if deep:
            if (depth or 16) != 16 or (image.convert("L").getextrema()[1] < 16 and not depth):
                raise Undecodable(
                    "has 16 bits of each colour, of which Pillow reads the upper 8, and fewer seem to be used: save it "
                    "with 8 bits, or say `depth: 16` if it is that dark"
                )
            if isinstance(colour := image.info.get("transparency"), tuple):
                image.info["transparency"] = tuple(value >> 8 for value in colour)
        if image.format == "TIFF" and image.mode in ("L", "RGB") and 2 in image.tag_v2.get(SAMPLE_FORMAT, ()):
            raise Undecodable("has signed values of 8 bits: save it with values of 0 to 255")
        if image.mode == "L" and isinstance(grey := image.info.get("transparency"), int):
            image.info["transparency"] = grey * 255 // LARGEST.get(rawmode, 255)  # as Pillow scales all but this
        if image.mode in (*DEEP_MODES, "F"):
            image, bits = reduce_depth(image, depth)
            facts.append(("treated", f"{bits} bits brought to 8"))
        if image.has_transparency_data and (image := image.convert("RGBA")).getextrema()[3][0] < 255:
            facts.append(("treated", f"transparency laid on the colour {', '.join(map(str, background))}"))
            image = Image.alpha_composite(Image.new("RGBA", image.size, background), image)
        return image.convert(MODES[channels]), facts
    except Undecodable:
        raise
    except Image.DecompressionBombError as error:
        raise Undecodable(f"is too large ({error}): make it smaller") from error
    except UnidentifiedImageError as error:
        raise Undecodable(f"is {name_content(content)} (of no format or mode that is read here)") from error
    except Exception as error:  # Pillow's decoders raise errors of any kind
        raise Undecodable(f"is {name_content(content)} ({error})") from error


def name_content(content: bytes) -> str:
    """What often has an image's name in its place."""
    start = content[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith(b"<"):
        return "an HTML or XML page and no image, as servers send instead of one"
    if start.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS and no image; `git lfs pull` fetches it"
    return "no whole image" if content else "empty and no image"


def reduce_depth(image: Image.Image, depth: int | None) -> tuple[Image.Image, int]:
    """A grey image of more than 8 bits in the upper 8 of them, as Pillow reduces coloured ones; and how many it has.

    Args:
        depth: so many bits are used; None: as many as the file says.

    Raises:
        Undecodable: that is not known, or the values need more.
    """
    unknown = image.mode == "I" and image.format != "PPM" and not depth  # of a PPM, Pillow makes 16 bits
    if image.mode == "F" or unknown:
        kind = "floating point, whose" if image.mode == "F" else "32 bits, whose"
        hint = "" if image.mode == "F" else ", or say by `depth` how many bits are used"
        raise Undecodable(f"has the mode {image.mode} ({kind} range is not known): save it with 8 or 16 bits{hint}")
    values = np.asarray(image)
    stated = image.tag_v2.get(BITS_PER_SAMPLE, (16,))[0] if image.format == "TIFF" else 16
    bits, low, high = depth or stated, values.min(), values.max()
    if low < 0 or high >= 2**bits:
        raise Undecodable(f"has the values {low:,} to {high:,}, and {bits} bits hold 0 to {2**bits - 1:,}: see `depth`")
    if bits == 16 and high < 2**12 and not depth:
        raise Undecodable(
            f"has the mode {image.mode} of 16 bits, and its largest value is {high:,}, as if fewer were used: say by "
            "`depth` how many (12, or 16 if the image is that dark)"
        )
    grey = Image.fromarray((values >> (bits - 8)).astype(np.uint8))
    if image.format == "TIFF" and image.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        grey = ImageOps.invert(grey)  # which Pillow does with 8 bits alone
    if isinstance(key := image.info.get("transparency"), int):
        grey.putalpha(Image.fromarray((values != key).astype(np.uint8) * 255))
    return grey, bits


def crop(image: Image.Image, top: int, left: int, side: int) -> Image.Image:
    """The square of side x side pixels whose upper left one is at row `top` and column `left`."""
    from torchvision.transforms.v2 import functional  # four CPU seconds: not for data that need no crop

    return functional.crop(image, top, left, side, side)


def resize(image: Image.Image, size: int, filter: Image.Resampling = Image.Resampling.LANCZOS) -> Image.Image:
    """The image in size x size. An image of that size is not filtered."""
    from torchvision.transforms.v2 import functional

    return functional.resize(image, [size, size], filter)


def crop_and_resize(image: Image.Image, size: int) -> Image.Image:
    """StyleGAN2's preparation of LSUN: the centre, to the shorter side, then size x size by Lanczos.

    Halves of a pixel go to the left and the top (torchvision's center_crop rounds them to the nearest even pixel).
    """
    side = min(image.size)
    return resize(crop(image, (image.height - side) // 2, (image.width - side) // 2, side), size)


def to_array(image: Image.Image) -> np.ndarray:
    """[H, W, C] uint8."""
    return np.asarray(image).reshape(image.height, image.width, -1)
