"""Algorithm 2 of Ho et al. (2020): ancestral sampling."""

from collections.abc import Iterable

import torch
from torch import Tensor

from ddpm.sampling.base import Callback, Noise, Step, ignore, initial_noise, named_noise
from ddpm.training.model import TrainedModel


def sample_ancestral(
    trained: TrainedModel, x: Tensor, times: Iterable[int], noise: Noise, callback: Callback = ignore
) -> Tensor:
    """x_{t-1} = mu_theta(x_t, t) + sigma_t z for t = T .. 1, with z = 0 for t = 1 (1-based); x0-hat is clipped.

    Args:
        x: x_t before the first step, [B, C, H, W].
        times: 0-based and descending by 1: T-1 .. 0 for the whole process.
        noise: z by time.

    Returns:
        x after the last step: behind t = 0 (0-based), images in [-1, 1].
    """
    for t in times:
        x, x0 = trained.diffusion.p_sample(trained.model, x, torch.full((len(x),), t, device=x.device), noise(t))
        callback(Step(t, x, x0))
    return x


def reverse_process(trained: TrainedModel, start: int, stop: int, seed: int, callback: Callback = ignore) -> Tensor:
    """Images start .. stop-1, [stop - start, C, H, W], from x_T on.

    The draws of image i depend on the seed and i alone.
    """
    x = initial_noise(trained, seed, start, stop)
    times = reversed(range(trained.diffusion.num_timesteps))
    return sample_ancestral(trained, x, times, named_noise(x, seed, "z", start=start), callback)
