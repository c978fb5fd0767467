"""Processes that share a batch train like one process, up to the order of a sum."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import ready
import torch
from helpers import CPU, tiny_experiment, train_command
from processes import together

from ddpm.compute.distributed import SINGLE_PROCESS, Group
from ddpm.config.errors import UserError
from ddpm.config.schema import TrainingConfig
from ddpm.storage.checkpoints import saved_states
from ddpm.training.loop import Trainer, train, training_batch
from ddpm.training.model import load_model


def torchrun(processes: int, config: dict, digits: Path, folder: Path) -> subprocess.CompletedProcess:
    """`ddpm train` in so many processes."""
    command = [*ready.python(), "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
    command += [*train_command(config, digits, folder), "--device", "cpu"]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=ready.environment())


def in_a_row(weights: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([weight.flatten() for _, weight in sorted(weights.items())])


def saved(folder: Path) -> torch.Tensor:
    return in_a_row(load_model(folder / "final.safetensors").model.state_dict())


def averaged(trainer: Trainer) -> torch.Tensor:
    return in_a_row(trainer.state.parameters.split(trainer.state.ema))


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
    before = one.state.ema.clone()
    one.run()
    assert (one.state.ema - before).abs().max() > 1e-3, "it must have trained"
    assert (saved(finished[clip_shards]) - averaged(one)).abs().max() < 2e-6 * one.state.ema.abs().max()
    rows = [line.split(",") for line in (finished[clip_shards] / "training.csv").read_text().splitlines()[1:]]
    for (step, loss, norm, _), row in zip(one.state.history, rows, strict=True):
        assert [float(cell) for cell in row[:3]] == pytest.approx([step, loss, norm], rel=1e-5)


def test_two_processes_resume_exactly(finished, digits, tmp_path):
    killed = tmp_path / "killed"
    shutil.copytree(finished[1], killed)
    # As a kill leaves it after the first of two saves.
    for path in (*saved_states(killed / "state")[1:], killed / "final.safetensors"):
        path.unlink()
    done = torchrun(2, configured(1), digits, killed)
    assert done.stdout.count("resuming digits-eps-simple-test at step 6") == 1, "one process speaks for all"
    assert (killed / "final.safetensors").read_bytes() == (finished[1] / "final.safetensors").read_bytes()


@pytest.mark.parametrize(("size", "clip_shards"), [(3, 1), (4, 1), (3, 6), (4, 8)])
def test_more_processes_train_like_one(size, clip_shards, train_images, tmp_path):
    """The same bound; and all of them hold the same bits."""
    training = {"batch_size": 24, "clip_shards": clip_shards, "grad_clip": 0.5, "learning_rate": 1e-3, "ema_decay": 0.5}
    config = tiny_experiment(training=training, network={"dropout": 0.2}).stage_config("training")

    def job(group: Group) -> None:
        trainer = Trainer(config, train_images, CPU, group)
        trainer.run()
        torch.save((trainer.state.ema, trainer.state.history), tmp_path / str(group.rank))

    together(size, job, tmp_path)
    one = Trainer(config, train_images, CPU)
    one.run()
    first, history = torch.load(tmp_path / "0")
    for rank in range(1, size):
        assert torch.equal(torch.load(tmp_path / str(rank))[0], first)
    assert (first - one.state.ema).abs().max() < 2e-6 * one.state.ema.abs().max()
    for row, expected in zip(history, one.state.history, strict=True):
        assert row == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("size", [1, 3])
def test_what_two_have_saved_is_gone_on_with_by_any_number(size, train_images, tmp_path):
    """The bound is that of an undisturbed run: the sums of the second half have another order."""
    config = tiny_experiment(training={"batch_size": 12, "learning_rate": 1e-3, "ema_decay": 0.5}).stage_config(
        "training"
    )
    said = []

    def job(group: Group) -> None:
        files = [tmp_path / name for name in ("final.safetensors", "csv", "json", "weights")]
        train(config, train_images, tmp_path / "state", *files, CPU, log=said.append, group=group)

    together(2, job, tmp_path)
    saved_states(tmp_path / "state")[-1].unlink()  # of the last step; that of the sixth is left
    (tmp_path / "final.safetensors").unlink()
    if size == 1:
        job(SINGLE_PROCESS)
        assert said[0] == "resuming digits-eps-simple-test at step 6"
    else:
        together(size, job, tmp_path)
    one = Trainer(config, train_images, CPU)
    one.run()
    assert (saved(tmp_path) - averaged(one)).abs().max() < 2e-6 * one.state.ema.abs().max()


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
