"""CelebA, aligned: JPEGs in their zip or unpacked, in the order of the list that says which split each is in.

The crop and the size are those of the authors of DDIM (ermongroup/ddim, datasets/__init__.py).
"""

from pathlib import Path, PurePosixPath

from PIL import Image

from ddpm.config.errors import DamagedFile, UserError
from ddpm.config.sources import DataSet
from ddpm.data import pictures
from ddpm.data.listing import shorten
from ddpm.data.readers import REMEDY, Files, Part, find_files, part_of_images

ARCHIVE = "img_align_celeba.zip"
SPLITS = {"0": "train", "1": "validation", "2": "test"}
ROW, COLUMN = 121, 89  # the middle of the crop
HALF = 64
ALIGNED = (178, 218)  # width, height


def read_splits(path: Path) -> dict[str, list[str]]:
    """The file names of each split; a line is "000001.jpg 0"."""
    if not path.is_file():
        raise UserError(f"{path}: no such file. Download the data set, or set its root to where the file is.")
    names: dict[str, list[str]] = {split: [] for split in SPLITS.values()}
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        name, _, split = line.strip().partition(" ")
        if split.strip() not in SPLITS:
            raise DamagedFile(path, f"line {number}, {line[:80]!r}, is no file name with 0, 1 or 2")
        names[SPLITS[split.strip()]].append(name)
    return names


def find_images(folder: Path, names: set[str]) -> tuple[Path, Files]:
    """All images of the folder, or of the first archive in it, with all `names`; else of the one with most of them."""
    best: tuple[Path, Files] = (folder, {})
    most = 0
    for where, files, _ in find_files(folder, lambda path: path.suffix.lower() == ".jpg"):
        if (found := len(names & {path.name for path in files})) > most:
            best, most = (where, files), found
        if most == len(names):
            break
    if not most:
        raise UserError(
            f"{folder / ARCHIVE}: no such file, and no images *.jpg in {folder} either. Download the data set, or set "
            "its root to where they are."
        )
    return best


def locate_images(where: Path, files: Files, names: list[str]) -> dict[str, PurePosixPath]:
    """The path of each of the images `names`; `files` are all images there, in any folder."""
    paths: dict[str, PurePosixPath] = {}
    for path in files:
        if path.name in paths:
            raise UserError(
                f"{where}: holds {path.name} twice, as {paths[path.name]} and as {path}. Leave the aligned one."
            )
        paths[path.name] = path
    if missing := [name for name in names if name not in paths]:
        what = (
            f"{missing[0]} is missing there" if len(missing) == 1 else f"these are missing there:\n{shorten(missing)}\n"
        )
        raise DamagedFile(where, what, REMEDY)
    return paths


def crop_face(image: Image.Image, size: int) -> Image.Image:
    """128x128 around the face, resized bilinearly. Where the image shrinks, Pillow's filter counts every pixel.

    Raises:
        Undecodable: the image has not the size of the aligned ones.
    """
    if image.size != ALIGNED:
        raise pictures.Undecodable(
            "has {}x{} pixels; the aligned and cropped images have {}x{}".format(*image.size, *ALIGNED)
        )
    return pictures.resize(pictures.crop(image, ROW - HALF, COLUMN - HALF, 2 * HALF), size, Image.Resampling.BILINEAR)


def read(data: DataSet, folder: Path, threads: int) -> dict[str, Part]:
    names = read_splits(folder / "list_eval_partition.txt")
    where, files = find_images(folder, {name for of_split in names.values() for name in of_split})
    paths = locate_images(where, files, [*names["train"], *names["test"]])

    def part(of_split: list[str]) -> Part:
        contents = ((f"{where}: {paths[name]}", files[paths[name]]) for name in of_split)
        return part_of_images(data, len(of_split), contents, lambda image: crop_face(image, data.image_size), threads)

    return {split: part(names[split]) for split in ("train", "test")}
