"""The 8x8 scans of scikit-learn, split once and for all by the permutation of a frozen generator."""

from pathlib import Path

import numpy as np

from ddpm.config.sources import DataSet
from ddpm.data.readers import Part, part_of_arrays


def read(data: DataSet, folder: Path | None, threads: int) -> dict[str, Part]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    labels = digits.target.astype(np.int64)
    # RandomState's stream is guaranteed never to change; neighbouring scans share a writer, so no plain slice.
    order = np.random.RandomState(0).permutation(len(images))
    test, train = np.sort(order[: data.test]), np.sort(order[data.test :])
    return {"train": part_of_arrays(images[train], labels[train]), "test": part_of_arrays(images[test], labels[test])}
