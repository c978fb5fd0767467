"""A disk that gets full, or that nobody may write to: every command says so, loses nothing, and goes on."""

import gc
import json
import re
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import ready
from disks import PAGE
from helpers import CPU, tiny_experiment

from ddpm import cli
from ddpm.config.errors import ExitCode
from ddpm.config.schema import ClassifierConfig
from ddpm.evaluation.features import write_features
from ddpm.evaluation.networks import load_network
from ddpm.evaluation.networks.classifier import train_classifier
from ddpm.evaluation.reference import write_reference
from ddpm.jobs import failures
from ddpm.jobs.failures import explain
from ddpm.jobs.locks import Lock, Owner
from ddpm.sampling.runner import AncestralSampler, sample_shard
from ddpm.storage import chunk_cache
from ddpm.storage.files import OWNED_FILES, write_json
from ddpm.training.model import load_model

SECTIONS = {
    "training": {"snapshot_every": 4, "steps": 8, "log_every": 2, "save_every": 2},
    "snapshots": {"images": 20},
    "sampling": {"images": 48, "batch_size": 4},
    "likelihood": {"batch_size": 3},
    "evaluation": {"splits": 2},
}


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Every batch is kept as soon as it is made."""
    monkeypatch.setattr(chunk_cache, "SAVE_EVERY", -1)


@pytest.fixture
def ddpm(monkeypatch, capsys):
    """Run a command in this process; returns its exit status, its output and its last words."""

    def run(*arguments) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ddpm", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code or 0
        del ended
        gc.collect()  # what an error holds, which would end with the process: a lock
        return code, *capsys.readouterr()

    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def sources(digits, weights, tmp_path_factory) -> Path:
    """Files that commands read."""
    folder = tmp_path_factory.mktemp("sources")
    experiment = tiny_experiment(**SECTIONS)
    for stage in ("training", "sampling", "likelihood", "evaluation"):
        (folder / f"{stage}.config.json").write_text(json.dumps(experiment.stage_config(stage)))
    (folder / "model.safetensors").symlink_to(weights)
    (folder / "digits").symlink_to(digits)
    config = ClassifierConfig(width=8, features=16, epochs=1)
    (folder / "classifier.config.json").write_text(config.model_dump_json())
    train_classifier(config, digits, folder / "network.safetensors", CPU, log=lambda message: None)
    sample_shard(
        AncestralSampler(load_model(weights), experiment.sampling, CPU),
        1,
        folder / "samples.npz",
        log=lambda message: None,
    )
    network = load_network(folder / "network.safetensors")
    write_reference(network, digits, 2, folder / "real.npz", folder / "real.json", log=lambda message: None)
    write_features(network, folder / "samples.npz", folder / "features.npz", log=lambda message: None)
    return folder


def commands(of: Path, to: Path) -> dict[str, list]:
    """By name, commands that read files of `of` and what earlier ones have written, and write to `to`."""
    state, data = to / "state", of / "digits"
    training = {
        "config": of / "training.config.json",
        "data": data / "train.npy",
        "state": state / "training",
        "out": to / "final.safetensors",
        "history": to / "training.csv",
        "outcome": to / "training.json",
        "snapshots": to / "weights",
    }
    return {
        "prepare": ["prepare", "digits", "--out", to / "data"],
        "train": ["train", *(word for key, file in training.items() for word in (f"--{key}", file)), "--device", "cpu"],
        "sample": [
            *("sample", "--config", of / "sampling.config.json", "--weights", of / "model.safetensors", "--shard", 1),
            *("--out", to / "samples.npz", "--state", state / "samples", "--device", "cpu"),
        ],
        "likelihood": [
            *(
                "likelihood",
                "--config",
                of / "likelihood.config.json",
                "--weights",
                of / "model.safetensors",
                "--shard",
                2,
            ),
            *("--data", data / "test.npy", "--out", to / "bound.npz", "--state", state / "bound", "--device", "cpu"),
        ],
        "reference": [
            *("reference", "--network", of / "network.safetensors", "--data", data, "--splits", 2),
            *("--out", to / "real.npz", "--summary", to / "real.json", "--state", state / "real", "--device", "cpu"),
        ],
        "features": [
            *("features", "--network", of / "network.safetensors", "--samples", of / "samples.npz"),
            *("--out", to / "features.npz", "--state", state / "features", "--device", "cpu"),
        ],
        "evaluate": [
            *(
                "evaluate",
                "--config",
                of / "evaluation.config.json",
                of / "features.npz",
                "--reference",
                of / "real.npz",
            ),
            *("--card", data / "card.json", "--out", to / "metrics.json"),
        ],
        "interpolate": [
            *("interpolate", "--weights", of / "model.safetensors", "--data", data / "train.npy"),
            *("--steps", 5, "--out", to / "grid.npz", "--device", "cpu"),
        ],
        "export": ["export-weights", of / "model.safetensors", "--out", to / "pipeline"],
        "select": ["select", of / "model.safetensors", "--checkpoint", "final", "--out", to / "chosen.safetensors"],
        "classifier": [
            *("classifier", "--config", of / "classifier.config.json", "--data", data, "--out", to / "new.safetensors"),
            *("--device", "cpu"),
        ],
        "figure": ["figure", "figure2", "--out", to / "figure2.png", "--out", to / "figure2.pdf"],
        "table": ["table", "table1", "--out", to / "table1.csv"],
    }


NAMES = list(commands(Path(), Path()))
STEP = {  # pages
    **{"train": 20, "classifier": 6, "prepare": 12, "features": 4, "select": 20, "export": 20, "reference": 24},
    **{"sample": 2, "likelihood": 2, "figure": 4},
}


def contents(folder: Path) -> dict[str, bytes]:
    """What a command has written, but for its state, and for the list of what it has made."""
    files = {str(file.relative_to(folder)): file for file in folder.rglob("*") if file.is_file()}
    return {
        name: file.read_bytes()
        for name, file in files.items()
        if not name.startswith("state/") and file.name != OWNED_FILES
    }


def begun_at(said: str) -> int | None:
    """The first step or image that a command made."""
    found = re.search(r"resuming \S+ at step (\d+)|images (\d+)\.\.\d+ of", said)
    return int(found[1] or found[2]) if found else None


@pytest.mark.parametrize("name", NAMES)
def test_a_disk_that_gets_full_loses_nothing(name, ddpm, sources, mounted, tmp_path):
    """There is a little more room at each attempt, so that each write meets the full disk, at its start or within."""
    assert ddpm(*commands(sources, tmp_path / "whole")[name])[0] == 0
    undisturbed = contents(tmp_path / "whole")
    disk, attempts, begun = mounted("size=16k"), 0, []
    (disk.folder / "filler").write_bytes(b"1")  # a disk of size 0 would be one without end
    to, code = disk.folder / "out", None
    while code != ExitCode.OK:
        disk.leave(attempts * STEP.get(name, 1) * PAGE)
        code, out, err = ddpm(*commands(sources, to)[name])
        attempts += 1
        begun.append(begun_at(out))
        assert not [file for file in disk.folder.rglob("*") if "part" in file.name or "lock" in file.name]
        assert contents(to).items() <= undisturbed.items(), "whole, or not there"
        if code != ExitCode.OK:
            assert code == ExitCode.DISK, err
            last = err.splitlines()[-1]
            assert last.startswith(f"ERROR: {to}"), err
            assert f"cannot be written, since the disk of {disk.folder}" in last
            for words in ("is full: 0.00 GB are free. Make room there", "run the same command again"):
                assert words in last
            assert "Traceback" not in err
        assert attempts < 100
    assert contents(to) == undisturbed
    assert attempts > 1, "it has met a full disk"
    if name in ("train", "sample", "likelihood"):
        begun = [first for first in begun if first is not None]
        assert begun == sorted(begun)
        assert begun[-1] > begun[0], "it goes on from what is saved"


@pytest.mark.parametrize("name", [name for name in NAMES if name != "prepare"])
def test_a_read_only_disk_is_named_before_any_work(name, ddpm, sources, mounted, monkeypatch):
    disk = mounted("size=4m")
    disk.remount("ro")
    if "--state" in commands(sources, disk.folder)[name] and name != "reference":
        for work in (
            "sampling.runner.AncestralSampler.draw",
            "evaluation.likelihood.Bound.compute",
            "training.loop.Trainer",
        ):
            monkeypatch.setattr(f"ddpm.{work}", lambda *_: pytest.fail("works for nothing"))
    code, _, err = ddpm(*commands(sources, disk.folder / "out")[name])
    assert code == ExitCode.DISK, err
    assert err.startswith(f"ERROR: {disk.folder}/out")
    assert f"mounted read-only. Have that changed for {disk.folder}" in err
    assert "Traceback" not in err
    monkeypatch.undo()
    disk.remount("rw")


def test_a_lock_that_was_left_on_a_disk_that_is_read_only_now(mounted):
    disk = mounted()
    dead = replace(Owner.me(), pid=2**22 + 1)
    write_json(disk.folder / "lock", asdict(dead))
    disk.remount("ro")
    with pytest.raises(OSError) as refused:
        Lock(disk.folder / "lock", "working", lambda message: None).acquire()
    assert f"read-only. Have that changed for {disk.folder}" in explain(refused.value, []).message


def test_a_disk_that_takes_no_line_of_the_log_ends_no_training(sources, mounted, tmp_path):
    """Nor does it change an exit status, where the last words are lost."""
    disk = mounted("size=4k")
    (disk.folder / "filler").write_bytes(bytes(PAGE))
    for to, code in ((tmp_path, ExitCode.OK), (disk.folder, ExitCode.DISK)):
        with open(disk.folder / "log", "w") as log:
            command = [*ready.python(), "-m", "ddpm", *map(str, commands(sources, to)["likelihood"])]
            assert subprocess.run(command, stdout=log, stderr=log, check=False).returncode == code
    assert (disk.folder / "log").read_text() == ""
    assert (tmp_path / "bound.npz").exists()
    job = failures.FailedJob("likelihood", "evaluation", {}, [str(disk.folder / "log")])
    assert f"the disk of {disk.folder} is full: 0.00 GB are free. Make room there" in failures.summary([job])
