"""Figure 7: samples that share a latent. A reverse process is split at some x_t into independent continuations."""

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from ddpm.config.errors import UserError
from ddpm.sampling.ancestral import sample_ancestral
from ddpm.sampling.base import Callback, ignore, initial_noise, named_noise
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


def latents(trained: TrainedModel, chains: int, seed: int) -> Iterator[tuple[int, Tensor]]:
    """Each of the `split_times` t, and x_t [chains, C, H, W] of the chains 0 .. chains-1.

    They are the chains by which images 0 .. chains-1 are sampled with the same seed.
    """
    times = split_times(trained.diffusion.num_timesteps)
    x = initial_noise(trained, seed, 0, chains)
    noise = named_noise(x, seed, "z")
    yield times[0], x
    for t, t_next in pairwise(times):  # the step of the 0-based index t ends in the 1-based x_t
        x = sample_ancestral(trained, x, reversed(range(t_next, t)), noise)
        yield t_next, x


def continuations(
    trained: TrainedModel,
    x_t: Tensor,
    t: int,
    samples: int,
    first: int,
    last: int,
    seed: int,
    callback: Callback = ignore,
) -> Tensor:
    """The continuations first .. last-1 of x_t [chains, C, H, W]; number k goes on from chain k // samples.

    Noise is named by t and k, so that no two continuations share any.
    """
    x = x_t[torch.arange(first, last, device=x_t.device) // samples]
    noise = named_noise(x, seed, "continuation z", t, start=first)
    return sample_ancestral(trained, x, reversed(range(t)), noise, callback)
