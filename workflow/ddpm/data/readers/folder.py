"""Image files, at any depth; with sub-folders train and test, these are the splits, and folders in them are classes.

They lie in a folder, or in an archive there. Of a data set with known classes, the folders must be those.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from ddpm.config.errors import UserError
from ddpm.config.sources import DataSet
from ddpm.data import pictures
from ddpm.data.readers import Files, Part, find_files

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


def is_image(path: PurePosixPath) -> bool:
    return path.suffix.lower() in SUFFIXES


def read(data: DataSet, folder: Path, threads: int) -> dict[str, Part]:
    for where, images in find_files(folder, is_image):
        return labelled_splits(data, where, images, threads)
    raise UserError(f"{folder}: holds no images ({', '.join(SUFFIXES)}). Set root to the folder of the images.")


def labelled_splits(data: DataSet, where: Path, images: Files, threads: int) -> dict[str, Part]:
    """The splits of a tree of images, with their class folders for labels, if they have any.

    Where there are classes, the first image of each comes first, then the second, ...: so any first few are of all.

    Raises:
        UserError: the data set has other classes; or test images have one that no training image has.
    """
    splits = split_by_folder(images)
    if not splits["train"]:
        raise UserError(f"{where}: has no images in its folder train. Put them there, or do without such a folder.")
    found = {split: class_names(of_split) for split, of_split in splits.items()}
    classes = data.classes if data.classes is not None else found["train"]
    for split, names in found.items():
        if splits[split] and (set(names) - set(classes) or (classes and not names)):
            expected = (
                f"{split}/CLASS/... with the classes {', '.join(classes)}" if classes else f"no classes in {split}"
            )
            there = ", ".join(names[:20]) or "no class folders"
            raise UserError(f"{where}: {data.title} was expected as {expected}; found: {there}.")
    numbers = {name: number for number, name in enumerate(classes)}
    parts = {}
    for split, of_split in splits.items():
        of_split = alternate_classes(of_split) if classes else of_split
        seen: Counter = Counter()
        labels = np.array([numbers[path.parts[0]] for path in of_split] if classes else [], np.int64)
        contents = ((f"{where}: {path}", read_bytes()) for path, read_bytes in of_split.items())
        batches = decode_images(data, check_format(data, contents), threads, seen)
        parts[split] = Part(len(of_split), batches, labels, seen, tuple(classes))
    return parts


def split_by_folder(images: Files) -> dict[str, Files]:
    """Images by split, each by its path below the split's folder; without such folders all are training images."""
    parents = {path.parts[:i] for path in images for i in range(len(path.parts))}
    above = min((parent for parent in parents if (*parent, "train") in parents), key=len, default=None)
    if above is None:
        return {"train": images, "test": {}}
    splits: dict[str, Files] = {"train": {}, "test": {}}
    for path, read_bytes in images.items():
        depth = len(above)
        if path.parts[:depth] == above and len(path.parts) > depth + 1 and (split := path.parts[depth]) in splits:
            splits[split][PurePosixPath(*path.parts[depth + 1 :])] = read_bytes
    return splits


def class_names(images: Files) -> tuple[str, ...]:
    """The folders that the images are in, if each is in one."""
    if any(len(path.parts) == 1 for path in images):
        return ()
    return tuple(sorted({path.parts[0] for path in images}))


def alternate_classes(images: Files) -> Files:
    places: Counter = Counter()
    order = {}
    for path in images:
        order[path] = (places[path.parts[0]], path)
        places[path.parts[0]] += 1
    return {path: images[path] for path in sorted(images, key=order.get)}


def check_format(data: DataSet, contents: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
    """The same, each in the format that `data.reencoded` says, if it says one."""
    for name, content in contents:
        if data.reencoded and (found := pictures.format_of(content)).lower() != data.reencoded.lower():
            raise UserError(f"{name}: is {found}, and {data.name} has reencoded: {data.reencoded}. Say the right one.")
        yield name, content


def decode_images(
    data: DataSet, contents: Iterable[tuple[str, bytes]], threads: int, seen: Counter | None = None
) -> Iterator[np.ndarray]:
    """Encoded images as batches [n, H, W, C] uint8: the centre square, in the data set's size."""
    return pictures.decode_all(
        contents, lambda image: pictures.crop_and_resize(image, data.image_size), data.channels, threads,
        Counter() if seen is None else seen, remedy="Repair or remove it.", formats=pictures.USER_FORMATS,
    )  # fmt: skip
