"""What ends a command, in words for the person at the keyboard, and its exit status."""

import errno
import os
import shlex
import shutil
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

from ddpm.config.errors import ExitCode, UserError

# What to lower where memory is full, by command. The GPU's halves these by itself, as far as it helps.
KEYS = {
    "train": "training.micro_batch",
    "sample": "sampling.batch_size",
    "few-steps": "few_steps.batch_size",
    "snapshot": "snapshots.batch_size",
    "shared-latents": "latents.batch_size",
    "interpolate": "latents.batch_size",
    "likelihood": "likelihood.batch_size",
    "classifier": "classifier.batch_size",
}
FULL = (errno.ENOSPC, errno.EDQUOT)
REFUSED = {
    errno.EROFS: "it is on a file system that is mounted read-only",
    errno.EACCES: "its permissions do not allow it",
    errno.EPERM: "its permissions do not allow it",
}
ERROR = "ERROR: "  # begins the last words of a log


@dataclass(frozen=True)
class ExitReport:
    """What is said last, and the exit status; whether a traceback goes before."""

    message: str
    code: ExitCode
    traceback: bool = False


def explain(error: Exception, arguments: Sequence[str]) -> ExitReport:
    """What an error that ends `python -m ddpm ARGUMENTS` means, and what to do."""
    if isinstance(error, UserError):
        return ExitReport(str(error), error.code)
    for known in (memory_full(error, arguments), gpu_unknown(error), disk_refuses(error), package_missing(error)):
        if known:
            return known
    what = traceback.format_exception_only(error)[-1].strip()
    command = shlex.join(["python", "-m", "ddpm", *arguments])
    return ExitReport(f"unexpected {what} (the lines above say where), in: {command}", ExitCode.UNEXPECTED, True)


def report_failure(error: Exception, arguments: Sequence[str]) -> ExitCode:
    """Say at the end of stderr, which is the job's log, what ended a command; returns its exit status."""
    ending = explain(error, arguments)
    with suppress_full_disk():
        if ending.traceback:
            traceback.print_exception(error)
        print(f"{ERROR}{ending.message}", file=sys.stderr, flush=True)
    return ending.code


@contextmanager
def suppress_full_disk() -> Iterator[None]:
    """Let a disk be too full for what the block says."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise


def give_up_unsaid() -> None:
    """Leave out what a full disk has not taken of the output by now: at the exit it would change the status."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def memory_full(error: Exception, arguments: Sequence[str]) -> ExitReport | None:
    key = KEYS.get(next((word for word in arguments if not word.startswith("-")), ""))
    lower = f", or lower {key} in the configuration" if key else ""
    if gpu_is_full(error):
        return ExitReport(
            f"the GPU's memory is full ({first_line(error)}). nvidia-smi shows whether other programs hold some of it: "
            f"wait for them, run this on a GPU with more{lower}.",
            ExitCode.MEMORY,
            True,
        )
    # What torch says where the system gives it no memory.
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error)):
        return ExitReport(
            f"main memory is full ({first_line(error)}). Run fewer jobs at a time (snakemake --cores), ask the "
            f"scheduler for more memory (mem_mb){lower}.",
            ExitCode.MEMORY,
            True,
        )
    return None


def gpu_unknown(error: Exception) -> ExitReport | None:
    if not (isinstance(error, RuntimeError) and "no kernel image is available" in str(error)):
        return None
    return ExitReport(
        "this torch holds no code for this GPU, which is older or newer than those that it was built for "
        "(`python -c 'import torch; print(torch.cuda.get_arch_list(), torch.cuda.get_device_capability())'`). Choose "
        "another GPU (CUDA_VISIBLE_DEVICES), install a torch that was built for it, or set compute.device: cpu.",
        ExitCode.USER_ERROR,
    )


