"""Figure 7: samples that share a latent. A reverse chain is split at some x_t into independent continuations."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ddpm.compute import rng
from ddpm.config.errors import UserError
from ddpm.config.schema import SamplingConfig
from ddpm.data.pixels import to_uint8
from ddpm.sampling.ancestral import denoise, reverse_chain
from ddpm.sampling.pictures import batched, end_of, stay_in_range, write_pictures
from ddpm.storage.shards import LATENTS
from ddpm.training.model import TrainedModel


def split_times(timesteps: int) -> list[int]:
    """The 1-based times t at which a chain is split: T, 3T/4, T/2 and T/4, so 1000, 750, 500 and 250.

    A chain that has come to x_t has made the T - t steps of indices T-1 .. t, which is the number that the authors'
    code calls repeat_noise_steps.

    Raises:
        UserError: fewer than four timesteps, of which no four differ.
    """
    if timesteps < 4:
        raise UserError(f"a process of {timesteps} timesteps has no quarters to split a chain at; it needs 4 or more.")
    return [timesteps * quarters // 4 for quarters in (4, 3, 2, 1)]


def latents(trained: TrainedModel, chains: int, seed: int, device: torch.device) -> Iterator[tuple[int, Tensor]]:
    """Each of the `split_times` t, and x_t [chains, C, H, W] of the chains 0 .. chains-1.

    They are the chains by which images 0 .. chains-1 are sampled with the same seed.
    """
    timesteps = trained.diffusion.num_timesteps
    times = split_times(timesteps)
    yield timesteps, rng.normal(seed, "x_T", start=0, stop=chains, shape=trained.image_shape, device=device)
    for t, x, _ in reverse_chain(trained, 0, chains, seed, device):
        if t in times:  # the step of the 0-based index t ends in the 1-based x_t
            yield t, x
        if t <= times[-1]:
            return


def continuations(trained: TrainedModel, x_t: Tensor, t: int, samples: int, first: int, last: int, seed: int) -> Tensor:
    """The continuations first .. last-1 of x_t [chains, C, H, W]; number k goes on from chain k // samples.

    Noise is named by t and k, so that no two continuations share any.
    """
    x = x_t[torch.arange(first, last, device=x_t.device) // samples]
    return end_of(denoise(trained, x, t, seed, "continuation z", t, start=first), SamplingConfig().limit)


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
    channels, height, width = trained.image_shape
    image, count = (height, width, channels), chains * samples

    def draw() -> dict[str, np.ndarray]:
        shared, images = [], []
        for t, x in latents(trained, chains, seed, device):
            x_t = stay_in_range(x, t, SamplingConfig().limit)
            shared.append(to_uint8(x_t))
            drawn = batched(
                lambda first, last, x_t=x_t, t=t: continuations(trained, x_t, t, samples, first, last, seed),
                count, batch_size, f"from t = {t}", log,
            )  # fmt: skip
            images.append(drawn.reshape(chains, samples, *image))
        return {"latents": np.stack(shared, 1), "images": np.stack(images, 1)}

    write_pictures(
        path,
        trained,
        draw,
        empty={"latents": (4, *image), "images": (4, samples, *image)},
        sampler=f"{LATENTS}, a chain split at each of `times`, x0-hat clipped to [-1, 1]",
        settings={"chains": chains, "samples": samples, "batch_size": batch_size, "seed": seed},
        device=device,
        log=log,
        times=np.array(split_times(trained.diffusion.num_timesteps)),
    )
