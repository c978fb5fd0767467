"""Image files, at any depth; with sub-folders train and test, these are the splits, and folders in them are classes.

They lie in a folder, or in an archive there. Of a data set with known classes, the folders must be those.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
from types import MappingProxyType

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
    data: DataSet, where: Path, images: Files, threads: int, ignored: Mapping[str, int] = MappingProxyType({})
) -> dict[str, Part]:
    """The splits of a tree of images, with their class folders for labels, if they have any.

    Where there are classes, the first image of each comes first, then the second, ...: so any first few are of all.

    Args:
        ignored: what lies beside the images, in words, and how many of it.

    Raises:
        UserError: it is not clear which folders are splits; the data set has other classes; or test images have one
            that no training image has.
    """
    splits, places, layout = split_by_folder(where, images)
    layout += [f"left out: {count:,} {what}" for what, count in ignored.items()]
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
        place = places.get(split, PurePosixPath())
        contents = ((f"{where}: {place / path}", read_bytes) for path, read_bytes in of_split.items())
        parts[split] = part_of_tree(data, len(of_split), contents, threads)
        parts[split].labels = np.array([numbers[path.parts[0]] for path in of_split] if classes else [], np.int64)
        parts[split].classes, parts[split].layout = tuple(classes), tuple(layout)
    return parts


def split_by_folder(where: Path, images: Files) -> tuple[dict[str, Files], dict[str, PurePosixPath], list[str]]:
    """The images by split, each by its path below the split's folder; those folders; and sentences on what became what.

    The folders of splits are looked for where the tree first branches. Without them all are training images.

    Raises:
        UserError: folders of splits lie beside others or in others, none is for training, or two are for one split.
    """
    level, first = 0, next(iter(images)).parts
    while first[level].casefold() not in SPLITS and all(
        path.parts[level] == first[level] and len(path.parts) > level + 1 for path in images
    ):
        level += 1
    above = PurePosixPath(*first[:level])
    groups: dict[str, Files] = {}
    for path, read_bytes in images.items():
        name = path.parts[level] if len(path.parts) > level + 1 else ""
        groups.setdefault(name, {})[path.relative_to(above / name)] = read_bytes
    kinds = {name: SPLITS.get(name.casefold(), "class") for name in groups if name}
    inside = {name for path in images for name in path.parts[level + 1 : -1] if name.casefold() in ("train", "test")}
    if set(kinds.values()) <= {"class"} and not inside:
        return {"train": images, "test": {}}, {}, [f"train: all {len(images):,} images"]
    number = Counter(kinds.values())
    if number["class"] or number["train"] != 1 or number["test"] > 1:
        found = ", ".join(f"{name} ({len(groups[name]):,} images)" for name in kinds)
        found += f", and {', '.join(sorted(inside))} in them" if inside else ""
        raise UserError(
            f"{where / above}: it is not clear which folders are splits and which are classes. Found: {found}. Put all "
            "images into folders train and test, and their classes into these; or rename what is no split."
        )
    splits: dict[str, Files] = {"train": {}, "test": {}}
    places, layout = {}, []
    for name, of_name in groups.items():
        if (split := kinds.get(name)) in splits:
            splits[split], places[split] = of_name, above / name
            layout.append(f"{split}: {len(of_name):,} images of {above / name}")
        else:
            what = f"of {above / name}" if name else "beside these folders"
            layout.append(f"left out: {len(of_name):,} images {what}")
    return splits, places, layout


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


def part_of_tree(data: DataSet, count: int, contents: Iterable[tuple[str, Callable[[], bytes]]], threads: int) -> Part:
    """A split of images of a user's: the centre square of each, in the data set's size."""
    return part_of_images(
        data, count, contents, lambda image: pictures.crop_and_resize(image, data.image_size), threads,
        formats=pictures.USER_FORMATS, remedy="Repair or remove it.",
    )  # fmt: skip
