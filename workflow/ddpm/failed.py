"""What failed jobs said last, for the end of a run."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

from ddpm.errors import ERROR, disk_refuses

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
