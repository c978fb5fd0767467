"""A job that is told to end, or whose time runs out, saves its work, exits with 75, and goes on to the same bytes."""

import math
import os
import re
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import CPU, run_ddpm, tiny_experiment, train_command
from workspace import PROJECT

from ddpm.config.errors import ExitCode, UserError
from ddpm.config.schema import SamplingConfig
from ddpm.jobs import signals
from ddpm.jobs.signals import Interrupted, StopSignal, seconds
from ddpm.sampling.runner import AncestralSampler, sample_shard
from ddpm.storage import chunk_cache
from ddpm.storage.checkpoints import load_state, saved_states
from ddpm.storage.chunk_cache import ChunkCache
from ddpm.training.loop import Trainer, train


def arguments(config: dict, digits: Path, folder: Path) -> list[str]:
    """Of `ddpm train` into `folder`, on the CPU."""
    return [*train_command(config, digits, folder)[1:], "--device", "cpu"]


@pytest.fixture
def job(monkeypatch) -> StopSignal:
    """A fresh one, in the place of this process's, that listens."""
    fresh, before = StopSignal(), {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    for name in ("jobs.signals", "storage.chunk_cache", "training.loop", "jobs.locks"):
        monkeypatch.setattr(f"ddpm.{name}.stop_signal", fresh)
    fresh.listen()
    yield fresh
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("last", [1, 3, 4, 5, 7, 11, 12])
def test_a_row_that_was_cut_is_completed_to_the_same_bits(last, train_images, tmp_path):
    """With three steps a row: within a row, at its end, and at the last step, which is an end like any other."""
    config = tiny_experiment(network={"dropout": 0.1}).stage_config("training")
    whole, cut, resumed = (Trainer(config, train_images, CPU) for _ in range(3))
    assert whole.run()
    rows = []
    assert cut.run(lambda: rows.append(cut.step), lambda: cut.step == last) == (last == 12)
    assert (cut.step, rows) == (last, list(range(3, last + 1, 3)))
    resumed.restore(cut.state("f", "d"))
    assert resumed.run()
    assert torch.equal(resumed.average, whole.average)
    assert resumed.history == whole.history
    assert resumed.outcome == whole.outcome


def test_a_loss_out_of_range_in_a_cut_row_has_the_same_outcome(train_images):
    config = tiny_experiment(training={"learning_rate": 1e30, "warmup": 0}).stage_config("training")
    whole, cut, resumed = (Trainer(config, train_images, CPU) for _ in range(3))
    whole.run()
    cut.run(should_stop=lambda: cut.step == 2)
    resumed.restore(cut.state("f", "d"))
    resumed.run()
    assert resumed.outcome["status"] == "unstable"
    assert resumed.outcome == whole.outcome


def test_a_state_of_an_earlier_version_is_gone_on_with(train_images):
    config = tiny_experiment().stage_config("training")
    whole, cut, resumed = (Trainer(config, train_images, CPU) for _ in range(3))
    whole.run()
    cut.run(should_stop=lambda: cut.step == 6)
    state = cut.state("f", "d")
    assert state.tensors.pop("row").numel() == 0
    resumed.restore(state)
    resumed.run()
    assert torch.equal(resumed.average, whole.average)


def test_a_training_ends_before_its_deadline(job, train_images, digits, tmp_path, monkeypatch, capsys):
    """Through the command line's own `main`, in this process: the clock is far ahead when the 7th step begins."""
    from ddpm import cli

    monkeypatch.setattr(cli, "stop_signal", job)
    monkeypatch.setenv("DDPM_DEADLINE", "5000000000")
    update = Trainer.update

    def late(self, pixels):
        if self.step == 6:
            monkeypatch.setattr(signals.time, "time", lambda: 5e9 - signals.MARGIN + 1)
        return update(self, pixels)

    monkeypatch.setattr(Trainer, "update", late)
    command = arguments(tiny_experiment().stage_config("training"), digits, tmp_path)
    monkeypatch.setattr(sys, "argv", ["ddpm", *command])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == ExitCode.INTERRUPTED
    assert "interrupted at step 7 by its deadline at 2128-" in capsys.readouterr().out
    state = load_state(tmp_path / "state", tiny_experiment().fingerprint(), train_images.sha256)
    assert state.step == 7
    assert state.tensors["row"].shape == (2, 1)


def test_without_time_to_begin_nothing_is_begun(digits, tmp_path, monkeypatch):
    """Each further submission would end alike: that is an error, not an interruption."""
    command = arguments(tiny_experiment().stage_config("training"), digits, tmp_path)
    for value, words in ((str(time.time() + 5), "too few to do anything"), ("tomorrow", "DDPM_DEADLINE: 'tomorrow'")):
        monkeypatch.setenv("DDPM_DEADLINE", value)
        done = run_ddpm(*command)
        assert done.returncode == ExitCode.USER_ERROR
        assert words in done.stderr
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "state").exists()


