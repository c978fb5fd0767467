"""Jobs that a signal tells to end save, say so by their exit status, and go on to the bytes of an undisturbed run."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import ready
from helpers import CPU, rests, run_ddpm, tiny_experiment, train_command
from waiting import wait_for

from ddpm.config.errors import ExitCode
from ddpm.sampling.runner import AncestralSampler, sample_shard
from ddpm.storage.checkpoints import saved_states
from ddpm.training.loop import train

LONG = {"steps": 200, "log_every": 20, "save_every": 20}


def arguments(config: dict, digits: Path, folder: Path) -> list[str]:
    """Of `ddpm train` into `folder`, on the CPU."""
    return [*train_command(config, digits, folder)[1:], "--device", "cpu"]


def started(
    *command: str, start_new_session: bool = False, folder: Path | None = None, **environment: str
) -> subprocess.Popen:
    return subprocess.Popen(
        [*(ready.python() if command[0] == "ddpm" and "2xcpu" not in command else [sys.executable]), "-m", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        start_new_session=start_new_session,
        cwd=folder,
    )


def outputs(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ("final.safetensors", "training.csv", "training.json")}


@pytest.fixture(scope="module")
def undisturbed(train_images, tmp_path_factory) -> dict[str, bytes]:
    """What a training in one go writes."""
    folder = tmp_path_factory.mktemp("undisturbed")
    names = ("final.safetensors", "training.csv", "training.json", "weights")
    config = tiny_experiment(training=LONG).stage_config("training")
    train(config, train_images, folder / "state", *(folder / name for name in names), CPU)
    return outputs(folder)


@pytest.mark.parametrize("numbers", [(signal.SIGTERM,), (signal.SIGUSR1, signal.SIGUSR1, signal.SIGTERM)])
def test_a_training_that_is_told_to_end_goes_on_to_the_same_bytes(numbers, undisturbed, digits, tmp_path):
    config = tiny_experiment(training=LONG).stage_config("training")
    command = arguments(config, digits, tmp_path)
    process = started("ddpm", *command, folder=tmp_path, **rests(tmp_path, train=33))
    wait_for(lambda: list(tmp_path.glob("resting-*[0-9]")) or process.poll(), "a training that rests, within a row")
    for number in numbers:
        process.send_signal(number)
    said, _ = process.communicate()
    assert process.returncode == ExitCode.INTERRUPTED == 75, said
    found = re.search(rf"interrupted at step (\d+) by {numbers[0].name}, saved; the next submission goes on", said)
    assert found, said
    assert found[0] in said.splitlines()[-1]
    assert saved_states(tmp_path / "state")[-1].name.startswith(f"{int(found[1]):09d}-")
    assert not (tmp_path / "final.safetensors").exists()
    assert not (tmp_path / "state/lock").exists()
    done = run_ddpm(*command)
    assert done.returncode == 0, done.stderr
    assert f"resuming digits-eps-simple-test at step {found[1]}" in done.stdout
    assert outputs(tmp_path) == undisturbed


def test_sampling_that_is_told_to_end_exits_with_75_and_goes_on(trained, weights, tmp_path):
    experiment = tiny_experiment(sampling={"images": 200, "batch_size": 5})
    config = experiment.stage_config("sampling")
    (tmp_path / "config.json").write_text(json.dumps(config))
    shared = ["sample", "--config", tmp_path / "config.json", "--weights", weights, "--shard", "1", "--device", "cpu"]
    command = [str(word) for word in (*shared, "--out", tmp_path / "a.npz", "--state", tmp_path / "state")]
    process = started("ddpm", *command, folder=tmp_path, **rests(tmp_path, sample=5))
    wait_for(lambda: list(tmp_path.glob("resting-*[0-9]")) or process.poll(), "a sampling that rests")
    process.terminate()
    said = process.stdout.read()
    assert process.wait() == 75, said
    assert "interrupted by SIGTERM: the items before" in said
    assert not (tmp_path / "a.npz").exists()
    again = run_ddpm(*command)
    assert again.returncode == 0, again.stderr
    assert re.match(r"items 0\.\.\d+ were kept from earlier work", again.stdout)
    sample_shard(AncestralSampler(trained, experiment.sampling, CPU), 1, tmp_path / "b.npz", log=lambda message: None)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_processes_that_share_a_training_end_behind_the_same_row(digits, tmp_path):
    """As torchrun hands on the signal that it gets: each process is told at another moment.

    None ends before the first one has saved: where one is gone, torchrun ends the others.
    """
    training = {"steps": 1_000_000, "log_every": 5, "save_every": 5}
    command = arguments(tiny_experiment(training=training).stage_config("training"), digits, tmp_path)
    process = started("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "ddpm", *command)
    wait_for(lambda: saved_states(tmp_path / "state") or process.poll(), "a saved step")
    process.terminate()
    said, _ = process.communicate()
    steps = re.findall(r"interrupted at step (\d+) by SIGTERM, saved", said)
    assert len(steps) == 1, said
    assert "Connection closed" not in said
    assert int(steps[0]) % 5 == 0
    assert saved_states(tmp_path / "state")[-1].name.startswith(f"{int(steps[0]):09d}-")
    assert not (tmp_path / "state/lock").exists()


def test_processes_that_are_all_signalled_at_once_end_as_interrupted(digits, tmp_path):
    """As SLURM does it, which knows no difference between them."""
    training = {"steps": 1_000_000, "log_every": 5, "save_every": 5}
    command = arguments(tiny_experiment(training=training).stage_config("training"), digits, tmp_path)
    command[command.index("cpu")] = "2xcpu"
    process = started("ddpm", *command, start_new_session=True)
    wait_for(lambda: saved_states(tmp_path / "state") or process.poll(), "a saved step")
    os.killpg(process.pid, signal.SIGUSR1)
    said, _ = process.communicate()
    assert process.returncode == ExitCode.INTERRUPTED, said
    assert len(re.findall(r"interrupted at step \d+ by SIGUSR1, saved", said)) == 1
    assert "goes on from there" in said.splitlines()[-1]


def test_one_of_two_trainings_that_start_together_trains(undisturbed, digits, tmp_path):
    config = tiny_experiment(training=LONG).stage_config("training")
    commands = []
    for name in ("a", "b"):
        commands.append(arguments(config, digits, tmp_path / name))
        commands[-1][commands[-1].index("--state") + 1] = str(tmp_path / "state")
    rest = rests(tmp_path, train=5)
    processes = [started("ddpm", *command, folder=tmp_path, **rest) for command in commands]
    lines = [[], []]
    for process, heard in zip(processes, lines, strict=True):
        threading.Thread(target=lambda process=process, heard=heard: heard.extend(process.stdout)).start()
    wait_for(lambda: "waiting for it" in "".join(lines[0] + lines[1]), "one that waits for the other")
    (tmp_path / "rest-train").unlink()
    for process in processes:
        process.wait()
    said = ["".join(heard) for heard in lines]
    assert [process.returncode for process in processes] == [0, 0], said
    assert outputs(tmp_path / "a") == outputs(tmp_path / "b") == undisturbed
    (waited,) = (text for text in said if "waiting for it" in text)
    assert re.search(r"process \d+ on .* is training digits-eps-simple-test", waited)
    assert "resuming digits-eps-simple-test at step 200" in waited
