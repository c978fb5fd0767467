"""Several processes by `--device 2xcpu` and by torchrun: the same results, and whoever goes takes all along."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import ready
import torch
from helpers import CPU, run_ddpm, tiny_experiment, train_command
from processes import free_port
from waiting import alive, wait_for

from ddpm.cli.options import choose_device
from ddpm.config.errors import ExitCode, UserError
from ddpm.config.schema import SamplingConfig
from ddpm.jobs.failures import last_words
from ddpm.sampling.runner import AncestralSampler, sample_shard
from ddpm.storage.checkpoints import saved_states
from ddpm.training.loop import Trainer
from ddpm.training.model import load_model

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
PYTHON = [sys.executable, "-m"]


def training(folder: Path, digits: Path, **settings) -> list[str]:
    """The command of a training that two or three processes can share."""
    return train_command(
        tiny_experiment(training={"batch_size": 12, **settings}).stage_config("training"), digits, folder
    )


def torchrun(*options: str) -> list[str]:
    """A command that runs the module behind it in several processes, forked where `ready.environment()` says so."""
    return [*ready.python(), "-m", "torch.distributed.run", *options, "-m"]


def workers_of(launcher: int) -> list[int]:
    """Those that compute; a helper process of Python's is none of them."""
    children = psutil.Process(launcher).children()
    return [child.pid for child in children if any("spawn_main" in word for word in child.cmdline())]


@pytest.mark.parametrize(
    ("whom", "how", "status", "words"),
    [
        ("worker", signal.SIGKILL, 128 + 9, "rank 1 of 2 was killed by SIGKILL, and all were ended."),
        ("launcher", signal.SIGTERM, ExitCode.INTERRUPTED, "saved; the next submission goes on from there"),
        ("launcher", signal.SIGINT, 128 + 2, ""),
        ("launcher", signal.SIGKILL, -9, ""),
    ],
)
def test_whoever_is_killed_takes_all_along(whom, how, status, words, digits, tmp_path):
    command = [*PYTHON, *training(tmp_path, digits, steps=10**6), "--device", "2xcpu"]
    with open(tmp_path / "said", "w") as said:
        launcher = subprocess.Popen(command, stdout=said, stderr=said, env=ENVIRONMENT)
    try:
        wait_for(lambda: saved_states(tmp_path / "state") or launcher.poll(), "a saved step")
        assert launcher.poll() is None, (tmp_path / "said").read_text()
        workers = workers_of(launcher.pid)
        assert len(workers) == 2
        os.kill({"worker": workers[-1], "launcher": launcher.pid}[whom], how)
        assert launcher.wait(600) == status
        wait_for(lambda: not any(map(alive, workers)), "the end of its processes, which do not go on alone")
    finally:
        launcher.kill()
    said = (tmp_path / "said").read_text().strip()
    assert said.endswith(words)
    assert "SignalException" not in said


FAILING = """
import os
from ddpm.config.errors import UserError
from ddpm.training.loop import Trainer

step = Trainer.training_step


def fail(self, pixels):
    if os.environ["RANK"] == "1" and self.state.step == 7:
        raise UserError("the cat has it")
    return step(self, pixels)


Trainer.training_step = fail
"""


def test_the_last_error_of_a_log_is_that_of_the_process_that_failed(digits, tmp_path):
    """And not that of another one, which has only lost it."""
    (tmp_path / "sitecustomize.py").write_text(FAILING)
    command = [*torchrun("--standalone", "--nproc-per-node", "2"), *training(tmp_path, digits), "--device", "cpu"]
    environment = ready.environment() | {"PYTHONPATH": str(tmp_path)}
    with open(tmp_path / "said", "w") as said:
        subprocess.run(command, stdout=said, stderr=said, env=environment, check=False)
    assert re.fullmatch(r"ERROR: rank 1 of 2 on \S+: the cat has it", last_words(tmp_path / "said")[0])


def test_the_exit_status_is_that_of_the_processes():
    done = run_ddpm("sample", "--device", "2xcpu", "--shard", 1)
    assert done.returncode == 2
    assert "Missing option" in done.stderr
    assert done.stderr.strip().endswith("ended with exit status 2, and all were ended.")


def test_a_wrong_number_of_processes_is_refused():
    for device in ("0xcpu", "twoxcpu"):
        done = run_ddpm("sample", "--device", device)
        assert done.returncode == 1
        assert done.stderr.strip() == (
            f"ERROR: --device {device}: give a number of processes and what they run on, as in 2xcuda."
        )


@pytest.mark.parametrize("by", ["device", "torchrun"])
def test_shards_are_drawn_by_two_processes_from_the_command_line(by, trained, weights, tmp_path):
    config = SamplingConfig(images=40, shards=2, batch_size=8)
    (tmp_path / "config.json").write_text(json.dumps({"name": "any", "sampling": config.model_dump(mode="json")}))
    sample_shard(AncestralSampler(trained, config, CPU), 1, tmp_path / "one.npz", log=lambda message: None)
    command = ["ddpm", "sample", "--config", tmp_path / "config.json", "--weights", weights, "--shard", "1"]
    command += ["--out", tmp_path / "two.npz", "--device"]
    if by == "device":
        command = [*PYTHON, *command, "2xcpu"]
    else:
        command = [*torchrun("--standalone", "--nproc-per-node", "2"), *command, "cpu"]
    environment = ready.environment() | ENVIRONMENT
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "two.npz").read_bytes() == (tmp_path / "one.npz").read_bytes()
    assert done.stdout.count("images 0..7 of 0..19") == done.stdout.count("images 8..15 of 0..19") == 1


def test_two_nodes_train_like_one_process(digits, train_images, tmp_path):
    """Two agents of torchrun on one machine, which meet at an address, as docs/clusters.md says it."""
    meeting = ["--rdzv-backend", "c10d", "--rdzv-id", "any", "--rdzv-endpoint", f"127.0.0.1:{free_port()}"]
    command = torchrun("--nnodes", "2", "--nproc-per-node", "1", *meeting, "--local-addr", "127.0.0.1")
    command += [*training(tmp_path, digits, learning_rate=1e-3, ema_decay=0.5), "--device", "cpu"]
    environment = ready.environment()
    nodes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    said = [node.communicate()[1] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    config = json.loads((tmp_path / "config.json").read_text())
    one = Trainer(config, train_images, CPU)
    one.run()
    two = load_model(tmp_path / "final.safetensors").model.state_dict()
    expected = one.state.parameters.split(one.state.ema)
    largest = one.state.ema.abs().max()
    assert max((two[name] - tensor).abs().max() for name, tensor in expected.items()) < 2e-6 * largest


def test_a_process_without_a_gpu_of_its_own_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    chosen = {}
    for rank in range(2):
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        chosen[rank] = [str(choose_device(name)) for name in ("auto", "cuda")]
    assert chosen == {0: ["cuda:0"] * 2, 1: ["cuda:1"] * 2}
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(UserError, match=r"3 GPUs are needed here.*there are 2\..*compute.training_gpus"):
        choose_device("auto")
