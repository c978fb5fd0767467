"""Write a data set as memory-mappable uint8 arrays, its labels, and a card that says where it comes from."""

import io
import pickle
import tarfile
import zlib
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ddpm.data.registry import DATASETS, DataSet
from ddpm.download import download, downloaded, where
from ddpm.files import DamagedFile, UserError, sha256, write_json, write_npy, write_npz

Splits = dict[str, tuple[np.ndarray, np.ndarray]]
"""{"train" | "test": (images [N, H, W, C] uint8, labels [N] int64)}"""


def read_digits(data: DataSet, folder: Path | None) -> Splits:
    """The 8x8 scans of scikit-learn, split once and for all by the permutation of a frozen generator."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    labels = digits.target.astype(np.int64)
    # RandomState's stream is guaranteed never to change; neighbouring scans share a writer, so no plain slice.
    order = np.random.RandomState(0).permutation(len(images))
    test, train = np.sort(order[: data.test]), np.sort(order[data.test :])
    return {"train": (images[train], labels[train]), "test": (images[test], labels[test])}


class ArraysOnly(pickle.Unpickler):
    """Opens pickles of plain values and NumPy arrays, and refuses whatever would run other code."""

    def find_class(self, module: str, name: str):
        match module.replace("numpy.core", "numpy._core"), name:
            case "numpy._core.multiarray", "_reconstruct":
                return np._core.multiarray._reconstruct
            case "numpy", "ndarray" | "dtype":
                return getattr(np, name)
        raise pickle.UnpicklingError(f"asks for {module}.{name}, which is no array")


def read_cifar10(data: DataSet, folder: Path) -> Splits:
    """The batches of the archive for Python: rows of 1,024 red, green and blue values each, 10,000 to a batch."""
    archive = folder / data.files[0].name
    batches = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}
    splits = {}
    try:
        with tarfile.open(archive) as tar:
            for split, names in batches.items():
                files = [tar.extractfile(f"cifar-10-batches-py/{name}").read() for name in names]
                parts = [ArraysOnly(io.BytesIO(file), encoding="bytes").load() for file in files]
                rows = np.concatenate([part[b"data"] for part in parts])
                images = rows.reshape(-1, data.channels, data.image_size, data.image_size).transpose(0, 2, 3, 1)
                splits[split] = images, np.concatenate([part[b"labels"] for part in parts])
    except (
        tarfile.TarError, zlib.error, pickle.UnpicklingError, EOFError, OSError, KeyError, ValueError, TypeError,
        AttributeError,
    ) as error:  # fmt: skip
        raise DamagedFile(archive, f"not the archive of {data.title} ({error})") from error
    return splits


READERS = {"digits": read_digits, "cifar10": read_cifar10}


def known(name: str) -> DataSet:
    """The data set of that name, which can be read.

    Raises:
        UserError: there is none, or no reader for it.
    """
    if name not in DATASETS:
        raise UserError(f"data set {name!r} is unknown. Known: {', '.join(DATASETS)}.")
    if name not in READERS:
        raise UserError(
            f"{DATASETS[name].title}: this version cannot read it yet. Networks that others trained on it can be "
            "sampled from (weights: released), but not scored."
        )
    return DATASETS[name]


def download_data(name: str, folder: Path, log=print, root: Path | None = None) -> None:
    """Fetch the files of data set `name` into `folder`; card.json there says what they are.

    Args:
        root: a folder that holds them already: they are used in place, and nothing is fetched.

    Raises:
        UserError: it has none, cannot be read, no address gives a right copy, or `root` has none.
    """
    data = known(name)
    if not data.files:
        raise UserError(f"{data.title}: there is nothing to download; it comes from {data.source}.")
    download(data.files, folder, {"data": name, "source": data.source, "licence": data.licence}, log, root)


def prepare(name: str, source: Path | None, folder: Path) -> None:
    """Write train.npy, test.npy ([N, H, W, C] uint8), labels.npz and card.json of data set `name` to `folder`.

    Args:
        source: where `download_data` put its card; None for data that ship with a dependency.

    Raises:
        UserError: the files are missing, damaged or not what the registry says; nothing is written then.
    """
    data = known(name)
    if data.files:
        if source is None:
            raise UserError(f"{data.title} must be downloaded first; say by --source where it is.")
        downloaded(card := source / "card.json")
        source = where(card)
    splits = READERS[name](data, source)
    for split, (images, labels) in splits.items():
        expected = (getattr(data, split), data.image_size, data.image_size, data.channels)
        if images.shape != expected or images.dtype != np.uint8 or len(labels) != len(images):
            raise UserError(f"{data.source}: {split} images are {images.shape}, where {expected} was expected.")
    checksums = {}
    for split, (images, _) in splits.items():
        write_npy(folder / f"{split}.npy", images)
        checksums[split] = sha256(folder / f"{split}.npy")
    write_npz(folder / "labels.npz", **{split: np.asarray(labels, np.int64) for split, (_, labels) in splits.items()})
    card = {key: value for key, value in asdict(data).items() if key != "files"}
    write_json(folder / "card.json", {**card, "sha256": checksums})
