"""Prepared images as the later stages read them: nothing here knows which data set it is."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ddpm.files import DamagedFile, read_json, read_npy


class Images:
    """The images of one split, [N, H, W, C] uint8, memory-mapped; indexing returns an array."""

    def __init__(self, path: Path):
        """`path` is train.npy or test.npy; card.json is beside it."""
        self.card = read_json(path.parent / "card.json")
        self.array = read_npy(path)
        size, channels = self.card["image_size"], self.card["channels"]
        expected = (self.card[path.stem], size, size, channels)
        if self.array.shape != expected or self.array.dtype != np.uint8:
            raise DamagedFile(path, f"holds {self.array.dtype} {self.array.shape}, its card says uint8 {expected}")
        self.sha256 = self.card["sha256"][path.stem]

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, index: np.ndarray | slice) -> np.ndarray:
        return np.asarray(self.array[index])


def to_model_range(images: np.ndarray) -> Tensor:
    """uint8 [N, H, W, C] in 0..255 -> float32 [N, C, H, W] in [-1, 1], linearly (paper, Section 3.3)."""
    return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_uint8(x: Tensor) -> np.ndarray:
    """float [N, C, H, W] in [-1, 1] -> uint8 [N, H, W, C], clipped and rounded to nearest."""
    levels = ((x.clamp(-1, 1) + 1) * 127.5).round()
    return levels.to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()
