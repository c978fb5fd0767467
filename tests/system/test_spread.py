"""Work that processes share gives the bytes of one process, goes on with any number, and ends with its message."""

import os
import re
import shutil
import signal
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import CPU
from processes import start, together
from waiting import alive, wait_for

from ddpm.compute import distributed
from ddpm.compute.distributed import SINGLE_PROCESS, Group
from ddpm.config.errors import ExitCode, UserError
from ddpm.config.schema import FewStepsConfig, LikelihoodConfig, SamplingConfig, SnapshotsConfig
from ddpm.data.store import Images
from ddpm.evaluation.features import write_features
from ddpm.evaluation.likelihood import Bound, likelihood_shard
from ddpm.evaluation.networks.classifier import ClassifierConfig, load_classifier, train_classifier
from ddpm.jobs import signals
from ddpm.jobs.signals import Interrupted, Stopped
from ddpm.sampling.runner import AncestralSampler, FewStepsSampler, Unstable, sample_shard
from ddpm.sampling.snapshots import snapshot_shard
from ddpm.storage import chunk_cache
from ddpm.storage.chunk_cache import ChunkCache
from ddpm.storage.shards import read_shard

SAMPLING = SamplingConfig(images=70, shards=2, batch_size=8, previews=4)  # 35 images: five batches, the last a part


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Every piece is kept as soon as it is made, and nobody waits before it says that it lost another."""
    monkeypatch.setattr(chunk_cache, "SAVE_EVERY", -1)
    monkeypatch.setattr(distributed, "GRACE", 0)


class Job:
    """One kind of work, of any number of processes, into a folder."""

    def __init__(self, kind, trained, digits, network=None, samples=None):
        self.kind, self.trained, self.digits, self.network, self.samples = kind, trained, digits, network, samples

    def run(self, folder: Path, group: Group, log=lambda message: None) -> None:
        folder.mkdir(exist_ok=True)
        path, settings = folder / "shard.npz", {"log": log, "state": folder / "state", "group": group}
        match self.kind:
            case "samples":
                sample_shard(AncestralSampler(self.trained, SAMPLING, CPU), 2, path, **settings)
            case "few steps":
                config = FewStepsConfig(images=30, shards=1, batch_size=8, steps=(2, 5))
                sample_shard(FewStepsSampler(self.trained, config, CPU), 1, path, **settings)
            case "snapshot":
                config = SnapshotsConfig(images=30, batch_size=8, previews=20)
                snapshot_shard(self.trained, self.trained, config, path, CPU, **settings)
            case "likelihood":
                images, config = Images(self.digits / "test.npy"), LikelihoodConfig(shards=2, batch_size=7)
                likelihood_shard(Bound(self.trained, images, "test", 61, config, CPU), 2, path, **settings)
            case "features":
                network = load_classifier(self.network)
                network.batch_size = 8
                write_features(network, self.samples, path, **settings)


@pytest.fixture(scope="module")
def network(digits, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("network") / "classifier.safetensors"
    train_classifier(ClassifierConfig(width=8, features=16, epochs=1), digits, path, CPU, log=lambda message: None)
    return path


@pytest.fixture
def job(request, trained, digits, network, tmp_path) -> Job:
    samples = tmp_path / "samples.npz"
    if request.param == "features":
        sample_shard(AncestralSampler(trained, SAMPLING, CPU), 2, samples, log=lambda message: None)
    return Job(request.param, trained, digits, network, samples)


KINDS = ("samples", "few steps", "snapshot", "likelihood", "features")


@pytest.mark.parametrize("job", KINDS, indirect=True)
def test_any_number_of_processes_gives_the_bytes_of_one(job, tmp_path):
    """And each makes batches, none of which is made twice."""
    batches = []
    job.run(tmp_path / "one", SINGLE_PROCESS, batches.append)
    for size in (2, 3):
        said = tmp_path / f"said-{size}"

        def log(message: str, said=said) -> None:
            with open(said, "a") as file:
                file.write(f"{os.environ['RANK']} {message}\n")

        together(size, lambda group, size=size, log=log: job.run(tmp_path / str(size), group, log), tmp_path)
        assert (tmp_path / f"{size}/shard.npz").read_bytes() == (tmp_path / "one/shard.npz").read_bytes()
        made = [line.split(" ", 1) for line in said.read_text().splitlines()]
        assert {rank for rank, _ in made} == set(map(str, range(size)))
        assert sorted(batch.split(",")[0] for _, batch in made) == sorted(batch.split(",")[0] for batch in batches)


@pytest.mark.parametrize("job", KINDS, indirect=True)
def test_what_a_killed_group_had_is_gone_on_with_by_another_number(job, tmp_path):
    """The first process dies after the second round of two; three go on, and then one finds all of it done."""
    job.run(tmp_path / "undisturbed", SINGLE_PROCESS)

    def until(batches: int, file: Path):
        def log(message: str) -> None:
            if " images " in f" {message}" and "kept" not in message:
                with open(file, "a") as lines:
                    lines.write(message.split(",")[0] + "\n")
                if len(file.read_text().splitlines()) >= batches and os.environ.get("RANK") == "0":
                    os.kill(os.getpid(), signal.SIGKILL)

        return log

    members = start(2, lambda group: job.run(tmp_path / "killed", group, until(3, tmp_path / "first")), tmp_path)
    for process in members:
        process.join()
    assert members[0].exitcode == -signal.SIGKILL
    assert members[1].exitcode == 1
    assert "lost another process" in (tmp_path / "1.txt").read_text()
    assert not (tmp_path / "killed/shard.npz").exists()
    together(3, lambda group: job.run(tmp_path / "killed", group, until(99, tmp_path / "second")), tmp_path)
    assert (tmp_path / "killed/shard.npz").read_bytes() == (tmp_path / "undisturbed/shard.npz").read_bytes()
    first, second = (set((tmp_path / name).read_text().splitlines()) for name in ("first", "second"))
    repeated = first & second
    assert len(repeated) <= 2, "at most the round in which it was killed"
    assert len(first - second) >= 2
    again = []
    (tmp_path / "killed/shard.npz").unlink()
    job.run(tmp_path / "killed", SINGLE_PROCESS, again.append)
    assert all("kept from earlier work" in message for message in again)
    assert (tmp_path / "killed/shard.npz").read_bytes() == (tmp_path / "undisturbed/shard.npz").read_bytes()


def recorded(steps: Path, trained, at: int, end) -> None:
    """Each step of Algorithm 2 of this process is recorded from here on; `end` is called in the midst of one."""
    made, p_sample = [], trained.diffusion.p_sample

    def counted(model, x, t, noise):
        if len(made) == at:
            end()
        made.append(int(t[0]))
        with open(steps, "a") as file:
            print(len(x), int(t[0]), file=file)
        return p_sample(model, x, t, noise)

    trained.diffusion.p_sample = counted


@pytest.mark.parametrize("how", ["SIGTERM", "SIGUSR1", "killed"])
def test_batches_of_all_processes_are_kept_when_the_job_has_to_end(how, trained, tmp_path, monkeypatch):
    """Of two, each in its second batch and not equally far; then three go on.

    SIGTERM, and a kill, end the batches at hand, and SIGUSR1, which comes minutes before the end, does not.
    """
    job, ends_at = Job("samples", trained, None), (25, 28)
    if how != "killed":  # it is kept at the end, not once a minute
        monkeypatch.setattr(chunk_cache, "SAVE_EVERY", 60)
    job.run(tmp_path / "undisturbed", SINGLE_PROCESS)

    leader = tmp_path / "leader"

    def first(group: Group) -> None:
        signals.stop_signal.listen()

        def end() -> None:
            if how == "killed" and not group.is_main:
                wait_for(leader.exists, "the first one's kill")
                wait_for(lambda: not alive(int(leader.read_text())), "its end")
            elif how == "killed":
                leader.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL if how == "killed" else signal.Signals[how])

        recorded(tmp_path / "steps", trained, ends_at[group.rank], end)
        try:
            job.run(tmp_path / "shared", group)
        except signals.Interrupted as interrupted:
            os._exit(interrupted.status)

    codes = ends(start(2, first, tmp_path), 600)
    assert codes == ([-signal.SIGKILL] * 2 if how == "killed" else [ExitCode.INTERRUPTED] * 2)
    together(3, lambda group: (recorded(tmp_path / "steps", trained, -1, None), job.run(tmp_path / "shared", group)))
    assert (tmp_path / "shared/shard.npz").read_bytes() == (tmp_path / "undisturbed/shard.npz").read_bytes()
    steps = (tmp_path / "steps").read_text().splitlines()
    needed = [f"8 {t}" for t in range(20)] * 4 + [f"3 {t}" for t in range(20)]
    dropped = [] if how == "SIGUSR1" else [f"8 {t}" for last in (14, 11) for t in range(last + 1, 20)]
    assert sorted(steps) == sorted(needed + dropped)


def test_an_unstable_batch_of_any_process_is_the_outcome_of_all(trained, tmp_path, monkeypatch):
    """That of the first batch in the order of the images, not of time; the others are let go."""
    draw = AncestralSampler.draw

    def failing(sampler, start, stop):
        if start == 43:  # of the second process, which is the last to know
            time.sleep(0.5)
        if start in (43, 51):
            raise Unstable({"status": "unstable", "step": start, "reason": f"batch from {start}"})
        return draw(sampler, start, stop)

    monkeypatch.setattr(AncestralSampler, "draw", failing)
    work = {"sampler": AncestralSampler(trained, SAMPLING, CPU), "shard": 2, "log": lambda message: None}
    sample_shard(path=tmp_path / "one.npz", **work)
    together(3, lambda group: sample_shard(path=tmp_path / "three.npz", group=group, **work), tmp_path)
    assert (tmp_path / "three.npz").read_bytes() == (tmp_path / "one.npz").read_bytes()
    arrays, header = read_shard(tmp_path / "three.npz", "images")
    assert header["status"]["reason"] == "batch from 43"
    assert not len(arrays["images"])


def squares(first: int, last: int) -> dict[str, np.ndarray]:
    return {"squares": np.arange(first, last) ** 2}


def ends(members, seconds: float) -> list[int]:
    """The exit codes, none of which may be long in coming."""
    limit = time.monotonic() + seconds
    for process in members:
        process.join(max(limit - time.monotonic(), 0))
    left = [process for process in members if process.exitcode is None]
    for process in left:
        os.kill(process.pid, signal.SIGCONT)
        process.kill()
    assert not left, f"{len(left)} processes were still waiting after {seconds} s"
    return [process.exitcode for process in members]


@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_of_one_process_is_shown_with_its_rank_and_ends_all(rank, tmp_path):
    def make(first: int, last: int):
        if first >= 30 and group_rank[0] == rank:
            raise UserError("the cat has it")
        return squares(first, last)

    group_rank = []

    def job(group: Group) -> None:
        group_rank.append(group.rank)
        list(group.each(ChunkCache(None, "a", {}, ("squares",)), 0, 100, 10, make))

    assert ends(start(3, job, tmp_path), 600) == [1, 1, 1]
    assert f"UserError: rank {rank} of 3 on " in (said := (tmp_path / f"{rank}.txt").read_text())
    assert "the cat has it" in said
    for other in {0, 1, 2} - {rank}:
        assert "lost another process" in (tmp_path / f"{other}.txt").read_text()


def test_of_several_that_are_told_to_end_the_first_speaks_for_all(monkeypatch):
    """It saves what they have made; another's exit status may not say that nothing was."""

    def make(first: int, last: int):
        raise Stopped("interrupted", signal.SIGTERM)

    monkeypatch.setattr(Group, "broadcast", lambda group, value=None: [distributed.Order.MAKE, 0, 20])
    with pytest.raises(Interrupted) as end:
        list(Group(1, 2).each(ChunkCache(None, "a", {}, ("squares",)), 0, 20, 10, make))
    assert (str(end.value), end.value.status) == ("", ExitCode.INTERRUPTED)


