"""Pixels as data have them (uint8, channels last) and as the network does (float, channels first)."""

import numpy as np
import torch
from torch import Tensor

from ddpm.config.enums import Quantisation


def to_model_range(images: np.ndarray | Tensor) -> Tensor:
    """uint8 [N, H, W, C] in 0..255 -> float32 [N, C, H, W] in [-1, 1], linearly (paper, Section 3.3)."""
    pixels = images if isinstance(images, Tensor) else torch.from_numpy(np.array(images))
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1


def to_uint8(x: Tensor, quantisation: Quantisation = Quantisation.NEAREST) -> np.ndarray:
    """float [N, C, H, W] in [-1, 1] -> uint8 [N, H, W, C], clipped and brought to one of the 256 levels."""
    levels = (x.clamp(-1, 1) + 1) * 127.5
    levels = levels.round() if quantisation is Quantisation.NEAREST else levels.floor()
    return levels.to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()
