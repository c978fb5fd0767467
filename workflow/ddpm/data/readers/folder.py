"""A folder of image files, at any depth, by path; with sub-folders train and test, these are the splits."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ddpm.data import pictures
from ddpm.data.readers import Part
from ddpm.data.registry import DataSet
from ddpm.files import UserError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


def image_files(folder: Path) -> list[Path]:
    found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    return sorted(found, key=lambda path: path.relative_to(folder).parts)


def contents(files: list[Path]) -> Iterator[tuple[str, bytes]]:
    for path in files:
        yield str(path), path.read_bytes()


def read(data: DataSet, folder: Path, threads: int) -> dict[str, Part]:
    split = (folder / "train").is_dir()
    files = {
        "train": image_files(folder / "train" if split else folder),
        "test": image_files(folder / "test") if split else [],
    }
    if not files["train"]:
        raise UserError(f"{folder}: holds no images ({', '.join(SUFFIXES)}). Set root to the folder of the images.")
    parts = {}
    for name, paths in files.items():
        seen: Counter = Counter()
        images = pictures.stream(
            contents(paths), lambda image: pictures.square(image, data.image_size), data.channels, threads, seen,
            remedy="Repair or remove it.", formats=pictures.OF_USERS,
        )  # fmt: skip
        parts[name] = Part(len(paths), images, seen=seen)
    return parts