def test_any_other_error_keeps_its_traceback_and_says_whose_it_is(tmp_path):
    def job(group: Group) -> None:
        if group.rank == 1:
            raise ZeroDivisionError("a bug")
        group.broadcast(1)

    assert ends(start(2, job, tmp_path), 600) == [1, 1]
    said = (tmp_path / "1.txt").read_text()
    assert "ZeroDivisionError: a bug" in said
    assert "This was rank 1 of 2" in said


def test_a_killed_process_ends_all(tmp_path):
    def job(group: Group) -> None:
        if group.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        group.sum_(torch.zeros(1000))

    assert ends(start(3, job, tmp_path), 600) == [1, -signal.SIGKILL, 1]
    for other in (0, 2):
        said = (tmp_path / f"{other}.txt").read_text()
        assert re.match(rf"UserError: rank {other} of 3 on \S+: lost another process, whose own words say why", said)


def test_a_process_that_hangs_is_not_waited_for_without_end(tmp_path):
    def job(group: Group) -> None:
        if group.rank == 1:
            os.kill(os.getpid(), signal.SIGSTOP)
        group.sum_(torch.zeros(10))

    members = start(2, job, tmp_path, patience=timedelta(seconds=10))
    members[0].join(600)
    for process in members:
        process.kill()
    assert members[0].exitcode == 1
    assert "lost another process" in (tmp_path / "0.txt").read_text()


