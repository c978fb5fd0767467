"""Image files, at any depth; with sub-folders train and test, these are the splits, and folders in them are classes.

They lie in a folder, or in an archive there. Of a data set with known classes, the folders must be those.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from ddpm.config.errors import UserError
from ddpm.config.sources import DataSet
from ddpm.data import pictures
from ddpm.data.readers import Files, Part, find_files, part_of_images

SUFFIXES = tuple(
    sorted(suffix for suffix, form in Image.registered_extensions().items() if form in pictures.USER_FORMATS)
)
# What folders of splits are called, in any case; those of the third kind are left out.
SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test"}
SPLITS |= dict.fromkeys(("val", "valid", "validation", "dev"), "validation")
LIKE_A_SPLIT = re.compile(rf"({'|'.join(SPLITS)})([^a-z].*)?", re.DOTALL)  # train_images, val2017


def is_image(path: PurePosixPath) -> bool:
    return path.suffix.lower() in SUFFIXES


def read(data: DataSet, folder: Path, threads: int) -> dict[str, Part]:
    found = find_files(folder, is_image)
    where, images, ignored = next(found, (folder, {}, {}))
    if not images:
        raise UserError(f"{folder}: holds no images ({', '.join(SUFFIXES)}). Set root to the folder of the images.")
    if where != folder and (second := next(found, None)):
        raise UserError(
            f"{folder}: holds images in two archives, {where.name} and {second[0].name}. Leave one of them."
        )
    return labelled_splits(data, where, images, threads, ignored)


def labelled_splits(
    data: DataSet, where: Path, images: Files, threads: int, ignored: Mapping[str, int]
) -> dict[str, Part]:
    """The splits of a tree of images, with their class folders for labels, if they have any.

    Where there are classes, the first image of each comes first, then the second, ...: so any first few are of all.

    Args:
        ignored: what lies beside the images, in words, and how many of it.

    Raises:
        UserError: it is not clear which folders are splits; the data set has other classes; or test images have one
            that no training image has.
    """
    splits, depth, layout = split_by_folder(where, images)
    layout += [f"left out: {count:,} {what}" for what, count in ignored.items()]
    found = {split: class_names(of_split, depth) for split, of_split in splits.items()}
    if data.classes is None and not found["train"] and any(len(path.parts) > depth + 1 for path in splits["train"]):
        layout.append("no labels: some images lie in no folder of a class")
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
        order = alternate_classes(of_split, depth) if classes else list(of_split)
        contents = ((f"{where}: {path}", images[path]) for path in order)
        parts[split] = part = part_of_tree(data, len(order), contents, threads)
        part.labels = np.array([numbers[path.parts[depth]] for path in order] if classes else [], np.int64)
        part.classes, part.layout = tuple(classes), tuple(layout)
    return parts


def split_by_folder(where: Path, images: Files) -> tuple[dict[str, list[PurePosixPath]], int, list[str]]:
    """The images by split, how deep their class folders lie, and sentences on which folder became what.

    The folders of splits are looked for where the tree first branches. Without them all are training images.

    Raises:
        UserError: folders of splits lie beside others or in others, none is for training, or two are for one split.
    """
    level, first = 0, next(iter(images)).parts
    while first[level].casefold() not in SPLITS and all(
        path.parts[level] == first[level] and len(path.parts) > level + 1 for path in images
    ):
        level += 1
    groups: dict[str, list[PurePosixPath]] = {}
    for path in images:
        groups.setdefault("/".join(path.parts[: level + 1]) if len(path.parts) > level + 1 else "", []).append(path)
    kinds = {name: SPLITS.get(PurePosixPath(name).name.casefold(), "class") for name in groups if name}
    inside = {name for path in images for name in path.parts[level + 1 : -1] if name.casefold() in SPLITS}
    alike = kinds and all(LIKE_A_SPLIT.fullmatch(PurePosixPath(name).name.casefold()) for name in kinds)
    if set(kinds.values()) <= {"class"} and not inside and not alike:
        return {"train": list(images), "test": []}, level, [f"train: all {len(images):,} images"]
    number = Counter(kinds.values())
    if number["class"] or number["train"] != 1 or number["test"] > 1:
        found = ", ".join(f"{name} ({len(groups[name]):,} images)" for name in kinds)
        found += f", and {', '.join(sorted(inside))} in them" if inside else ""
        raise UserError(
            f"{where}: it is not clear which folders are splits and which are classes. Found: {found}. Put all "
            "images into folders train and test, and their classes into these; or rename what is no split."
        )
    splits: dict[str, list[PurePosixPath]] = {"train": [], "test": []}
    layout = []
    for name, paths in groups.items():
        split = kinds.get(name)
        splits |= {split: paths} if split in splits else {}
        became = split if split in splits else "left out"
        layout.append(f"{became}: {len(paths):,} images {f'of {name}' if name else 'beside these folders'}")
    return splits, level + 1, layout


def class_names(paths: list[PurePosixPath], depth: int) -> tuple[str, ...]:
    """The folders that the images are in, if each is in one."""
    if any(len(path.parts) == depth + 1 for path in paths):
        return ()
    return tuple(sorted({path.parts[depth] for path in paths}))


def alternate_classes(paths: list[PurePosixPath], depth: int) -> list[PurePosixPath]:
    met: Counter = Counter()

    def turn(path: PurePosixPath) -> tuple[int, PurePosixPath]:
        met[path.parts[depth]] += 1
        return met[path.parts[depth]], path

    return sorted(paths, key=turn)


def part_of_tree(data: DataSet, count: int, contents: Iterable[tuple[str, Callable[[], bytes]]], threads: int) -> Part:
    """A split of images of a user's: the centre square of each, in the data set's size."""
    return part_of_images(
        data, count, contents, lambda image: pictures.crop_and_resize(image, data.image_size), threads,
        formats=pictures.USER_FORMATS, remedy="Repair or remove it.",
    )  # fmt: skip
