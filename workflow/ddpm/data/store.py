"""Prepared images as the later stages read them: nothing here knows which data set it is."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ddpm.config.errors import DamagedFile, UserError
from ddpm.storage.files import read_json, read_npy, sha256

DATABASE = "data.mdb"  # the file of an LMDB in its folder


@contextmanager
def reading(folder: Path) -> Iterator:
    """A read-only transaction of the LMDB in `folder`.

    It is opened for each use, which takes microseconds beside the milliseconds of an image: LMDB forbids to open
    one twice in a process, and to keep one over a fork.

    Raises:
        DamagedFile: it is no LMDB, or is cut off, which would end the process where it is read.
    """
    import lmdb

    path, remedy = folder / DATABASE, "Put a whole copy in its place."
    try:
        with lmdb.open(str(folder), readonly=True, lock=False, readahead=False, meminit=False) as database:
            needed = (database.info()["last_pgno"] + 1) * database.stat()["psize"]
            if (found := path.stat().st_size) < needed:
                raise DamagedFile(path, f"is cut off: {found:,} bytes, where its pages take {needed:,}", remedy)
            with database.begin() as transaction:
                yield transaction
    except lmdb.Error as error:
        raise DamagedFile(path, f"cannot be read as an LMDB ({error})", remedy) from error


class Encoded:
    """Images of an LMDB, decoded, cropped and resized whenever they are read: the database is as published."""

    def __init__(self, keys: np.ndarray, folder: Path, size: int, channels: int):
        """`keys` [N] of bytes name the images, in order."""
        self.keys, self.folder = keys, folder
        self.shape = (len(keys), size, size, channels)

    def __getitem__(self, index: np.ndarray | slice) -> np.ndarray:
        keys = self.keys[index]
        images = np.empty((len(keys), *self.shape[1:]), np.uint8)
        with reading(self.folder) as transaction:
            for image, key in zip(images, keys.tolist(), strict=True):
                image[:] = self.image(key, transaction.get(key))
        return images

    def image(self, key: bytes, content: bytes | None) -> np.ndarray:
        """One image [H, W, C] uint8."""
        from ddpm.data import pictures

        _, size, _, channels = self.shape
        try:
            if content is None:
                raise pictures.Undecodable("it is not there")
            return pictures.to_array(pictures.crop_and_resize(pictures.decode(content, channels)[0], size))
        except pictures.Undecodable as error:
            what = f"image {key.decode(errors='replace')} cannot be read ({error})"
            raise DamagedFile(self.folder / DATABASE, what, "Prepare the data set again.") from error


def checksum(path: Path, store: str | dict) -> str:
    """What the card says of a split's file: its sha256, and of keys also that of the size of their database."""
    if store == "array":
        return sha256(path)
    return hashlib.sha256(b"%d " % store["bytes"] + path.read_bytes()).hexdigest()


class Images:
    """The images of one split, [N, H, W, C] uint8; indexing by a slice or an array of indices returns an array.

    They are a memory-mapped array, or are decoded from an LMDB when they are read: card.json says which.
    """

    def __init__(self, path: Path):
        """`path` is train.npy or test.npy; card.json is beside it.

        Raises:
            UserError: they are missing, damaged, or not what the card says.
        """
        self.card = read_json(path.parent / "card.json")
        content = read_npy(path)
        missing = [key for key in ("image_size", "channels", path.stem, "sha256", "store") if key not in self.card]
        if missing:
            raise DamagedFile(path.parent / "card.json", f"has no {', '.join(missing)}: not the card of this data set")
        size, channels, count = self.card["image_size"], self.card["channels"], self.card[path.stem]
        self.resident = self.card["store"] == "array"  # whether all of it can be held as an array
        if self.resident:
            kind, shape = "u", (count, size, size, channels)
        else:
            kind, shape = "S", (count,)
        if content.shape != shape or content.dtype.kind != kind or (self.resident and content.dtype != np.uint8):
            what = f"uint8 {shape}" if self.resident else f"{count} keys of images"
            raise DamagedFile(path, f"holds {content.dtype} {content.shape}, its card says {what}")
        self.pixels = content if self.resident else Encoded(content, self.database(path.parent), size, channels)
        self.sha256 = self.card["sha256"][path.stem]
        if self.sha256 != (found := checksum(path, self.card["store"])):
            raise DamagedFile(path, f"its sha256 is {found[:8]}..., and its card says {self.sha256[:8]}...")

    def database(self, folder: Path) -> Path:
        """The LMDB that the card names, which must be the one that was prepared."""
        store = self.card["store"]
        database = folder / store["lmdb"]  # which may be absolute
        path = database / DATABASE
        if not path.is_file():
            raise UserError(
                f"{path}: no such file. The images of {self.card['title']} are read from there: put it back, or set "
                "the data set's root to where it is now and prepare it again."
            )
        if (found := path.stat().st_size) != store["bytes"]:
            raise DamagedFile(
                path,
                f"has {found:,} bytes; the one that was prepared has {store['bytes']:,}",
                "Put that one back, or prepare the data set again.",
            )
        return database

    def __len__(self) -> int:
        return self.pixels.shape[0]

    def __getitem__(self, index: np.ndarray | slice) -> np.ndarray:
        return np.asarray(self.pixels[index])
