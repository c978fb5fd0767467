"""Nearest neighbours: exact, over the whole training set, however it is cut, and in a box of the images."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors
from stand_in import StandIn, load_stand_in, pictures, write_data_set, write_torchscript

from ddpm.config.errors import UserError
from ddpm.config.schema import EvaluationConfig
from ddpm.evaluation import neighbours
from ddpm.evaluation.features import write_features
from ddpm.evaluation.neighbours import squared_distances, write_neighbours
from ddpm.evaluation.reference import write_reference
from ddpm.storage.files import read_npz, write_npz
from ddpm.storage.shards import pack_header

TRAIN, BOX = pictures(60), (3, 4, 9, 10)
SAMPLES = np.clip(TRAIN[[5, 17, 44, 59, 2]].astype(int) + pictures(5, seed=3) // 8 - 16, 0, 255).astype(np.uint8)
CONFIG = EvaluationConfig(neighbour_rows=4, neighbours=5, neighbour_crop=BOX)


def write_samples(path, images):
    """A shard as `sample_shard` writes it, as far as features need it."""
    status = {"status": "sampled", "step": None, "reason": None}
    header = {"sampler": "ancestral", "weights_sha256": "", "quantisation": "", "device": "cpu", "sampling": {}}
    write_npz(
        path, images=images, previews=np.zeros((len(images), 0, *images.shape[1:]), np.uint8), start=np.array(0),
        preview_times=np.zeros(0, np.int64), status=pack_header(status), header=pack_header(header),
    )  # fmt: skip


@pytest.fixture
def compare(tmp_path):
    """Neighbours of SAMPLES among TRAIN, by sources of which a card may cut the reference short."""

    def write(config=CONFIG, samples=SAMPLES, train=TRAIN, give_network=True, crop=False, **card):
        network = tmp_path / "network.pt"
        write_torchscript(StandIn(), network)
        network = load_stand_in(network)
        data = write_data_set(tmp_path / "data", train, **card)
        write_reference(network, data, 2, tmp_path / "reference.npz", tmp_path / "reference.json")
        write_samples(tmp_path / "samples.npz", samples)
        write_features(network, tmp_path / "samples.npz", tmp_path / "features.npz")
        sources = (tmp_path / f for f in ("samples.npz", "features.npz", "data/train.npy", "reference.npz", "out.npz"))
        write_neighbours(config, *sources, (lambda: network) if give_network else None, crop)
        return read_npz(tmp_path / "out.npz", "samples", "pixel", "feature", "crop"), network

    return write


def nearest(of, among, k=5):
    """scikit-learn's, on everything at once."""
    rows = among.reshape(len(among), -1).astype(np.float64)
    search = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(rows)
    return search.kneighbors(of.reshape(len(of), -1).astype(np.float64), return_distance=False)


@pytest.mark.parametrize("chunk", [1, 7, 59, 60, 256])  # also smaller than k, and one image in the last chunk
@pytest.mark.parametrize("covered", [True, False])
def test_neighbours_are_scikit_learns(compare, monkeypatch, chunk, covered):
    monkeypatch.setattr(neighbours, "CHUNK", chunk)
    arrays, network = compare(reference=None if covered else 20, give_network=not covered)
    assert np.array_equal(arrays["samples"], SAMPLES[:4])
    assert np.array_equal(arrays["pixel"], TRAIN[nearest(SAMPLES[:4], TRAIN)])
    assert np.array_equal(arrays["feature"], TRAIN[nearest(network(SAMPLES[:4])[0], network(TRAIN)[0])])
    assert arrays["crop"].tolist() == [0, 0, 16, 16]


@pytest.mark.parametrize("chunk", [7, 256])
def test_a_crop_is_compared_and_whole_images_are_kept(compare, monkeypatch, chunk):
    monkeypatch.setattr(neighbours, "CHUNK", chunk)
    arrays, network = compare(crop=True)
    ours, theirs = (images[:, 3:12, 4:14] for images in (SAMPLES[:4], TRAIN))
    assert np.array_equal(arrays["pixel"], TRAIN[nearest(ours, theirs)])
    assert np.array_equal(arrays["feature"], TRAIN[nearest(network(ours)[0], network(theirs)[0])])
    assert np.array_equal(arrays["samples"], SAMPLES[:4])
    assert arrays["crop"].tolist() == [3, 4, 9, 10]
    whole, _ = compare()
    assert not np.array_equal(whole["pixel"], arrays["pixel"])


@pytest.mark.parametrize("chunk", [4, 100])
def test_of_equal_distances_the_first_image_comes_first(chunk):
    copies = np.tile(TRAIN[:10], (20, 1, 1, 1)).reshape(200, -1)
    search = neighbours.Nearest(copies[:3], 4)
    for first in range(0, 200, chunk):
        search.add(copies[first : first + chunk], first)
    assert search.indices.tolist() == [[i, i + 10, i + 20, i + 30] for i in range(3)]


def test_distances_of_large_images_are_exact():
    """In float32, 196,608 squares of 8 bits are off by more than a level here or there."""
    rng = np.random.default_rng(0)
    one = rng.integers(250, 256, 196_608, np.uint8)
    other = one.copy()
    other[7] -= 1
    assert squared_distances(one[None], np.stack([one, other])).tolist() == [[0, 1]]


def test_fewer_training_images_than_neighbours_are_all_shown(compare):
    arrays, _ = compare(train=TRAIN[:4])
    assert arrays["pixel"].shape == arrays["feature"].shape == (4, 4, 16, 16, 3)


def test_no_samples_have_no_neighbours(compare):
    for crop in (False, True):
        arrays, _ = compare(samples=SAMPLES[:0], crop=crop)
        assert len(arrays["samples"]) == len(arrays["pixel"]) == len(arrays["feature"]) == 0


def test_what_cannot_be_compared_is_refused(compare, tmp_path):
    with pytest.raises(UserError, match=r"reference\.npz: has not the features .* --network"):
        compare(give_network=False, reference=20)
    with pytest.raises(UserError, match=r"reference\.npz: has not the features"):
        compare(give_network=False, crop=True)
    with pytest.raises(UserError, match="neighbour_crop: is not set"):
        compare(config=EvaluationConfig(), crop=True)
    with pytest.raises(UserError, match=r"\[3, 4, 9, 13\] .* reaches out of images of 16x16"):
        compare(config=EvaluationConfig(neighbour_crop=(3, 4, 9, 13)), crop=True)
    write_torchscript(StandIn(features=32), tmp_path / "other.pt")
    sources = (tmp_path / f for f in ("samples.npz", "features.npz", "data/train.npy", "reference.npz", "none.npz"))
    with pytest.raises(UserError, match=r"features\.npz: these are features of another network"):
        write_neighbours(CONFIG, *sources, lambda: load_stand_in(tmp_path / "other.pt"), crop=True)
    assert not (tmp_path / "none.npz").exists()


def test_a_box_has_a_place_and_a_size():
    assert EvaluationConfig(neighbour_crop=[0, 0, 1, 1]).neighbour_crop == (0, 0, 1, 1)
    for wrong in ([-1, 0, 5, 5], [0, 0, 0, 5], [0, 0, 5], [0, 0, 5, 5.5]):
        with pytest.raises(ValueError, match="neighbour_crop"):
            EvaluationConfig(neighbour_crop=wrong)
