"""Files are written whole or not at all, a damaged one is named with a remedy, and files of others are left alone.

Every file of the project is written through `atomic_write` and read through the readers here. This module also decides
what may be removed or replaced: a folder of the project's alone has a mark, and in any other folder a list says which
files the project has made.
"""

import errno
import glob
import hashlib
import json
import lzma
import math
import os
import re
import socket
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain, count
from pathlib import Path
from tokenize import TokenError
from typing import IO, cast

import numpy as np

from ddpm.config.errors import DamagedFile, DiskError, UserError

# What numpy and zipfile raise where bytes are not what they should be.
CORRUPT_FILE_ERRORS = (
    *(ValueError, EOFError, OSError, AttributeError, RuntimeError, SyntaxError, OverflowError),
    *(TokenError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
)

Log = Callable[[str], object]  # takes a line of progress: `print`, say
FOLDER_MARK = ".ddpm-folder"  # in a folder of this project's alone: its use
OWNED_FILES = ".ddpm-files"  # in a folder that others may use as well: the names of this project's files
OWN_NOTES = re.compile(r"(.*/)?(\..+\.part(\.[^/]*)?|\.ddpm-folder)")  # files of a claim that is being made


@contextmanager
def atomic_write(path: Path | str) -> Iterator[Path]:
    """Yield a path beside `path` to write to; on success flush it to disk and rename it to `path`.

    A process that dies in between leaves `path` as it was. The next writer on the same host (and in the same container)
    removes the dead one's temporary file. That keeps the suffix, from which many writers take the format.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_stale_temp_files(path)
    part = path.with_name(f".{path.stem}.{pid_namespace()}.{os.getpid()}.part{path.suffix}")
    part.unlink(missing_ok=True)  # of a dead process of the same number, as those of a container often have
    try:
        with disk_errors_naming(path, part):
            yield part
            with open(part, "rb") as file:
                os.fsync(file.fileno())
            record_ownership(path)
            os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def disk_errors_naming(path: Path, part: Path) -> Iterator[None]:
    """Let errors of the disk in the block, which writes `part`, name `path`: a failed write names no file."""
    try:
        yield
    except OSError as error:
        if error.errno is None and "requested and" in str(error):  # numpy's: "262144 requested and 130560 written"
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        if error.filename is None or str(error.filename).startswith(str(part)):
            error.filename = str(path)
        raise


@contextmanager
def atomic_folder(path: Path | str) -> Iterator[Path]:
    """Yield a folder beside `path` to fill; on success rename it to `path`.

    Raises:
        UserError: `path` exists.
    """
    path = Path(path)
    if path.exists():
        raise UserError(f"{path}: exists. Give another folder, or remove it first.")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent)
    with temporary as part, disk_errors_naming(path, Path(part)):
        yield (filled := Path(part) / path.name)
        os.replace(filled, path)


def pid_namespace() -> str:
    """Where a process number means something: this host, and the namespace of this container."""
    with suppress(OSError):
        return f"{socket.gethostname()}-{os.stat('/proc/self/ns/pid').st_ino}"
    return socket.gethostname()


def remove_stale_temp_files(path: Path) -> None:
    """Remove what killed writers of `path` left beside it, of this host and container."""
    stem, suffix = glob.escape(f".{path.stem}.{pid_namespace()}."), glob.escape(path.suffix)
    for part in path.parent.glob(f"{stem}*.part{suffix}"):
        pid = part.name.removesuffix(f".part{path.suffix}").rpartition(".")[2]
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            part.unlink(missing_ok=True)
        except (PermissionError, ValueError):  # another user's process, or a file of others
            pass


def private_folder(folder: Path, remedy: str) -> Path:
    """The folder, which is made if there is none. It must be this user's, no link, and writable for nobody else.

    Raises:
        UserError: it is not; the message ends with `remedy`.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise DiskError(f"{folder}: cannot be made ({error.strerror}). {remedy}") from error
    about = os.lstat(folder)
    if stat.S_ISLNK(about.st_mode) or about.st_uid != os.getuid():
        raise UserError(f"{folder}: is a link, or belongs to somebody else. {remedy}")
    if about.st_mode & 0o022:
        raise UserError(f"{folder}: others may write to it (chmod go-w {folder} forbids it). {remedy}")
    return folder


def files_in(folder: Path) -> Iterator[str]:
    """The relative paths of all files and links in `folder`, at any depth; links are not followed."""
    for path in folder.rglob("*"):
        if path.is_symlink() or not path.is_dir():
            yield path.relative_to(folder).as_posix()


def claim_folder(folder: Path, use: str, unmarked: str = "(?!)") -> None:
    """Mark a new or empty `folder` as this project's, for `use` alone; check the mark of any other one.

    Args:
        unmarked: matches the relative paths of all files in a folder that an earlier version has left without a mark.

    Raises:
        UserError: the folder holds something else, or is for another use. Nothing in it was touched.
    """
    mark, ours = folder / FOLDER_MARK, re.compile(unmarked)
    way_out = "Nothing in it was touched: give a new or an empty folder."
    if mark.is_file():
        if (found := mark.read_text(errors="replace").strip()) != use:
            raise UserError(f"{folder}: is for {found[:80]}, not for {use}. {way_out}")
        return
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file, where a folder for {use} is needed. Give another name.")
    for name in files_in(folder):
        if not (ours.fullmatch(name) or OWN_NOTES.fullmatch(name)):
            raise UserError(f"{folder}: is not empty (it holds {name}), and not marked as one for {use}. {way_out}")
    write_text(mark, use + "\n")


def remove_ours(folder: Path, names: str) -> None:
    """Remove the files of `folder` whose relative path matches `names` in full, and the folders that this empties."""
    for name in list(files_in(folder)):
        if re.fullmatch(names, name):
            (folder / name).unlink(missing_ok=True)
            for parent in list((folder / name).parents)[: name.count("/")]:
                with suppress(OSError):  # it holds something else
                    parent.rmdir()


def unclaim_folder(folder: Path, names: str) -> None:
    """`remove_ours` in a claimed folder; then remove the folder, if nothing else is in it."""
    if (folder / FOLDER_MARK).is_file():
        remove_ours(folder, names)
        if all(map(OWN_NOTES.fullmatch, files_in(folder))):
            (folder / FOLDER_MARK).unlink(missing_ok=True)
            with suppress(OSError):
                folder.rmdir()


def claim_file(path: Path, ours: bool = False) -> None:
    """Check that this project may write the file `path`: it is not there, or the project has made it.

    Args:
        ours: it is known that the project has made it; earlier versions kept no list.

    Raises:
        UserError: nothing says that the project has made it.
    """
    made = path.parent / OWNED_FILES
    names = made.read_text(encoding="utf-8").splitlines() if made.is_file() else []
    if path.name in names and not path.is_symlink():
        return
    if os.path.lexists(path) and not ours:
        raise UserError(
            f"{path}: is there already, and nothing says that this project has made it, so that it is not overwritten. "
            "Give another name, or move it away or delete it first."
        )
    CLAIMED.add(os.path.abspath(path))


CLAIMED: set[str] = set()  # files that are put on their folder's list when they are written


def record_ownership(path: Path) -> None:
    """Put a claimed file on its folder's list."""
    if (name := os.path.abspath(path)) in CLAIMED:
        with open(path.parent / OWNED_FILES, "a", encoding="utf-8") as file:
            file.write(path.name + "\n")  # in one short write, which no other process cuts
        CLAIMED.discard(name)


def claim_card(card: Path, *keys: str) -> bool:
    """`claim_file` of a card.json, which may replace one with these keys; returns whether there is one.

    Raises:
        UserError: there is a card without them.
    """
    if not os.path.lexists(card):
        claim_file(card)
        return False
    with suppress(UserError, OSError):
        document = read_json(card)
        if isinstance(document, dict) and document.keys() >= set(keys):
            claim_file(card, ours=True)
            return True
    raise UserError(f"{card}: is there already, and is the card of something else. Give another folder.")


def set_aside(path: Path) -> Path:
    """Rename a file that is in the way, so that nothing is lost; returns the new path."""
    asides = (path.with_name(f"{path.name}.aside-{number}") for number in count(1))
    return path.rename(next(aside for aside in asides if not os.path.lexists(aside)))


def write_text(path: Path | str, text: str) -> None:
    with atomic_write(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: object) -> None:
    write_text(path, to_json(value, indent=2) + "\n")


def to_json(value: object, indent: int | None = None) -> str:
    """JSON as its standard has it, which knows no NaN and no infinity.

    Such a number becomes null, and `not_finite` of the document says which it was, by its keys: {"nll.test": "nan"}.
    """
    lost: dict[str, str] = {}

    def finite(value: object, place: str) -> object:
        if isinstance(value, dict):
            return {key: finite(each, f"{place}.{key}") for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [finite(each, f"{place}.{i}") for i, each in enumerate(value)]
        if not isinstance(value, float) or math.isfinite(value):
            return value
        lost[place.removeprefix(".")] = str(float(value))
        return None

    document = finite(value, "")
    if lost and isinstance(document, dict):
        document["not_finite"] = lost
    return json.dumps(document, indent=indent)


def write_csv(path: Path | str, names: Iterable[str], rows: Iterable[Iterable[float | str]]) -> None:
    """Rows of numbers in full precision, and of words without commas, below the header `names`."""
    write_text(path, "\n".join([",".join(names), *(",".join(map(str, row)) for row in rows)]) + "\n")


def write_npy(path: Path | str, array: np.ndarray) -> None:
    with atomic_write(path) as part:
        np.save(part, array)


def write_npz(path: Path | str, *, compressed: bool = True, **arrays: np.ndarray) -> None:
    """Arrays that would not shrink, as features, are not to be compressed: that takes longer than to make them."""
    with atomic_write(path) as part:
        save = np.savez_compressed if compressed else np.savez
        save(part, **arrays)  # type: ignore[arg-type]  # which takes them for the option allow_pickle


class NpzWriter:
    """Adds arrays to an .npz archive, of which only one block is in memory."""

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
    """Yield the writer of an .npz whose members are not compressed: numbers of a network hardly shrink."""
    with atomic_write(path) as part, zipfile.ZipFile(part, "w") as archive:
        yield NpzWriter(archive)


@contextmanager
def read_errors_naming(path: Path | str, damage: str) -> Iterator[None]:
    """Let a UserError name the file that is missing, or a DamagedFile the one that the block cannot read.

    An error of the disk stays what it is, since it says nothing about the file.
    """
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path}: no such file. Run the step that makes it first.") from None
    except CORRUPT_FILE_ERRORS as error:
        if getattr(error, "errno", None) not in (None, errno.EINVAL):  # EINVAL: of a seek to a wrong place
            raise
        raise DamagedFile(path, f"{damage} ({error})") from error


def read_json(path: Path | str) -> dict:
    with read_errors_naming(path, "not a whole JSON file"):
        return json.loads(Path(path).read_text(encoding="utf-8"))


def read_npy(path: Path | str) -> np.ndarray:
    """A read-only, memory-mapped array."""
    with read_errors_naming(path, "not a whole .npy array"):
        return np.load(path, mmap_mode="r", allow_pickle=False)


@contextmanager
def open_npz(path: Path | str, *keys: str) -> Iterator[zipfile.ZipFile]:
    """The open archive, which must have the arrays `keys`; the block may find it damaged, too."""
    with read_errors_naming(path, "not a whole .npz archive"), np.load(path, allow_pickle=False) as archive:
        missing = [key for key in keys if key not in archive.files]
        if missing:
            raise DamagedFile(path, f"holds {archive.files} where {missing} was expected")
        yield cast(zipfile.ZipFile, archive.zip)


def read_npz(path: Path | str, *keys: str, most: int | None = None) -> dict[str, np.ndarray]:
    """The arrays named `keys`; every one must be there and pass the archive's own checksum.

    Args:
        most: bytes that each may have, if the file is from others.
    """
    arrays = {}
    with open_npz(path, *keys) as archive:
        for key in keys:
            with archive.open(f"{key}.npy") as member:
                refuse_bomb(archive.getinfo(f"{key}.npy").file_size, member, key, most)
                arrays[key] = np.lib.format.read_array(member, allow_pickle=False)
                require_end(member, key)
    return arrays


def rows_of_npz(path: Path | str, key: str, size: int) -> Iterator[np.ndarray]:
    """The rows of the array `key` in order, in read-only blocks of `size` (the last one may be smaller).

    One block is in memory at a time. The archive's checksum is compared after the last one.
    """
    with open_npz(path, key) as archive, archive.open(f"{key}.npy") as member:
        if np.lib.format.read_magic(member) != (1, 0):
            raise ValueError(f"{key} is of a newer version than 1.0")
        (count, *width), by_columns, dtype = np.lib.format.read_array_header_1_0(member)
        if by_columns or dtype.hasobject:
            raise ValueError(f"{key} has no rows that could be read one after another")
        for first in range(0, count, size):
            shape = min(size, count - first), *width
            yield np.frombuffer(member.read(math.prod(shape) * dtype.itemsize), dtype).reshape(shape)
        require_end(member, key)


def refuse_bomb(size: int, member: IO[bytes], key: str, most: int | None) -> None:
    """Raise ValueError if an array is larger than its member, which has `size` bytes unpacked, or than `most`.

    NumPy would allocate what the header says before it reads any of it.
    """
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(member)
    member.seek(0)
    if math.prod(shape) * dtype.itemsize > size or (most is not None and size > most):
        raise ValueError(f"{key} of {size:,} bytes cannot be {dtype} {shape}")


def require_end(member: IO[bytes], key: str) -> None:
    """Raise ValueError if bytes are left, as with a damaged header: a member's checksum is compared at its end only."""
    if member.read(1):
        raise ValueError(f"{key} has more bytes than its shape takes")


def sha256(path: Path | str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
