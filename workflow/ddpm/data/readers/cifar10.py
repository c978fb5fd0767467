"""CIFAR-10 in the forms that people have: pickled or binary batches, Hugging Face's parquet, or a tree of image files.

Each may lie in a folder or in an archive. In the batches, an image is 1,024 red, then green, then blue values.
"""

import io
import pickle
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np

from ddpm.config.errors import DamagedFile, UserError
from ddpm.config.sources import DataSet
from ddpm.data.readers import (
    REMEDY,
    Files,
    Part,
    check_content,
    check_means,
    find_files,
    part_of_arrays,
    reencoded_hint,
    refuse_damaged,
)
from ddpm.data.readers import folder as trees

BATCHES = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}
ARCHIVE = "cifar-10-python.tar.gz"


class ByteType:
    """Stands for a pickle's dtype, which must be uint8."""

    def __init__(self, name: str | bytes, *others: object):
        if name not in ("u1", b"u1"):
            raise pickle.UnpicklingError(f"holds an array of {name!r}, not of bytes")

    def __setstate__(self, state: object) -> None:
        pass


class ByteArray:
    """Stands for a pickle's array of uint8. NumPy itself would fill an array with whatever the pickle says."""

    values: np.ndarray

    def __init__(self, *of_reconstruct: object):
        pass  # the values come by __setstate__

    def __setstate__(self, state: tuple) -> None:
        _, shape, kind, by_columns, content = state
        if not isinstance(kind, ByteType) or by_columns or not isinstance(content, bytes):
            raise pickle.UnpicklingError("holds an array of another kind than images have")
        self.values = np.frombuffer(content, np.uint8).reshape(shape)


class ArraysOnly(pickle.Unpickler):
    """Opens pickles of plain values and arrays of bytes, and refuses all that could run code."""

    def find_class(self, module: str, name: str):
        match module.replace("numpy.core", "numpy._core"), name:
            case "numpy._core.multiarray", "_reconstruct":
                return ByteArray
            case "numpy", "ndarray":
                return ByteArray
            case "numpy", "dtype":
                return ByteType
        raise pickle.UnpicklingError(f"asks for {module}.{name}, which is no array")


def read(data: DataSet, folder: Path, threads: int) -> dict[str, Part]:
    if data.reencoded:
        return trees.read(data, folder, threads)
    for where, files, _ in find_files(folder, is_wanted):
        for form in (read_pickled, read_binary, read_parquet, read_tree):
            if parts := form(data, where, files, threads):
                batches = {split: list(part.batches) for split, part in parts.items()}
                refuse_damaged(parts.values())
                for split, part in parts.items():
                    part.batches = [np.concatenate(batches[split])] if part.count else []
                    if part.count and data.root:  # what was downloaded was checked
                        check_means(data, split, part.batches[0], where)
                return parts
    raise UserError(
        f"{folder}: holds no {data.title}. Known forms: {ARCHIVE}, its folder cifar-10-batches-py, those of the binary "
        "version, parquet files train*.parquet and test*.parquet, and image files train/CLASS/*, test/CLASS/*; each "
        f"in the folder itself or in an archive there. {reencoded_hint(data)}"
    )


def is_wanted(path: PurePosixPath) -> bool:
    names = [name for of_split in BATCHES.values() for name in of_split]
    return path.name.removesuffix(".bin") in names or path.suffix == ".parquet" or trees.is_image(path)


def find_batches(files: Files, suffix: str = "") -> dict[str, list[tuple[str, Callable[[], bytes]]]] | None:
    """The name of each batch and a function that reads it; None unless all batches are among `files`."""
    found = {path.name: read for path, read in files.items()}
    if any(name + suffix not in found for name in (*BATCHES["train"], *BATCHES["test"])):
        return None
    return {split: [(name, found[name + suffix]) for name in names] for split, names in BATCHES.items()}


def to_images(data: DataSet, rows: np.ndarray) -> np.ndarray:
    """Rows of 3,072 values as images [N, H, W, C]."""
    return rows.reshape(-1, data.channels, data.image_size, data.image_size).transpose(0, 2, 3, 1)


def read_pickled(data: DataSet, where: Path, files: Files, threads: int) -> dict[str, Part] | None:
    if (found := find_batches(files)) is None:
        return None
    parts = {}
    for split, of_split in found.items():
        rows, labels = [], []
        for name, read_bytes in of_split:
            content = read_bytes()
            check_content(data, name, content, f"{where}: {name}")
            try:
                batch = ArraysOnly(io.BytesIO(content), encoding="bytes").load()
                rows.append(to_images(data, batch[b"data"].values))
                labels += np.array(batch[b"labels"], np.int64).tolist()
            except Exception as error:  # a hostile stream provokes whatever it likes
                raise DamagedFile(where, f"{name} is not a batch of {data.title} ({error})", REMEDY) from error
        parts[split] = part_of_arrays(np.concatenate(rows), np.array(labels, np.int64))
    return parts


def read_binary(data: DataSet, where: Path, files: Files, threads: int) -> dict[str, Part] | None:
    """A byte for the label, then the image's, for each image."""
    if (found := find_batches(files, ".bin")) is None:
        return None
    size = 1 + data.channels * data.image_size**2
    parts = {}
    for split, of_split in found.items():
        content = b"".join(read_bytes() for _, read_bytes in of_split)
        if len(content) % size:
            raise DamagedFile(
                where, f"its {split} batches are no whole number of images of {size:,} bytes each", REMEDY
            )
        rows = np.frombuffer(content, np.uint8).reshape(-1, size)
        parts[split] = part_of_arrays(to_images(data, rows[:, 1:]), rows[:, 0].astype(np.int64))
    return parts


def read_parquet(data: DataSet, where: Path, files: Files, threads: int) -> dict[str, Part] | None:
    """Hugging Face's: a column of encoded images, and one of labels."""
    parts = {}
    for split in BATCHES:
        of_split = {path: read for path, read in files.items() if re.match(rf"{split}\b.*\.parquet$", path.name)}
        if not of_split:
            return None
        rows = [row for path, read in of_split.items() for row in read_parquet_rows(f"{where}: {path}", read())]
        contents = (
            (f"{where}: {split} image {i}", lambda content=content: content or b"")
            for i, (content, _) in enumerate(rows)
        )
        parts[split] = trees.part_of_tree(data, len(rows), contents, threads)
        parts[split].labels = np.array([label for _, label in rows], np.int64)
    return parts


def read_parquet_rows(where: str, content: bytes) -> list[tuple[bytes, int]]:
    """Encoded image and label of each row."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(content), use_threads=False)
        column = next(name for name in ("img", "image") if name in table.column_names)
        images = table.column(column).combine_chunks().field("bytes").to_pylist()
        return list(zip(images, table.column("label").to_pylist(), strict=True))
    except (pa.ArrowException, OSError, KeyError, StopIteration, AttributeError) as error:
        raise DamagedFile(where, f"no parquet file with columns `img` and `label` ({error!r})", REMEDY) from error


def read_tree(data: DataSet, where: Path, files: Files, threads: int) -> dict[str, Part] | None:
    images = {path: read for path, read in files.items() if trees.is_image(path)}
    if not any(trees.SPLITS.get(name.casefold()) == "train" for path in images for name in path.parts):
        return None
    return trees.labelled_splits(data, where, images, threads, {})
