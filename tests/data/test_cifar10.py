"""CIFAR-10 from its archive for Python: fetched, opened without running code, and in the archive's order."""

import hashlib
import pickle

import pytest
from hostile import Hostile
from published import cifar10_archive, cifar10_batch, pickled
from servers import serving

from ddpm import download
from ddpm.data.prepare import download_data, prepare
from ddpm.data.registry import DATASETS, DataSet, resolve
from ddpm.data.store import Images
from ddpm.download import RemoteFile
from ddpm.files import DamagedFile, UserError, read_npz


@pytest.fixture
def publish(monkeypatch):
    """Puts an archive on a server; returns a CIFAR-10 of 20 + 4 images with its address."""
    monkeypatch.setattr(download, "ROUNDS", 1)
    with serving() as server:

        def publish(content: bytes, how: str = "good") -> DataSet:
            url = server.add("cifar-10-python.tar.gz", content, how)
            file = RemoteFile(name="cifar-10-python.tar.gz", urls=(url,), md5=hashlib.md5(content).hexdigest())
            return resolve("cifar10", {"train": 20, "test": 4, "files": (file,)})

        yield publish


def test_images_are_those_of_the_archive(publish, tmp_path):
    data = publish(cifar10_archive())
    download_data(data, tmp_path / "down", log=lambda message: None)
    prepare(data, tmp_path / "down", tmp_path / "cifar10")
    train, test = (Images(tmp_path / f"cifar10/{split}.npy") for split in ("train", "test"))
    labels = read_npz(tmp_path / "cifar10/labels.npz", "train", "test")
    for i in range(6):
        images, names = (train, labels["train"]) if i < 5 else (test, labels["test"])
        rows = slice(4 * i, 4 * i + 4) if i < 5 else slice(4)
        expected = cifar10_batch(i)
        # Written out: pixel (y, x) of colour c stands at c * 1024 + y * 32 + x of a row.
        for j, image in enumerate(images[rows]):
            for c, y, x in ((0, 0, 0), (0, 0, 31), (1, 5, 7), (2, 31, 30)):
                assert image[y, x, c] == expected[b"data"][j, c * 1024 + y * 32 + x]
        assert names[rows].tolist() == expected[b"labels"]
    assert train.card["title"] == "CIFAR-10"


def test_an_archive_may_be_used_where_it_lies(publish, tmp_path):
    data = publish(content := cifar10_archive(), "broken").model_copy(update={"root": tmp_path})
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(content)
    prepare(data, None, tmp_path / "cifar10")
    assert len(Images(tmp_path / "cifar10/train.npy")) == 20
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(content + b"more")
    with pytest.raises(UserError, match=r"gz: does not match the known hash.*`root` must name a folder that holds"):
        prepare(data, None, tmp_path / "cifar10")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("hostile", "which is no array"),
        ("no archive", "not the archive of CIFAR-10"),
        ("cut", "not the archive of CIFAR-10"),
        ("batch missing", "not the archive of CIFAR-10"),
        ("too few images", "19 train images, where 20 were expected"),
        ("labels missing", "16 labels of 20 train images"),
    ],
)
def test_a_wrong_archive_is_named_and_nothing_is_written(damage, words, publish, tmp_path):
    content = {
        "hostile": cifar10_archive(replaced={"data_batch_2": pickle.dumps({b"data": Hostile(tmp_path / "code ran")})}),
        "no archive": b"not an archive",
        "cut": cifar10_archive()[:5000],
        "batch missing": cifar10_archive(replaced={"data_batch_2": pickle.dumps({b"labels": []})}),
        "labels missing": cifar10_archive(replaced={"data_batch_2": pickled(cifar10_batch(1) | {b"labels": []})}),
        "too few images": cifar10_archive(replaced={"data_batch_2": pickled(cifar10_batch(1, 3))}),
    }[damage]
    data = publish(content)
    download_data(data, tmp_path / "down", log=lambda message: None)
    with pytest.raises(UserError, match=words):
        prepare(data, tmp_path / "down", tmp_path / "cifar10")
    assert not (tmp_path / "cifar10").exists()
    assert not (tmp_path / "code ran").exists()


def test_what_was_downloaded_is_checked_again(publish, tmp_path):
    data = publish(cifar10_archive())
    download_data(data, tmp_path / "down", log=lambda message: None)
    with open(tmp_path / "down/cifar-10-python.tar.gz", "ab") as file:
        file.write(b"more")
    with pytest.raises(DamagedFile, match="no longer what"):
        prepare(data, tmp_path / "down", tmp_path / "cifar10")


def test_it_must_be_downloaded_first(tmp_path):
    with pytest.raises(UserError, match="CIFAR-10 must be downloaded first"):
        prepare(DATASETS["cifar10"], None, tmp_path)


def test_a_set_that_ships_with_a_dependency_has_nothing_to_download(tmp_path):
    with pytest.raises(UserError, match=r"nothing to download; it comes from sklearn"):
        download_data(DATASETS["digits"], tmp_path)
    assert not list(tmp_path.iterdir())
