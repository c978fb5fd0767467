"""What all tests share: their names and order, prepared data, and a tiny trained network."""

from __future__ import annotations

import atexit
import gc
import random
import re
import signal
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import ready
from disks import Disk
from workspace import PROJECT

if TYPE_CHECKING:  # xdist's parent of the processes that test need not load torch
    from ddpm.data.store import Images

# Files whose tests share the finished chain: of several processes, one takes them all.
SHARING = ("test_chain.py", "test_chain_on_disks.py", "test_killed_chain.py", "test_reruns.py")
# What takes longest starts first, so that no process is left alone with it at the end.
LONGEST = ("test_chain_on_slurm.py", *SHARING, "test_paper.py", "test_conda.py")


def words(value: object) -> str | None:
    """A short name of a parameter, of letters and digits; None for what has none."""
    if isinstance(value, bool | int | float | Enum | None):
        return str(value.value if isinstance(value, Enum) else value)
    if isinstance(value, str | Path):
        text = re.sub(r"[^\w.+=,-]+", " ", str(value)).strip(" .,-")
        return text if len(text) <= 30 else text[:30].rpartition(" ")[0] or text[:30]
    if isinstance(value, dict | list | tuple | set | frozenset):
        parts = list(value) if not isinstance(value, set | frozenset) else sorted(map(str, value))
        named = [words(part) for part in parts if isinstance(part, str | int | float)]
        return words(" ".join(named)) if named and len(named) == len(parts) else None
    return getattr(value, "__name__", None)


@pytest.hookimpl(tryfirst=True)
def pytest_make_parametrize_id(val, argname):
    """Names that are the same in every process: not of the clock, nor of bytes, addresses and orders of sets."""
    return words(val) or argname


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "finished" if file.endswith(SHARING) else file

    return ByFile(config, log)


def pytest_addoption(parser):
    parser.addoption(
        "--shuffle", type=int, metavar="SEED", help="run the files, and the tests of each, in random order"
    )


def pytest_collection_modifyitems(config, items):
    """Mark what `-m fidelity` runs, which is what the two pages on the method name, and what `-m system` does.

    What takes the network or real data is left out unless `-m` asks for it.
    """
    for mark in ("network", "realdata"):  # in addopts, `-m "not system"` would replace what leaves them out
        if mark not in (config.getoption("markexpr") or ""):
            config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker(mark)])
            items[:] = [item for item in items if not item.get_closest_marker(mark)]
    pages = "".join((PROJECT / f"docs/{page}.md").read_text() for page in ("fidelity", "oracle"))
    named = set(re.findall(r"`(test_\w+)`", pages))
    for item in items:
        if item.originalname in named:
            item.add_marker(pytest.mark.fidelity)
        if item.path.parent.name == "system":
            item.add_marker(pytest.mark.system)
    if (seed := config.getoption("shuffle")) is not None:
        chance = random.Random(seed)
        chance.shuffle(items)
        place = {path: chance.random() for path in dict.fromkeys(item.path for item in items)}
        items.sort(key=lambda item: place[item.path])
    elif hasattr(config, "workerinput"):
        order = {name: place for place, name in enumerate(LONGEST)}
        items.sort(key=lambda item: (order.get(item.path.name, len(order)), item.path.parent.name != "system"))


def pytest_collection_finish():
    """What was imported stays: it costs a third of a second each time that garbage is looked for in it."""
    gc.freeze()
    atexit.register(gc.unfreeze)  # or extensions say at the end that they leak


def pytest_configure(config):
    """A shell that runs this in the background has it ignore Ctrl-C, and with it every process that a test starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput"):  # whose parent has done it
        ready.started()


def pytest_unconfigure():
    ready.stop()


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Sums are rounded by thread count: tests that compare bits compare them at one."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def digits(tmp_path_factory) -> Path:
    """The folder of the prepared digits."""
    from ddpm.config.registry import DATASETS
    from ddpm.data.prepare import prepare

    folder = tmp_path_factory.mktemp("resources") / "digits"
    prepare(DATASETS["digits"], None, folder)
    return folder


@pytest.fixture(scope="session")
def train_images(digits) -> Images:
    from ddpm.data.store import Images

    return Images(digits / "train.npy")


@pytest.fixture(scope="session")
def weights(train_images, tmp_path_factory) -> Path:
    """model.safetensors of a tiny trained network."""
    from helpers import CPU, tiny_experiment

    from ddpm.training.loop import train

    folder = tmp_path_factory.mktemp("trained")
    config = tiny_experiment().stage_config("training")
    weights = folder / "model.safetensors"
    train(config, train_images, folder / "state", weights, *(folder / name for name in ("csv", "json", "weights")), CPU)
    return weights


@pytest.fixture(scope="session")
def trained(weights):
    """The tiny trained network, as the sampler loads it."""
    from ddpm.training.model import load_model

    return load_model(weights)


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
