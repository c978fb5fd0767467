"""What the files of Figures 7 to 9 share: chains in batches, and how one that leaves its range ends."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ddpm.compute.memory import Fitting
from ddpm.data.pixels import to_uint8
from ddpm.sampling.ancestral import LOOK_EVERY
from ddpm.sampling.batches import out_of_range, sample_metadata
from ddpm.storage.files import write_npz
from ddpm.storage.shards import pack_header
from ddpm.training.model import TrainedModel


class Unstable(Exception):
    """A chain has left its range; `status` is what the file will say."""

    def __init__(self, step: int, reason: str):
        super().__init__(reason)
        self.status = {"status": "unstable", "step": step, "reason": reason}


def stay_in_range(x: Tensor, t: int, limit: float) -> Tensor:
    """`x` itself, which is x_t (1-based).

    Raises:
        Unstable: a value of it is beyond `limit`, or no number.
    """
    if reason := out_of_range(x, limit):
        raise Unstable(t + 1, reason)
    return x


def end_of(chain: Iterable[tuple[int, Tensor, Tensor]], limit: float) -> Tensor:
    """What a reverse process ends with, looked at now and then on its way."""
    for t, x, _ in chain:
        if t % LOOK_EVERY == 0:
            stay_in_range(x, t, limit)
    return x


def batched(draw: Callable[[int, int], Tensor], count: int, batch_size: int, what: str, log) -> np.ndarray:
    """The items 0 .. count-1 as uint8 [count, H, W, C], where draw(first, last) gives first .. last-1."""
    parts, began, fitting = [], time.monotonic(), Fitting("latents.batch_size", log)
    for first in range(0, count, batch_size):
        last = min(first + batch_size, count)
        parts += [to_uint8(drawn) for drawn in fitting.each(draw, first, last)]
        log(f"{what}: images {first}..{last - 1} of {count}, {time.monotonic() - began:.0f} s")
    return np.concatenate(parts)


@torch.inference_mode()
def write_pictures(
    path: Path,
    trained: TrainedModel,
    draw: Callable[[], dict[str, np.ndarray]],
    empty: dict[str, tuple[int, ...]],
    sampler: str,
    settings: dict[str, int],
    device: torch.device,
    log=print,
    **constants: np.ndarray,
) -> None:
    """Write the arrays of `draw` with how it went; they are empty where the training or a chain was unstable.

    Args:
        empty: name and shape of each array of `draw` without its first axis.
        sampler: its name, a comma, and what else is to be known of it; `shards.read_shard` tells by the name.
        settings: what was asked for, for the record.
        constants: arrays that are there in any case.
    """
    status = {"status": "sampled", "step": None, "reason": None}
    try:
        if trained.outcome["status"] == "unstable":
            raise Unstable(trained.outcome["step"], trained.outcome["reason"])
        arrays = draw()
    except Unstable as failure:
        status = failure.status
        log(f"unstable: {failure}")
        arrays = {name: np.zeros((0, *shape), np.uint8) for name, shape in empty.items()}
    header = {**sample_metadata(trained, sampler, device), "sampling": settings}
    write_npz(path, **arrays, **constants, status=pack_header(status), header=pack_header(header))
