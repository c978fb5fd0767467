"""MNIST's format: an array of bytes behind a header, packed or not; images are padded with black all around."""

import math
import struct
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np

from ddpm.config.errors import DamagedFile, UserError
from ddpm.config.sources import DataSet
from ddpm.data.readers import REMEDY, Part, check_content, decompress, find_files, part_of_arrays

PREFIXES = {"train": "train", "test": "t10k"}
KINDS = {"images": "images-idx3-ubyte", "labels": "labels-idx1-ubyte"}
NAMES = tuple(f"{prefix}-{kind}" for prefix in PREFIXES.values() for kind in KINDS.values())
BYTES = 0x08  # the type that the header's third byte names


def parse_idx(content: bytes, dimensions: int, where: Path) -> np.ndarray:
    """The array of uint8 in an idx file.

    Raises:
        DamagedFile: the file is of another kind, has other dimensions, or another length than its header says.
    """
    try:
        zeros, kind, found, *shape = struct.unpack_from(f">HBB{dimensions}I", content)
    except struct.error as error:
        raise DamagedFile(where, f"not a whole idx file ({error})", REMEDY) from error
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions)
    if (zeros, kind, found) != (0, BYTES, dimensions) or len(values) != math.prod(shape) or 0 in shape:
        raise DamagedFile(where, f"not an idx file of bytes in {dimensions} dimensions, or not a whole one", REMEDY)
    return values.reshape(shape)


def idx_name(path: PurePosixPath) -> str | None:
    """Which of NAMES a file is, packed or not; some people write a dot for a hyphen."""
    plain = path.name.replace(".idx", "-idx")
    return next((name for name in NAMES if plain == name or plain.startswith(f"{name}.")), None)


def read(data: DataSet, folder: Path, threads: int) -> dict[str, Part]:
    where, files = find_idx_files(folder)

    def array(name: str, dimensions: int) -> np.ndarray:
        path, read_bytes = files[name]
        content = decompress(read_bytes(), where / path)
        check_content(data, name, content, where / path)
        return parse_idx(content, dimensions, where / path)

    parts = {}
    for split, prefix in PREFIXES.items():
        images, labels = array(f"{prefix}-{KINDS['images']}", 3), array(f"{prefix}-{KINDS['labels']}", 1)
        if max(images.shape[1:]) > data.image_size:
            what = f"{prefix}-{KINDS['images']}: images of {images.shape[1:]} are larger than {data.image_size} pixels"
            raise DamagedFile(where, what, REMEDY)
        margin = (data.image_size - images.shape[1]) // 2
        padded = np.pad(images, ((0, 0), (margin, margin), (margin, margin)))
        parts[split] = part_of_arrays(padded[..., None], labels.astype(np.int64))
    return parts


def find_idx_files(folder: Path) -> tuple[Path, dict[str, tuple[PurePosixPath, Callable[[], bytes]]]]:
    """The four files by name, where they lie in `folder` or in an archive there."""
    best: dict = {}
    for where, candidates, _ in find_files(folder, lambda path: idx_name(path) is not None):
        files = {idx_name(path): (path, read_bytes) for path, read_bytes in candidates.items()}
        if len(files) == len(NAMES):
            return where, files
        best = max(best, files, key=len)
    missing = ", ".join(name for name in NAMES if name not in best)
    raise UserError(
        f"{folder}: holds no {missing}, packed or not. Download the data set, or set its root to where the files are."
    )
