"""Several processes of one command on this machine, started and watched by the one that it was given to.

Not torchrun's engine: on each machine that listens at an address which every other user of the machine, and of its
network, reaches, and it unpickles what comes from there. Here the processes meet at a file that only this user may
open, and they talk to each other by the loopback interface alone.
"""

import multiprocessing
import os
import runpy
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import connection, resource_tracker
from pathlib import Path

from ddpm.compute.distributed import MEETING
from ddpm.config.errors import ExitCode
from ddpm.jobs.signals import die_with

PASSED_ON = (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)  # by schedulers; Ctrl-C reaches all processes by itself
GRACE = 30  # seconds for the others to end where one has failed
GRACE_TO_SAVE = 300  # where one was interrupted, and another one may still save what all have done


def run_command(rank: int, processes: int, parent: int, meeting: str) -> None:
    """The command line of this process, which is that of the one that has started it."""
    die_with(parent, signal.SIGTERM)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), MEETING: meeting}
    os.environ |= {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
    loopback = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
    os.environ |= {"GLOO_SOCKET_IFNAME": loopback, "NCCL_SOCKET_IFNAME": loopback}

    runpy.run_module("ddpm", run_name="__main__", alter_sys=True)


def launch(processes: int) -> int:
    """Run this process's command line in so many new processes; returns the exit status.

    0 when all are through. When one fails the others are ended, and its status is returned. Signals are passed on to
    all of them, which may take their time to save what they have. They do not outlive this process.
    """
    threads = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
    os.environ["OMP_NUM_THREADS"] = str(max(threads // processes, 1))
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="ddpm-") as folder:  # which only this user may enter
        about = (processes, os.getpid(), str(Path(folder) / "meeting"))
        workers = [spawn.Process(target=run_command, args=(rank, *about)) for rank in range(processes)]
        try:
            with passing_signals_on(workers):
                for worker in workers:
                    worker.start()
                rank = first_failure(workers)
        except KeyboardInterrupt:  # Ctrl-C, of which nobody has to be told
            end(workers, signal.SIGINT, GRACE)
            return 128 + signal.SIGINT
        if rank is None:
            return 0
        status = workers[rank].exitcode
        interrupted = status == ExitCode.INTERRUPTED
        end(workers, signal.SIGTERM, GRACE_TO_SAVE if interrupted else GRACE)
    if interrupted:  # which they have said themselves
        return status
    how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with exit status {status}"
    print(f"rank {rank} of {processes} {how}, and all were ended.", file=sys.stderr, flush=True)
    return 128 - status if status < 0 else status


def first_failure(workers: Sequence[multiprocessing.Process]) -> int | None:
    """The rank of the first process that ends otherwise than well; None when all have ended."""
    while True:
        running = [worker.sentinel for worker in workers if worker.exitcode is None]
        failed = [rank for rank, worker in enumerate(workers) if worker.exitcode]
        if failed or not running:
            return failed[0] if failed else None
        connection.wait(running)


def end(workers: Sequence[multiprocessing.Process], by: signal.Signals, grace: float) -> None:
    """Tell those that still run to end, and kill those that have not within `grace` seconds."""
    started, limit = [worker for worker in workers if worker.pid], time.monotonic() + grace
    tell(started, by)
    for worker in started:
        worker.join(max(limit - time.monotonic(), 0))
    tell(started, signal.SIGKILL)
    for worker in started:
        worker.join()


def tell(workers: Sequence[multiprocessing.Process], number: int) -> None:
    for worker in workers:
        if worker.pid and worker.exitcode is None:
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(worker.pid, number)


@contextmanager
def passing_signals_on(workers: Sequence[multiprocessing.Process]) -> Iterator[None]:
    """A signal to this process goes to all of `workers`, which are started in the block."""

    def pass_on(number: int, frame: object) -> None:
        if not all(worker.pid for worker in workers):  # yet
            tell(workers, signal.SIGKILL)
            sys.exit(128 + number)
        tell(workers, number)

    # Schedulers signal all processes of a job, and multiprocessing's helper would die of it; it inherits being deaf.
    before = {number: signal.signal(number, signal.SIG_IGN) for number in PASSED_ON}
    resource_tracker.ensure_running()
    for number in PASSED_ON:
        signal.signal(number, pass_on)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
