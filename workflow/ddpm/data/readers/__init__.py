"""One module per published format, each with `read(data, folder, threads) -> {split: Part}`.

`folder` holds the files as they are published, or as people have them: in a folder or in an archive, packed or not.
Images are decoded when `Part.batches` is read, not before.
"""

import bz2
import gzip
import hashlib
import io
import lzma
import struct
import tarfile
import threading
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from itertools import islice
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from ddpm.config.errors import DamagedFile, UserError
from ddpm.config.sources import DataSet, Reader
from ddpm.data import pictures
from ddpm.data.listing import is_hidden, list_files, shorten
from ddpm.data.streams import ordered

BATCH = 64  # images in an array that is passed on
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
# zipfile raises these too, where a member is encrypted, packed in an unknown way, or has an odd name.
OTHER_ZIP_ERRORS = (KeyError, ValueError, RuntimeError, NotImplementedError, struct.error)
ARCHIVE_ERRORS = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError)
REMEDY = "Put a whole copy in its place."
MAX_FILE_BYTES = 2**29  # bytes of one file in an archive, unpacked; the largest batch or part of a set has 120 MB
MAX_TAR_BYTES = 2**33  # of all that are read from a tar

Files = dict[PurePosixPath, Callable[[], bytes]]
"""A function that reads each file, by the file's path in its folder or archive. The paths are in order."""


@dataclass
class Part:
    """One split of a data set as it is read."""

    count: int
    """The number of images. It is known before the first one is decoded."""
    batches: Iterable[np.ndarray]
    """The images in order, as arrays [n, H, W, C] uint8. They can be read once."""
    labels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    """[count] int64; empty where there are none."""
    seen: Counter = field(default_factory=Counter)
    """The number of images by fact (`pictures.decode`). It is complete when all batches have been read."""
    damaged: list[DamagedFile] = field(default_factory=list)
    """An error for each image that cannot be read or decoded: likewise."""
    classes: tuple[str, ...] = ()
    """The names of the labels, where the files give them and not the registry."""
    layout: tuple[str, ...] = ()
    """Sentences for the card: which folders became which split, and what was left out."""


def part_of_arrays(images: np.ndarray, labels: np.ndarray) -> Part:
    """A split whose images [count, H, W, C] uint8 and labels [count] are in memory."""
    return Part(len(images), [images], labels)


def part_of_images(
    data: DataSet,
    count: int,
    contents: Iterable[tuple[str, Callable[[], bytes]]],
    shape: Callable[[Image.Image], Image.Image],
    threads: int,
    formats: Sequence[str] = pictures.PUBLISHED_FORMATS,
    remedy: str = "Download it again.",
) -> Part:
    """A split of encoded images. They are decoded in `threads` threads, and `shape` is applied, when it is read.

    Behind a damaged image no more are yielded, but all are tried.

    Args:
        contents: each image's name for messages, and a function that reads it.
        formats: those of Pillow's that they may be in.
    """
    part = Part(count, [])

    def work(item: tuple[str, Callable[[], bytes]]) -> tuple[np.ndarray, pictures.Facts] | DamagedFile:
        name, read = item
        try:
            image, facts = pictures.decode(read(), data.channels, formats, data.background, data.depth)
            if data.reencoded and (found := facts[0][1].partition(" ")[0]).lower() != data.reencoded.lower():
                what = f"is {found}, and {data.name} has reencoded: {data.reencoded}: say the right one"
                raise pictures.Undecodable(what)
            return pictures.to_array(shape(image)), facts
        except DamagedFile as error:  # of an archive
            return error
        except OSError as error:
            return DamagedFile(name, f"cannot be read ({error.strerror or error})", remedy)
        except pictures.Undecodable as error:
            return DamagedFile(name, str(error), remedy)

    def images() -> Iterator[np.ndarray]:
        for result in ordered(work, contents, threads):
            if isinstance(result, DamagedFile):
                part.damaged.append(result)
            elif not part.damaged:
                image, facts = result
                part.seen.update(facts)
                yield image

    whole = images()
    part.batches = map(np.stack, iter(lambda: list(islice(whole, BATCH)), []))  # until none are left
    return part


