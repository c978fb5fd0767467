"""Prepared images as the later stages read them: nothing here knows which data set it is."""

from pathlib import Path

import numpy as np

from ddpm.files import DamagedFile, read_json, read_npy


class Images:
    """The images of one split, [N, H, W, C] uint8, memory-mapped; indexing returns an array."""

    def __init__(self, path: Path):
        """`path` is train.npy or test.npy; card.json is beside it."""
        self.card = read_json(path.parent / "card.json")
        self.array = read_npy(path)
        missing = [key for key in ("image_size", "channels", path.stem, "sha256") if key not in self.card]
        if missing:
            raise DamagedFile(path.parent / "card.json", f"has no {', '.join(missing)}: not the card of this data set")
        size, channels = self.card["image_size"], self.card["channels"]
        expected = (self.card[path.stem], size, size, channels)
        if self.array.shape != expected or self.array.dtype != np.uint8:
            raise DamagedFile(path, f"holds {self.array.dtype} {self.array.shape}, its card says uint8 {expected}")
        self.sha256 = self.card["sha256"][path.stem]

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, index: np.ndarray | slice) -> np.ndarray:
        return np.asarray(self.array[index])
