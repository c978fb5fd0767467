"""Prepared data and a tiny trained network that several stages' tests share."""

import re
from pathlib import Path

import pytest
import torch
from disks import Disk
from helpers import CPU, tiny_experiment
from workspace import PROJECT
from xdist.scheduler import LoadFileScheduling

from ddpm.data.prepare import prepare
from ddpm.data.registry import DATASETS
from ddpm.data.store import Images

# Files whose tests share the finished chain: one process takes them all.
SHARING = ("test_chain.py", "test_chain_on_disks.py", "test_killed_chain.py", "test_reruns.py")
FASTER = ("tests", "data", "evaluation", "planning", "report", "sampling", "training")


def shares_the_chain(file: str) -> bool:
    return Path(file).parent.name == "workflow" and file.endswith(SHARING)


class ByFile(LoadFileScheduling):
    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return "finished" if shares_the_chain(file) else file


def pytest_xdist_make_scheduler(config, log):
    return ByFile(config, log)


def pytest_collection_modifyitems(config, items):
    """Of several processes, each takes whole files, the longest ones first.

    `-m fidelity` runs the tests that the two pages on the method name.
    """
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: (not shares_the_chain(str(item.path)), item.path.parent.name in FASTER))
    pages = "".join((PROJECT / f"docs/{page}.md").read_text() for page in ("fidelity", "oracle"))
    named = set(re.findall(r"`(test_\w+)`", pages))
    for item in items:
        if item.originalname in named:
            item.add_marker(pytest.mark.fidelity)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Sums are rounded by thread count: tests that compare bits compare them at one."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def digits(tmp_path_factory) -> Path:
    """The folder of the prepared digits."""
    folder = tmp_path_factory.mktemp("resources") / "digits"
    prepare(DATASETS["digits"], None, folder)
    return folder


@pytest.fixture(scope="session")
def train_images(digits) -> Images:
    return Images(digits / "train.npy")


@pytest.fixture(scope="session")
def weights(train_images, tmp_path_factory) -> Path:
    """model.safetensors of a tiny trained network."""
    from ddpm.training.loop import train

    folder = tmp_path_factory.mktemp("trained")
    config = tiny_experiment().stage_config("training")
    weights = folder / "model.safetensors"
    train(config, train_images, folder / "state", weights, *(folder / name for name in ("csv", "json", "weights")), CPU)
    return weights


@pytest.fixture(scope="session")
def trained(weights):
    """The tiny trained network, as the sampler loads it."""
    from ddpm.training.state import load_weights

    return load_weights(weights)


@pytest.fixture
def mounted(tmp_path):
    """Makes a disk of its own: a megabyte, or what the options of `mount` say."""
    disks = []

    def mount(options: str = "size=1m") -> Disk:
        disks.append(Disk(tmp_path / f"disk{len(disks)}", options))
        return disks[-1]

    yield mount
    for disk in disks:
        disk.unmount()
