"""A disk that gets full, or that nobody may write to: every command says so, loses nothing, and goes on."""

import json
import re
import sys
from pathlib import Path

import pytest
from disks import PAGE
from helpers import CPU, tiny_experiment

from ddpm import __main__, parts
from ddpm.config import ClassifierConfig
from ddpm.evaluation.classifier import train_classifier
from ddpm.exits import ExitCode

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
    monkeypatch.setattr(parts, "SAVE_EVERY", -1)


@pytest.fixture
def ddpm(monkeypatch, capsys):
    """Run a command in this process; returns its exit status, its output and its last words."""

    def run(*arguments) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ddpm", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            __main__.main()
        out, err = capsys.readouterr()
        return ended.value.code or 0, out, err

    return run


@pytest.fixture(scope="module")
def sources(digits, weights, tmp_path_factory) -> Path:
    """Files that commands read."""
    folder = tmp_path_factory.mktemp("sources")
    experiment = tiny_experiment(**SECTIONS)
    for stage in ("training", "sampling", "likelihood", "evaluation"):
        (folder / f"{stage}.json").write_text(json.dumps(experiment.stage_config(stage)))
    (folder / "model.safetensors").symlink_to(weights)
    (folder / "digits").symlink_to(digits)
    config = ClassifierConfig(width=8, features=16, epochs=1)
    train_classifier(config, digits, folder / "network.safetensors", CPU, log=lambda message: None)
    return folder


def commands(of: Path, to: Path) -> dict[str, list]:
    """By name, commands that read files of `of` and what earlier ones have written, and write to `to`."""
    state, data = to / "state", of / "digits"
    training = {
        "config": of / "training.json",
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
            *("sample", "--config", of / "sampling.json", "--weights", of / "model.safetensors", "--shard", 1),
            *("--out", to / "samples.npz", "--state", state / "samples", "--device", "cpu"),
        ],
        "likelihood": [
            *("likelihood", "--config", of / "likelihood.json", "--weights", of / "model.safetensors", "--shard", 2),
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
            *("evaluate", "--config", of / "evaluation.json", of / "features.npz", "--reference", of / "real.npz"),
            *("--card", data / "card.json", "--out", to / "metrics.json"),
        ],
        "interpolate": [
            *("interpolate", "--weights", of / "model.safetensors", "--data", data / "train.npy"),
            *("--steps", 5, "--out", to / "grid.npz", "--device", "cpu"),
        ],
        "export": ["export-weights", of / "model.safetensors", "--out", to / "pipeline"],
        "select": ["select", of / "model.safetensors", "--checkpoint", "final", "--out", to / "chosen.safetensors"],
        "classifier": [
            *("classifier", "--config", of / "classifier.json", "--data", data, "--out", to / "new.safetensors"),
            *("--device", "cpu"),
        ],
        "figure": ["figure", "figure2", "--out", to / "figure2.png", "--out", to / "figure2.pdf"],
        "table": ["table", "table1", "--out", to / "table1.csv"],
    }
