"""The files of Figures 7 to 9 and of the animation: chains in batches, and how one that leaves its range ends."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ddpm.compute import rng
from ddpm.compute.memory import BatchSplitter
from ddpm.config.errors import UserError
from ddpm.config.schema import SamplingConfig
from ddpm.data.pixels import to_model_range, to_uint8
from ddpm.data.store import Images
from ddpm.sampling.ancestral import reverse_process
from ddpm.sampling.base import Step, initial_noise
from ddpm.sampling.interpolation import LAMBDAS, interpolations, steps_here
from ddpm.sampling.latents import continuations, latents, split_times
from ddpm.sampling.runner import Arrays, attempt, check_range, range_check, sample_metadata
from ddpm.storage.files import write_npz
from ddpm.storage.shards import INTERPOLATION, LATENTS, pack_header
from ddpm.training.model import TrainedModel

LIMIT = SamplingConfig().limit
CHECK = range_check(LIMIT)


def trajectory_times(timesteps: int, frames: int) -> list[int]:
    """1-based times from T down to 0 (the image itself), closer together near 0, where the picture forms."""
    return sorted({round(timesteps * (i / (frames - 1)) ** 1.5) for i in range(frames)}, reverse=True)


@torch.inference_mode()
def write_trajectory(trained: TrainedModel, images: Images, count: int, frames: int, seed: int, path: Path) -> None:
    """x_t of `count` real images under q and of `count` samples under p at the same times, as uint8.

    Beside x_t of p the file holds what the network predicts from it, x0-hat; at time 0 that is the sample itself.

    Args:
        images: the real images; the first `count` are taken.
        frames: about how many times between T and 0.
    """
    diffusion = trained.diffusion
    timesteps, device = diffusion.num_timesteps, diffusion.betas.device
    times = trajectory_times(timesteps, frames)
    x = to_model_range(images[slice(count)]).to(device)
    shape = x.shape[1:]
    q = {0: x}
    for t in range(timesteps):
        noise = rng.normal(seed, "forward", t, start=0, stop=count, shape=shape, device=device)
        q[t + 1] = x = diffusion.q_step(x, torch.full((count,), t, device=device), noise)
    p, x0 = {timesteps: initial_noise(trained, seed, 0, count)}, {}

    def keep(step: Step) -> None:
        p[step.t], x0[step.t + 1] = step.x, step.x0  # the step's t is 0-based

    x0[0] = reverse_process(trained, 0, count, seed, keep)
    chains = {"q": q, "p": p, "x0": x0}
    frames = {name: [to_uint8(chain[t].nan_to_num()) for t in times] for name, chain in chains.items()}
    write_npz(path, times=np.array(times), **{name: np.stack(images, axis=1) for name, images in frames.items()})


def write_latents(
    trained: TrainedModel,
    chains: int,
    samples: int,
    batch_size: int,
    seed: int,
    path: Path,
    device: torch.device,
    log=print,
) -> None:
    """Write `samples` continuations of each of `chains` reverse chains from each of the `split_times`.

    The file holds times [4] (1-based, descending), latents [chains, 4, H, W, C] (x_t, clipped) and images [chains, 4,
    samples, H, W, C], both uint8, both empty for an unstable run. `batch_size` changes none of them.
    """
    times, image, count = split_times(trained.diffusion.num_timesteps), trained.pixels_shape, chains * samples
    drawn = {
        "latents": np.zeros((chains, len(times), *image), np.uint8),
        "images": np.zeros((chains, len(times), samples, *image), np.uint8),
    }

    def draw() -> None:
        for i, (t, x_t) in enumerate(latents(trained, chains, seed)):
            check_range(x_t, t, LIMIT)
            drawn["latents"][:, i] = to_uint8(x_t)
            make = partial(continuations, trained, x_t, t, samples, seed=seed, callback=CHECK)
            images = draw_in_batches(make, count, batch_size, f"from t = {t}", log)
            drawn["images"][:, i] = images.reshape(chains, samples, *image)

    header = sample_metadata(trained, f"{LATENTS}, a chain split at each of `times`, x0-hat clipped to [-1, 1]", device)
    header["sampling"] = {"chains": chains, "samples": samples, "batch_size": batch_size, "seed": seed}
    write_outcome(trained, path, draw, drawn, {"times": np.array(times)}, header, log)


def write_interpolations(
    trained: TrainedModel,
    images: Images,
    pairs: int,
    steps: list[int],
    batch_size: int,
    seed: int,
    path: Path,
    device: torch.device,
    log=print,
) -> None:
    """Write the interpolations of the first 2 * `pairs` images, the first with the second and so on, at LAMBDAS.

    Of data with fewer images, as many pairs as there are.

    The file holds steps [S] (those of this network), timesteps (T), lambdas [11], sources [P, 2, H, W, C] and images
    [P, S, 11, H, W, C], both uint8, both empty for an unstable run. `batch_size` changes none of them.

    Args:
        steps: of the paper's 1000; see `steps_here`.

    Raises:
        UserError: there are no two images, or they are not of the network's shape.
    """
    image, timesteps = trained.pixels_shape, trained.diffusion.num_timesteps
    here = [steps_here(n, timesteps) for n in steps]
    if len(images) < 2:
        raise UserError(f"--data: an interpolation needs two images, and the data hold {len(images)}.")
    if 2 * pairs > len(images):
        log(f"the data hold {len(images)} images: {len(images) // 2} pairs, where {pairs} were asked for")
        pairs = len(images) // 2
    sources = images[slice(2 * pairs)]
    if sources.shape[1:] != image:
        raise UserError(f"--data: images of {sources.shape[1:]}, where the network makes {image}. Give its own data.")
    x0 = to_model_range(sources).to(device).unflatten(0, (pairs, 2))
    drawn = {
        "sources": sources.reshape(pairs, 2, *image),
        "images": np.zeros((pairs, len(here), len(LAMBDAS), *image), np.uint8),
    }

    def draw() -> None:
        for i, n in enumerate(here):
            make = partial(interpolations, trained, x0, n, seed=seed, callback=CHECK)
            row = draw_in_batches(make, pairs * len(LAMBDAS), batch_size, f"{n} steps", log)
            drawn["images"][:, i] = row.reshape(pairs, len(LAMBDAS), *image)

    title = f"{INTERPOLATION}, x_t fixed for all lambda, reverse noise independent, x0-hat clipped to [-1, 1]"
    header = sample_metadata(trained, title, device)
    header["sampling"] = {"pairs": pairs, "steps": steps, "batch_size": batch_size, "seed": seed}
    constants = {"steps": np.array(here), "timesteps": np.array(timesteps), "lambdas": LAMBDAS}
    write_outcome(trained, path, draw, drawn, constants, header, log)


def draw_in_batches(draw: Callable[[int, int], Tensor], count: int, batch_size: int, what: str, log) -> np.ndarray:
    """The items 0 .. count-1 as uint8 [count, H, W, C], where draw(first, last) gives first .. last-1."""
    batches, began, splitter = [], time.monotonic(), BatchSplitter("latents.batch_size", log)
    for first in range(0, count, batch_size):
        last = min(first + batch_size, count)
        batches += [to_uint8(drawn) for drawn in splitter.each(draw, first, last)]
        log(f"{what}: images {first}..{last - 1} of {count}, {time.monotonic() - began:.0f} s")
    return np.concatenate(batches)


@torch.inference_mode()
def write_outcome(
    trained: TrainedModel, path: Path, draw: Callable[[], None], drawn: Arrays, constants: Arrays, header: dict, log
) -> None:
    """Write the arrays `drawn`, which `draw` fills, with how it went; they are empty where it raises `Unstable`."""
    _, status = attempt(draw, trained, log)
    if status["status"] == "unstable":
        drawn = {name: array[:0] for name, array in drawn.items()}
    write_npz(path, **drawn, **constants, status=pack_header(status), header=pack_header(header))