def test_the_deadline_leaves_time_for_another_round_and_a_save(job, monkeypatch):
    clock = {"perf_counter": 0.0, "time": 0.0}
    for name in clock:
        monkeypatch.setattr(signals.time, name, lambda name=name: clock[name])
    job.deadline = 1000.0

    def after(round_of: float, at: float) -> bool:
        job.last_asked, job.pace = at - round_of, 0.0
        clock.update(perf_counter=at, time=at)
        return job.should_stop()

    assert not after(40, at=1000 - signals.MARGIN - 40 - 1)
    assert after(40, at=1000 - signals.MARGIN - 40 + 1)
    with job.saving():
        clock["perf_counter"] += 60
    assert job.last_asked == clock["perf_counter"], "a save is no part of a round"
    assert not after(40, at=1000 - signals.MARGIN - 40 - 2 * 60 - 1)
    assert after(40, at=1000 - signals.MARGIN - 40 - 2 * 60 + 1)


def test_an_hour_of_standing_still_is_soon_forgotten(job, monkeypatch):
    clock = iter([0.0, 1.0, 3601.0, *range(3602, 3622)])
    monkeypatch.setattr(signals.time, "perf_counter", lambda: next(clock))
    for _ in range(23):
        job.should_stop()
    assert job.pace == 1.0


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        ("59", 59),
        ("1:05", 65),
        ("2:00:01", 7201),
        ("3-00:00:10", 259_210),
        ("UNLIMITED", math.inf),
        ("INVALID", math.inf),
    ],
)
def test_the_deadline_is_asked_of_an_older_slurm(left, expected, job, tmp_path, monkeypatch):
    assert seconds(left) == expected
    squeue = tmp_path / "squeue"
    squeue.write_text(f'#!/bin/sh\n[ "$*" = "-h -j 42 -o %L" ] && echo {left}\n')
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    assert job.left() == pytest.approx(expected, abs=5)


def test_the_deadline_by_hand_goes_before_slurms(job, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_END_TIME", "2000000000")
    assert StopSignal().deadline == 2e9
    monkeypatch.setenv("DDPM_DEADLINE", "1900000000.5")
    assert StopSignal().deadline == 1900000000.5


def test_no_scheduler_is_no_deadline(job, monkeypatch):
    assert job.left() == math.inf
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    monkeypatch.setenv("PATH", "")
    assert StopSignal().left() == math.inf


def test_sigterm_ends_what_has_nothing_to_save_at_once(job):
    with pytest.raises(Interrupted, match=r"interrupted by SIGTERM"):
        signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)  # and a second one disturbs nobody who cleans up


def test_a_warning_ends_nothing_that_has_nothing_to_save(job):
    """It would begin anew in each submission, for ever; it has the minutes that are left, and its end is a failure."""
    signal.raise_signal(signal.SIGUSR1)
    with pytest.raises(Interrupted, match=r"interrupted by SIGTERM"):
        signal.raise_signal(signal.SIGTERM)


