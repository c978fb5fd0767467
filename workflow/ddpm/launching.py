"""Several processes of one command on this machine, started and watched by torchrun's engine."""

import logging
import multiprocessing
import os
import signal
import sys
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from uuid import uuid4

from ddpm.exits import ExitCode

PASSED_ON = ("SIGTERM", "SIGUSR1", "SIGHUP")  # by schedulers; Ctrl-C reaches all processes by itself


def run_command() -> None:
    """The command line of this process, which is that of the one that has started it."""
    from ddpm.__main__ import main

    main()


def launch(processes: int) -> int:
    """Run this process's command line in so many new processes; returns the exit status.

    0 when all are through. When one fails the others are ended, and its status is returned. Signals are passed on to
    all of them, which may take their time to save what they have. They do not outlive this process.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # What torchrun says of a failure is said below, in one line, after the words of the one that failed.
    for name in ("torch.distributed.elastic", "torch.multiprocessing"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    threads = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
    os.environ["OMP_NUM_THREADS"] = str(max(threads // processes, 1))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=str(uuid4()),
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        signals_to_handle="SIGINT",
    )
    try:
        with passing_signals_on():
            elastic_launch(config, run_command)()
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        status = failure.exitcode
        if status == ExitCode.INTERRUPTED:  # which they have said themselves
            return status
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with exit status {status}"
        print(f"rank {rank} of {processes} {how}, and all were ended.", file=sys.stderr, flush=True)
        return 128 - status if status < 0 else status
    except SignalException as error:  # Ctrl-C, of which nobody has to be told
        return 128 + error.sigval
    return 0


@contextmanager
def passing_signals_on():
    """A signal to this process goes to all that it has started."""

    def pass_on(number: int, frame: object) -> None:
        children = multiprocessing.active_children()
        if not children:  # yet
            sys.exit(128 + number)
        for child in children:
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(child.pid, number)

    # Schedulers signal all processes of a job, and multiprocessing's helper would die of it; it inherits being deaf.
    before = {name: signal.signal(getattr(signal, name), signal.SIG_IGN) for name in PASSED_ON}
    resource_tracker.ensure_running()
    for name in PASSED_ON:
        signal.signal(getattr(signal, name), pass_on)
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)
