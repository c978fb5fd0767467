"""An nvidia-smi on PATH that lists what a test says, and processes that hold leases."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """#!/bin/sh
case "$1 $2" in
  "--query-gpu=index,uuid,name,memory.total,memory.used,driver_version --format=csv,noheader,nounits")
    cat '{folder}/gpus.csv' ;;
  "--query-compute-apps=pid,gpu_uuid --format=csv,noheader,nounits") cat '{folder}/apps.csv' ;;
  *) echo "Field \\"$1\\" is not a valid field to query."; exit 2 ;;
esac
"""


class FakeGpus:
    """A machine with `count` GPUs of 80 GiB, GPU-a0, GPU-a1, ..., on which nobody computes."""

    def __init__(self, folder: Path, count: int = 0):
        self.folder = folder
        (folder / "bin").mkdir(parents=True)
        command = folder / "bin/nvidia-smi"
        command.write_text(SCRIPT.format(folder=folder))
        command.chmod(0o755)
        self.uuids = [f"GPU-a{i}" for i in range(count)]
        self.used = {}
        self.lists(*self.rows())

    def rows(self) -> list[str]:
        return [
            f"{i}, {uuid}, NVIDIA A100-SXM4-80GB, 81920, {self.used.get(i, 4)}, 470.57.02"
            for i, uuid in enumerate(self.uuids)
        ]

    def lists(self, *rows: str) -> None:
        """Have it list just these GPUs."""
        (self.folder / "gpus.csv").write_text("".join(f"{row}\n" for row in rows))
        self.computes()

    def computes(self, **pids: int) -> None:
        """Have the process compute on the GPU: a1=123 is process 123 on GPU-a1."""
        rows = [f"{pid}, GPU-{gpu}\n" for gpu, pid in pids.items()]
        (self.folder / "apps.csv").write_text("".join(rows))

    def holds(self, index: int, mebibytes: int) -> None:
        """Have so much of the GPU's memory be in use."""
        self.used[index] = mebibytes
        (self.folder / "gpus.csv").write_text("".join(f"{row}\n" for row in self.rows()))

    @property
    def environment(self) -> dict[str, str]:
        """What a process on this machine finds in its environment."""
        added = {
            "PATH": f"{self.folder}/bin{os.pathsep}{os.environ['PATH']}",
            "DDPM_GPU_LEASES": f"{self.folder}/leases",
        }
        left_out = ("CUDA_VISIBLE_DEVICES", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "DDPM_GPU_WAIT")
        return {key: value for key, value in {**os.environ, **added}.items() if key not in left_out}

    def start(self, code: str, **environment: str) -> subprocess.Popen:
        """Run Python code on this machine."""
        code = f"import os, sys, time\nfrom ddpm.jobs import gpus\ngpus.POLL_INTERVAL = 0.05\n{code}"
        return subprocess.Popen(
            [sys.executable, "-u", "-c", code], env={**self.environment, **environment}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def holder(self, count: int = 1, **environment: str) -> tuple[subprocess.Popen, list[str]]:
        """A process that has leased `count` GPUs, until it reads the end of its input; and which they are."""
        code = (
            f"gpus.lease({count}, log=lambda line: None); print(os.environ[gpus.VISIBLE], flush=True); sys.stdin.read()"
        )
        process = self.start(code, **environment)
        return process, process.stdout.readline().strip().split(",")
