"""Samples over the course of a training: from which weights, from which noise, and what stands for a missing one."""

import numpy as np
import pytest
from helpers import CPU, tiny_experiment

from ddpm.config.errors import UserError
from ddpm.config.schema import FewStepsConfig, SamplingConfig, SnapshotsConfig
from ddpm.sampling.previews import write_snapshot_previews
from ddpm.sampling.runner import AncestralSampler, FewStepsSampler
from ddpm.sampling.snapshots import snapshot_shard, snapshot_weights
from ddpm.storage.files import read_npz
from ddpm.storage.shards import read_shard
from ddpm.training.loop import train

CONFIG = SnapshotsConfig(images=20, batch_size=8, previews=10)


@pytest.fixture(scope="module")
def training(train_images, tmp_path_factory):
    """Trains with the given settings; returns the folder of final.safetensors and weights/."""

    def run(**settings):
        folder = tmp_path_factory.mktemp("training")
        sections = {"training": {"snapshot_every": 6, **settings}, "snapshots": {"images": 20}}
        config = tiny_experiment(**sections).stage_config("training")
        names = ("final.safetensors", "t.csv", "t.json", "weights")
        train(config, train_images, folder / "state", *(folder / name for name in names), CPU, log=lambda message: None)
        return folder

    return run


@pytest.fixture(scope="module")
def trained_folder(training):
    return training()


def quiet(message: str) -> None:
    pass


def test_images_are_those_of_each_snapshots_own_weights(trained_folder, tmp_path):
    drawn = {}
    for step in (6, 12):
        weights = snapshot_weights(trained_folder / "final.safetensors", trained_folder / "weights", step, CPU)
        snapshot_shard(*weights, CONFIG, tmp_path / f"{step}.npz", CPU, quiet)
        arrays, header = read_shard(tmp_path / f"{step}.npz", "images", "raw")
        assert header["trained"]["step"] == step
        for name, trained, count in zip(("images", "raw"), weights, (20, 10), strict=True):
            expected = AncestralSampler(trained, SamplingConfig(seed=1000), CPU).draw(0, count)["images"]
            assert np.array_equal(arrays[name], expected)
        drawn[step] = arrays
    assert not np.array_equal(drawn[6]["images"], drawn[12]["images"])
    assert not np.array_equal(drawn[12]["images"][:10], drawn[12]["raw"])


def test_few_steps_are_those_of_ddim_and_never_pass_for_ancestral_ones(trained_folder, tmp_path):
    config = CONFIG.model_copy(update={"steps": 4})
    weights = snapshot_weights(trained_folder / "final.safetensors", trained_folder / "weights", 6, CPU)
    snapshot_shard(*weights, config, tmp_path / "6.npz", CPU, quiet)
    arrays, header = read_shard(tmp_path / "6.npz", "images", "raw", sampler=None)
    asked = FewStepsConfig(steps=(4,), eta=(0.0,), seed=1000)
    for name, trained, count in zip(("images", "raw"), weights, (20, 10), strict=True):
        expected = FewStepsSampler(trained, asked, CPU).draw(0, count)["images"]
        assert np.array_equal(arrays[name], expected[:, 0])
    assert header["sampler"].startswith("DDIM")
    write_snapshot_previews([tmp_path / "6.npz"], 10, tmp_path / "previews.npz")
    with pytest.raises(UserError, match="of the DDIM sampler, where the ancestral sampler's belong"):
        read_shard(tmp_path / "6.npz", "images")


def test_previews_stand_in_the_order_of_their_steps(trained_folder, tmp_path):
    files = []
    for step in (12, 6):
        weights = snapshot_weights(trained_folder / "final.safetensors", trained_folder / "weights", step, CPU)
        files.append(tmp_path / f"{step}.npz")
        snapshot_shard(*weights, CONFIG, files[-1], CPU, quiet)
    write_snapshot_previews(files, 10, tmp_path / "previews.npz")
    previews = read_npz(tmp_path / "previews.npz", "steps", "ema", "raw")
    assert previews["steps"].tolist() == [6, 12]
    for i, file in enumerate(reversed(files)):
        arrays, _ = read_shard(file, "images", "raw")
        assert np.array_equal(previews["ema"][i], arrays["images"][:10])
        assert np.array_equal(previews["raw"][i], arrays["raw"])


def test_a_snapshot_that_was_never_taken_is_asked_for_in_vain(trained_folder):
    with pytest.raises(UserError, match=r"000000007-ema.*no such snapshot.*snapshot_every"):
        snapshot_weights(trained_folder / "final.safetensors", trained_folder / "weights", 7, CPU)


def test_a_training_that_ended_before_gives_an_empty_file(training, tmp_path):
    folder = training(loss_limit=1e-6)
    weights = snapshot_weights(folder / "final.safetensors", folder / "weights", 12, CPU)
    snapshot_shard(*weights, CONFIG, tmp_path / "12.npz", CPU, quiet)
    arrays, header = read_shard(tmp_path / "12.npz", "images", "raw")
    assert header["status"]["status"] == "unstable"
    assert len(arrays["images"]) == len(arrays["raw"]) == 0
    write_snapshot_previews([tmp_path / "12.npz"], 10, tmp_path / "previews.npz")
    previews = read_npz(tmp_path / "previews.npz", "steps", "ema", "raw")
    assert previews["steps"].shape == (0,)
    assert previews["ema"].shape == previews["raw"].shape == (0, 10, 8, 8, 1)