def disk_refuses(error: Exception) -> ExitReport | None:
    if not isinstance(error, OSError):
        return None
    where = Path(str(error.filename)).absolute() if error.filename else Path.cwd()
    folder = existing(where.parent if error.filename else where)
    named = not error.filename  # without a name, the traceback must say where
    if error.errno in FULL:
        free = f"{shutil.disk_usage(folder).free / 1e9:,.2f} GB"
        if error.errno == errno.ENOSPC:
            what = f"the disk of {folder} is full: {free} are free. Make room there"
        else:
            what = (
                f"the quota of your account on the disk of {folder} is used up ({free} of the disk are free). Make "
                "room there, have the quota raised"
            )
        message = (
            f"{where}: cannot be written, since {what}, or put a link to a larger disk in the folder's place, and run "
            "the same command again: what is done stays done."
        )
    elif error.errno in REFUSED:
        message = (
            f"{where}: cannot be read or written: {REFUSED[error.errno]}. Have that changed for {folder}, or choose "
            "another folder."
        )
    else:
        return None
    return ExitReport(message, ExitCode.DISK, named)


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above that is there."""
    # os.path's, which raises nothing where a folder above may not be looked into.
    return next(each for each in (folder, *folder.parents) if os.path.isdir(each))


def package_missing(error: Exception) -> ExitReport | None:
    if not isinstance(error, ModuleNotFoundError) or (error.name or "ddpm").split(".")[0] == "ddpm":
        return None
    return ExitReport(
        f"the package {error.name} is missing in the environment of {sys.executable}. Use the project's own (./run "
        "snakemake ..., ./run python -m ddpm ...), let Snakemake make each rule's (--use-conda), or install what "
        "pyproject.toml lists into this one.",
        ExitCode.USER_ERROR,
    )


MOST_LINES = 12  # of a log
PROBE = 2**16  # bytes


@dataclass(frozen=True)
class FailedJob:
    rule: str
    stage: str
    wildcards: dict[str, str]
    logs: Sequence[str]


def summary(jobs: Iterable[FailedJob]) -> str:
    """What failed, what each job said last, and how to go on."""
    jobs = sorted(jobs, key=lambda job: (job.stage, job.rule, sorted(job.wildcards.items())))
    parts = [f"{len(jobs)} {'job has' if len(jobs) == 1 else 'jobs have'} failed:"]
    for job in jobs:
        of = ", ".join(f"{key} {value}" for key, value in job.wildcards.items())
        parts.append(f"{job.rule}{' of ' if of else ''}{of} (stage {job.stage})")
        for log in job.logs:
            parts += [*(f"    {line}" for line in last_words(Path(log))), f"    All it said: {log}"]
    parts.append("Once the causes are mended, the same command goes on from there: what is done stays done.")
    return "\n".join(parts)


def last_words(log: Path) -> list[str]:
    """The error that a log ends with; or else its last lines, with what they may mean."""
    try:
        lines = [line.rstrip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError as error:
        return [f"Its log cannot be read ({error.strerror}): it ended before it said anything, or on another machine."]
    lines = [line for line in lines if line]
    starts = [i for i, line in enumerate(lines) if line.startswith(ERROR)]
    if starts:
        return lines[starts[-1] :][:MOST_LINES]
    if refusal := refused(log.parent):
        return [*lines[-MOST_LINES:], refusal]
    return [
        *lines[-MOST_LINES:],
        "It ended without a word of its own: killed by hand, by a scheduler (time limit, memory), or by the system for "
        "want of main memory (`dmesg` or the scheduler's log tells); or the disk of its log was full. Run the same "
        "command again; it goes on from what it saved.",
    ]


def refused(folder: Path) -> str | None:
    """Why no log can be written in `folder` now, and what to do."""
    try:
        with TemporaryFile(dir=folder) as probe:
            probe.write(bytes(PROBE))
    except OSError as error:
        error.filename = str(folder / "*.log")
        ending = disk_refuses(error)
        return ending.message if ending else None
    return None


SIGNS = ("CUDA out of memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


def gpu_is_full(error: BaseException) -> bool:
    """Whether an error says so. TorchScript, cuDNN and cuBLAS do it by a plain RuntimeError's words."""
    if type(error).__name__ == "OutOfMemoryError":  # torch's, without importing torch
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS)


def first_line(error: BaseException) -> str:
    """The line of an error that speaks of memory, or its first."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return next((line for line in lines if any(sign in line for sign in SIGNS)), lines[0]).strip()[:200]