def refuse_damaged(parts: Iterable[Part]) -> None:
    """Raise DamagedFile with all damaged images of parts that have been read, the first twenty of them by name."""
    damaged = [error for part in parts for error in part.damaged]
    if len(damaged) == 1:
        raise damaged[0]
    if damaged:
        what = f"cannot be used:\n{shorten(list(map(str, damaged)))}\n"
        raise DamagedFile(
            f"{len(damaged):,} images", what, "Mend or remove all of them, and run the same command again"
        )


def read(data: DataSet, folder: Path | None, threads: int) -> dict[str, Part]:
    """The splits `train` and `test` of a data set.

    Args:
        folder: holds the published files; None for data that ship with a dependency.

    Raises:
        UserError: a file is missing, or is not what it should be; also while the batches are read.
    """
    return import_module(f"ddpm.data.readers.{data.reader}").read(data, folder, threads)


def find_files(root: Path, wanted: Callable[[PurePosixPath], bool]) -> Iterator[tuple[Path, Files, Counter]]:
    """The files of `root` that are `wanted`: first those in the folder at any depth, then those in each archive.

    Yields:
        the folder or the archive, its files, and how many of what it holds beside; those without such a file are
        passed over. Hidden files and folders never count.

    Raises:
        UserError: parts of the folder cannot be read; they are listed.
        DamagedFile: an archive cannot be read to its end.
    """
    found, ignored, unreadable = list_files(root)
    if unreadable:
        raise UserError(
            f"{root}: cannot be read as a whole. Have these allowed, mend them, or remove them:\n{shorten(unreadable)}"
        )
    if files := sort_wanted({path: (root / path).read_bytes for path in found}, wanted, ignored):
        yield root, files, ignored
    for path in found:
        if len(path.parts) == 1 and path.name.lower().endswith(ARCHIVES):
            ignored = Counter()
            if files := sort_wanted(archive_members(root / path, wanted), wanted, ignored):
                yield root / path, files, ignored


def sort_wanted(files: Files, wanted: Callable[[PurePosixPath], bool], ignored: Counter) -> Files:
    found = {}
    for path in sorted(files):
        if any(map(is_hidden, path.parts)):
            ignored["hidden files or folders"] += 1
        elif wanted(path):
            found[path] = files[path]
        else:
            ignored[f"files of the kind {path.suffix.lower() or 'without a suffix'}"] += 1
    return found


def archive_members(archive: Path, wanted: Callable[[PurePosixPath], bool]) -> Files:
    """The files of an archive. The `wanted` ones of a compressed tar are read at once, since it cannot be searched.

    Raises:
        DamagedFile: it is cut off, is no archive, or holds more than a data set has.
        UserError: a tar holds links, of which a class folder may be one.
    """
    try:
        if archive.suffix.lower() == ".zip":
            zipped = zipfile.ZipFile(archive)
            names = (info.filename for info in zipped.infolist() if not info.is_dir())
            read = partial(read_zip_member, zipped, archive)
            # Some programs of Windows write backslashes.
            return {PurePosixPath(name.replace("\\", "/")): partial(read, name) for name in names}
        return tar_members(archive, wanted)
    except ARCHIVE_ERRORS as error:
        raise DamagedFile(archive, f"not a whole archive ({error})", REMEDY) from error


def tar_members(archive: Path, wanted: Callable[[PurePosixPath], bool]) -> Files:
    tar, one_at_a_time = tarfile.open(archive), threading.Lock()  # noqa: SIM115 - it stays open for the readers

    def read(info: tarfile.TarInfo) -> bytes:
        with one_at_a_time, member_errors_naming(archive, info.name):
            return tar.extractfile(info).read()

    members, total = {}, 0
    for info in tar:
        path, compressed = PurePosixPath(info.name), archive.suffix.lower() != ".tar"
        if info.issym() or info.islnk():
            raise UserError(
                f"{archive}: {info.name} is a link to {info.linkname}, which is not followed in an archive. Unpack it "
                "into a folder, and set root to that."
            )
        if info.isfile():
            members[path] = partial(read, info)
            if wanted(path):
                total += info.size * compressed
                refuse_bomb(archive, info.name, info.size, info.issparse() or total > MAX_TAR_BYTES)
                if compressed:
                    members[path] = partial(bytes, tar.extractfile(info).read())
    return members


