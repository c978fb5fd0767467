"""Features per shard: those of each image, kept when a job is killed, and not computed twice for more samples."""

import numpy as np
import pytest
from helpers import CPU
from stand_in import Counting, StandIn, load_stand_in, write_torchscript

from ddpm.config.errors import UserError
from ddpm.config.schema import SamplingConfig
from ddpm.evaluation.features import FeatureShards, array_name, write_features
from ddpm.sampling.runner import AncestralSampler, sample_shard
from ddpm.storage import chunk_cache
from ddpm.storage.files import read_npz


def quiet(message):
    pass


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / "network.pt"
    write_torchscript(StandIn(features=8, classes=5), path)
    return load_stand_in(path)


@pytest.fixture
def samples(trained, tmp_path):
    """Make the shards of a run, with two previews per image."""

    def draw(images, shards, **changes):
        config = SamplingConfig(images=images, shards=shards, previews=2, **changes)
        paths = [tmp_path / f"samples-{images}-{i}-of-{shards}.npz" for i in range(1, shards + 1)]
        for i, path in enumerate(paths, 1):
            sample_shard(AncestralSampler(trained, config, CPU), i, path, quiet)
        return paths

    return draw


def test_features_are_those_of_each_image_and_of_its_previews(samples, network, tmp_path):
    paths = samples(20, 2)
    files = [tmp_path / f"features-{i}.npz" for i in range(2)]
    for path, file in zip(paths, files, strict=True):
        write_features(network, path, file, log=quiet)
    shards = FeatureShards(files[::-1])  # in whatever order they are given
    assert (shards.images, shards.times, shards.unstable) == (20, [0, 10], False)
    drawn = [read_npz(path, "images", "previews") for path in paths]
    for t, images in (
        (None, np.concatenate([shard["images"] for shard in drawn])),
        (0, np.concatenate([shard["previews"][:, 0] for shard in drawn])),
        (10, np.concatenate([shard["previews"][:, 1] for shard in drawn])),
    ):
        for kind, expected in zip(("features", "probabilities"), network(images), strict=True):
            np.testing.assert_allclose(shards.all(kind, t), expected, rtol=1e-5, atol=1e-6)
            assert [len(block) for block in shards.each(kind, t)] == [10, 10]


@pytest.mark.parametrize("killed_after", [1, 13, 30, 50])
def test_a_killed_pass_goes_on_where_it_was(samples, network, tmp_path, monkeypatch, killed_after):
    monkeypatch.setattr(chunk_cache, "SAVE_EVERY", -1)
    (path,), state = samples(20, 1), tmp_path / "state"
    killed = Counting(network, until=killed_after)
    with pytest.raises(KeyboardInterrupt):
        write_features(killed, path, tmp_path / "killed.npz", state, quiet)
    assert not (tmp_path / "killed.npz").exists()
    again = Counting(network)
    write_features(again, path, tmp_path / "killed.npz", state, quiet)
    assert again.seen == 60 - killed_after // 12 * 12  # an image, its two previews, four at a time
    write_features(Counting(network), path, tmp_path / "undisturbed.npz", log=quiet)
    assert (tmp_path / "killed.npz").read_bytes() == (tmp_path / "undisturbed.npz").read_bytes()


def test_more_samples_are_all_that_is_looked_at(samples, network, tmp_path):
    state = tmp_path / "state"
    for images, shards, new in ((12, 1, 12), (20, 1, 8), (20, 2, 0), (28, 4, 8)):
        counting, files = Counting(network), []
        for path in samples(images, shards):
            files.append(tmp_path / f"features-{path.name}")
            write_features(counting, path, files[-1], state, quiet)
        assert counting.seen == 3 * new
        expected = np.concatenate([network(read_npz(path, "images")["images"])[0] for path in samples(images, shards)])
        np.testing.assert_allclose(FeatureShards(files).all("features"), expected, rtol=1e-5, atol=1e-6)


def test_features_of_other_samples_or_of_another_network_are_not_taken(samples, network, tmp_path):
    state = tmp_path / "state"
    write_torchscript(StandIn(features=8, classes=6), tmp_path / "other.pt")
    for changes, of in (({}, network), ({"seed": 1}, network), ({}, load_stand_in(tmp_path / "other.pt"))):
        (path,), counting = samples(8, 1, **changes), Counting(of)
        write_features(counting, path, tmp_path / "features.npz", state, quiet)
        assert counting.seen == 24


def test_a_network_that_gives_no_numbers_is_named(samples, network, tmp_path):
    class Broken(Counting):
        def __call__(self, images):
            features, probabilities = super().__call__(images)
            features[0, 3] = np.nan
            return features, probabilities

    (path,) = samples(8, 1)
    with pytest.raises(UserError, match=r"TorchScript network \w+ gives NaN .* images of .*samples-8-1-of-1.npz"):
        write_features(Broken(network), path, tmp_path / "features.npz", tmp_path / "state", quiet)
    assert not (tmp_path / "features.npz").exists()
    assert not list(tmp_path.glob("state/*/*/*"))


def test_shards_that_do_not_make_one_whole_are_refused(samples, network, tmp_path):
    def features(path):
        write_features(network, path, file := tmp_path / f"features-{path.name}", log=quiet)
        return file

    one, two, three = (features(path) for path in samples(21, 3))
    (other,) = (features(path) for path in samples(7, 1, seed=3))
    with pytest.raises(UserError, match=r"features-samples-21-3-of-3.npz: begins with image 14, where image 7"):
        FeatureShards([one, three])
    with pytest.raises(UserError, match=r"begins with image 7, where image 0 comes next. Give every shard"):
        FeatureShards([two, three])
    with pytest.raises(UserError, match="begins with image 0, where image 7"):
        FeatureShards([one, one, two])
    with pytest.raises(UserError, match="not of the same samples"):
        FeatureShards([two, other])
    assert FeatureShards([three, two, one]).images == 21


def test_arrays_are_named_by_their_time():
    assert (array_name("features", None), array_name("features", 0), array_name("probabilities", 950)) == (
        "features", "features_t0", "probabilities_t950",
    )  # fmt: skip
