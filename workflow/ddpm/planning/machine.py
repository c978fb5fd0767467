"""What this machine has, found without torch."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from ddpm.config.schema import Compute
from ddpm.jobs.failures import nearest_existing
from ddpm.jobs.gpus import Gpu, visible
from ddpm.jobs.processor import processor_name
from ddpm.planning.cluster import Node

GB = 10**9
FOLDERS = ("resources", "results")  # where downloads and prepared data go, and all that is computed


def in_gb(size: float) -> str:
    """Bytes in words: "0.00065 GB", "2.7 GB", "1,138 GB"."""
    return f"{size / GB:,.0f} GB" if size >= 10 * GB else f"{size / GB:.2g} GB"


@dataclass(frozen=True)
class Disk:
    number: int
    """Folders of the same number share their room."""
    free: int
    """Bytes."""


@dataclass(frozen=True)
class Machine:
    gpus: tuple[Gpu, ...]
    cpu: str
    cores: int
    memory: int
    """Bytes of main memory."""
    disks: dict[str, Disk]
    """Of each of FOLDERS."""
    nodes: tuple[Node, ...] = ()
    """Of the cluster that this machine can ask, where somebody asked it."""

    def threads(self, compute: Compute) -> int:
        """The CPU threads of a job."""
        return min(compute.threads, self.cores)

    def jobs_on_cpu(self, compute: Compute) -> int:
        """Jobs that the cores have room for at the same time."""
        return max(1, self.cores // self.threads(compute))

    def cpu_name(self, compute: Compute) -> str:
        """What the file of rates calls the CPU: by the threads of a job, since several jobs share it."""
        return some_cores(self.cpu, self.threads(compute))


def some_cores(cpu: str, threads: int) -> str:
    """What the file of rates calls so many cores of a processor."""
    return f"{cpu}, {threads} of its cores"


def this_machine() -> Machine:
    """The machine that this runs on; folders are those of the working directory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    disks = {folder: disk_of(Path(folder)) for folder in FOLDERS}
    return Machine(visible(), processor_name(), cores, memory, disks)


def disk_of(folder: Path) -> Disk:
    """The disk of a folder, or of where it would be made."""
    folder = nearest_existing(folder.absolute())
    return Disk(os.stat(folder).st_dev, shutil.disk_usage(folder).free)
