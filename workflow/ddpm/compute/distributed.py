"""Processes that share one job, as torchrun starts them: one per GPU, or per share of a CPU."""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from io import BytesIO
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from ddpm.config.errors import UserError
from ddpm.jobs.locks import Lock
from ddpm.jobs.signals import Interrupted, Stopped, stop_signal
from ddpm.storage.chunk_cache import Arrays, ChunkCache, Make, concatenate

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

    def any(self, value: bool) -> bool:
        """Whether it is true in any of the processes, which wait for each other."""
        if self.size == 1:
            return value
        import torch

        return bool(self.sum_(torch.tensor(float(value))) > 0)

    def broadcast(self, value: T | None = None) -> T | None:
        """The `value` of the first process, which JSON can hold, in all of them, which wait for it."""
        return value if self.size == 1 else json.loads(self.send(json.dumps(value).encode(), 0))

    def send(self, content: bytes, source: int) -> bytes:
        """The `content` of process `source`, which is not empty, in all of them, which wait for it."""
        import torch

        with listening() as distributed:
            distributed.broadcast(length := torch.tensor([len(content)]), src=source)
            sent = torch.zeros(int(length), dtype=torch.uint8)
            if self.rank == source:
                sent = torch.frombuffer(bytearray(content), dtype=torch.uint8)
            distributed.broadcast(sent, src=source)
        return sent.numpy().tobytes()

    def acquire(self, lock: Lock | None) -> None:
        """Wait together until the first process holds `lock`, if that has one. Raises what `Lock.acquire` does."""
        while not self.broadcast(self.is_main and (lock is None or lock.attempt())):
            if self.is_main:
                time.sleep(lock.pause)

    def gather(self, answer: "Answer", outcome: type[Exception] | tuple = ()) -> list["Answer"]:
        """The answers of all processes in their order, in the first one; nothing in the others."""
        content = pack_answer(answer)
        sent = [self.send(content, source) for source in range(self.size)]
        return [unpack_answer(content, outcome) for content in sent] if self.is_main else []

    def each(
        self,
        cache: ChunkCache,
        start: int,
        stop: int,
        size: int,
        make: Make,
        outcome: type[Exception] | tuple = (),
    ) -> Iterator[Arrays]:
        """`cache.each`, with its batches spread over the processes; the first one gets all of it, the others nothing.

        The batches are those that one process would make, so that every image is rounded as there.

        Args:
            outcome: the exception by which `make` ends the work with a result. The first process raises that of the
                first batch that has one. Any other exception ends the process that meets it, and so all of them.
        """
        if self.size == 1:
            yield from cache.each(start, stop, size, make)
            return
        lock = cache.lock_of(start, stop)
        self.acquire(lock)
        rounds = Rounds(self, size, make, outcome)
        if self.is_main:
            yield from rounds.lead(cache, start, stop, lock)
        else:
            rounds.follow()


class Order(StrEnum):
    """What the first process tells the others to do."""

    MAKE = "make"  # the next round, of a range
    END = "end"  # all is made, or has an outcome
    STOP = "stop"  # the job has to end, and what is made is saved


class Rounds:
    """Batches that all processes of a group make side by side, round by round: one each, of a range."""

    def __init__(self, group: Group, size: int, make: Make, outcome: type[Exception] | tuple):
        self.group, self.size, self.make, self.outcome = group, size, make, outcome
        self.within = False  # a round, which the others answer by their batches, and hear nothing else

    def lead(self, cache: ChunkCache, start: int, stop: int, lock: Lock | None) -> Iterator[Arrays]:
        """In the first process: all batches."""
        try:
            yield from cache.each(start, stop, self.group.size * self.size, self.make_together, lock)
        except self.outcome:
            self.group.broadcast([Order.END])
            raise
        except Interrupted:
            if not self.within:
                self.group.broadcast([Order.STOP])
            raise
        self.group.broadcast([Order.END])

    def make_together(self, first: int, last: int) -> Arrays:
        """In the first process: the items first .. last - 1, at most a batch for each process."""
        self.within = True
        self.group.broadcast([Order.MAKE, first, last])
        answers = self.group.gather(self.make_mine(first, last), self.outcome)
        self.within = False
        batches = [answer for answer in answers if answer is not None]
        for batch in batches:
            if isinstance(batch, Exception):
                raise batch
        return concatenate(batches)

    def make_mine(self, first: int, last: int) -> "Answer":
        """This process's batch of the items first .. last - 1, or its outcome; None where there is none for it."""
        start = first + self.group.rank * self.size
        try:
            return self.make(start, min(start + self.size, last)) if start < last else None
        except self.outcome as error:
            return error

    def follow(self) -> None:
        """In the other processes: what the first one orders, until the end.

        Raises:
            Interrupted: the job has to end. The first process saves what all have made, and speaks for all.
        """
        try:
            with stop_signal.ending(at_once=None):
                while True:
                    order, *span = self.group.broadcast()
                    if order == Order.MAKE:
                        self.group.gather(self.make_mine(*span), self.outcome)
                    elif order == Order.STOP:
                        raise Interrupted
                    else:
                        return
        except Stopped:
            raise Interrupted from None


SINGLE_PROCESS = Group()


# What the processes say to each other is JSON and plain arrays, never pickles: on a machine of several users, and on
# the network of a cluster, others may speak to the ports at which gloo listens, and a pickle would be code of theirs.
Answer = Arrays | Exception | None
WORDS = "words"  # the array of bytes that says which of these a message is


def pack_answer(answer: Answer) -> bytes:
    """Arrays, an outcome in their place (whose arguments JSON can hold), or nothing, as bytes."""
    arrays = answer if isinstance(answer, dict) else {}
    words = {"outcome": answer.args if isinstance(answer, Exception) else None, "nothing": answer is None}
    np.savez(buffer := BytesIO(), **arrays, **{WORDS: np.frombuffer(json.dumps(words).encode(), np.uint8)})
    return buffer.getvalue()


def unpack_answer(content: bytes, outcome: type[Exception] | tuple) -> Answer:
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
def process_group(device: "torch.device", timeout: timedelta = BATCH_TIMEOUT) -> Iterator[Group]:
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
            backend, store=store, rank=int(os.environ["RANK"]), world_size=size, timeout=timeout
        )
    else:
        distributed.init_process_group(backend, timeout=timeout)
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
