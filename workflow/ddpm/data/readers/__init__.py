"""One module per published format, each with `read(data, folder, threads) -> {split: Part}`.

`folder` holds the files as they are published. Reading is lazy: nothing is decoded before `Part.batches` is asked.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

import numpy as np

from ddpm.data.registry import DataSet
from ddpm.files import UserError


@dataclass
class Part:
    """One split of a data set as it is read."""

    count: int
    """How many images it should have, known before any is decoded."""
    batches: Iterable[np.ndarray]
    """The images, in order, as arrays [n, H, W, C] uint8. Can be read once."""
    labels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    """[count] int64; empty where there are none."""
    seen: Counter = field(default_factory=Counter)
    """How many images were encoded in which way; complete when the batches have been read."""


def whole_part(images: np.ndarray, labels: np.ndarray) -> Part:
    """A split that is in memory already: images [count, H, W, C] uint8, labels [count]."""
    return Part(len(images), [images], labels)


def read(data: DataSet, folder: Path | None, threads: int) -> dict[str, Part]:
    """The splits `train` and `test` of a data set.

    Args:
        folder: holds the published files; None for data that ship with a dependency.

    Raises:
        UserError: a file is missing, or is not what it should be; also while the batches are read.
    """
    return import_module(f"ddpm.data.readers.{data.reader}").read(data, folder, threads)


def present(folder: Path, name: str) -> Path:
    """The file `name` of `folder`."""
    if not (folder / name).is_file():
        raise UserError(f"{folder / name}: no such file. Download the data set, or set its root to where the file is.")
    return folder / name
