"""Fashion-MNIST from its four files, gzipped or not."""

import bz2
import gzip
import hashlib
import lzma
import zipfile

import numpy as np
import pytest
from published import idx, write_fashion

from ddpm.config.errors import DamagedFile, UserError
from ddpm.storage.files import read_npz

COUNTS = {"train": 5, "test": 3}


@pytest.mark.parametrize("packed", [True, False])
def test_images_are_padded_and_labels_belong_to_them(packed, published):
    arrays = write_fashion(published.root, packed)
    images = published.prepare("fashionmnist", **COUNTS)
    labels = read_npz(published.out / "labels.npz", "train", "test")
    for split, prefix, found in zip(("train", "test"), ("train", "t10k"), images, strict=True):
        original = arrays[f"{prefix}-images-idx3-ubyte"]
        assert found[:].shape == (COUNTS[split], 32, 32, 1)
        assert np.array_equal(found[:][:, 2:30, 2:30, 0], original)
        assert found[:].sum() == original.sum()  # the margin is black
        assert labels[split].tolist() == arrays[f"{prefix}-labels-idx1-ubyte"].tolist()
    assert images[0].card["classes"][0] == "T-shirt/top"


PACKERS = {"gzip, by others": lambda content: gzip.compress(content, 1), "bzip2": bz2.compress, "xz": lzma.compress}


@pytest.mark.parametrize("how", [*PACKERS, "zip of each", "dots in the names", "one zip", "sub-folder"])
def test_whoever_packed_the_files_the_contents_count(how, published):
    arrays = write_fashion(published.root, packed=False)
    files = {name: (published.root / name).read_bytes() for name in arrays}
    known = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
    expected = [split[:] for split in published.prepare("fashionmnist", **COUNTS)]
    for name in files:
        (published.root / name).unlink()
    if how == "one zip":
        with zipfile.ZipFile(published.root / "archive.zip", "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    for name, content in files.items() if how != "one zip" else ():
        if how == "zip of each":
            with zipfile.ZipFile(published.root / f"{name}.zip", "w") as archive:
                archive.writestr(name, content)
        elif how == "sub-folder":
            (published.root / "raw").mkdir(exist_ok=True)
            (published.root / "raw" / name).write_bytes(content)
        elif how == "dots in the names":
            (published.root / name.replace("-idx", ".idx")).write_bytes(content)
        else:
            (published.root / f"{name}.gz").write_bytes(PACKERS[how](content))
    found = published.prepare("fashionmnist", contents=known, **COUNTS)
    assert all(np.array_equal(here[:], there) for here, there in zip(found, expected, strict=True))


def test_other_contents_are_refused(published):
    write_fashion(published.root, packed=True)
    words = r"train-labels-idx1-ubyte.gz: is not train-labels-idx1-ubyte of Fashion-MNIST: the md5 of its content is"
    with pytest.raises(UserError, match=words) as raised:
        published.prepare("fashionmnist", contents={"train-labels-idx1-ubyte": "0" * 32}, **COUNTS)
    assert "reencoded" not in str(raised.value)  # which is a key of CIFAR-10 alone
    assert not published.left()


def packed(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("train-images-idx3-ubyte.gz", b"no gzip", "not a whole idx file"),
        ("train-images-idx3-ubyte.gz", packed(idx(np.zeros((5, 28, 28), np.uint8)))[:40], "cannot be unpacked"),
        ("train-images-idx3-ubyte.gz", packed(idx(np.zeros((5, 28, 28), np.uint8))[:-1]), "not an idx file"),
        ("train-images-idx3-ubyte.gz", packed(idx(np.zeros(5, np.uint8))), "not .* idx file"),
        ("t10k-labels-idx1-ubyte.gz", packed(b"\0"), "not a whole idx file"),
        ("t10k-labels-idx1-ubyte.gz", packed(idx(np.zeros(2, np.uint8))), "2 labels of 3 test images"),
        ("train-images-idx3-ubyte.gz", packed(idx(np.zeros((4, 28, 28), np.uint8))), "4 train images, where 5"),
        ("train-images-idx3-ubyte.gz", packed(idx(np.zeros((5, 28, 20), np.uint8))), "train images are uint8"),
    ],
)
def test_a_damaged_file_is_named_and_nothing_is_left(name, content, words, published):
    write_fashion(published.root, packed=True)
    (published.root / name).write_bytes(content)
    with pytest.raises(UserError, match=words) as raised:
        published.prepare("fashionmnist", **COUNTS)
    assert name in str(raised.value) or not isinstance(raised.value, DamagedFile)
    assert not published.left()


def test_a_missing_file_is_named(published):
    write_fashion(published.root, packed=True)
    (published.root / "t10k-images-idx3-ubyte.gz").unlink()
    with pytest.raises(UserError, match=r"holds no t10k-images-idx3-ubyte, packed or not.*root"):
        published.prepare("fashionmnist", **COUNTS)
