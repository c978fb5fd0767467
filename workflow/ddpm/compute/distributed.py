"""Processes that share one job, as torchrun starts them: one per GPU, or per share of a CPU."""

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from io import BytesIO
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from ddpm.config.errors import UserError
from ddpm.jobs.locks import Lock
from ddpm.jobs.signals import Interrupted, Stopped, stop_signal
from ddpm.storage.chunk_cache import ChunkCache

if TYPE_CHECKING:  # one process alone needs no torch for this
    import torch
    from torch import Tensor

T = TypeVar("T")

# How long a process waits for the others before it takes them for lost. Whoever dies is noticed at once, by torchrun;
# this is for one that hangs, or a node that is cut off.
STEP_TIMEOUT = timedelta(minutes=10)  # an update, or the first process saving the state
BATCH_TIMEOUT = timedelta(hours=1)  # a batch of images through all T steps: those that have none wait so long
MEETING = "DDPM_MEETING"  # names the file at which the processes of `launching` meet
GRACE = 5  # seconds in which torchrun ends a process that has lost another


@dataclass(frozen=True)
class Group:
    """This process among `size`; alone unless torchrun says otherwise."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and says things."""
        return self.rank == 0

    def part(self, items: int) -> slice:
        """This process's share of `items`, which `size` divides."""
        share = items // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    def sum_(self, x: "Tensor") -> "Tensor":
        """Replace `x` by its sum over all processes, which all get the same bits."""
        if self.size > 1:
            with listening() as distributed:
                distributed.all_reduce(x)
        return x

    def mean_(self, x: "Tensor") -> "Tensor":
        """Replace `x` by its mean over all processes."""
        return self.sum_(x.div_(self.size)) if self.size > 1 else x

    def all_equal(self, value: int) -> bool:
        """Whether all processes hold the same number."""
        if self.size == 1:
            return True
        import torch

        values = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        with listening() as distributed:
            distributed.all_gather(values, torch.tensor([value]))
        return len({int(each) for each in values}) == 1

    def any(self, value: bool) -> bool:
        """Whether it is true in any of the processes, which wait for each other."""
        if self.size == 1:
            return value
        import torch

        return bool(self.sum_(torch.tensor(float(value))) > 0)

    def broadcast(self, value: T | None = None) -> T | None:
        """The `value` of the first process, which JSON can hold, in all of them, which wait for it."""
        if self.size == 1:
            return value
        import torch

        words = json.dumps(value).encode() if self.is_main else b""
        with listening() as distributed:
            distributed.broadcast(length := torch.tensor([len(words)]), src=0)
            sent = torch.zeros(int(length), dtype=torch.uint8)
            if self.is_main:
                sent = torch.frombuffer(bytearray(words), dtype=torch.uint8)
            distributed.broadcast(sent, src=0)
        return json.loads(sent.numpy().tobytes())

    def acquire(self, lock: Lock | None) -> None:
        """Wait together until the first process holds `lock`, if that has one. Raises what `Lock.acquire` does."""
        while not self.broadcast(self.is_main and (lock is None or lock.attempt())):
            if self.is_main:
                time.sleep(lock.pause)

    def gather(self, piece: "Piece", outcome: type[Exception] | tuple = ()) -> list["Piece"]:
        """The pieces of all processes in their order, in the first one; nothing in the others."""
        import torch

        mine = torch.frombuffer(bytearray(packed(piece)), dtype=torch.uint8)
        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        with listening() as distributed:
            distributed.all_gather(lengths, torch.tensor([len(mine)]))
            longest = int(max(lengths))
            all_of_them = [torch.zeros(longest, dtype=torch.uint8) for _ in range(self.size if self.is_main else 0)]
            filled = torch.nn.functional.pad(mine, (0, longest - len(mine)))
            distributed.gather(filled, all_of_them if self.is_main else None, dst=0)
        return [
            unpacked(sent[: int(n)].numpy().tobytes(), outcome) for sent, n in zip(all_of_them, lengths, strict=False)
        ]

    def each(
        self,
        parts: ChunkCache,
        start: int,
        stop: int,
        size: int,
        make: Callable[[int, int], dict[str, np.ndarray]],
        outcome: type[Exception] | tuple = (),
    ) -> Iterator[dict[str, np.ndarray]]:
        """`parts.each`, with its batches spread over the processes; the first one gets all of it, the others nothing.

        The batches are those that one process would make, so that every image is rounded as there.

        Args:
            outcome: the exception by which `make` ends the work with a result. The first process raises that of the
                first batch that has one. Any other exception ends the process that meets it, and so all of them.
        """
        if self.size == 1:
            yield from parts.each(start, stop, size, make)
            return

        def mine(first: int, last: int) -> dict[str, np.ndarray] | Exception | None:
            begin = first + self.rank * size
            try:
                return make(begin, min(begin + size, last)) if begin < last else None
            except outcome as error:
                return error

        def make_together(first: int, last: int) -> dict[str, np.ndarray]:
            self.broadcast((first, last))
            pieces = [piece for piece in self.gather(mine(first, last), outcome) if piece is not None]
            for piece in pieces:
                if isinstance(piece, Exception):
                    raise piece
            return {key: np.concatenate([piece[key] for piece in pieces]) for key in parts.keys}

        lock = parts.lock_of(start, stop)
        self.acquire(lock)
        if not self.is_main:
            try:
                while span := self.broadcast():
                    self.gather(mine(*span))
            except Stopped:  # the first process saves what all have made, and speaks for all
                raise Interrupted from None
            return
        try:
            yield from parts.each(start, stop, self.size * size, make_together, lock)
        except outcome:
            self.broadcast(None)
            raise
        self.broadcast(None)


