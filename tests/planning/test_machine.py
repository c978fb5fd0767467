"""GPUs as nvidia-smi lists them, and disks of folders that may not be there yet."""

import pytest
from fake_gpus import FakeGpus

from ddpm.planning.machine import disk_of, this_machine

FIRST, SECOND = ("NVIDIA A100-SXM4-80GB", 80 * 2**30), ("NVIDIA GB10", None)


def usable_gpus():
    return tuple((gpu.name, gpu.memory) for gpu in this_machine().gpus)


@pytest.fixture
def two(tmp_path, monkeypatch) -> FakeGpus:
    fake = FakeGpus(tmp_path / "machine")
    fake.lists("0, GPU-aa11, NVIDIA A100-SXM4-80GB, 81920, 4, 580.95", "1, GPU-bb22, NVIDIA GB10, [N/A], [N/A], 580.95")
    monkeypatch.setenv("PATH", fake.environment["PATH"])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return fake


def test_all_gpus(two):
    assert usable_gpus() == (FIRST, SECOND)


def test_those_that_cuda_may_use(two, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert usable_gpus() == (SECOND,)


def test_none_where_the_command_fails_or_is_missing(two, monkeypatch, tmp_path):
    (two.folder / "bin/nvidia-smi").write_text("#!/bin/sh\necho NVIDIA-SMI has failed\nexit 9\n")
    assert usable_gpus() == ()
    (two.folder / "bin/nvidia-smi").write_text("#!/bin/sh\necho No devices were found\n")
    assert usable_gpus() == ()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert usable_gpus() == ()


def test_this_machine_has_something(tmp_path):
    here = this_machine()
    assert here.cores >= 1
    assert here.memory > 2**28
    assert disk_of(tmp_path / "not/yet/there").number == disk_of(tmp_path).number
    assert disk_of(tmp_path).free > 0
