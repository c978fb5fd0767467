"""Real images as a reference: chunk by chunk, the first ones where the set says so, and without a test set."""

import tracemalloc

import numpy as np
import pytest
from stand_in import Counting, StandIn, load_stand_in, pictures, write_data_set, write_torchscript

from ddpm.config.errors import DamagedFile, UserError
from ddpm.evaluation import reference
from ddpm.evaluation.inception_score import inception_score
from ddpm.evaluation.networks.base import FeatureNetwork
from ddpm.evaluation.reference import read_reference, write_reference
from ddpm.storage import chunk_cache
from ddpm.storage.files import read_json, read_npz, sha256, write_npz

TRAIN, TEST = pictures(50), pictures(20, seed=1)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / "network.pt"
    write_torchscript(StandIn(), path)
    return load_stand_in(path)


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
        real, _ = read_reference(arrays, network.sha256)
        features = expected[0].astype(np.float64)
        for ours, theirs in zip(real[split], (features.mean(0), np.cov(features, rowvar=False)), strict=True):
            assert ours.dtype == np.float64
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-7)


def test_mean_and_covariance_are_those_of_the_features_in_the_file(written, network, monkeypatch):
    """To rounding in float64: what follows from them is what would follow from the features."""
    monkeypatch.setattr(reference, "CHUNK", 7)
    arrays, _ = written(TRAIN, TEST)
    real, _ = read_reference(arrays, network.sha256)
    for split in ("train", "test"):
        features = read_npz(arrays, f"{split}_features")[f"{split}_features"].astype(np.float64)
        mu, sigma = real[split]
        np.testing.assert_allclose(mu, features.mean(0), rtol=1e-12)
        np.testing.assert_allclose(sigma, np.cov(features, rowvar=False), rtol=1e-9, atol=1e-15)


def test_the_file_is_read_without_its_features(written, network):
    arrays, _ = written(TRAIN)
    with np.load(arrays) as archive:
        rest = {key: archive[key] for key in archive.files if key not in ("train_features", "train_probabilities")}
    write_npz(arrays, **rest)
    assert set(read_reference(arrays, network.sha256)[0]) == {"train"}


class Wide(FeatureNetwork):
    """Many features of each pixel, at once and without torch."""

    name, sha256, batch_size = "wide", "0" * 64, 16

    def batch(self, images):
        raise NotImplementedError

    def __call__(self, images):
        features = images.reshape(len(images), -1).astype(np.float32)
        return features, np.stack([features[:, 0], 256 - features[:, 0]], 1) / 256


def test_memory_does_not_grow_with_the_number_of_images(tmp_path, monkeypatch):
    monkeypatch.setattr(reference, "CHUNK", 50)
    data = write_data_set(tmp_path / "data", np.random.default_rng(0).integers(0, 256, (4000, 10, 10, 3), np.uint8))
    tracemalloc.start()
    try:
        write_reference(Wide(), data, 4, tmp_path / "features.npz", tmp_path / "reference.json")
        _, written = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        read_reference(tmp_path / "features.npz", Wide.sha256)
        _, read = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The covariance is 0.7 MB, and is held a few times; all features are 4.8 MB.
    assert written < 5 * 300 * 300 * 8
    assert read < 3 * 300 * 300 * 8


@pytest.mark.parametrize("killed_after", [5, 25, 55])
def test_a_killed_pass_over_real_images_goes_on_where_it_was(network, tmp_path, monkeypatch, killed_after):
    monkeypatch.setattr(reference, "CHUNK", 10)
    monkeypatch.setattr(chunk_cache, "SAVE_EVERY", -1)
    data, state = write_data_set(tmp_path / "data", TRAIN, TEST), tmp_path / "state"

    def write(network, name, state=None):
        write_reference(network, data, 4, tmp_path / f"{name}.npz", tmp_path / f"{name}.json", state, lambda line: None)

    with pytest.raises(KeyboardInterrupt):
        write(Counting(network, until=killed_after), "killed", state)
    assert not (tmp_path / "killed.npz").exists()
    again = Counting(network)
    write(again, "killed", state)
    # The last chunk of a split is never kept by itself.
    assert again.seen == {5: 70, 25: 50, 55: 30}[killed_after]
    write(network, "undisturbed")
    keys = ("train_features", "train_mu", "train_sigma", "test_features", "test_probabilities")
    killed, undisturbed = (read_npz(tmp_path / f"{name}.npz", *keys) for name in ("killed", "undisturbed"))
    assert all(np.array_equal(killed[key], undisturbed[key]) for key in keys)
    assert not state.exists()


