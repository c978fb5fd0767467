"""Figures 8 and 9: interpolation. Two images are diffused, mixed, and denoised."""

import numpy as np
import torch
from torch import Tensor

from ddpm.compute import rng
from ddpm.config.errors import UserError
from ddpm.sampling.ancestral import sample_ancestral
from ddpm.sampling.base import Callback, ignore, named_noise
from ddpm.training.model import TrainedModel

PAPER_STEPS = 1000  # T of the paper, which its numbers of steps are parts of
LAMBDAS = np.arange(11) / 10  # at 0 and 1 a source is reconstructed: "Rec."


def steps_here(steps: int, timesteps: int) -> int:
    """The number of steps, of `timesteps`, that is nearest to the part that `steps` is of the paper's 1000.

    Halves are rounded up, and only 0 gives 0, which is another procedure.

    Raises:
        UserError: steps outside 0 .. 1000.
    """
    if not 0 <= steps <= PAPER_STEPS:
        raise UserError(f"--steps {steps}: a number of the paper's {PAPER_STEPS} steps; allowed: 0..{PAPER_STEPS}.")
    return max((2 * steps * timesteps + PAPER_STEPS) // (2 * PAPER_STEPS), min(steps, 1))


def diffused(trained: TrainedModel, x0: Tensor, steps: int, source: int, start: int, seed: int) -> Tensor:
    """x_t after `steps` > 0 noising steps of the images x0 [P, C, H, W], one of each pair from number `start` on.

    The noise is named by the pair and by which of its two sources (0 or 1) x0 is: not by lambda, for which the paper
    keeps x_t fixed, nor by the number of steps.
    """
    noise = rng.normal(
        seed, "interpolation x_t", source, start=start, stop=start + len(x0), shape=x0.shape[1:], device=x0.device
    )
    return trained.diffusion.q_sample(x0, torch.full((len(x0),), steps - 1, device=x0.device), noise)


def interpolations(
    trained: TrainedModel,
    pairs: Tensor,
    steps: int,
    first: int,
    last: int,
    seed: int,
    callback: Callback = ignore,
) -> Tensor:
    """The interpolations first .. last-1 of `pairs` [P, 2, C, H, W]; number k is of pair k // 11 at LAMBDAS[k % 11].

    x_t = (1 - lambda) x_t + lambda x'_t, and from there the reverse process, whose noise is named by k and the number
    of steps: independent for every lambda, as in the authors' code. n steps diffuse to the 0-based index n - 1, and
    the reverse process begins there. After 0 steps, pixels are mixed, and that is all.
    """
    pair, k = np.divmod(np.arange(first, last), len(LAMBDAS))
    start = pair[0]
    lambdas = torch.as_tensor(LAMBDAS[k], dtype=pairs.dtype, device=pairs.device).reshape(-1, 1, 1, 1)
    ends = pairs[start : pair[-1] + 1].unbind(1)
    if steps:
        ends = [diffused(trained, x0, steps, source, start, seed) for source, x0 in enumerate(ends)]
    one, other = (end[pair - start] for end in ends)
    mixed = (1 - lambdas) * one + lambdas * other
    if not steps:
        return mixed
    noise = named_noise(mixed, seed, "interpolation z", steps, start=first)
    return sample_ancestral(trained, mixed, reversed(range(steps)), noise, callback)