SINGLE_PROCESS = Group()


# What the processes say to each other is JSON and plain arrays, never pickles: on a machine of several users, and on
# the network of a cluster, others may speak to the ports at which gloo listens, and a pickle would be code of theirs.
Piece = dict[str, np.ndarray] | Exception | None
WORDS = "words"  # the array of bytes that says which of these a message is


def packed(piece: Piece) -> bytes:
    """A piece of work, or the outcome in its place (whose arguments JSON can hold), as bytes."""
    arrays = piece if isinstance(piece, dict) else {}
    words = {"outcome": piece.args if isinstance(piece, Exception) else None, "nothing": piece is None}
    np.savez(buffer := BytesIO(), **arrays, **{WORDS: np.frombuffer(json.dumps(words).encode(), np.uint8)})
    return buffer.getvalue()


def unpacked(content: bytes, outcome: type[Exception] | tuple) -> Piece:
    with np.load(BytesIO(content), allow_pickle=False) as archive:
        arrays = {key: archive[key] for key in archive.files}
    words = json.loads(arrays.pop(WORDS).tobytes())
    if words["outcome"] is not None:
        return outcome(*words["outcome"])
    return None if words["nothing"] else arrays


@contextmanager
def listening():
    """torch.distributed, for a word with the others.

    Raises:
        UserError: one of them is gone, or has not answered for as long as the group is patient.
        Interrupted: one of them is gone, and torchrun ends this one too: the words of the one that failed count.
    """
    from torch import distributed

    try:
        yield distributed
    except RuntimeError as error:
        with stop_signal.ending(at_once=True):
            time.sleep(GRACE)
        raise UserError(f"lost another process, whose own words say why ({str(error).splitlines()[0]}).") from error


@contextmanager
def process_group(device: "torch.device", patience: timedelta = BATCH_TIMEOUT) -> Iterator[Group]:
    """The processes that torchrun has started for this job; between GPUs NCCL, between CPUs gloo.

    What goes wrong in one of several is raised with its number.
    """
    size = int(os.environ.get("WORLD_SIZE", 1))
    if size == 1:
        yield SINGLE_PROCESS
        return
    from torch import cuda, distributed

    if device.type == "cuda":
        cuda.set_device(device)
    # Gloo beside NCCL: what lies in the memory of the CPU goes through there.
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    if MEETING in os.environ:  # started by `launching`; else by torchrun, which says where they meet
        store = distributed.FileStore(os.environ[MEETING], size)
        distributed.init_process_group(
            backend, store=store, rank=int(os.environ["RANK"]), world_size=size, timeout=patience
        )
    else:
        distributed.init_process_group(backend, timeout=patience)
    rank = distributed.get_rank()
    try:
        yield Group(rank, size)
    except UserError as error:
        error.args = (f"rank {rank} of {size} on {socket.gethostname()}: {error}", *error.args[1:])
        raise
    except Exception as error:
        error.add_note(f"This was rank {rank} of {size} on {socket.gethostname()}.")
        raise
    # Not after an error: that would wait for the others, who may wait for this one.
    distributed.destroy_process_group()


def check_batch(batch_size: int, clip_shards: int, group: Group) -> None:
    """Refuse a batch that these processes cannot share equally.

    Raises:
        UserError: says which key does not fit the number of processes.
    """
    if batch_size % group.size:
        raise UserError(f"training.batch_size: {batch_size} is no multiple of the {group.size} processes.")
    if clip_shards > 1 and clip_shards % group.size:
        raise UserError(
            f"training.clip_shards: {clip_shards} is no multiple of the {group.size} processes; 1 always fits."
        )