def refuse_bomb(where: Path | str, name: str, size: int, otherwise: bool = False) -> None:
    """Raise DamagedFile where a file of an archive is larger than any file of a data set, or `otherwise` is true."""
    if otherwise or size > MAX_FILE_BYTES:
        raise DamagedFile(
            where, f"{name} would be unpacked to {size:,} bytes or more, as no file of a data set", REMEDY
        )


def read_zip_member(zipped: zipfile.ZipFile, archive: Path, name: str) -> bytes:
    with member_errors_naming(archive, name):
        refuse_bomb(archive, name, zipped.getinfo(name).file_size)
        return zipped.read(name)


@contextmanager
def member_errors_naming(archive: Path, name: str) -> Iterator[None]:
    try:
        yield
    except (*ARCHIVE_ERRORS, *OTHER_ZIP_ERRORS) as error:
        raise DamagedFile(archive, f"{name} is missing or damaged there ({error})", REMEDY) from error


def decompress(content: bytes, where: Path | str) -> bytes:
    """What a compressed file holds, by its first bytes: gzip, bzip2, xz, or a zip of one file; others as they are.

    Raises:
        DamagedFile: it is cut off, or damaged otherwise.
    """
    try:
        if content.startswith(b"PK\x03\x04"):
            zipped = zipfile.ZipFile(io.BytesIO(content))
            (name,) = zipped.namelist()
            refuse_bomb(where, name, zipped.getinfo(name).file_size)
            return zipped.read(name)
        for magic, opened in ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.BZ2File), (b"\xfd7zXZ", lzma.LZMAFile)):
            if content.startswith(magic):
                with opened(io.BytesIO(content)) as file:
                    whole = file.read(MAX_FILE_BYTES + 1)
                refuse_bomb(where, "it", len(whole))
                return whole
    except (*ARCHIVE_ERRORS, *OTHER_ZIP_ERRORS) as error:
        raise DamagedFile(where, f"cannot be unpacked ({error})", REMEDY) from error
    return content


def check_content(data: DataSet, name: str, content: bytes, where: Path | str) -> None:
    """Raise UserError where the registry knows another md5 for a file of a `root`. What was downloaded was checked."""
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if data.root and found != data.contents.get(name, found):
        raise UserError(
            f"{where}: is not {name} of {data.title}: the md5 of its content is {found}, not "
            f"{data.contents[name]}. {reencoded_hint(data)}"
        )


def check_means(data: DataSet, split: str, images: np.ndarray, where: Path) -> None:
    """Raise UserError where the means of a split's channels are published, and those of `images` differ from them.

    The means are sums over millions of bytes and have eight digits, so as many other images have other means. Another
    number of images is not compared.
    """
    known = data.means.get(split)
    if known is None or len(images) != getattr(data, split):
        return
    found = images.reshape(-1, images.shape[-1]).mean(0, dtype=np.float64) / 255
    if np.abs(found - known).max() > 6e-9:  # half of the last digit
        means = ", ".join(f"{mean:.8f}" for mean in found)
        raise UserError(
            f"{where}: its {split} images are not those of {data.title}: the means of their channels are {means}, not "
            f"{', '.join(f'{mean:.8f}' for mean in known)}. {reencoded_hint(data)}"
        )


def reencoded_hint(data: DataSet) -> str:
    """What the user can do about other contents: a copy, or the key for copies that were encoded again with loss."""
    if data.reader is not Reader.CIFAR10:
        return "Put a copy of the published files there, or name this as a data set of your own."
    return (
        "If these are copies that somebody encoded again with loss, say in which format, as in "
        f"`sources: {{{data.name}: {{root: ..., reencoded: JPEG}}}}`."
    )
