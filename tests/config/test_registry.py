"""The registry says what is known of every data set, and experiments may change it or add folders."""

import pytest
from pydantic import ValidationError

from ddpm.config.registry import DATASETS, resolve
from ddpm.config.sources import DataSet, Reader

PAPERS = ("cifar10", "celebahq256", "lsun-bedroom256", "lsun-church256", "lsun-cat256")


def test_every_set_says_where_it_comes_from_and_what_is_done_to_it():
    assert set(PAPERS) < set(DATASETS)
    for name, data in DATASETS.items():
        assert data.name == name
        for key in ("title", "source", "licence", "citation", "crop", "resize", "notes"):
            assert getattr(data, key), (name, key)
        assert bool(data.files) == (data.reader is not Reader.DIGITS)


def test_counts_are_the_papers():
    counts = {name: (DATASETS[name].train, DATASETS[name].test) for name in PAPERS}
    assert list(counts.values()) == [(50_000, 10_000), (30_000, 0), (3_033_042, 0), (126_227, 0), (1_657_266, 0)]
    assert [DATASETS[name].flip for name in PAPERS] == [True, True, False, True, True]
    assert [DATASETS[name].reference for name in PAPERS] == [None, None, 50_000, 50_000, 50_000]


def test_checksums_are_torchvisions():
    from torchvision.datasets import CIFAR10, CelebA, FashionMNIST

    known = {name: md5 for _, md5, name in CelebA.file_list} | dict(FashionMNIST.resources)
    known |= {CIFAR10.filename: CIFAR10.tgz_md5}
    stated = {
        name: checksum
        for data in ("cifar10", "celeba64", "fashionmnist")
        for name, checksum in DATASETS[data].published.items()
    }
    assert len(stated) == 7
    assert stated == {name: f"md5 {known[name]}" for name in stated}
    addresses = {file.name: file.urls for file in DATASETS["celeba64"].files}
    for identity, _, name in CelebA.file_list:
        assert name not in addresses or f"id={identity}&" in addresses[name][0]


def test_where_no_checksum_is_published_the_entry_says_so():
    for name in ("celebahq256", "lsun-bedroom256", "lsun-church256", "lsun-cat256"):
        assert set(DATASETS[name].published.values()) == {"none published"}


def test_published_statistics_are_those_that_clean_fid_asks_for(monkeypatch):
    """For the paper's network, at its size; of LSUN Bedroom and CelebA-HQ there are none."""
    from cleanfid import features

    asked = []
    monkeypatch.setattr(features, "check_download_url", lambda local_folder, url: asked.append(url))
    monkeypatch.setattr(features.np, "load", lambda path: {"mu": None, "sigma": None})
    theirs = {"cifar10": "cifar10", "lsun-church256": "lsun_church", "lsun-cat256": "lsun_cat"}
    ours = []
    for name, data in DATASETS.items():
        for key, file in data.statistics.items():
            split, _, which = key.partition("-")
            assert file.urls[0].endswith(f"/{file.name}")
            assert file.images == (data.reference or getattr(data, split))
            assert file.publisher == ("TTUR" if which == "ttur" else "clean-fid") and file.notes
            if which != "ttur":
                mode = which or "legacy_tensorflow"
                features.get_reference_statistics(theirs[name], data.image_size, mode=mode, split=split)
                ours += file.urls
    assert ours == [url.replace("/stats//", "/stats/") for url in asked]
    assert len(ours) == 8


def test_the_statistics_of_the_authors_of_fid_are_those_of_cifar10s_training_images():
    assert {name: "train-ttur" in data.statistics for name, data in DATASETS.items()}["cifar10"]
    assert sum("train-ttur" in data.statistics for data in DATASETS.values()) == 1
    assert DATASETS["cifar10"].statistics["train-ttur"].name == "fid_stats_cifar10_train.npz"


def test_a_known_set_with_changes():
    data = resolve("lsun-church256", {"root": "/data/lsun", "reference": 10})
    assert (str(data.root), data.reference, data.train) == ("/data/lsun", 10, 126_227)
    assert resolve("cifar10", {}) == DATASETS["cifar10"]
    files = [{"name": "a.tar", "urls": ["http://a"]}, {"urls": ["http://b"]}]
    kinds = [type(file).__name__ for file in resolve("cifar10", {"files": files}).files]
    assert kinds == ["RemoteFile", "Listing"]
    assert resolve("cifar10", {"statistics": {}}).statistics == {}
    mirror = {"test": {"name": "a.npz", "urls": ["http://a"]}}
    assert set(resolve("cifar10", {"statistics": mirror}).statistics) == {"test"}


def test_a_folder_needs_a_root_and_a_size_and_nothing_else():
    data = resolve("birds", {"root": "/birds", "image_size": 64})
    assert data == DataSet(
        name="birds", title="birds", source="a folder of images", licence="not stated", citation="none",
        image_size=64, channels=3, train=None, test=None, classes=None, flip=False, crop="centre, to the shorter side",
        resize="64x64, Lanczos", notes="", reader="folder", root="/birds",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("birds", {"image_size": 64}, "root is missing: the folder of the images"),
        ("birds", {"root": "/birds"}, "image_size"),
        ("cifar10", {"reencoded": "JPEG"}, "only what a `root` holds can be a copy"),
        ("fashionmnist", {"root": "/f", "reencoded": "JPEG"}, "reencoded: is for cifar10"),
        ("Birds", {"root": "/birds", "image_size": 64}, "name"),
        ("birds", {"root": "/birds", "image_size": 64, "channels": 2}, "channels: 2 is neither"),
        ("cifar10", {"trian": 3}, "trian"),
        ("cifar10", {"train": 0}, "train"),
        ("cifar10", {"reader": "cifar100"}, "reader"),
    ],
)
def test_wrong_entries_are_refused(name, changes, words):
    with pytest.raises(ValidationError, match=words):
        resolve(name, changes)
