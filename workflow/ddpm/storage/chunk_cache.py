"""Finished chunks of long work on numbered items, kept so that none is made twice.

A job that was killed goes on behind the last chunk that it kept. The finished shard is kept too, under a second name of
the same file, which costs no space: when more items are asked for, or the same ones in other shards, those that exist
are read and not made again.
"""

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ddpm.config.base import short_hash
from ddpm.config.errors import UserError
from ddpm.jobs.locks import Lock
from ddpm.jobs.signals import Interrupted, Stopped, stop_signal
from ddpm.storage.files import Log, claim_folder, read_npz, remove_ours, unclaim_folder, write_npz

SAVE_EVERY = 60  # seconds
CHUNK, LOCK = r"\d+-\d+\.npz", r"\d+-\d+\.lock(-[0-9a-f]{8})?"
# All that ever lies in such a folder: by source and settings, chunks, their locks, and what killed writers left; and
# drafts of chunks, which earlier versions kept and nothing reads any longer.
NAMES = rf"[0-9a-f]{{16}}/[0-9a-f]{{16}}/((draft-)?{CHUNK}|\.(draft-)?\d+-\d+\..+\.part\.npz|{LOCK})"

Arrays = dict[str, np.ndarray]
Make = Callable[[int, int], Arrays]


def concatenate(batches: Sequence[Arrays]) -> Arrays:
    """The arrays of several batches, one or more, behind each other."""
    return {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}


class Chunk(NamedTuple):
    """The items start .. stop - 1, which are read from a file of those from `first` on, or have to be made."""

    start: int
    stop: int
    path: Path | None = None
    first: int = 0


