"""LSUN: encoded images in an LMDB, which stay there. What is prepared is the list of the keys of those that decode.

Unlike the other readers it fills no arrays: three million images of 256x256 would take 600 GB.
"""

import shutil
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from ddpm.config.errors import DamagedFile, UserError
from ddpm.config.sources import DataSet, RemoteFile
from ddpm.data import pictures
from ddpm.data.store import DATABASE, reading
from ddpm.data.streams import ordered, reported
from ddpm.storage.files import atomic_write, read_errors_naming


def find_database(data: DataSet, folder: Path, prepared: Path, log: Callable[[str], None]) -> Path:
    """The folder of the LMDB: in `folder` or a sub-folder of it, or unpacked from the zip there to `prepared`/lmdb."""
    archives = [folder / file.name for file in data.files if isinstance(file, RemoteFile)]
    for found in (folder, *(archive.with_suffix("") for archive in archives)):
        if (found / DATABASE).is_file():
            return found.resolve()
    for archive in archives:
        if archive.is_file():
            unpack_database(archive, prepared / "lmdb", log)
            return prepared / "lmdb"
    names = ", ".join((DATABASE, *(f"{archive.stem}/{DATABASE} or {archive.name}" for archive in archives)))
    raise UserError(f"{folder}: holds none of {names}. Download the data set, or set its root to where one of them is.")


def unpack_database(archive: Path, folder: Path, log: Callable[[str], None]) -> None:
    """The database of a zip to `folder`, whole or not at all, unless it is there from an earlier call.

    Raises:
        UserError: the disk has too little room, or the archive is damaged.
    """
    target = folder / DATABASE
    with read_errors_naming(archive, "not a whole zip archive"), zipfile.ZipFile(archive) as opened:
        members = [member for member in opened.infolist() if Path(member.filename).name == DATABASE]
        if len(members) != 1:
            raise DamagedFile(archive, f"holds {len(members)} files {DATABASE}, where one was expected")
        needed = members[0].file_size
        if target.is_file() and target.stat().st_size == needed:
            return
        if target.exists():
            raise UserError(f"{target}: is there, and not what {archive.name} holds. Move it away or delete it.")
        folder.mkdir(parents=True, exist_ok=True)
        if (free := shutil.disk_usage(folder).free) < needed:
            raise UserError(f"{folder}: {archive.name} needs {needed:,} bytes there; {free:,} are free. Make room.")
        log(f"unpacking {archive}: {needed:,} bytes")
        with atomic_write(target) as part, opened.open(members[0]) as source, open(part, "wb") as file:
            shutil.copyfileobj(source, file, 1 << 24)


def index_images(
    data: DataSet, database: Path, threads: int, log: Callable[[str], None]
) -> tuple[np.ndarray, list[str], Counter]:
    """Decode every image of the LMDB once, in `threads` threads.

    Returns:
        the keys [N] of bytes of those that can be decoded, in the order of the database; the keys of the others; and
        the number of images by fact (`pictures.decode`).

    Raises:
        UserError: the database is cut off, holds another number of images than published, or none that decodes.
    """
    path = database / DATABASE

    def check(item: tuple[bytes, bytes]) -> tuple[bytes, pictures.Facts | None]:
        key, content = item
        try:
            return key, pictures.decode(content, data.channels)[1]
        except pictures.Undecodable:
            return key, None

    with reading(database) as transaction:
        total = transaction.stat()["entries"]
        if data.train is not None and total != data.train:
            raise UserError(f"{path}: holds {total:,} images, where {data.train:,} of {data.title} were expected.")
        items = reported(ordered(check, read_entries(path, transaction), threads), total, "checked", log)
        keys, skipped, seen = [], [], Counter()
        for key, facts in items:
            if facts is None:
                skipped.append(key.decode(errors="replace"))
                log(f"{path}: image {skipped[-1]} cannot be decoded and is skipped")
            else:
                keys.append(key)
                seen.update(facts)
    if not keys:
        raise DamagedFile(path, "none of its images can be decoded", "Is it the database of LSUN?")
    return np.array(keys), skipped, seen


def read_entries(path: Path, transaction) -> Iterator[tuple[bytes, bytes]]:
    """Keys and contents, in the order of the database."""
    for key, content in transaction.cursor():
        if key.endswith(b"\0"):
            raise DamagedFile(path, f"the key {key!r} ends in a zero byte", "It is not the database of LSUN.")
        yield key, content
