"""Processes that share a job, without the seconds that torchrun takes to start them: forked, over gloo."""

import multiprocessing
import os
import socket
import sys
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from helpers import CPU

from ddpm.compute.distributed import BATCH_TIMEOUT, Group, process_group

FORK = multiprocessing.get_context("fork")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def member(
    job: Callable[[Group], None], rank: int, size: int, port: int, said: Path | None, patience: timedelta
) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    try:
        with process_group(CPU, patience) as group:
            job(group)
    except Exception as error:
        (said / f"{rank}.txt").write_text(f"{type(error).__name__}: {error}\n{traceback.format_exc()}")
        sys.exit(1)


def start(
    size: int, job: Callable[[Group], None], said: Path | None = None, patience: timedelta = BATCH_TIMEOUT
) -> list[multiprocessing.Process]:
    """Processes 0 .. size-1 of a group, each in `job`; what they die of goes to the folder `said`, `{rank}.txt`."""
    port = free_port()
    members = [FORK.Process(target=member, args=(job, rank, size, port, said, patience)) for rank in range(size)]
    for process in members:
        process.start()
    return members


def together(size: int, job: Callable[[Group], None], said: Path | None = None) -> None:
    """Run `job` in a group of `size`; all must come through."""
    members = start(size, job, said)
    for process in members:
        process.join()
    assert [process.exitcode for process in members] == [0] * size
