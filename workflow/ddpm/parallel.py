"""Processes that share one job, as torchrun starts them: one per GPU, or per share of a CPU."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed

from ddpm.files import UserError


@dataclass(frozen=True)
class Group:
    """This process among `size`; alone unless torchrun says otherwise."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes files and says things."""
        return self.rank == 0

    def part(self, items: int) -> slice:
        """This process's share of `items`, which `size` divides."""
        share = items // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    def sum_(self, x: Tensor) -> Tensor:
        """Replace `x` by its sum over all processes, which all get the same bits."""
        if self.size > 1:
            distributed.all_reduce(x)
        return x

    def same(self, value: int) -> bool:
        """Whether all processes hold the same number."""
        if self.size == 1:
            return True
        values = [None] * self.size
        distributed.all_gather_object(values, value)
        return len(set(values)) == 1


ALONE = Group()


@contextmanager
def process_group(device: torch.device) -> Iterator[Group]:
    """The processes that torchrun has started for this job; NCCL between GPUs, gloo between CPUs."""
    size = int(os.environ.get("WORLD_SIZE", 1))
    if size == 1:
        yield ALONE
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)  # where NCCL puts what it gathers
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Group(distributed.get_rank(), size)
    finally:
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