def test_a_warning_that_comes_before_the_work_is_not_lost(job, tmp_path):
    """While packages are loaded, say. The first piece is made, so that this submission gets on, too."""
    signal.raise_signal(signal.SIGUSR1)
    with job.ending(at_once=False):
        assert job.should_stop()
    work = Squares(tmp_path)
    with pytest.raises(Interrupted, match="by SIGUSR1: the items before 15 of 5"):
        work.run()
    assert [(first, stop) for first, stop, _ in work.parts.kept()] == [(5, 15)]


def test_a_signal_waits_for_a_save(job):
    with job.ending(at_once=False):
        signal.raise_signal(signal.SIGTERM)
        assert job.should_stop()
        with pytest.raises(Interrupted), job.ending(at_once=True):
            pytest.fail("it must not begin")


class Squares:
    """Squares of item numbers, of which one piece interrupts the process while it is made."""

    def __init__(self, folder, at: int | None = None):
        self.parts, self.at, self.made = ChunkCache(folder, "a" * 64, {}, ("squares",), lambda message: None), at, []

    def make(self, first, last):
        if self.at is not None and first <= self.at < last:
            signal.raise_signal(signal.SIGTERM)
        self.made += range(first, last)
        return {"squares": np.arange(first, last) ** 2}

    def run(self, start=5, stop=95):
        return np.concatenate([piece["squares"] for piece in self.parts.each(start, stop, 10, self.make)]).tolist()


@pytest.mark.parametrize("at", [5, 14, 15, 50, 94])
def test_what_is_made_is_kept_when_a_signal_comes(at, job, tmp_path):
    told = Squares(tmp_path, at)
    begun = 5 + (at - 5) // 10 * 10
    first = begun == 5  # nothing is made yet: with 75, the next submission would be queued again as well
    words = "only what was saved before" if first else rf": the items before {begun} of 5\.\.94 are kept"
    with pytest.raises(Interrupted, match=f"by SIGTERM.*{words}") as end:
        told.run()
    assert end.value.status == (128 + signal.SIGTERM if first else ExitCode.INTERRUPTED)
    assert [(first, stop) for first, stop, _ in told.parts.kept()] == ([(5, begun)] if begun > 5 else [])
    assert not list(tmp_path.rglob("*.lock"))
    job.signal = ""
    again = Squares(tmp_path)
    assert again.run() == [i**2 for i in range(5, 95)]
    assert again.made == list(range(begun, 95))


def test_what_is_made_is_kept_when_the_deadline_comes(job, tmp_path, monkeypatch):
    monkeypatch.setattr(chunk_cache, "SAVE_EVERY", 1e9)
    work = Squares(tmp_path)
    job.deadline = math.inf
    made = []
    with pytest.raises(Interrupted, match="the items before 35 of 5"):
        for piece in work.parts.each(5, 95, 10, work.make):
            made.append(piece)
            if len(made) == 3:
                job.deadline = time.time() + signals.MARGIN - 1
    assert [(first, stop) for first, stop, _ in work.parts.kept()] == [(5, 35)]
    one = Squares(tmp_path)
    with pytest.raises(Interrupted, match="the items before 45 of 5"):
        one.run()
    assert one.made == list(range(35, 45)), "however late it is, each submission gets on"


def test_where_nothing_can_be_kept_the_work_is_not_given_up_for_a_deadline(job):
    job.deadline = 0.0
    assert len(Squares(None).run()) == 90


def test_a_signal_between_two_pieces_is_not_lost(job, tmp_path):
    work = Squares(tmp_path)
    with pytest.raises(Interrupted):
        for _ in work.parts.each(5, 95, 10, work.make):
            signal.raise_signal(signal.SIGTERM)  # while the caller has the piece
    assert work.made == list(range(5, 15))
    assert [(first, stop) for first, stop, _ in work.parts.kept()] == [(5, 15)]


def told_at(step: int, tell, trained, monkeypatch) -> list[int]:
    """The times of the steps of Algorithm 2 that are made from here on; `tell` is called in the midst of one."""
    steps, p_sample = [], trained.diffusion.p_sample

    def counted(model, x, t, noise):
        if len(steps) == step:
            tell()
        steps.append(int(t[0]))
        return p_sample(model, x, t, noise)

    monkeypatch.setattr(trained.diffusion, "p_sample", counted)
    return steps


