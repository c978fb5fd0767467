"""Few-step sampling: an addition, in no table or figure of the paper.

Denoising Diffusion Implicit Models (Song, Meng and Ermon, ICLR 2021, arXiv 2010.02502), whose alpha_t is the abar_t
of diffusion.py; equation numbers in this file are theirs. Any network of this project will do, as it was trained.
"""

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ddpm.config.enums import Spacing
from ddpm.config.errors import UserError
from ddpm.diffusion import GaussianDiffusion, Model, per_image
from ddpm.sampling.base import Callback, Noise, Step, ignore
from ddpm.training.model import TrainedModel


def ddim_times(timesteps: int, steps: int, spacing: str) -> list[int]:
    """The 0-based times that are visited, ascending from 0; sampling runs through them from the last to the first.

    Appendix D.2, as in the authors' code. A large number of quadratic steps repeats the first times; each is
    visited once, since a step from a time to itself changes nothing.

    Raises:
        UserError: steps outside 2 .. timesteps.
    """
    if not 2 <= steps <= timesteps:
        raise UserError(f"few_steps.steps: {steps}: this network has {timesteps} timesteps; allowed: 2..{timesteps}")
    match Spacing(spacing):
        case Spacing.UNIFORM:
            return [i * (timesteps // steps) for i in range(steps)]
        case Spacing.QUADRATIC:
            return sorted({int(t) for t in np.linspace(0, np.sqrt(0.8 * timesteps), steps) ** 2})


def ddim_step(
    diffusion: GaussianDiffusion, model: Model, x_t: Tensor, t: Tensor, t_prev: Tensor, eta: float, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """One step of eq. 12 with the sigma of eq. 16: x at t_prev, and x0-hat; each [B, C, H, W].

    x0-hat is not clipped, as in the authors' code, and eps is recovered from it for every parameterisation. A learned
    variance is ignored.

    Args:
        t, t_prev: [B], 0-based, t_prev < t; t_prev = -1 is the image itself, where abar = 1.
        eta: in [0, 1]. 0 is deterministic; 1 has the posterior's variance (fixedsmall) where t_prev = t - 1.
        noise: standard normal, [B, C, H, W].
    """
    abar, abar_prev = diffusion.alphas_cumprod[t], diffusion.alphas_cumprod_prev[t_prev + 1]
    sigma = eta * ((1 - abar_prev) / (1 - abar)).sqrt() * (1 - abar / abar_prev).sqrt()
    *_, x0 = diffusion.p_mean_variance(model, x_t, t, clip_denoised=False)
    eps = diffusion.predict_eps_from_x0(x_t, t, x0)
    x_prev = (
        per_image(abar_prev.sqrt(), x_t) * x0
        + per_image((1 - abar_prev - sigma**2).sqrt(), x_t) * eps
        + per_image(sigma, x_t) * noise
    )
    return x_prev, x0


def sample_ddim(
    trained: TrainedModel,
    x: Tensor,
    times: Iterable[int],
    noise: Noise,
    callback: Callback = ignore,
    eta: float = 0.0,
) -> Tensor:
    """The steps of `ddim_step` from each of `times` to the next one, and from the last one to the images.

    Args:
        x: at the first of `times`, [B, C, H, W].
        times: 0-based, descending to 0, as those of `ddim_times` from the last to the first.
        noise: by the time at which a step begins.

    Returns:
        The images, which may leave [-1, 1].
    """
    for t, t_prev in pairwise([*times, -1]):
        at_t, at_prev = (torch.full((len(x),), time, device=x.device) for time in (t, t_prev))
        x, x0 = ddim_step(trained.diffusion, trained.model, x, at_t, at_prev, eta, noise(t))
        callback(Step(t, x, x0))
    return x
