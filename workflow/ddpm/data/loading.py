"""Images to the device in time: from its own memory where they fit there, from the host's, or by worker processes."""

import os
import signal
from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ddpm.config.errors import UserError
from ddpm.data.store import Images
from ddpm.jobs.signals import die_with

AHEAD = 2  # batches that each worker has ready
SHARE = 3  # a set may take one part in so many of the GPU's free memory


def feed(images: Images, steps: Iterable[np.ndarray], device: torch.device, workers: int = 0) -> Iterator[Tensor]:
    """The images that `steps` names, step by step, in order, as uint8 [n, H, W, C] on `device`.

    What comes is a function of `steps` alone: to resume, give the indices from that step on.

    Args:
        steps: indices [n] of each step, drawn when they are needed (with workers, some steps ahead).
        workers: processes that decode images of a compressed store; 0 decodes between the steps. Sets that are
            arrays need none.

    Raises:
        UserError: an image cannot be read; it is named.
    """
    if not images.resident:
        return decoded(images, steps, device, workers)
    if device.type == "cuda" and on_gpu(images, device):
        return from_gpu(images, steps, device)
    return (to_device(torch.from_numpy(images[index]), device) for index in steps)


def on_gpu(images: Images, device: torch.device) -> bool:
    """Whether the whole set may lie in the memory of the GPU."""
    free, _ = torch.cuda.mem_get_info(device)
    return images.pixels.nbytes <= free // SHARE


def from_gpu(images: Images, steps: Iterable[np.ndarray], device: torch.device) -> Iterator[Tensor]:
    everything = torch.from_numpy(np.array(images[:])).to(device)
    for index in steps:
        yield everything[to_device(torch.from_numpy(index), device)]


def to_device(batch: Tensor, device: torch.device) -> Tensor:
    """A copy to a GPU runs beside the GPU's work: from pinned memory, which the caller does not wait for."""
    if device.type != "cuda":
        return batch.to(device)
    return (batch if batch.is_pinned() else batch.pin_memory()).to(device, non_blocking=True)


class Batches(Dataset):
    """A step's images by its indices. A worker hands on an error as a value: raised there, it would lose its words."""

    def __init__(self, images: Images):
        self.images = images

    def __getitem__(self, index: np.ndarray) -> Tensor | str:
        try:
            return torch.from_numpy(self.images[index])
        except UserError as error:
            return str(error)


def decoded(images: Images, steps: Iterable[np.ndarray], device: torch.device, workers: int) -> Iterator[Tensor]:
    """Batches of a compressed store, decoded by `workers` processes with one thread each."""
    loader = DataLoader(
        Batches(images),
        batch_size=None,
        sampler=steps,
        num_workers=workers,
        prefetch_factor=AHEAD if workers else None,
        pin_memory=device.type == "cuda",
        worker_init_fn=partial(end_with_parent, os.getpid()),
        generator=torch.Generator(),  # its own: the loader draws a seed, and every other draw has a name
    )
    for batch in loader:
        if isinstance(batch, str):
            raise UserError(batch)
        yield to_device(batch, device)


def end_with_parent(parent: int, worker: int) -> None:
    """This worker ends with its parent. Elsewhere than on Linux, torch notices."""
    die_with(parent, signal.SIGKILL)
