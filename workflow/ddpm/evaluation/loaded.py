"""A trained model in a notebook: draw images from it, and measure the bound of real ones."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from ddpm.compute.memory import BatchSplitter
from ddpm.config.base import validated
from ddpm.config.errors import UserError
from ddpm.config.schema import FewStepsConfig, LikelihoodConfig, SamplingConfig
from ddpm.evaluation.likelihood import Bound
from ddpm.evaluation.rate_distortion import PRIOR, TERMS
from ddpm.sampling.runner import AncestralSampler, FewStepsSampler, Unstable
from ddpm.storage.chunk_cache import Arrays, concatenate
from ddpm.training.model import TrainedModel, load_model

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
        if steps is None:
            config = validated(SamplingConfig, {"images": n, "seed": seed, "previews": previews}, "sample")
            sampler = AncestralSampler(self.trained, config, self.device)
        elif previews:
            raise UserError("previews are those of the paper's sampler: leave `steps` out, or `previews`.")
        else:
            settings = {"images": n, "seed": seed, "steps": (steps,), "eta": (eta,)}
            config = validated(FewStepsConfig, settings, "sample")
            sampler = FewStepsSampler(self.trained, config, self.device)
        try:
            drawn = in_batches(sampler.draw, n)
        except Unstable as error:
            raise UserError(f"unstable: {error}.") from error
        if steps is not None:
            return drawn["images"][:, 0]  # of the one setting
        return (drawn["images"], drawn["previews"]) if previews else drawn["images"]

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
        config = validated(LikelihoodConfig, {"seed": seed}, "bits_per_dim")
        bound = in_batches(Bound(self.trained, images, split, len(images), config, self.device).compute, len(images))
        return bound[PRIOR] + bound[TERMS].sum(1, dtype=np.float64)


def in_batches(make: Callable[[int, int], Arrays], count: int) -> Arrays:
    """The arrays of `make(first, last)` for 0 .. count-1, in smaller ranges where a GPU's memory is full."""
    splitter = BatchSplitter(None)
    ranges = ((first, min(first + BATCH, count)) for first in range(0, count, BATCH))
    return concatenate([arrays for first, last in ranges for arrays in splitter.each(make, first, last)])
