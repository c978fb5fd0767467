"""A scale with the paper's networks and a machine with or without a GPU, for the tests of planning."""

from pathlib import Path

import yaml

from ddpm.config.resolving import Config, load
from ddpm.jobs.gpus import Gpu
from ddpm.planning.machine import GB, Disk, Machine

EPS = {"parameterization": "eps", "objective": "simple"}
LARGE = {"ch_mult": [1, 1, 2, 2, 4, 4]}
CIFAR, FACES, CHURCH = "cifar10-eps-simple", "celebahq256-eps-simple", "lsun-church256-eps-simple"
NO_SIZE = {"cifar10": {"files": [{"name": "cifar.tar.gz", "urls": ["https://example.org/cifar.tar.gz"]}]}}
PAPER = {
    "description": "The paper's networks and numbers.",
    "stand_ins": {},
    "features": "inception",
    "defaults": {"sampling": {"images": 50_000, "shards": 5}},
    "experiments": {
        CIFAR: {
            "data": "cifar10",
            "network": {"dropout": 0.1},
            "diffusion": {**EPS, "variance": "fixedlarge"},
            "training": {"steps": 800_000, "snapshot_every": 100_000},
            "snapshots": {"images": 5_000, "previews": 8},
            "sampling": {"previews": 20},
            "few_steps": {"steps": [10, 50], "eta": [0, 1], "shards": 2},
            "likelihood": {"shards": 2},
        },
        FACES: {
            "data": "celebahq256",
            "network": LARGE,
            "diffusion": {**EPS, "variance": "fixedsmall"},
            "training": {"steps": 500_000, "batch_size": 64},
            "latents": {},
        },
        CHURCH: {
            "data": "lsun-church256",
            "network": LARGE,
            "diffusion": {**EPS, "variance": "fixedsmall"},
            "weights": "released",
        },
    },
}


def paper(folder: Path, override: dict | None = None, **keys) -> Config:
    """The scale above, with the changes of a config.yaml."""
    (folder / "scales").mkdir(exist_ok=True)
    (folder / "scales/paper.yaml").write_text(yaml.safe_dump(PAPER, sort_keys=False))
    document = {"scale": "paper", "figures": ["figure2"], "override": override or {}, **keys}
    return load(document, folder / "scales")


def machine(*gpus: int, disk: int = 10_000, memory: int = 64, cores: int = 8) -> Machine:
    """With GPUs of so many GB, and so many GB of disk and of main memory."""
    disks = {folder: Disk(1, disk * GB) for folder in ("resources", "results")}
    found = tuple(Gpu(str(i), f"GPU-{i}", "Test GPU", size * GB) for i, size in enumerate(gpus))
    return Machine(found, "Test CPU", cores, memory * GB, disks)
