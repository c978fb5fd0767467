"""A trained model in a notebook: draw images from it, and measure the bound of real ones."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import torch

from ddpm.compute import rng
from ddpm.compute.memory import Fitting
from ddpm.config.enums import Spacing
from ddpm.config.errors import UserError
from ddpm.config.schema import SamplingConfig
from ddpm.data.pixels import to_model_range, to_uint8
from ddpm.sampling.ancestral import preview_times, reverse_chain
from ddpm.sampling.ddim import ddim_chain, ddim_times
from ddpm.training.model import TrainedModel, load_model

Result = TypeVar("Result")
BATCH = 256  # images at once; fewer where a GPU's memory is full


class LoadedModel:
    """A trained network with its process, on its device. `ddpm.load` makes one."""

    def __init__(self, trained: TrainedModel, device: torch.device):
        self.trained, self.device = trained, device

    @classmethod
    def read(cls, path: str | os.PathLike, device: str = "auto") -> Self:
        """What `ddpm.load` does."""
        file = Path(path)
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            on = torch.device(device)
            torch.empty(0, device=on)
        except (RuntimeError, AssertionError) as error:
            raise UserError(f"device {device!r}: torch cannot use it ({error}).") from error
        return cls(load_model(file / "model.safetensors" if file.is_dir() else file, on), on)

    @property
    def card(self) -> dict[str, Any]:
        """What the weights are, and how they are computed here; None where the file does not say it."""
        header, (channels, height, width) = self.trained.header, self.trained.image_shape
        return {
            "name": header["config"]["name"],
            "data": header["config"]["data"],
            "scale": header.get("scale"),
            "step": header["outcome"]["step"],
            "status": header["outcome"]["status"],
            "weights": header["weights"],
            "trained_in": header.get("precision"),
            "computed_in": str(self.trained.precision),
            "device": str(self.device),
            "image_shape": (height, width, channels),
            "network": header["config"]["network"],
            "diffusion": header["config"]["diffusion"],
            "sha256": self.trained.sha256,
        }

    def __repr__(self) -> str:
        card = self.card
        return f"<{card['name']}, {card['status']}, step {card['step']}, on {card['device']} in {card['computed_in']}>"

    @torch.inference_mode()
    def sample(
        self, n: int, seed: int = 0, steps: int | None = None, eta: float = 0.0, previews: int = 0
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Draw `n` images, uint8 [n, H, W, C]. Image i depends on the seed and i alone, as the workflow's does.

        Args:
            seed: names the noise.
            steps: None: all T steps of the paper's Algorithm 2. A number: so many uniform steps of DDIM.
            eta: of DDIM: 0 adds no noise, 1 as much as the posterior has.
            previews: also return x0-hat at so many times of Algorithm 2, uint8 [n, previews, H, W, C]; the times are
                0, T/previews, 2T/previews, ..., 0-based.

        Raises:
            UserError: a number that is out of range, or values that left the range of images.
        """
        if n < 1 or previews < 0 or not 0 <= eta <= 1:
            raise UserError(f"n: {n}, previews: {previews}, eta: {eta}; allowed: n from 1, previews from 0, eta 0..1.")
        if steps is not None and previews:
            raise UserError("previews are those of the paper's sampler: leave `steps` out, or `previews`.")
        kept = preview_times(self.trained.diffusion.num_timesteps, previews)

        def draw(first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
            if steps is not None:
                return to_uint8(self._few_steps(first, last, seed, steps, eta)), np.empty(0)
            shown: dict[int, np.ndarray] = {}
            for t, x, x0 in reverse_chain(self.trained, first, last, seed, self.device):
                if t in kept:
                    shown[t] = to_uint8(x0)
                if t == 0:
                    drawn = to_uint8(self._in_range(x))
            return drawn, np.stack([shown[t] for t in kept], axis=1) if kept else np.empty(0)

        images, shown = zip(*batches(draw, n), strict=True)
        return (np.concatenate(images), np.concatenate(shown)) if previews else np.concatenate(images)

    def _few_steps(self, first: int, last: int, seed: int, steps: int, eta: float) -> torch.Tensor:
        """Images first .. last-1 by DDIM, [n, C, H, W]."""
        times = ddim_times(self.trained.diffusion.num_timesteps, steps, Spacing.UNIFORM)
        x = rng.normal(seed, "x_T", start=first, stop=last, shape=self.trained.image_shape, device=self.device)
        _, x0 = deque(ddim_chain(self.trained, x, times, eta, seed, first), maxlen=1).pop()
        return self._in_range(x0)

    @staticmethod
    def _in_range(x: torch.Tensor) -> torch.Tensor:
        limit = SamplingConfig().limit
        if not (largest := x.abs().amax().item()) <= limit:  # NaN is not
            raise UserError(f"unstable: |x_0| reached {largest:.4g}, where images are in [-1, 1] (limit {limit:g}).")
        return x

    @torch.inference_mode()
    def bits_per_dim(self, images: np.ndarray, seed: int = 0, split: str = "test") -> np.ndarray:
        """The variational bound of each image in bits per dimension, float64 [n]: all T terms and the prior (eq. 5).

        Args:
            images: uint8 [n, H, W, C].
            seed, split: name the noise. With those of the workflow, and the images of the split from the first one on,
                these are the workflow's numbers.

        Raises:
            UserError: other images than the network's.
        """
        shape = self.card["image_shape"]
        if images.dtype != np.uint8 or images.shape[1:] != shape or not len(images):
            raise UserError(
                f"images: {images.dtype} {images.shape}; this network's are uint8, (n, *{shape}), n from 1."
            )
        diffusion, model = self.trained.diffusion, self.trained.model

        def bound(first: int, last: int) -> np.ndarray:
            x0 = to_model_range(images[first:last]).to(self.device)
            terms = [diffusion.prior_bits(x0)]
            for t in range(diffusion.num_timesteps):
                noise = rng.normal(
                    seed, "likelihood", split, t, start=first, stop=last, shape=x0.shape[1:], device=self.device
                )
                times = torch.full((last - first,), t, device=self.device)
                terms.append(diffusion.bound_terms(model, x0, times, noise)[0])
            return torch.stack(terms).cpu().numpy().sum(0, dtype=np.float64)

        return np.concatenate(list(batches(bound, len(images))))


def batches(make: Callable[[int, int], Result], count: int) -> Iterator[Result]:
    """`make(first, last)` of the ranges that cover 0 .. count-1, smaller ones where a GPU's memory is full."""
    fitting = Fitting(None)
    for first in range(0, count, BATCH):
        yield from fitting.each(make, first, min(first + BATCH, count))
