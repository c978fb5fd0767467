"""Real images as a reference: chunk by chunk, the first ones where the set says so, and without a test set."""

import numpy as np
import pytest
from stand_in import StandIn, pictures, write_data_set, write_torchscript

from ddpm.evaluation import reference
from ddpm.evaluation.inception_score import inception_score
from ddpm.evaluation.networks import load_network
from ddpm.evaluation.reference import read_reference, write_reference
from ddpm.files import UserError, read_json, read_npz, sha256

TRAIN, TEST = pictures(50), pictures(20, seed=1)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / "network.pt"
    write_torchscript(StandIn(), path)
    return load_network(path)


@pytest.fixture
def written(network, tmp_path):
    """Write the reference of a data set of these images; give its arrays' file and its summary."""

    def write(*images, **card):
        data = write_data_set(tmp_path / "data", *images, **card)
        write_reference(network, data, 4, tmp_path / "features.npz", tmp_path / "reference.json")
        return tmp_path / "features.npz", read_json(tmp_path / "reference.json")

    return write


@pytest.mark.parametrize("chunk", [7, 10, 50, 1024])  # a rest, none, everything, more than there is
def test_chunks_give_what_all_images_at_once_do(written, network, monkeypatch, chunk):
    monkeypatch.setattr(reference, "CHUNK", chunk)
    arrays, summary = written(TRAIN, TEST)
    for split, images in (("train", TRAIN), ("test", TEST)):
        expected = network(images)
        for key, values in zip(("features", "probabilities"), expected, strict=True):
            np.testing.assert_allclose(read_npz(arrays, f"{split}_{key}")[f"{split}_{key}"], values, rtol=1e-5)
        score = summary["inception_score"][split]
        assert (score["mean"], score["std"]) == pytest.approx(inception_score(expected[1], 4), rel=1e-5)


def test_only_the_first_images_are_taken_where_the_card_says_so(written, network, tmp_path):
    arrays, summary = written(TRAIN, TEST, reference=30)
    features, header = read_reference(arrays, network.sha256)
    np.testing.assert_allclose(features["train"], network(TRAIN[:30])[0], rtol=1e-5)
    assert len(features["test"]) == 20  # all there are
    assert header["train"] == {"images": 30, "sha256": sha256(tmp_path / "data/train.npy")}
    assert (header["data"], header["network"], header["network_sha256"]) == ("pictures", network.name, network.sha256)
    assert summary["train"]["images"] == 30
    assert read_reference(written(TRAIN, reference=None)[0], network.sha256)[1]["train"]["images"] == 50


def test_a_set_without_test_images_has_no_test_arrays(written, network):
    arrays, summary = written(TRAIN)
    features, header = read_reference(arrays, network.sha256)
    assert set(features) == {"train"}
    assert "test" not in header and set(summary["inception_score"]) == {"train"}
    with np.load(arrays) as archive:
        assert sorted(archive.files) == ["header", "train_features", "train_probabilities"]


def test_accuracy_needs_labels(written, network):
    assert "accuracy" not in written(TRAIN, TEST)[1]
    _, summary = written(TRAIN, TEST, classes=["one"] * 20)
    assert summary["accuracy"] == pytest.approx((network(TEST)[1].argmax(1) == 0).mean())


def test_features_of_another_network_are_refused(written):
    arrays, _ = written(TRAIN)
    with pytest.raises(UserError, match=r"features\.npz: these are features of TorchScript network .* another network"):
        read_reference(arrays, "0" * 64)
