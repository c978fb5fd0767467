"""Networks that turn images into features and class probabilities: what a score needs, whichever file it comes from."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np

from ddpm.compute.memory import BatchSplitter

if TYPE_CHECKING:  # naming a network, and downloading one, needs no torch
    import torch
    from torch import Tensor

CLEAN = "clean_features"  # of images that clean-fid resizes, as Inception gives them too


class FeatureNetwork(ABC):
    """A network on its device, with its name in every table and the hash of its file."""

    name: str
    sha256: str
    batch_size: int  # images per pass
    device: "torch.device | str"
    kinds: tuple[str, ...] = ("features", "probabilities")  # what `arrays` gives

    @cached_property
    def splitter(self) -> BatchSplitter:
        """What has been found to fit into its GPU's memory."""
        return BatchSplitter(None, partial(print, flush=True))

    @abstractmethod
    def batch(self, images: np.ndarray) -> tuple["Tensor", "Tensor"]:
        """One pass: uint8 [n, H, W, C], n > 0 -> features [n, D] and probabilities [n, K]."""

    def __call__(self, images: np.ndarray, batch_size: int | None = None) -> tuple[np.ndarray, ...]:
        """uint8 [N, H, W, C] -> features [N, D] and probabilities [N, K], float32. Rows do not depend on each other."""
        return self.run(self.batch, images, batch_size or self.batch_size)

    def arrays(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """All `kinds` of uint8 [N, H, W, C], by name, float32."""
        return dict(zip(FeatureNetwork.kinds, self(images), strict=True))

    def run(self, batch: Callable, images: np.ndarray, size: int) -> tuple[np.ndarray, ...]:
        """The outputs of `batch`, of at most `size` images at a time."""
        import torch

        if not len(images):  # networks take no empty batch: the widths are those of a grey image
            return tuple(output[:0] for output in self.run(batch, np.full((1, *images.shape[1:]), 128, np.uint8), 1))
        # TF32, which CUDA's convolutions use unless told otherwise, keeps ten bits: too few for a second moment.
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            outputs = [
                output
                for i in range(0, len(images), size)
                for output in self.splitter.each(lambda a, b: batch(images[a:b]), i, min(i + size, len(images)))
            ]
            return tuple(torch.cat(kind).float().cpu().numpy() for kind in zip(*outputs, strict=True))
