"""What an error that ends a command means, in words for the user, and its exit code."""

import errno
import os
import re
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

# The key to lower where memory is full, by command. Where it is the GPU's, the command halves its batches first.
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
REASONS = {
    errno.EROFS: "it is on a file system that is mounted read-only",
    errno.EACCES: "its permissions do not allow it",
    errno.EPERM: "its permissions do not allow it",
}
ERROR = "ERROR: "  # begins the last message of a log


@dataclass(frozen=True)
class ExitReport:
    """The last message, the exit code, and whether a traceback goes before."""

    message: str
    code: ExitCode
    traceback: bool = False


def explain(error: Exception, arguments: Sequence[str]) -> ExitReport:
    """What an error that ends `python -m ddpm ARGUMENTS` means, and what to do."""
    if isinstance(error, UserError):
        return ExitReport(str(error), error.code)
    for report in (memory_full(error, arguments), gpu_unsupported(error), disk_error(error), package_missing(error)):
        if report:
            return report
    what = traceback.format_exception_only(error)[-1].strip()
    command = shlex.join(["python", "-m", "ddpm", *arguments])
    return ExitReport(f"unexpected {what} (the lines above say where), in: {command}", ExitCode.UNEXPECTED, True)


def report_failure(error: Exception, arguments: Sequence[str]) -> ExitCode:
    """Print what ended a command to stderr, which is the job's log; returns its exit code."""
    report = explain(error, arguments)
    with suppress_full_disk():
        if report.traceback:
            traceback.print_exception(error)
        print(f"{ERROR}{report.message}", file=sys.stderr, flush=True)
    return report.code


@contextmanager
def suppress_full_disk() -> Iterator[None]:
    """Ignore that the disk is too full for what the block prints."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise


def discard_unwritten_output() -> None:
    """Discard output that a full disk has not taken: to write it at the exit would change the exit code."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def memory_full(error: Exception, arguments: Sequence[str]) -> ExitReport | None:
    key = KEYS.get(next((word for word in arguments if not word.startswith("-")), ""))
    lower = f", or lower {key} in the configuration" if key else ""
    if gpu_is_full(error):
        memory = "the GPU's memory"
        what = "nvidia-smi shows whether other programs hold some of it: wait for them, run this on a GPU with more"
    # torch's words where the system gives it no memory.
    elif isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error)):
        memory = "main memory"
        what = "Run fewer jobs at a time (snakemake --cores), ask the scheduler for more memory (mem_mb)"
    else:
        return None
    return ExitReport(f"{memory} is full ({first_line(error)}). {what}{lower}.", ExitCode.MEMORY, True)


def gpu_unsupported(error: Exception) -> ExitReport | None:
    if not (isinstance(error, RuntimeError) and "no kernel image is available" in str(error)):
        return None
    return ExitReport(
        "this torch holds no code for this GPU, which is older or newer than those that it was built for "
        "(`python -c 'import torch; print(torch.cuda.get_arch_list(), torch.cuda.get_device_capability())'`). Choose "
        "another GPU (CUDA_VISIBLE_DEVICES), install a torch that was built for it, or set compute.device: cpu.",
        ExitCode.USER_ERROR,
    )


def disk_error(error: Exception) -> ExitReport | None:
    if not isinstance(error, OSError):
        return None
    where = Path(str(error.filename)).absolute() if error.filename else Path.cwd()
    folder = nearest_existing(where.parent if error.filename else where)
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
    elif error.errno in REASONS:
        message = (
            f"{where}: cannot be read or written: {REASONS[error.errno]}. Have that changed for {folder}, or choose "
            "another folder."
        )
    else:
        return None
    return ExitReport(message, ExitCode.DISK, traceback=not error.filename)  # which says where, if no name does


def nearest_existing(folder: Path) -> Path:
    """The folder, or the nearest one above that is there."""
    # os.path.isdir raises nothing where a folder above may not be read.
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


MAX_LINES = 12  # of a log
# Words of others than `report_failure`: of the command line's usage, of Python, the shell and a scheduler.
SAYS_WHY = re.compile(
    r"Usage:|Error\b|error:|No (such|module)|not found|Permission denied|Killed|Segmentation fault|Aborted|CANCELLED"
)
KILLED = (
    "It ended without a word of its own: killed by hand, by a scheduler (time limit, memory), or by the system "
    "because main memory was full (`dmesg` or the scheduler's log tells); or the disk of its log was full. Run the "
    "same command again; it goes on from what it saved."
)


