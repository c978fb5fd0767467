"""Small configurations and data that several stages' tests share."""

from pathlib import Path

import pytest
import torch

from ddpm.config import Experiment, resolve_experiment
from ddpm.data.prepare import prepare
from ddpm.data.store import Images

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread():
    """Sums are rounded by thread count: tests that compare bits compare them at one."""
    torch.set_num_threads(1)


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


@pytest.fixture(scope="session")
def digits(tmp_path_factory) -> Path:
    """The folder of the prepared digits."""
    folder = tmp_path_factory.mktemp("resources") / "digits"
    prepare("digits", folder)
    return folder


@pytest.fixture(scope="session")
def train_images(digits) -> Images:
    return Images(digits / "train.npy")


@pytest.fixture(scope="session")
def trained(digits, train_images, tmp_path_factory):
    """A tiny trained network, as the sampler loads it."""
    from ddpm.training.loop import train
    from ddpm.training.state import load_weights

    folder = tmp_path_factory.mktemp("trained")
    config = tiny_experiment().stage_config("training")
    weights = folder / "model.safetensors"
    train(config, train_images, folder / "state", weights, folder / "t.csv", folder / "t.json", CPU)
    return load_weights(weights)
