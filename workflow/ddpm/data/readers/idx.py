"""MNIST's format: an array of bytes behind a header, gzipped or not; images are padded with black all around."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from ddpm.data.readers import Part, present, whole_part
from ddpm.data.registry import DataSet
from ddpm.files import DamagedFile

PREFIXES = {"train": "train", "test": "t10k"}
BYTES = 0x08  # the type that the header's third byte names


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The array of uint8 in an idx file.

    Raises:
        DamagedFile: it is not such a file, has other dimensions, or another length than its header says.
    """
    try:
        content = (gzip.decompress if path.suffix == ".gz" else bytes)(path.read_bytes())
        zeros, kind, found, *shape = struct.unpack_from(f">HBB{dimensions}I", content)
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise DamagedFile(path, f"not a whole idx file ({error})") from error
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions)
    if (zeros, kind, found) != (0, BYTES, dimensions) or len(values) != math.prod(shape):
        raise DamagedFile(path, f"not an idx file of bytes in {dimensions} dimensions, or not a whole one")
    return values.reshape(shape)


def read(data: DataSet, folder: Path, threads: int) -> dict[str, Part]:
    def array(name: str, dimensions: int) -> np.ndarray:
        plain = folder / name
        return read_idx(plain if plain.is_file() else present(folder, f"{name}.gz"), dimensions)

    parts = {}
    for split, prefix in PREFIXES.items():
        images, labels = array(f"{prefix}-images-idx3-ubyte", 3), array(f"{prefix}-labels-idx1-ubyte", 1)
        margin = (data.image_size - images.shape[1]) // 2
        padded = np.pad(images, ((0, 0), (margin, margin), (margin, margin)))
        parts[split] = whole_part(padded[..., None], labels.astype(np.int64))
    return parts
