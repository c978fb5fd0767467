"""CelebA, aligned: JPEGs read inside their zip, in the order of the list that says which split each is in.

The crop and the size are those of the authors of DDIM (ermongroup/ddim, datasets/__init__.py).
"""

import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from ddpm.data import pictures
from ddpm.data.readers import Part, present
from ddpm.data.registry import DataSet
from ddpm.files import DamagedFile

SPLITS = {"0": "train", "1": "validation", "2": "test"}
ROW, COLUMN = 121, 89  # the middle of the crop
HALF = 64


def read_list(path: Path) -> dict[str, list[str]]:
    """The file names of each split; a line is "000001.jpg 0"."""
    names: dict[str, list[str]] = {split: [] for split in SPLITS.values()}
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        name, _, split = line.strip().partition(" ")
        if split.strip() not in SPLITS:
            raise DamagedFile(path, f"line {number}, {line[:80]!r}, is no file name with 0, 1 or 2")
        names[SPLITS[split.strip()]].append(name)
    return names


def members(archive: Path, names: list[str]) -> Iterator[tuple[str, bytes]]:
    """The contents of the images `names` of the zip, each with its name there."""
    try:
        opened = zipfile.ZipFile(archive)
    except (zipfile.BadZipFile, OSError) as error:
        raise DamagedFile(archive, f"not a whole zip archive ({error})") from error
    with opened:
        for name in names:
            member = f"img_align_celeba/{name}"
            try:
                content = opened.read(member)
            except (zipfile.BadZipFile, zlib.error, OSError, EOFError, KeyError) as error:
                raise DamagedFile(archive, f"{member} is missing or damaged there ({error})") from error
            yield f"{archive}: {member}", content


def crop(image: Image.Image, size: int) -> Image.Image:
    """128x128 around the face, resized bilinearly; where it shrinks, Pillow's filter takes in all pixels."""
    box = image.crop((COLUMN - HALF, ROW - HALF, COLUMN + HALF, ROW + HALF))
    return pictures.resize(box, size, Image.Resampling.BILINEAR)


def read(data: DataSet, folder: Path, threads: int) -> dict[str, Part]:
    archive, names = present(folder, "img_align_celeba.zip"), read_list(present(folder, "list_eval_partition.txt"))
    parts = {}
    for split in ("train", "test"):
        seen: Counter = Counter()
        images = pictures.stream(
            members(archive, names[split]), lambda image: crop(image, data.image_size), data.channels, threads, seen
        )
        parts[split] = Part(len(names[split]), images, seen=seen)
    return parts
