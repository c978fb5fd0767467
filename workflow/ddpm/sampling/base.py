"""What all samplers share.

A sampler is a plain function (trained, x, times, noise, callback): it takes x [B, C, H, W] at the first of `times`
through all of them, and returns the images. After each step it tells the callback where it is. What is kept or checked
on the way is the callback's, which may raise to end the sampling.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ddpm.compute import rng
from ddpm.training.model import TrainedModel


@dataclass(frozen=True)
class Step:
    """A step that a sampler has made."""

    t: int  # 0-based: it began at x_t of the 1-based t + 1
    x: Tensor  # where it ended, [B, C, H, W]; behind t = 0, the images
    x0: Tensor  # x0-hat, predicted where it began, [B, C, H, W]


Callback = Callable[[Step], None]
Noise = Callable[[int], Tensor]  # of the step at the 0-based t: standard normal, [B, C, H, W]


def ignore(step: Step) -> None:
    """The callback that does nothing."""


def initial_noise(trained: TrainedModel, seed: int, start: int, stop: int) -> Tensor:
    """x_T of the images start .. stop-1, [stop - start, C, H, W], for every sampler with this seed."""
    device = trained.diffusion.betas.device
    return rng.normal(seed, "x_T", start=start, stop=stop, shape=trained.image_shape, device=device)


def named_noise(x: Tensor, *names: object, start: int = 0) -> Noise:
    """Noise for samples like `x`, named by `names` and the time: row i gets that of item start + i."""
    return lambda t: rng.normal(*names, t, start=start, stop=start + len(x), shape=x.shape[1:], device=x.device)
