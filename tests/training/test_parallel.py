"""Processes that share a batch train like one process, up to the order of a sum."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import CPU, tiny_experiment

from ddpm.config import TrainingConfig
from ddpm.files import UserError
from ddpm.parallel import Group
from ddpm.training.loop import Trainer, training_batch
from ddpm.training.state import load_weights, saved_states


def torchrun(processes: int, config: dict, digits: Path, folder: Path) -> subprocess.CompletedProcess:
    """`ddpm train` as the README says it."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command += ["-m", "ddpm", "train", "--device", "cpu", "--config", folder / "config.json"]
    command += ["--data", digits / "train.npy", "--state", folder / "state", "--out", folder / "model.safetensors"]
    command += ["--history", folder / "training.csv", "--outcome", folder / "training.json"]
    command += ["--snapshots", folder / "snapshots"]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)


def weights(folder: Path) -> torch.Tensor:
    return torch.cat([p.flatten() for p in load_weights(folder / "model.safetensors").model.state_dict().values()])


def configured(clip_shards: int) -> dict:
    training = {"clip_shards": clip_shards, "grad_clip": 0.5, "learning_rate": 1e-3, "ema_decay": 0.5}
    return tiny_experiment(training=training, network={"dropout": 0.2}).stage_config("training")


@pytest.fixture(scope="module")
def finished(digits, tmp_path_factory) -> dict[int, Path]:
    """By `clip_shards`: a folder in which two processes have trained."""
    folders = {clip_shards: tmp_path_factory.mktemp("two") for clip_shards in (1, 4)}
    for clip_shards, folder in folders.items():
        done = torchrun(2, configured(clip_shards), digits, folder)
        assert done.returncode == 0, done.stderr
    return folders


@pytest.mark.parametrize("clip_shards", [1, 4])
def test_two_processes_train_like_one(clip_shards, finished, train_images):
    """The bound: 2e-6 of the largest weight after 12 steps, in float32 and with dropout; only sums are ordered anew."""
    one = Trainer(configured(clip_shards), train_images, CPU)
    before = one.average.clone()
    one.run()
    assert (one.average - before).abs().max() > 1e-3, "it must have trained"
    assert (weights(finished[clip_shards]) - one.average).abs().max() < 2e-6 * one.average.abs().max()
    rows = [line.split(",") for line in (finished[clip_shards] / "training.csv").read_text().splitlines()[1:]]
    for (step, loss, norm, _), row in zip(one.history, rows, strict=True):
        assert [float(cell) for cell in row[:3]] == pytest.approx([step, loss, norm], rel=1e-5)


def test_two_processes_resume_exactly(finished, digits, tmp_path):
    killed = tmp_path / "killed"
    shutil.copytree(finished[1], killed)
    # As a kill leaves it after the first of two saves.
    for path in (*saved_states(killed / "state")[1:], killed / "model.safetensors"):
        path.unlink()
    done = torchrun(2, configured(1), digits, killed)
    assert done.stdout.count("resuming digits-eps-simple-test at step 6") == 1, "one process speaks for all"
    assert (killed / "model.safetensors").read_bytes() == (finished[1] / "model.safetensors").read_bytes()


def test_a_batch_is_the_same_however_many_share_it(train_images):
    config = TrainingConfig(steps=5, batch_size=24, flip=True)
    pixels = torch.from_numpy(train_images[np.arange(24)])
    whole = training_batch(3, pixels, config, 1000)
    for size in (2, 3, 4):
        groups = [Group(rank, size) for rank in range(size)]
        parts = [training_batch(3, pixels[group.part(24)], config, 1000, group) for group in groups]
        for draws, all_draws in zip(zip(*parts, strict=True), whole, strict=True):
            assert torch.equal(torch.cat(draws), all_draws)


@pytest.mark.parametrize(
    ("training", "size", "words"),
    [
        ({"batch_size": 8}, 3, "training.batch_size: 8 is no multiple of the 3 processes"),
        ({"batch_size": 12, "clip_shards": 4}, 3, "training.clip_shards: 4 is no multiple of the 3"),
    ],
)
def test_a_batch_that_cannot_be_shared_is_refused(training, size, words, train_images):
    config = tiny_experiment(training=training).stage_config("training")
    with pytest.raises(UserError, match=words):
        Trainer(config, train_images, CPU, Group(0, size))
