"""Image files, at any depth, by path; with sub-folders train and test, these are the splits.

They lie in a folder, or in the one zip or tar that it holds.
"""

import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from ddpm.data import pictures
from ddpm.data.readers import Part
from ddpm.data.registry import DataSet
from ddpm.files import DamagedFile, UserError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")

Images = dict[PurePosixPath, Callable[[], bytes]]
"""How to read each image file, by its path below the root, in the order of the paths."""


def image_files(root: Path) -> tuple[Path, Images]:
    """The image files of the folder `root`, or else of the one archive in it; and which of both they are of."""
    found = {PurePosixPath(path.relative_to(root)): path.read_bytes for path in root.rglob("*") if path.is_file()}
    images = in_order(found)
    archives = [root / path for path in found if path.name.lower().endswith(ARCHIVES)]
    if images or len(archives) != 1:
        return root, images
    return archives[0], in_order(members(archives[0]))


def in_order(files: Images) -> Images:
    return {path: files[path] for path in sorted(files) if path.suffix.lower() in SUFFIXES}


def members(archive: Path) -> Images:
    """The files of an archive. Those of a tar are read at once, since it has no index.

    Raises:
        DamagedFile: it is no whole archive.
    """
    try:
        if archive.suffix.lower() == ".zip":
            opened = zipfile.ZipFile(archive)
            names = [name for name in opened.namelist() if not name.endswith("/")]
            return {PurePosixPath(name): lambda name=name: opened.read(name) for name in names}
        with tarfile.open(archive) as tar:
            contents = {PurePosixPath(member.name): tar.extractfile(member).read() for member in tar if member.isfile()}
        return {path: lambda content=content: content for path, content in contents.items()}
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise DamagedFile(archive, f"not a whole archive ({error})") from error


def splits_of(images: Images) -> dict[str, Images]:
    """Images by split, each by its path below the split's folder; without such folders all are training images."""
    parents = {path.parts[:i] for path in images for i in range(len(path.parts))}
    above = min((parent for parent in parents if (*parent, "train") in parents), key=len, default=None)
    if above is None:
        return {"train": images, "test": {}}
    splits: dict[str, Images] = {"train": {}, "test": {}}
    for path, read in images.items():
        depth = len(above)
        if path.parts[:depth] == above and len(path.parts) > depth + 1 and (split := path.parts[depth]) in splits:
            splits[split][PurePosixPath(*path.parts[depth + 1 :])] = read
    return splits


def part_of(data: DataSet, root: Path, images: Images, threads: int, labels: np.ndarray | None = None) -> Part:
    def contents() -> Iterator[tuple[str, bytes]]:
        for path, read in images.items():
            yield f"{root}: {path}", read()

    seen: Counter = Counter()
    batches = pictures.stream(
        contents(), lambda image: pictures.square(image, data.image_size), data.channels, threads, seen,
        remedy="Repair or remove it.",
    )  # fmt: skip
    return Part(len(images), batches, *([] if labels is None else [labels]), seen=seen)


def read(data: DataSet, folder: Path, threads: int) -> dict[str, Part]:
    root, images = image_files(folder)
    splits = splits_of(images)
    if not splits["train"]:
        raise UserError(f"{folder}: holds no images ({', '.join(SUFFIXES)}). Set root to the folder of the images.")
    return {name: part_of(data, root, of_split, threads) for name, of_split in splits.items()}


def classes_in_turn(images: Images) -> Images:
    """The first image of each class, then the second of each, ...: any first few are of all classes."""
    places: Counter = Counter()
    order = {}
    for path in images:
        order[path] = (places[path.parts[0]], path)
        places[path.parts[0]] += 1
    return {path: images[path] for path in sorted(images, key=order.get)}


def read_splits(data: DataSet, folder: Path, threads: int) -> dict[str, Part]:
    """A published data set as a tree train/CLASS/..., test/CLASS/...: its labels are the names of these folders.

    Raises:
        UserError: the classes are not those of the data set.
    """
    root, images = image_files(folder)
    numbers = {name: number for number, name in enumerate(data.classes)}
    parts = {}
    for name, of_split in splits_of(images).items():
        of_split = classes_in_turn(of_split)
        classes = [path.parts[0] if len(path.parts) > 1 else "" for path in of_split]
        if set(classes) != set(numbers):
            raise UserError(
                f"{root}: {data.title} was expected as {name}/CLASS/..., with the classes {', '.join(data.classes)}; "
                f"found: {', '.join(sorted(set(classes))[:20]) or 'no images there'}."
            )
        parts[name] = part_of(data, root, of_split, threads, np.array([numbers[each] for each in classes], np.int64))
    return parts
