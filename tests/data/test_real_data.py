"""Two whole data sets, where they are: `-m realdata`, and in DDPM_REAL_DATA the folder of the JPEG copy."""

import os
from pathlib import Path

import numpy as np
import pytest

from ddpm.config.errors import UserError
from ddpm.config.registry import resolve
from ddpm.data.prepare import prepare
from ddpm.data.store import Images
from ddpm.storage.files import read_npz

pytestmark = pytest.mark.realdata
FASHION = Path("/usr/share/datasets/fashion-mnist")  # Debian's package dataset-fashion-mnist
COPY = Path(os.environ.get("DDPM_REAL_DATA", "/nowhere"))


def prepared(name: str, folder: Path, **changes) -> tuple[Images, Images, dict]:
    prepare(resolve(name, changes), None, folder, threads=2, log=lambda message: None)
    labels = read_npz(folder / "labels.npz", "train", "test")
    return *(Images(folder / f"{split}.npy") for split in ("train", "test")), labels


@pytest.mark.skipif(not FASHION.is_dir(), reason=f"{FASHION} is not there: apt-get install dataset-fashion-mnist")
def test_fashion_mnist_as_debian_packs_it(tmp_path):
    train, test, labels = prepared("fashionmnist", tmp_path, root=FASHION)
    assert (len(train), len(test)) == (60_000, 10_000)
    assert np.bincount(labels["train"]).tolist() == [6000] * 10
    assert train.card["reencoded"] is None


@pytest.mark.skipif(
    not (COPY / "cifar10-jpeg.tar.xz").is_file(), reason="DDPM_REAL_DATA names no folder with cifar10-jpeg.tar.xz"
)
def test_the_jpeg_copy_of_cifar10(tmp_path):
    with pytest.raises(UserError, match=r"its train images are not those of CIFAR-10.*reencoded: JPEG"):
        prepared("cifar10", tmp_path / "unmarked", root=COPY)
    train, test, labels = prepared("cifar10", tmp_path / "copy", root=COPY, reencoded="JPEG")
    assert (len(train), len(test)) == (50_000, 10_000)
    assert np.bincount(labels["test"]).tolist() == [1000] * 10
    assert labels["train"][:20].tolist() == [*range(10), *range(10)]
    assert train.card["title"] == "JPEG copy of CIFAR-10"
    # It is CIFAR-10 but for what JPEG takes away: the means are the published ones to a thousandth.
    np.testing.assert_allclose(train[:].mean((0, 1, 2)) / 255, resolve("cifar10", {}).means["train"], atol=1e-3)
