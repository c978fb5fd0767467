"""The classifiers whose features stand for Inception's: what they learn, say of themselves, and are trained on."""

import numpy as np
import pytest
import torch
from helpers import CPU

from ddpm.config.errors import UserError
from ddpm.config.schema import ClassifierConfig
from ddpm.data.store import checksum
from ddpm.evaluation.networks import classifier, load_network
from ddpm.storage.checkpoints import unpack
from ddpm.storage.files import read_json, write_json, write_npz

COUNT = 48


@pytest.fixture
def data(tmp_path):
    """Bright discs on dark grounds and the reverse, 32x32 in colour: two classes that a few steps tell apart."""
    random = np.random.Generator(np.random.PCG64(0))
    y, x = np.mgrid[:32, :32] - 15.5
    labels = np.arange(COUNT) % 2
    disc = (x**2 + y**2 < 100)[None, :, :, None] ^ labels[:, None, None, None].astype(bool)
    images = (60 + 120 * disc + random.integers(0, 60, (COUNT, 32, 32, 3))).astype(np.uint8)
    splits = {"train": (images, labels), "test": (images[:10], labels[:10])}
    for split, (pixels, _) in splits.items():
        np.save(tmp_path / f"{split}.npy", pixels)
    write_npz(tmp_path / "labels.npz", **{split: names for split, (_, names) in splits.items()})
    card = {
        "name": "discs",
        "title": "Discs",
        "image_size": 32,
        "channels": 3,
        "train": COUNT,
        "test": 10,
        "flip": True,
    }
    card |= {"classes": ["bright", "dark"], "store": "array"}
    write_json(
        tmp_path / "card.json",
        card | {"sha256": {split: checksum(tmp_path / f"{split}.npy", "array") for split in splits}},
    )
    return tmp_path


@pytest.mark.parametrize(
    ("config", "name", "features"),
    [
        (ClassifierConfig(width=8, features=12, epochs=12, batch_size=16), "discs classifier", 12),
        (
            ClassifierConfig(architecture="resnet10", width=4, epochs=12, batch_size=16, learning_rate=0.1),
            "discs ResNet-10",
            32,
        ),
    ],
    ids=["convnet", "resnet10"],
)
def test_it_learns_its_classes_and_says_what_it_is(config, name, features, data, tmp_path):
    said = []
    classifier.train_classifier(config, data, tmp_path / "c.safetensors", CPU, said.append)
    network = load_network(tmp_path / "c.safetensors")
    images = np.load(data / "train.npy")
    found, probabilities = network(images, batch_size=7)  # which does not divide their number
    assert (network.name, found.shape, probabilities.shape) == (name, (COUNT, features), (COUNT, 2))
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    assert (probabilities.argmax(1) == np.arange(COUNT) % 2).mean() > 0.9
    accuracy = unpack((tmp_path / "c.safetensors").read_bytes(), tmp_path)[1]["test_accuracy"]
    assert accuracy == (probabilities.argmax(1)[:10] == np.arange(10) % 2).mean()
    assert f"{accuracy:.2%} of the 10 test images are classified right" in said


def test_a_set_without_labels_is_refused(data, tmp_path):
    write_json(data / "card.json", {**read_json(data / "card.json"), "classes": []})
    with pytest.raises(UserError, match="no labels to train a classifier on"):
        classifier.train_classifier(ClassifierConfig(), data, tmp_path / "c.safetensors", CPU)


@pytest.mark.parametrize("flip", [True, False])
def test_each_image_is_moved_and_mirrored_by_its_own_draw(flip):
    x = torch.rand(40, 2, 12, 12) * 2 - 1
    shifted = classifier.augmented(x, flip, seed=0, step=3)
    padded = torch.nn.functional.pad(x, [classifier.SHIFT] * 4, value=-1.0)
    places = set()
    for image, wide in zip(shifted, padded, strict=True):
        found = [
            (top, left, mirrored)
            for top in range(9)
            for left in range(9)
            for mirrored in (False, True)
            for cut in (wide[:, top : top + 12, left : left + 12],)
            if torch.equal(image, cut.flip(2) if mirrored else cut)
        ]
        assert len(found) == 1
        places.add(found[0])
    assert len(places) > 20
    assert {mirrored for _, _, mirrored in places} == ({True, False} if flip else {False})
    assert torch.equal(shifted, classifier.augmented(x, flip, seed=0, step=3))
    assert not torch.equal(shifted, classifier.augmented(x, flip, seed=0, step=4))