# A job's start or its failure with what is said of it, a line each; or its end.
EVENT = re.compile(
    r"^(?P<indent> *)(?:(?:local)?rule (?P<started>[\w-]+)|Error in rule (?P<failed>[\w-]+)):\n"
    r"(?P<items>(?:(?P=indent)    .*\n)*)|^Finished jobid: (?P<finished>\d+)",
    re.MULTILINE,
)
ITEM = re.compile(r"^ *(\w+): (.*)$", re.MULTILINE)
HINT = " (check log file(s) for error details)"


@dataclass(frozen=True)
class FailedJob:
    rule: str
    stage: str
    wildcards: dict[str, str]
    logs: Sequence[str]


def failed_jobs(log: str) -> list[FailedJob]:
    """The jobs that a log of Snakemake's tells of, without those that a later attempt has done."""
    wildcards: dict[str, dict[str, str]] = {}
    failed: dict[str, FailedJob] = {}
    for event in EVENT.finditer(log):
        if event["finished"]:
            failed.pop(event["finished"], None)
            continue
        items = dict(reversed(ITEM.findall(event["items"])))  # the first of a name: a shell line may look like one
        job, logs = items.get("jobid", ""), items.get("log", "").removesuffix(HINT)
        if event["started"]:
            wildcards[job] = dict(each.split("=", 1) for each in items.get("wildcards", "").split(", ") if "=" in each)
        else:
            paths = logs.split(", ") if logs else []
            failed[job] = FailedJob(event["failed"], stage_of(paths), wildcards.get(job, {}), paths)
    return list(failed.values())


def read_failed_jobs(logs: list[str]) -> list[FailedJob]:
    """Those of all the files that Snakemake has logged to."""
    return [job for log in logs for job in failed_jobs(Path(log).read_text(encoding="utf-8", errors="replace"))]


def stage_of(logs: list[str]) -> str:
    """The stage of a job: its logs lie in results/SCALE/logs/STAGE, or in resources/logs."""
    folder = Path(logs[0]).parent.name if logs else "logs"
    return "data" if folder == "logs" else folder


def summary(jobs: Iterable[FailedJob]) -> str:
    """What failed, the last words of each log, and how to go on."""
    jobs = sorted(jobs, key=lambda job: (job.stage, job.rule, sorted(job.wildcards.items())))
    parts = [f"{len(jobs)} {'job has' if len(jobs) == 1 else 'jobs have'} failed:"]
    for job in jobs:
        of = ", ".join(f"{key} {value}" for key, value in job.wildcards.items())
        parts.append(f"{job.rule}{' of ' if of else ''}{of} (stage {job.stage})")
        for log in job.logs:
            parts += [*(f"    {line}" for line in last_words(Path(log))), f"    All it said: {log}"]
    parts.append("Remove the causes. Then the same command goes on from there: what is done stays done.")
    return "\n".join(parts)


def last_words(log: Path) -> list[str]:
    """The error that a log ends with; or else its last lines, and what may have ended it where they do not say it."""
    try:
        lines = [line.rstrip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError as error:
        return [f"Its log cannot be read ({error.strerror}): it ended before it said anything, or on another machine."]
    lines = [line for line in lines if line]
    starts = [i for i, line in enumerate(lines) if line.startswith(ERROR)]
    if starts:
        return lines[starts[-1] :][:MAX_LINES]
    last = lines[-MAX_LINES:]
    if SAYS_WHY.search("\n".join(last)):
        return last
    return [*last, why_unwritable(log.parent) or KILLED]


def why_unwritable(folder: Path) -> str | None:
    """Why no log can be written to `folder` now, and what to do; None if one can."""
    try:
        with TemporaryFile(dir=folder) as probe:
            probe.write(bytes(2**16))
    except OSError as error:
        error.filename = str(folder / "*.log")
        report = disk_error(error)
        return report.message if report else None
    return None


GPU_OOM = ("CUDA out of memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


def gpu_is_full(error: BaseException) -> bool:
    """Whether an error says that the GPU's memory is full, as cuDNN and cuBLAS do in the words of a RuntimeError."""
    if type(error).__name__ == "OutOfMemoryError":  # torch's, without importing torch
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in GPU_OOM)


def first_line(error: BaseException) -> str:
    """The line of an error about memory, or its first one."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return next((line for line in lines if any(sign in line for sign in GPU_OOM)), lines[0]).strip()[:200]
