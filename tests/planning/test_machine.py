"""GPUs as nvidia-smi lists them, and disks of folders that may not be there yet."""

import os

import pytest

from ddpm.planning.machine import Gpu, disk_of, this_machine, usable_gpus

TWO = "0, GPU-aa11, NVIDIA A100-SXM4-80GB, 81920\n1, GPU-bb22, NVIDIA GB10, [N/A]\n"
FIRST, SECOND = Gpu("NVIDIA A100-SXM4-80GB", 80 * 2**30), Gpu("NVIDIA GB10", None)


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """A command of that name, with this output and status."""

    def install(output: str, status: int = 0) -> None:
        command = tmp_path / "nvidia-smi"
        command.write_text(f"#!/bin/sh\ncat <<'END'\n{output}END\nexit {status}\n")
        command.chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return install


def test_all_gpus(nvidia_smi):
    nvidia_smi(TWO)
    assert usable_gpus() == (FIRST, SECOND)


@pytest.mark.parametrize(
    ("visible", "gpus"),
    [("0", (FIRST,)), ("1,0", (SECOND, FIRST)), ("GPU-bb22", (SECOND,)), ("", ()), ("-1", ()), ("0,7,1", (FIRST,)),
     ("MIG-1234", (Gpu("MIG instance", None),))],
)  # fmt: skip
def test_those_that_cuda_may_use(nvidia_smi, monkeypatch, visible, gpus):
    nvidia_smi(TWO)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert usable_gpus() == gpus


def test_none_where_the_command_fails_or_is_missing(nvidia_smi, monkeypatch, tmp_path):
    nvidia_smi("NVIDIA-SMI has failed\n", status=9)
    assert usable_gpus() == ()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert usable_gpus() == ()


def test_this_machine_has_something(tmp_path):
    here = this_machine()
    assert here.cores >= 1
    assert here.memory > 2**28
    assert disk_of(tmp_path / "not/yet/there").number == disk_of(tmp_path).number
    assert disk_of(tmp_path).free > 0