@pytest.mark.parametrize("reason", ["SIGTERM", "SIGUSR1", "its deadline"])
@pytest.mark.parametrize("step", [0, 12, 19, 20, 33, 45])
def test_finished_batches_are_kept_when_a_job_has_to_end(step, reason, job, trained, tmp_path, monkeypatch):
    """SIGTERM ends the batch at hand, of 20 steps; SIGUSR1 and the deadline wait for its end. Three batches."""
    job.deadline = math.inf
    untold = [reason]

    def tell() -> None:
        match untold and untold.pop():
            case "its deadline":
                job.deadline = time.time()
            case "SIGTERM" | "SIGUSR1":
                signal.raise_signal(signal.Signals[reason])

    def shard(path: Path) -> bytes:
        config = SamplingConfig(images=15, batch_size=5, previews=4)
        sample_shard(AncestralSampler(trained, config, CPU), 1, path, lambda message: None, state=path.parent / "state")
        return path.read_bytes()

    (tmp_path / "whole").mkdir()
    whole = shard(tmp_path / "whole/1.npz")
    steps = told_at(step, tell, trained, monkeypatch)
    at_once = reason == "SIGTERM"
    if step < 40 or at_once:
        done = step // 20 * 5 if at_once else (step // 20 + 1) * 5
        words = rf"the items before {done} of 0\.\.14 are kept" if done else "only what was saved before stays"
        with pytest.raises(Interrupted, match=rf"by {reason}.*{words}") as end:
            shard(tmp_path / "1.npz")
        assert end.value.status == (ExitCode.INTERRUPTED if done else 128 + signal.SIGTERM)
        assert len(steps) == (step if at_once else done // 5 * 20)
        job.signal, job.warning, job.deadline = "", "", math.inf
        before = len(steps)
        assert shard(tmp_path / "1.npz") == whole
        assert steps[before:] == [*reversed(range(20))] * (3 - done // 5)
    else:  # in the last batch, behind which there is nothing to come
        assert shard(tmp_path / "1.npz") == whole
        assert len(steps) == 60


def test_a_batch_that_cannot_be_kept_is_ended_at_once(job, trained, tmp_path, monkeypatch):
    steps = told_at(12, lambda: signal.raise_signal(signal.SIGTERM), trained, monkeypatch)
    with pytest.raises(Interrupted):
        sample_shard(
            AncestralSampler(trained, SamplingConfig(images=10), CPU), 1, tmp_path / "1.npz", log=lambda message: None
        )
    assert len(steps) == 12


def test_a_training_that_is_locked_is_refused_with_its_own_exit_code(digits, tmp_path, monkeypatch):
    from ddpm.jobs.locks import Lock

    monkeypatch.setenv("DDPM_LOCK_WAIT", "0")
    with Lock(tmp_path / "state/lock", "testing").acquire():
        done = run_ddpm(*arguments(tiny_experiment().stage_config("training"), digits, tmp_path))
    assert done.returncode == ExitCode.LOCKED == 73
    assert f"process {os.getpid()} on" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_training_that_has_lost_its_lock_writes_no_state(job, train_images, tmp_path):
    config = tiny_experiment().stage_config("training")
    update, files = Trainer.update, [tmp_path / name for name in ("w", "h", "o", "s")]

    def update_without(self, pixels):
        (tmp_path / "state/lock").unlink(missing_ok=True)
        return update(self, pixels)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(UserError, match="its file was deleted"):
        patch.setattr(Trainer, "update", update_without)
        train(config, train_images, tmp_path / "state", *files, CPU)
    assert not saved_states(tmp_path / "state")


def test_every_exit_code_is_documented():
    page, shown = (PROJECT / "docs/operations.md").read_text(), " ".join(run_ddpm("--help").stdout.split())
    for code in ExitCode:
        assert re.search(rf"^\| {code.value} \| `{code.name}` \|", page, re.M), code
        assert f"{code.value}: {code.meaning}" in shown
    assert run_ddpm("no-such-command").returncode == ExitCode.USAGE
