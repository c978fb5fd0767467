"""Jobs of SLURM: requeue one, and cancel those that a killed run has left behind."""

import os
import subprocess
import time
from pathlib import Path

from ddpm.config.errors import UserError

CANCEL_TIMEOUT = 120  # seconds that cancelled jobs have to end in
RESTARTS = "SLURM_RESTART_COUNT"


def ask(*command: str) -> str:
    """The output of a command of SLURM.

    Raises:
        UserError: it is not on this machine, gives no answer, or fails.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        where = f"{command[0]} is not on PATH here (inside a container, bind it), or gives no answer"
        raise UserError(f"{where}: SLURM cannot be asked ({error}).") from error
    if done.returncode:
        raise UserError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
    return done.stdout


def try_ask(*command: str) -> str | None:
    """What a command of SLURM answers; nothing for a job that it no longer knows; None where it gives no answer."""
    try:
        return ask(*command).strip()
    except UserError as error:
        return "" if "Invalid job id" in str(error) else None


def requeue(environment=os.environ) -> None:
    """Put this process's job back into the queue: SLURM ends it, and starts it again with the same id.

    A job that is ending already (cancelled, say) is left alone: the queue would bring it back to life.

    Raises:
        UserError: this is no SLURM job, or SLURM refuses.
    """
    if "SLURM_JOB_ID" not in environment:
        raise UserError("this is no SLURM job, so it cannot be queued again.")
    job = environment["SLURM_JOB_ID"]
    if ask("squeue", "--noheader", "--format=%T", "--jobs", job).strip() == "RUNNING":
        ask("scontrol", "requeue", job)


def export_restart_count(environment=os.environ) -> None:
    """Tell the processes of the job, for their locks, how often it was restarted: the jobstep plugin does not."""
    if RESTARTS in environment:
        environment[f"DDPM_{RESTARTS}"] = environment[RESTARTS]


def orphaned_jobs(folder: Path) -> list[str]:
    """The ids of this user's jobs that a Snakemake in `folder` has submitted and that have not ended."""
    lines = ask("squeue", "--me", "--noheader", "--format=%F|%k|%Z").splitlines()
    jobs = (line.split("|", 1) for line in lines)
    return sorted({job for job, rest in jobs if rest.startswith("rule_") and rest.endswith(f"|{folder}")}, key=int)


def cancel_orphaned_jobs(folder: Path, log=print) -> None:
    """Cancel the jobs of an earlier Snakemake in `folder` and wait until they have ended, so that nothing runs twice.

    Call it before any job is submitted, in the one Snakemake that holds the lock of `folder`.

    Raises:
        UserError: they do not end.
    """
    jobs = orphaned_jobs(folder)
    if not jobs:
        return
    log(f"Cancelling what an earlier run here has left in the queue: SLURM jobs {', '.join(jobs)}.")
    ask("scancel", *jobs)
    end = time.monotonic() + CANCEL_TIMEOUT
    while jobs := orphaned_jobs(folder):
        if time.monotonic() > end:
            raise UserError(f"SLURM jobs {', '.join(jobs)} of an earlier run do not end; nothing was submitted.")
        time.sleep(1)