def test_gpus_speak_through_nccl_and_what_lies_in_memory_through_gloo(monkeypatch):
    """As far as a machine without a GPU can tell: the backends, the device and the patience that are asked for."""
    asked = {}
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: asked.update(device=str(device)))
    monkeypatch.setattr(
        torch.distributed, "init_process_group", lambda backend, **more: asked.update(backend=backend, **more)
    )
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: None)
    with distributed.process_group(torch.device("cuda:1"), timedelta(minutes=3)) as group:
        assert group == Group(1, 2)
    assert asked == {"device": "cuda:1", "backend": "cpu:gloo,cuda:nccl", "timeout": timedelta(minutes=3)}


def test_states_of_other_weights_data_or_noise_are_not_taken(trained, digits, tmp_path):
    state, said = tmp_path / "state", []

    def shard(seed: int = 0, split: str = "test") -> list[str]:
        said.clear()
        images, config = Images(digits / f"{split}.npy"), LikelihoodConfig(batch_size=20, seed=seed)
        likelihood_shard(Bound(trained, images, split, 20, config, CPU), 1, tmp_path / "1.npz", said.append, state)
        (tmp_path / "1.npz").unlink()
        return [message for message in said if "kept" in message]

    assert not shard()
    assert shard()
    assert not shard(seed=1)
    assert not shard(split="train")
    shutil.rmtree(state)
    assert not shard()
