"""The digits are scikit-learn's own, split once and for all, and their card says so."""

import hashlib

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from ddpm.config.enums import Quantisation
from ddpm.config.errors import DamagedFile, UserError
from ddpm.config.registry import DATASETS, look_up
from ddpm.data.pixels import to_model_range, to_uint8
from ddpm.data.prepare import prepare
from ddpm.data.store import Images
from ddpm.storage.files import read_json, read_npz, sha256

# The split is part of every published number: it may never change.
SPLIT = "e8365e072ee57a4d"


def test_every_scan_is_in_exactly_one_split(digits):
    train, test = np.load(digits / "train.npy"), np.load(digits / "test.npy")
    assert train.shape == (1437, 8, 8, 1)
    assert test.shape == (360, 8, 8, 1)
    assert train.dtype == test.dtype == np.uint8
    original = np.round(load_digits().images * 255 / 16).astype(np.uint8)
    together = np.concatenate([train, test])[..., 0]
    assert sorted(image.tobytes() for image in together) == sorted(image.tobytes() for image in original)
    assert (together.min(), together.max()) == (0, 255)


def test_labels_belong_to_their_images(digits):
    source = load_digits()
    known = {
        np.round(image * 255 / 16).astype(np.uint8).tobytes(): label
        for image, label in zip(source.images, source.target, strict=True)
    }
    for split, labels in read_npz(digits / "labels.npz", "train", "test").items():
        images = np.load(digits / f"{split}.npy")
        assert [known[image.tobytes()] for image in images] == labels.tolist()
        assert set(labels.tolist()) == set(range(10))


def test_the_split_is_fixed(digits):
    content = np.load(digits / "test.npy").tobytes()
    assert hashlib.sha256(content).hexdigest()[:16] == SPLIT


def test_card_says_where_the_images_come_from(digits):
    card = read_json(digits / "card.json")
    for key in ("source", "licence", "citation", "crop", "resize", "image_size", "channels", "flip"):
        assert key in card
    for split in ("train", "test"):
        assert card[split] == len(np.load(digits / f"{split}.npy"))
        assert card["sha256"][split] == sha256(digits / f"{split}.npy")


def test_preparing_twice_gives_the_same_bytes(digits, tmp_path):
    prepare(DATASETS["digits"], None, tmp_path)
    for file in ("train.npy", "test.npy", "labels.npz", "card.json"):
        assert (tmp_path / file).read_bytes() == (digits / file).read_bytes()


def test_unknown_data_set_is_refused():
    with pytest.raises(UserError, match=r"'digit' is unknown. Known: digits"):
        look_up(DATASETS, "digit", "data set")


def test_images_that_are_not_what_the_card_says_are_refused(digits, tmp_path):
    (tmp_path / "card.json").write_bytes((digits / "card.json").read_bytes())
    np.save(tmp_path / "train.npy", np.zeros((3, 8, 8, 1), np.uint8))
    with pytest.raises(DamagedFile, match=r"train.npy: holds uint8 \(3, 8, 8, 1\)"):
        Images(tmp_path / "train.npy")


def test_levels_survive_the_way_to_the_model_and_back():
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    x = to_model_range(levels)
    assert x.shape == (1, 1, 16, 16)
    assert (x.min().item(), x.max().item()) == (-1.0, 1.0)
    assert torch.allclose(x.flatten().diff(), torch.tensor(2 / 255))
    assert np.array_equal(to_uint8(x), levels)


def test_quantisation_clips_and_rounds_to_nearest():
    x = torch.tensor([-7.0, -1.0, 0.0039, 0.0040, 1.0, 7.0]).reshape(1, 1, 1, 6)  # 127.5 + 0.497, + 0.51
    assert to_uint8(x).flatten().tolist() == [0, 0, 128, 128, 255, 255]
    half_up = torch.tensor([2.49, 2.51]).reshape(1, 1, 1, 2) / 127.5 - 1
    assert to_uint8(half_up).flatten().tolist() == [2, 3]
    assert to_uint8(half_up, Quantisation.TRUNCATE).flatten().tolist() == [2, 2]
    assert to_uint8(x, Quantisation.TRUNCATE).flatten().tolist() == [0, 0, 127, 128, 255, 255]


@pytest.mark.parametrize("damage", ["cut", "foreign"])
def test_damaged_arrays_and_cards_are_named(damage, digits, tmp_path):
    for file in ("train.npy", "card.json"):
        for other in ("train.npy", "card.json"):
            (tmp_path / other).write_bytes((digits / other).read_bytes())
        content = (tmp_path / file).read_bytes()
        (tmp_path / file).write_bytes(content[: len(content) // 2] if damage == "cut" else b'{"a": 1}')
        with pytest.raises(DamagedFile, match=file.replace(".", r"\.")):
            Images(tmp_path / "train.npy")
