"""Finished pieces of long work on numbered items, kept so that none is done twice.

A job that was killed goes on behind the last piece that it kept, and within a long piece behind its draft. The finished
shard is kept too, under a second name of the same file, which costs no space: when more items are asked for, or the
same ones in other shards, those that exist are read and not made again.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ddpm.config.errors import UserError
from ddpm.jobs.locks import Lock
from ddpm.jobs.signals import Interrupted, Stopped, stop_signal
from ddpm.storage.files import (
    claim_folder,
    read_npz,
    remove_ours,
    remove_stale_temp_files,
    unclaim_folder,
    write_npz,
)

SAVE_EVERY = 60  # seconds
PIECE = r"(draft-)?\d+-\d+\.npz"
# All that ever lies in such a folder: by source and settings, pieces, their locks, and what killed writers left.
NAMES = rf"[0-9a-f]{{16}}/[0-9a-f]{{16}}/({PIECE}|\.(draft-)?\d+-\d+\..+\.part\.npz|\d+-\d+\.lock(-[0-9a-f]{{8}})?)"


class ChunkCache:
    """A folder of files `{first}-{stop}.npz`, each with the arrays of the items first .. stop - 1.

    How far a piece has come is in `draft-{first}-{stop}.npz`, until the piece itself is kept.

    Several processes may work in it, on other items each: a range of items is locked while it is made.

    Args:
        folder: new, empty, or marked as one of such pieces; None keeps nothing.
        source: what the items are made from (the sha256 of weights, say). ChunkCache of another source are removed when
            this one's are begun, unless somebody is still making them.
        settings: whatever else decides an item's content; parts made with others are left alone, and not used.
        keys: names of the arrays, whose first axis is the item's.

    Raises:
        UserError: the folder is somebody else's, or for another use.
    """

    def __init__(self, folder: Path | None, source: str, settings: dict, keys: tuple[str, ...], log=print):
        self.keys, self.log = keys, log
        self.folder = self.lock = None
        self.pending: list[tuple[int, int, dict[str, np.ndarray]]] = []  # what is made and not kept yet
        self.saved = 0.0  # when all that was made was kept
        if folder is not None:
            claim_folder(folder, "finished pieces of work", unmarked=NAMES)
            name = hashlib.sha256(json.dumps([settings, keys], sort_keys=True).encode()).hexdigest()[:16]
            self.folder = folder / source[:16] / name

    def kept(self) -> list[tuple[int, int, Path]]:
        """First item, one past the last, and file of each part."""
        files = [path for path in self.folder.glob("*-*.npz") if re.fullmatch(PIECE, path.name)] if self.folder else ()
        pieces = [path for path in files if not path.name.startswith("draft-")]
        return sorted((*map(int, path.stem.split("-")), path) for path in pieces)

    def drop_other_sources(self) -> None:
        """Remove the pieces of other sources, each if nobody is making any; by whoever holds a lock of this source."""
        for other in self.folder.parents[1].glob("*/"):
            if re.fullmatch("[0-9a-f]{16}", other.name) and other.name != self.folder.parent.name and is_idle(other):
                remove_ours(self.folder.parents[1], f"{other.name}/{NAMES.partition('/')[2]}")

    def lookup(self, item: int) -> tuple[int, dict[str, np.ndarray]] | None:
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

    def lock_of(self, start: int, stop: int) -> Lock | None:
        """What whoever makes the items start .. stop - 1 has to hold; None where nothing is kept, or there are none."""
        if self.folder is None or start == stop:
            return None
        return Lock(self.folder / f"{start}-{stop}.lock", f"making the items {start}..{stop - 1}", self.log)

    def each(
        self,
        start: int,
        stop: int,
        size: int,
        make: Callable[[int, int], dict[str, np.ndarray]],
        lock: Lock | None = None,
    ) -> Iterator[dict[str, np.ndarray]]:
        """The arrays of the items start .. stop - 1, piece by piece: what is kept, and `make(first, last)` of the rest.

        What is made is kept about once a minute, so that no more is lost with the process. The range is locked until
        `finish`, or until something goes wrong.

        Args:
            size: most items per call of `make`.
            lock: that of the range, if it is held already.

        Raises:
            UserError: somebody else is making this range.
            Interrupted: this job has to end; what is made is kept.
        """
        self.lock = lock or self.lock_of(start, stop)
        if self.lock is not lock:
            self.lock.acquire()
        try:
            if self.lock:
                self.drop_other_sources()
            with stop_signal.ending(at_once=False):
                yield from self.each_alone(start, stop, size, make)
        except BaseException:
            if self.lock:
                self.lock.release()
            raise

    def each_alone(
        self, start: int, stop: int, size: int, make: Callable[[int, int], dict[str, np.ndarray]]
    ) -> Iterator[dict[str, np.ndarray]]:
        """`each`, in a process that holds the lock."""
        self.pending, self.saved, item, made = [], time.monotonic(), start, False
        while item < stop:
            if found := self.lookup(item):
                last = min(found[0], stop)
                self.flush()
                self.log(f"items {item}..{last - 1} were kept from earlier work")
                yield {key: array[: last - item] for key, array in found[1].items()}
            else:
                last = min(item + size, stop, *(first for first, _, _ in self.kept() if first > item))
                try:
                    if stop_signal.should_stop() and made and self.folder:
                        raise Interrupted
                    with stop_signal.ending(at_once=True if made else None):
                        piece = make(item, last)
                except Interrupted as end:
                    self.flush()
                    if isinstance(end, Stopped) and not (made and self.folder):  # as the next submission would be
                        raise
                    raise Interrupted(
                        f"interrupted by {stop_signal.why}: the items before {item} of {start}..{stop - 1} are kept; "
                        "the next submission goes on from there"
                    ) from None
                made = True
                if self.folder:
                    self.pending.append((item, last, piece))
                    if last < stop and self.should_save():
                        self.flush()
                yield piece
            item = last

    def should_save(self) -> bool:
        """Whether it is a minute since all that was made was kept."""
        return time.monotonic() - self.saved > SAVE_EVERY

    def flush(self) -> None:
        """Keep what was made since the last time."""
        if self.pending:
            first, stop = self.pending[0][0], self.pending[-1][1]
            self.write(
                f"{first}-{stop}.npz",
                {key: np.concatenate([made[key] for *_, made in self.pending]) for key in self.keys},
            )
            self.pending = []
            self.drop_drafts(first, stop)

    def write(self, name: str, arrays: dict[str, np.ndarray]) -> None:
        write_npz(self.folder / name, compressed=False, **arrays)
        self.saved = time.monotonic()

    @contextmanager
    def draft(self, first: int, stop: int, cut: bool = False) -> Iterator["PartialBatch"]:
        """The draft of the piece first .. stop - 1, which is made within the block.

        There a signal is noted, and `PartialBatch.should_save` says so. Without a folder it ends the process at once.

        Args:
            cut: it is not a piece of `each` but a part of one, and lies in memory until the others are made.
        """
        if not self.pending:
            self.saved = time.monotonic()
        with stop_signal.ending(at_once=self.folder is None):
            yield PartialBatch(self, first, stop, cut)

    def drop_drafts(self, start: int, stop: int) -> None:
        """Remove the drafts of pieces that begin with one of the items start .. stop - 1."""
        for path in self.folder.glob("draft-*-*.npz") if self.folder else ():
            if re.fullmatch(PIECE, path.name) and start <= int(path.stem.split("-")[1]) < stop:
                path.unlink(missing_ok=True)

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
        self.drop_drafts(start, stop)
        self.release()

    def release(self) -> None:
        """Give the lock back, if there is one."""
        if self.lock:
            self.lock.release()


def is_idle(folder: Path) -> bool:
    """Whether nobody makes any of the pieces below `folder`."""
    return all(
        (lock := Lock(path, "removing what nobody makes", lambda _: None)).take() is None and not lock.release()
        for path in folder.rglob("*.lock")
    )


def discard(folder: Path) -> None:
    """Remove a folder of pieces that a whole file holds now, unless somebody is making any; other files stay."""
    if is_idle(folder):
        unclaim_folder(folder, NAMES)


class PartialBatch:
    """How far one piece has come that takes more than a minute to make. Several processes may each have their own.

        if kept := draft.load("step", "x"): ...
        for step, x in ...:
            if draft.should_save():
                draft.keep(step=np.array(step), x=x)

    It is replaced about once a minute, and stays until the piece itself is kept. Quick pieces leave none.
    """

    def __init__(self, parts: ChunkCache, first: int, stop: int, cut: bool = False):
        self.parts, self.cut, self.ending = parts, cut, False
        self.name, self.what = f"draft-{first}-{stop}.npz", f"items {first}..{stop - 1}"

    def load(self, *keys: str) -> dict[str, np.ndarray] | None:
        """What was kept last, by an earlier process; None where the piece has to be begun."""
        if self.parts.folder is None:
            return None
        path = self.parts.folder / self.name
        remove_stale_temp_files(path)
        if not path.exists():
            return None
        try:
            arrays = read_npz(path, *keys)
        except UserError as error:
            self.parts.log(f"{error} It was the draft of {self.what}, which are begun again.")
            path.unlink(missing_ok=True)
            return None
        self.parts.log(f"{self.what} were begun in earlier work, which is gone on with")
        return arrays

    def should_save(self, done: bool = False) -> bool:
        """Whether to `keep` now. Costs a microsecond.

        Args:
            done: that was the last step. The result of a cut piece is kept then, too.
        """
        if self.parts.folder is None:
            return False
        self.ending = stop_signal.should_stop()
        return self.ending or self.parts.should_save() or (done and self.cut)

    def keep(self, **arrays: np.ndarray) -> None:
        """Keep this, instead of what was kept before, and all pieces that are made.

        Raises:
            Interrupted: this job has to end.
        """
        self.parts.flush()
        self.parts.write(self.name, arrays)
        if self.ending:
            raise Interrupted(
                f"interrupted by {stop_signal.why}: what is done of {self.what} is kept; "
                "the next submission goes on from there"
            )


NO_PARTIAL_BATCH = PartialBatch(ChunkCache(None, "", {}, ()), 0, 0)
