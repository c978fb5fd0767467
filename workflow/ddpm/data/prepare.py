"""Write a data set as memory-mappable uint8 arrays, its labels, and a card that says where it comes from."""

from dataclasses import asdict
from pathlib import Path

import numpy as np

from ddpm.data.registry import DATASETS, DataSet
from ddpm.files import UserError, sha256, write_json, write_npy, write_npz


def read_digits(data: DataSet) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The 8x8 scans of scikit-learn, split once and for all by the permutation of a frozen generator.

    Returns:
        {"train" | "test": (images [N, 8, 8, 1] uint8 in 0..255, labels [N] int64)}.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    labels = digits.target.astype(np.int64)
    # RandomState's stream is guaranteed never to change; neighbouring scans share a writer, so no plain slice.
    order = np.random.RandomState(0).permutation(len(images))
    test, train = np.sort(order[: data.test]), np.sort(order[data.test :])
    return {"train": (images[train], labels[train]), "test": (images[test], labels[test])}


READERS = {"digits": read_digits}


def prepare(name: str, folder: Path) -> None:
    """Write train.npy, test.npy ([N, H, W, C] uint8), labels.npz and card.json of data set `name` to `folder`."""
    if name not in DATASETS:
        raise UserError(f"data set {name!r} is unknown. Known: {', '.join(DATASETS)}.")
    data = DATASETS[name]
    splits = READERS[name](data)
    checksums = {}
    for split, (images, _) in splits.items():
        expected = (getattr(data, split), data.image_size, data.image_size, data.channels)
        if images.shape != expected or images.dtype != np.uint8:
            raise UserError(f"{data.source}: {split} images are {images.shape}, where {expected} was expected.")
        write_npy(folder / f"{split}.npy", images)
        checksums[split] = sha256(folder / f"{split}.npy")
    write_npz(folder / "labels.npz", **{split: labels for split, (_, labels) in splits.items()})
    write_json(folder / "card.json", {**asdict(data), "sha256": checksums})
