"""Small configurations that several stages' tests share."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import ready
import torch
from waiting import show

from ddpm.config.experiment import Experiment
from ddpm.config.resolving import resolve_experiment

CPU = torch.device("cpu")


def rests(folder: Path, **moments: int) -> dict[str, str]:
    """Have jobs that are run in `folder` rest at these moments (resting.py): what they need in their environment."""
    (folder / "first").mkdir()
    shutil.copy(Path(__file__).with_name("resting.py"), folder / "first/sitecustomize.py")
    for command, moment in moments.items():
        (folder / f"rest-{command}").write_text(str(moment))
    return {"PYTHONPATH": str(folder / "first")}


def run_ddpm(*arguments) -> subprocess.CompletedProcess:
    """`python -m ddpm ...`, on one thread."""
    command = [*ready.python(), "-m", "ddpm", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    show(["ddpm", *map(str, arguments)], Path.cwd(), done)
    return done


def train_command(config: dict, digits: Path, folder: Path) -> list[str]:
    """`ddpm train` behind `python -m`, without its device; all that it writes goes into `folder`."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    files = {
        "config": folder / "config.json",
        "data": digits / "train.npy",
        "state": folder / "state",
        "out": folder / "final.safetensors",
        "history": folder / "training.csv",
        "outcome": folder / "training.json",
        "snapshots": folder / "weights",
    }
    return ["ddpm", "train", *(str(word) for key, file in files.items() for word in (f"--{key}", file))]


def tiny_experiment(method: str = "eps-simple-fixedlarge", **sections: dict) -> Experiment:
    """An experiment on digits that takes a second: `method` is parameterization-objective-variance."""
    parameterization, objective, variance = method.split("-")
    raw = {
        "data": "digits",
        "network": {"ch": 8, "ch_mult": [1, 2], "num_res_blocks": 1, "attn_resolutions": [4], "groups": 4},
        "diffusion": {
            "parameterization": parameterization,
            "objective": objective,
            "variance": variance,
            "timesteps": 20,
        },
        "training": {
            "steps": 12,
            "batch_size": 8,
            "warmup": 4,
            "ema_decay": 0.9,
            "log_every": 3,
            "save_every": 6,
        },
        "sampling": {"images": 40, "batch_size": 16, "shards": 2, "previews": 4},
        "likelihood": {"test": 20, "train": 12, "shards": 2, "batch_size": 7},
    }
    for name, changes in sections.items():
        raw[name] = {**raw.get(name, {}), **changes}
    return resolve_experiment(f"digits-{parameterization}-{objective}-test", raw, "tests")
