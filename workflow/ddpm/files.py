"""Files appear whole or not at all, and a damaged one is named with the way out.

Every file of the project is written through `whole` and read through the readers here.
"""

import errno
import hashlib
import json
import lzma
import math
import os
import socket
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from tokenize import TokenError

import numpy as np

from ddpm.exits import ExitCode

# What numpy and zipfile raise where bytes are not what they should be.
NOT_WHOLE = (
    *(ValueError, EOFError, OSError, AttributeError, RuntimeError, SyntaxError),
    *(TokenError, zipfile.BadZipFile, zlib.error, lzma.LZMAError),
)


class UserError(Exception):
    """Something that the person at the keyboard can mend: shown as one message, without a traceback."""

    code = ExitCode.USER_ERROR


class DiskError(UserError):
    """A disk or folder that cannot take what is to be written."""

    code = ExitCode.DISK


class DamagedFile(UserError):
    """A file that cannot be what its name says."""

    def __init__(self, path: Path | str, what: str, remedy: str = "Delete it and run the same command again."):
        super().__init__(f"{path}: {what}. {remedy}")


@contextmanager
def whole(path: Path | str) -> Iterator[Path]:
    """Yield a path beside `path` to write to; on success flush it to disk and rename it to `path`.

    A process that dies in between leaves `path` as it was. What it leaves beside it, the next writer on the
    same host removes. The yielded name keeps the suffix, which many writers take the format from.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_parts_of_the_dead(path)
    part = path.with_name(f".{path.stem}.{socket.gethostname()}.{os.getpid()}.part{path.suffix}")
    part.unlink(missing_ok=True)  # of a dead one that had our number, as the first processes of a container do
    try:
        with named(path, part):
            yield part
            with open(part, "rb") as file:
                os.fsync(file.fileno())
            os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def named(path: Path, part: Path) -> Iterator[None]:
    """Let errors of the disk in the block, which writes `part`, name `path`: a write that fails does not say where."""
    try:
        yield
    except OSError as error:
        if error.errno is None and "requested and" in str(error):  # numpy's: "262144 requested and 130560 written"
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        if error.filename is None or str(error.filename).startswith(str(part)):
            error.filename = str(path)
        raise


@contextmanager
def whole_folder(path: Path | str) -> Iterator[Path]:
    """Yield a folder beside `path` to fill; on success rename it to `path`.

    Raises:
        UserError: `path` exists.
    """
    path = Path(path)
    if path.exists():
        raise UserError(f"{path}: exists. Give another folder, or remove it first.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as part, named(path, Path(part)):
        yield (filled := Path(part) / path.name)
        os.replace(filled, path)


def remove_parts_of_the_dead(path: Path) -> None:
    """Remove what killed writers of `path` on this host left beside it."""
    for part in path.parent.glob(f".{path.stem}.{socket.gethostname()}.*.part{path.suffix}"):
        pid = part.name.removesuffix(f".part{path.suffix}").rpartition(".")[2]
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            part.unlink(missing_ok=True)
        except (PermissionError, ValueError):  # somebody else's process, or not our file
            pass


def write_text(path: Path | str, text: str) -> None:
    with whole(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: object) -> None:
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_csv(path: Path | str, names: Iterable[str], rows: Iterable[Iterable[float | str]]) -> None:
    """Rows of numbers, in full precision, and of words without commas, under `names`."""
    write_text(path, "\n".join([",".join(names), *(",".join(map(str, row)) for row in rows)]) + "\n")


def write_npy(path: Path | str, array: np.ndarray) -> None:
    with whole(path) as part:
        np.save(part, array)


def write_npz(path: Path | str, *, compressed: bool = True, **arrays: np.ndarray) -> None:
    """Compressed but for arrays that would not shrink, as features do not: that takes longer than making them."""
    with whole(path) as part:
        (np.savez_compressed if compressed else np.savez)(part, **arrays)


class NpzWriter:
    """Adds arrays to an .npz archive, of which no more than one block is in memory."""

    def __init__(self, archive: zipfile.ZipFile):
        self.archive = archive

    def add(self, **arrays: np.ndarray) -> None:
        for key, array in arrays.items():
            with self.archive.open(f"{key}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)

    def add_rows(self, key: str, count: int, blocks: Iterable[np.ndarray]) -> None:
        """Add the `count` rows that `blocks` hold, one block or more, as one array."""
        blocks = iter(blocks)
        first = next(blocks)
        descr = np.lib.format.dtype_to_descr(first.dtype)
        header = {"descr": descr, "fortran_order": False, "shape": (count, *first.shape[1:])}
        written = 0
        with self.archive.open(f"{key}.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array_header_1_0(member, header)
            for block in chain([first], blocks):
                if (block.dtype, block.shape[1:]) != (first.dtype, first.shape[1:]):
                    raise ValueError(f"{key}: a block of {block.dtype} {block.shape} after one of {first.shape}")
                member.write(block.tobytes())
                written += len(block)
        if written != count:
            raise ValueError(f"{key}: {written} rows, where {count} were announced")


@contextmanager
def writing_npz(path: Path | str) -> Iterator[NpzWriter]:
    """Yield what writes an .npz member by member. They are not compressed: numbers of a network hardly shrink."""
    with whole(path) as part, zipfile.ZipFile(part, "w") as archive:
        yield NpzWriter(archive)


def read_json(path: Path | str) -> dict:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file. Run the step that makes it first.") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DamagedFile(path, f"not a whole JSON file ({error})") from error


def read_npy(path: Path | str) -> np.ndarray:
    """A read-only, memory-mapped array."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file. Run the step that makes it first.") from None
    except NOT_WHOLE as error:
        raise damaged(path, "not a whole .npy array", error) from error