class ChunkCache:
    """A folder of files `{start}-{stop}.npz`, each with the arrays of the items start .. stop - 1.

    Several processes may work in it, on other items each: a range of items is locked while it is made.

    Args:
        folder: new, empty, or marked as one of such chunks; None keeps nothing.
        source: what the items are made from (the sha256 of weights, say). Chunks of another source are removed when
            this one's are begun, unless somebody is still making them.
        settings: whatever else decides an item's content; chunks made with others are left alone, and not used.
        keys: names of the arrays, whose first axis is the item's.

    Raises:
        UserError: the folder is somebody else's, or for another use.
    """

    def __init__(self, folder: Path | None, source: str, settings: dict, keys: tuple[str, ...], log: Log = print):
        self.keys, self.log = keys, log
        self.folder: Path | None = None
        self.lock: Lock | None = None
        self.pending: list[tuple[Chunk, Arrays]] = []  # what is made and not saved yet
        self.saved = 0.0  # when all that was made was saved
        if folder is not None:
            claim_folder(folder, "finished pieces of work", unmarked=NAMES)
            self.folder = folder / source[:16] / short_hash([settings, keys])

    def kept(self) -> list[tuple[int, int, Path]]:
        """First item, one past the last, and file of each chunk."""
        found = []
        for path in self.folder.glob("*-*.npz") if self.folder else ():
            if re.fullmatch(CHUNK, path.name):
                start, stop = map(int, path.stem.split("-"))
                found.append((start, stop, path))
        return sorted(found)

    def drop_other_sources(self) -> None:
        """Remove the chunks of other sources, each if nobody is making any; by whoever holds a lock of this source."""
        if self.folder is None:
            return
        source, state = self.folder.parent.name, self.folder.parents[1]
        for other in state.glob("*/"):
            if re.fullmatch("[0-9a-f]{16}", other.name) and other.name != source and is_idle(other):
                remove_ours(state, f"{other.name}/{NAMES.partition('/')[2]}")

    def lock_of(self, start: int, stop: int) -> Lock | None:
        """What whoever makes the items start .. stop - 1 has to hold; None where nothing is kept, or there are none."""
        if self.folder is None or start == stop:
            return None
        return Lock(self.folder / f"{start}-{stop}.lock", f"making the items {start}..{stop - 1}", self.log)

    def each(self, start: int, stop: int, size: int, make: Make, lock: Lock | None = None) -> Iterator[Arrays]:
        """The arrays of the items start .. stop - 1, chunk by chunk: what is kept, and `make(first, last)` of the rest.

        What is made is saved about once a minute, so that no more is lost with the process. The range is locked until
        `finish`, or until something goes wrong.

        A signal that comes minutes before the end of the job (SIGUSR1) is answered when the chunk at hand is made.
        SIGTERM ends that at once; all others are saved.

        Args:
            size: most items per call of `make`.
            lock: that of the range, if it is held already.

        Raises:
            UserError: somebody else is making this range.
            Interrupted: this job has to end; what is made is saved.
        """
        self.lock = lock or self.lock_of(start, stop)
        if self.lock and not lock:
            self.lock.acquire()
        try:
            if self.lock:
                self.drop_other_sources()
            with stop_signal.ending(at_once=False):  # what is made is saved first
                yield from self.execute(start, stop, size, make)
        except BaseException:
            self.release()
            raise

    def plan(self, start: int, stop: int, size: int) -> list[Chunk]:
        """The items start .. stop - 1: kept chunks, those that reach furthest, and others of at most `size` items."""
        kept, chunks = self.kept(), []
        while start < stop:
            holders = [(last, first, path) for first, last, path in kept if first <= start < last]
            if holders:
                last, first, path = max(holders)  # the one that reaches furthest
                chunks.append(Chunk(start, min(last, stop), path, first))
            else:
                chunks.append(Chunk(start, min(start + size, stop, *(first for first, *_ in kept if first > start))))
            start = chunks[-1].stop
        return chunks

    def execute(self, start: int, stop: int, size: int, make: Make) -> Iterator[Arrays]:
        """`each`, in a process that holds the lock."""
        self.pending, self.saved = [], time.monotonic()
        resumable = False  # whether the next submission finds more than this one did
        chunks = self.plan(start, stop, size)
        while chunks:
            chunk = chunks.pop(0)
            if chunk.path is None:
                if stop_signal.should_stop() and resumable:
                    self.interrupt(chunk, start, stop)
                try:
                    with stop_signal.ending(at_once=None):
                        arrays = make(chunk.start, chunk.stop)
                except Stopped:
                    if not resumable:
                        raise
                    self.interrupt(chunk, start, stop)
                if resumable := self.folder is not None:
                    self.pending.append((chunk, arrays))
                    if chunk.stop != stop and time.monotonic() - self.saved > SAVE_EVERY:  # else `finish` is next
                        self.flush()
                yield arrays
            elif (kept := self.read(chunk, chunk.path)) is None:  # damaged, and removed
                chunks = self.plan(chunk.start, stop, size)
            else:
                yield kept

    def read(self, chunk: Chunk, path: Path) -> Arrays | None:
        """The arrays of a chunk from the file `path` that holds it; None where that is damaged, and removed."""
        try:
            arrays = read_npz(path, *self.keys)
        except UserError as error:
            self.log(f"{error} It was a finished part, which is made again.")
            path.unlink(missing_ok=True)
            return None
        self.flush()
        self.log(f"items {chunk.start}..{chunk.stop - 1} were kept from earlier work")
        return {key: array[chunk.start - chunk.first : chunk.stop - chunk.first] for key, array in arrays.items()}

    def flush(self) -> None:
        """Save what was made since the last time, as one chunk."""
        if self.folder and self.pending:
            start, stop = self.pending[0][0].start, self.pending[-1][0].stop
            arrays = concatenate([made for _, made in self.pending])
            write_npz(self.folder / f"{start}-{stop}.npz", compressed=False, **arrays)
            self.saved, self.pending = time.monotonic(), []

    def interrupt(self, chunk: Chunk, start: int, stop: int) -> None:
        """Save what is made, and raise `Interrupted`: `chunk`, of start .. stop - 1, is the first that is missing."""
        self.flush()
        raise Interrupted(
            f"interrupted by {stop_signal.why}: the items before {chunk.start} of {start}..{stop - 1} are kept; "
            "the next submission goes on from there"
        ) from None

    def finish(self, start: int, stop: int, path: Path) -> None:
        """Keep the finished shard of the items start .. stop - 1 instead of its chunks."""
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
        self.release()

    def release(self) -> None:
        """Give the lock back, if there is one."""
        if self.lock:
            self.lock.release()


def is_idle(folder: Path) -> bool:
    """Whether nobody makes any of the chunks below `folder`."""
    return all(
        (lock := Lock(path, "removing what nobody makes", lambda _: None)).take() is None and not lock.release()
        for path in folder.rglob("*.lock")
    )


def discard(folder: Path) -> None:
    """Remove a folder of chunks that a whole file holds now, unless somebody is making any; other files stay."""
    if is_idle(folder):
        unclaim_folder(folder, NAMES)