def test_what_is_left_of_other_images_is_not_taken(network, tmp_path, monkeypatch):
    monkeypatch.setattr(reference, "CHUNK", 10)
    monkeypatch.setattr(chunk_cache, "SAVE_EVERY", -1)
    out = (tmp_path / "features.npz", tmp_path / "reference.json", tmp_path / "state", lambda line: None)
    with pytest.raises(KeyboardInterrupt):
        write_reference(Counting(network, until=25), write_data_set(tmp_path / "one", TRAIN), 4, *out)
    again = Counting(network)
    write_reference(again, write_data_set(tmp_path / "other", pictures(50, seed=2)), 4, *out)
    assert again.seen == 50


@pytest.mark.parametrize("count", [0, 1, 3, 5])
def test_a_score_of_too_few_images_is_left_out(count, written, network):
    """Over four parts: of three images there is none, and of one no covariance either."""
    arrays, summary = written(TRAIN[: max(count, 1)], TEST[:count])
    assert set(summary["inception_score"]) == ({"train", "test"} if count > 3 else set())
    assert set(read_reference(arrays, network.sha256)[0]) == ({"train", "test"} if count > 1 else set())
    assert read_npz(arrays, "train_features")["train_features"].shape == (max(count, 1), 64)


def test_only_the_first_images_are_taken_where_the_card_says_so(written, network, tmp_path):
    arrays, summary = written(TRAIN, TEST, reference=30)
    _, header = read_reference(arrays, network.sha256)
    features = read_npz(arrays, "train_features", "test_features")
    np.testing.assert_allclose(features["train_features"], network(TRAIN[:30])[0], rtol=1e-5)
    assert len(features["test_features"]) == 20  # all there are
    assert header["test"]["images"] == 20
    assert header["train"] == {"images": 30, "sha256": sha256(tmp_path / "data/train.npy")}
    assert (header["data"], header["title"]) == ("pictures", "Pictures")
    assert (header["network"], header["network_sha256"]) == (network.name, network.sha256)
    assert summary["train"]["images"] == 30
    assert read_reference(written(TRAIN, reference=None)[0], network.sha256)[1]["train"]["images"] == 50


def test_a_set_without_test_images_has_no_test_arrays(written, network):
    arrays, summary = written(TRAIN)
    real, header = read_reference(arrays, network.sha256)
    assert set(real) == {"train"}
    assert "test" not in header and set(summary["inception_score"]) == {"train"}
    with np.load(arrays) as archive:
        assert set(archive.files) == {
            "header",
            *(f"train_{key}" for key in ("features", "probabilities", "mu", "sigma")),
            *(f"train_clean_{key}" for key in ("features", "mu", "sigma")),
        }


def test_accuracy_needs_labels(written, network):
    assert "accuracy" not in written(TRAIN, TEST)[1]
    _, summary = written(TRAIN, TEST, classes=["one"] * 20)
    assert summary["accuracy"] == pytest.approx((network(TEST)[1].argmax(1) == 0).mean())


def test_features_of_another_network_are_refused(written):
    arrays, _ = written(TRAIN)
    with pytest.raises(UserError, match=r"features\.npz: these are features of TorchScript network .* another network"):
        read_reference(arrays, "0" * 64)


def test_a_file_of_before_there_were_statistics_is_named(written, network):
    arrays, _ = written(TRAIN)
    write_npz(arrays, **read_npz(arrays, "header", "train_features"))
    with pytest.raises(DamagedFile, match=r"train_mu.* Delete it and run the same command again"):
        read_reference(arrays, network.sha256)