@contextmanager
def open_npz(path: Path | str, *keys: str) -> Iterator["np.lib.npyio.NpzFile"]:
    """The open archive, which must have the arrays `keys`; what the block finds damaged in it is said."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [key for key in keys if key not in archive.files]
            if missing:
                raise DamagedFile(path, f"holds {archive.files} where {missing} was expected")
            yield archive
    except FileNotFoundError:
        raise UserError(f"{path}: no such file. Run the step that makes it first.") from None
    except NOT_WHOLE as error:
        raise damaged(path, "not a whole .npz archive", error) from error


def damaged(path: Path | str, what: str, error: Exception) -> Exception:
    """What to raise for one of NOT_WHOLE: a disk that cannot be read at the moment says nothing about the file."""
    if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # EINVAL: a place before the beginning
        return error
    return DamagedFile(path, f"{what} ({error})")


def read_npz(path: Path | str, *keys: str) -> dict[str, np.ndarray]:
    """The arrays named `keys`; every one must be there and pass the archive's own checksum."""
    arrays = {}
    with open_npz(path, *keys) as archive:
        for key in keys:
            with archive.zip.open(f"{key}.npy") as member:
                arrays[key] = np.lib.format.read_array(member, allow_pickle=False)
                require_end(member, key)
    return arrays


def rows_of_npz(path: Path | str, key: str, size: int) -> Iterator[np.ndarray]:
    """The rows of the array `key` in order, in read-only blocks of `size` (the last one holds what is left).

    One block is in memory at a time. The archive's checksum is compared when the last one is read.
    """
    with open_npz(path, key) as archive, archive.zip.open(f"{key}.npy") as member:
        if np.lib.format.read_magic(member) != (1, 0):
            raise ValueError(f"{key} is of a newer version than 1.0")
        (count, *width), by_columns, dtype = np.lib.format.read_array_header_1_0(member)
        if by_columns or dtype.hasobject:
            raise ValueError(f"{key} has no rows that could be read one after another")
        for first in range(0, count, size):
            shape = min(size, count - first), *width
            yield np.frombuffer(member.read(math.prod(shape) * dtype.itemsize), dtype).reshape(shape)
        require_end(member, key)


def require_end(member: zipfile.ZipExtFile, key: str) -> None:
    """Only at its end is a member's checksum compared; an array whose damaged header asks for less ends before."""
    if member.read(1):
        raise ValueError(f"{key} has more bytes than its shape takes")


def sha256(path: Path | str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
