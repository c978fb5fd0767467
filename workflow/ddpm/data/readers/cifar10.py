"""CIFAR-10's archive for Python: rows of 1,024 red, green and blue values each, 10,000 to a pickled batch."""

import io
import pickle
import tarfile
import zlib
from pathlib import Path

import numpy as np

from ddpm.data.readers import Part, present, whole_part
from ddpm.data.readers import folder as trees
from ddpm.data.registry import DataSet
from ddpm.files import DamagedFile

BATCHES = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}


class ArraysOnly(pickle.Unpickler):
    """Opens pickles of plain values and NumPy arrays, and refuses whatever would run other code."""

    def find_class(self, module: str, name: str):
        match module.replace("numpy.core", "numpy._core"), name:
            case "numpy._core.multiarray", "_reconstruct":
                return np._core.multiarray._reconstruct
            case "numpy", "ndarray" | "dtype":
                return getattr(np, name)
        raise pickle.UnpicklingError(f"asks for {module}.{name}, which is no array")


def read(data: DataSet, folder: Path, threads: int) -> dict[str, Part]:
    if data.reencoded:
        return trees.read_splits(data, folder, threads)
    archive = present(folder, "cifar-10-python.tar.gz")
    splits = {}
    try:
        with tarfile.open(archive) as tar:
            for split, names in BATCHES.items():
                files = [tar.extractfile(f"cifar-10-batches-py/{name}").read() for name in names]
                parts = [ArraysOnly(io.BytesIO(file), encoding="bytes").load() for file in files]
                rows = np.concatenate([part[b"data"] for part in parts])
                images = rows.reshape(-1, data.channels, data.image_size, data.image_size).transpose(0, 2, 3, 1)
                splits[split] = whole_part(images, np.concatenate([part[b"labels"] for part in parts]))
    except (
        tarfile.TarError, zlib.error, pickle.UnpicklingError, EOFError, OSError, KeyError, ValueError, TypeError,
        AttributeError,
    ) as error:  # fmt: skip
        raise DamagedFile(archive, f"not the archive of {data.title} ({error})") from error
    return splits
