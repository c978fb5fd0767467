"""Finished pieces of long work on numbered items, kept so that none is done twice.

A job that was killed goes on behind the last piece that it kept. The finished shard is kept too, under a second name of
the same file, which costs no space: when more items are asked for, or the same ones in other shards, those that exist
are read and not made again.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from ddpm.files import UserError, read_npz, write_npz
from ddpm.interruption import JOB, Interrupted
from ddpm.locking import Lock

SAVE_EVERY = 60  # seconds


class Parts:
    """A folder of files `{first}-{stop}.npz`, each with the arrays of the items first .. stop - 1.

    Several processes may work in it, on other items each: a range of items is locked while it is made.

    Args:
        folder: nobody else's; None keeps nothing.
        source: what the items are made from (the sha256 of weights, say). Parts of another source are removed.
        settings: whatever else decides an item's content; parts made with others are left alone, and not used.
        keys: names of the arrays, whose first axis is the item's.
    """

    def __init__(self, folder: Path | None, source: str, settings: dict, keys: tuple[str, ...], log=print):
        self.keys, self.log = keys, log
        self.folder = self.lock = None
        if folder is not None:
            for other in folder.glob("*"):
                if other.name != source[:16]:
                    shutil.rmtree(other, ignore_errors=True)  # another shard's job may be at it, too
            name = hashlib.sha256(json.dumps([settings, keys], sort_keys=True).encode()).hexdigest()[:16]
            self.folder = folder / source[:16] / name

    def kept(self) -> list[tuple[int, int, Path]]:
        """First item, one past the last, and file of each part."""
        files = self.folder.glob("[0-9]*-*.npz") if self.folder else ()
        return sorted((*map(int, path.stem.split("-")), path) for path in files)

    def at(self, item: int) -> tuple[int, dict[str, np.ndarray]] | None:
        """The part that holds `item` and reaches furthest: one past its last item, and its arrays from `item` on."""
        for first, stop, path in sorted(self.kept(), key=lambda part: -part[1]):
            if first <= item < stop:
                try:
                    arrays = read_npz(path, *self.keys)
                except UserError as error:
                    self.log(f"{error} It was a finished part, which is made again.")
                    path.unlink(missing_ok=True)
                    continue
                return stop, {key: array[item - first :] for key, array in arrays.items()}
        return None

    def each(
        self, start: int, stop: int, size: int, make: Callable[[int, int], dict[str, np.ndarray]]
    ) -> Iterator[dict[str, np.ndarray]]:
        """The arrays of the items start .. stop - 1, piece by piece: what is kept, and `make(first, last)` of the rest.

        What is made is kept about once a minute, so that no more is lost with the process. The range is locked until
        `finish`, or until something goes wrong.

        Args:
            size: most items per call of `make`.

        Raises:
            UserError: somebody else is making this range.
            Interrupted: this job has to end; what is made is kept.
        """
        if self.folder and start < stop:
            self.lock = Lock(self.folder / f"{start}-{stop}.lock", f"making the items {start}..{stop - 1}", self.log)
            self.lock.acquire()
        try:
            with JOB.ending(at_once=False):
                yield from self.each_alone(start, stop, size, make)
        except BaseException:
            if self.lock:
                self.lock.release()
            raise

    def each_alone(
        self, start: int, stop: int, size: int, make: Callable[[int, int], dict[str, np.ndarray]]
    ) -> Iterator[dict[str, np.ndarray]]:
        """`each`, in a process that holds the lock."""
        fresh, saved, item, begun, made = [], time.monotonic(), start, start, False
        while item < stop:
            if found := self.at(item):
                last = min(found[0], stop)
                self.log(f"items {item}..{last - 1} were kept from earlier work")
                yield {key: array[: last - item] for key, array in found[1].items()}
                fresh, begun = [], last
            else:
                last = min(item + size, stop, *(first for first, _, _ in self.kept() if first > item))
                try:
                    if JOB.asked() and made and self.folder:
                        raise Interrupted
                    with JOB.ending(at_once=True):
                        piece = make(item, last)
                except Interrupted:
                    if fresh:
                        self.save(begun, item, fresh)
                    what = "kept" if self.folder else "not kept"
                    raise Interrupted(
                        f"interrupted by {JOB.why}: the items before {item} of {start}..{stop - 1} are {what}; "
                        "the next submission goes on from there"
                    ) from None
                made = True
                if self.folder:
                    fresh.append(piece)
                    if last < stop and time.monotonic() - saved > SAVE_EVERY:
                        self.save(begun, last, fresh)
                        fresh, begun, saved = [], last, time.monotonic()
                yield piece
            item = last

    def save(self, first: int, stop: int, pieces: list[dict[str, np.ndarray]]) -> None:
        arrays = {key: np.concatenate([piece[key] for piece in pieces]) for key in self.keys}
        with JOB.saving():
            write_npz(self.folder / f"{first}-{stop}.npz", compressed=False, **arrays)

    def finish(self, start: int, stop: int, path: Path) -> None:
        """Keep the finished shard of the items start .. stop - 1 instead of its pieces."""
        if self.folder is None or stop == start:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        kept = self.folder / f"{start}-{stop}.npz"
        kept.unlink(missing_ok=True)
        try:
            os.link(path, kept)
        except OSError as error:  # a disk without links: the shard alone stays
            self.log(f"{path} is not kept for longer work ({error})")
        for first, last, part in self.kept():
            if start <= first and last <= stop and part != kept:
                part.unlink(missing_ok=True)
        if self.lock:
            self.lock.release()
