"""Killed at ten random moments, and the same command again: the files are those of an undisturbed run, bit for bit."""

import json
import os
import random
import shutil
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from helpers import CPU, tiny_experiment

from ddpm.config.schema import LikelihoodConfig, SamplingConfig
from ddpm.data.store import Images
from ddpm.evaluation.likelihood import Bound, likelihood_shard
from ddpm.sampling.runner import AncestralSampler, sample_shard
from ddpm.storage import chunk_cache
from ddpm.storage.checkpoints import saved_states
from ddpm.training.loop import Trainer, train

KILLS = 10


def run(job: Callable[[Path], None], folder: Path, seconds: float = 0.0) -> tuple[int, float]:
    """`job` in a process, which is killed after so many CPU seconds, if any; its status, and the seconds it took."""
    folder.mkdir(exist_ok=True)
    if not (process := os.fork()):
        status = 1
        with suppress(Exception):
            signal.setitimer(signal.ITIMER_PROF, seconds)  # its signal ends the process as SIGKILL does
            job(folder)
            status = 0
        os._exit(status)
    _, status, used = os.wait4(process, 0)
    return os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime


def finish_despite_kills(job: Callable[[Path], None], folder: Path, earliest: float, latest: float) -> None:
    """Run `job` in `folder / "undisturbed"`, and as often as it takes in `folder / "killed"`.

    Each kill comes at a random moment, between the fractions `earliest` and `latest` of the undisturbed CPU time, which
    says nothing of how busy the machine is.
    """
    status, duration = run(job, folder / "undisturbed")
    assert status == 0
    chance, kills = random.Random(0), 0
    while kills < KILLS:
        status, _ = run(job, folder / "killed", chance.uniform(earliest, latest) * duration)
        if status:
            assert status == -signal.SIGPROF
            kills += 1
        else:  # caches and clocks were faster than before
            shutil.rmtree(folder / "killed")
            duration, kills = duration / 2, 0
    assert run(job, folder / "killed")[0] == 0


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of `folder` but those of the state."""
    paths = [*folder.iterdir(), *folder.glob("weights/*")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths if path.is_file()}


def test_training_killed_at_random_and_resumed_gives_the_same_bytes(train_images, tmp_path):
    training = {"steps": 200, "log_every": 2, "save_every": 2, "snapshot_every": 40}
    experiment = tiny_experiment(training=training, network={"dropout": 0.1}, snapshots={"images": 20})
    config = experiment.stage_config("training")

    def job(folder: Path) -> None:
        def log(message: str) -> None:
            with open(tmp_path / "log", "a") as file:
                print(folder.name, message, file=file)

        files = [folder / name for name in ("final.safetensors", "training.csv", "training.json", "weights")]
        train(config, train_images, folder / "state", *files, CPU, log=log)

    def killed_behind(step: int, moment: float) -> Callable[[Path], None]:
        """The job, killed so many CPU seconds after the beginning of its step `step`: in it, in a save, or behind."""
        training_step, made = Trainer.training_step, []

        def counted(trainer, pixels):
            made.append(trainer)
            if len(made) == step:
                signal.setitimer(signal.ITIMER_PROF, moment)
            return training_step(trainer, pixels)

        def killed(folder: Path) -> None:
            Trainer.training_step = counted
            job(folder)

        return killed

    assert run(job, tmp_path / "undisturbed")[0] == 0
    chance = random.Random(0)
    for _ in range(KILLS):  # each behind a saved step, and together before the end
        killed = killed_behind(chance.randrange(3, 9), chance.uniform(1e-4, 1e-2))
        assert run(killed, tmp_path / "killed")[0] == -signal.SIGPROF
    assert run(job, tmp_path / "killed")[0] == 0
    assert contents(tmp_path / "killed") == contents(tmp_path / "undisturbed")
    assert len(contents(tmp_path / "killed")) == 3 + 10
    assert json.loads((tmp_path / "killed/training.json").read_text())["step"] == 200
    resumed = {line for line in (tmp_path / "log").read_text().splitlines() if "killed resuming" in line}
    assert len(resumed) == KILLS
    assert len(saved_states(tmp_path / "killed/state")) == 2


def test_sampling_killed_at_random_gives_the_same_bytes(trained, tmp_path):
    config = SamplingConfig(images=200, shards=2, batch_size=20, previews=4)

    def job(folder: Path) -> None:
        sample_shard(AncestralSampler(trained, config, CPU), 2, folder / "2-of-2.npz", log=lambda message: None)

    finish_despite_kills(job, tmp_path, 0.1, 0.7)
    assert contents(tmp_path / "killed") == contents(tmp_path / "undisturbed")
    assert list(contents(tmp_path / "killed")) == ["2-of-2.npz"]


def test_sampling_killed_at_random_repeats_no_finished_batch(trained, tmp_path, monkeypatch):
    """Each batch is kept, but for the one at hand and those whose file is not whole."""
    monkeypatch.setattr(chunk_cache, "SAVE_EVERY", -1)
    config, draw = SamplingConfig(images=200, batch_size=10, previews=4), AncestralSampler.draw

    def job(folder: Path) -> None:
        def recorded(sampler, start, stop):
            with open(folder / "batches.log", "a") as file:
                print(start, file=file)
            return draw(sampler, start, stop)

        AncestralSampler.draw = recorded
        sample_shard(
            AncestralSampler(trained, config, CPU), 1, folder / "1-of-1.npz", lambda message: None, folder / "state"
        )

    finish_despite_kills(job, tmp_path, 0.05, 0.14)
    batches = {name: (tmp_path / name / "batches.log").read_text().split() for name in ("undisturbed", "killed")}
    assert len(batches["undisturbed"]) == 20
    assert len(batches["killed"]) <= 20 + KILLS
    assert list(map(int, batches["killed"])) == sorted(map(int, batches["killed"]))
    shards = [(tmp_path / name / "1-of-1.npz").read_bytes() for name in batches]
    assert shards[0] == shards[1]


def test_likelihood_killed_at_random_gives_the_same_bytes(trained, digits, tmp_path):
    config = LikelihoodConfig(shards=2, batch_size=20)
    bound = Bound(trained, Images(digits / "test.npy"), "test", 180, config, CPU)

    def job(folder: Path) -> None:
        likelihood_shard(bound, 2, folder / "2-of-2.npz", log=lambda message: None)

    finish_despite_kills(job, tmp_path, 0.1, 0.7)
    assert contents(tmp_path / "killed") == contents(tmp_path / "undisturbed")
    assert list(contents(tmp_path / "killed")) == ["2-of-2.npz"]
