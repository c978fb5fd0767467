"""What a run has done, what runs now, what waits and what has failed, as its files, locks and logs say."""

import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from pathlib import Path

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from ddpm.config.enums import Features, WeightsSource
from ddpm.config.experiment import Experiment
from ddpm.config.layout import Layout
from ddpm.config.resolving import Config
from ddpm.jobs.failures import ERROR
from ddpm.jobs.locks import Lock, Owner, lock_beside, read_owner

TRAINING = re.compile(r"step (\d+)/(\d+) ")
CHUNKS = re.compile(r"images (\d+)\.\.(\d+) of (?:(\d+)\.\.)?(\d+)")  # done in a job that makes a range of images
EPOCHS = re.compile(r"epoch (\d+)/(\d+) ")
GPU = re.compile(r"^on (GPU .*)$", re.MULTILINE)
LOG_TAIL = 2**14  # bytes
QUIET = 120  # seconds without a line, after which this is said


class State(StrEnum):
    """What has become of a job."""

    DONE = "done"  # its file is there; whether that is out of date, `snakemake -n` says
    RUNNING = "runs"  # a living process holds its lock
    FAILED = "failed"
    STOPPED = "stopped"  # it has begun, and nobody goes on with it
    WAITING = "waits"


MOST_URGENT = (State.RUNNING, State.FAILED, State.STOPPED, State.WAITING, State.DONE)  # names a kind of many jobs
STYLES = dict(zip(MOST_URGENT, ("bold", "bold red", "yellow", "dim", "green"), strict=True))
SUMMARY = dict(zip(MOST_URGENT, ("running", "failed", "stopped", "waiting", "done"), strict=True))
MOST_WORDS = 4  # jobs of a kind that are told of


@dataclass(frozen=True)
class Job:
    """A job of the workflow: what it makes, and where it says how far it is."""

    subject: str
    """An experiment or a data set."""
    kind: str
    output: str
    log: str
    own_lock: str = ""
    """A pattern, for a lock that is not beside the output."""

    @property
    def lock(self) -> Path:
        """That of who makes it."""
        if self.own_lock:
            return next(Path().glob(self.own_lock), Path(self.own_lock))
        return lock_beside(Path(self.output))


@dataclass(frozen=True)
class JobStatus:
    """A job as its files show it.

    Args:
        part: how much of the job is done, 0 to 1, as far as its log says.
        words: what there is to say of it: the last line of the log, who runs it, why it failed.
    """

    job: Job
    state: State
    part: float = 0.0
    words: str = ""


def all_jobs(layout: Layout) -> Iterator[Job]:
    """The jobs that take time, in the order of the stages; what is made of their files takes seconds each."""
    logs, classifier = f"{layout.results}/logs", layout.config.scale_config.features is Features.CLASSIFIER
    for data in sorted({experiment.data for experiment in layout.experiments.values()}):
        for card in layout.downloads(data):
            locks = f"resources/downloads/{data}/.*.lock"  # one for each file
            yield Job(data, "download", card, f"resources/logs/download-{data}.log", locks)
        card = f"resources/{data}/card.json"
        yield Job(data, "prepare", card, f"resources/logs/{data}.log", f"resources/.{data}.lock")
        if classifier:
            yield Job(data, "classifier", layout.network(data), f"{logs}/evaluation/{data}-classifier.log")
        features = f"{layout.results}/reference/{data}/features.npz"
        yield Job(data, "reference", features, f"{logs}/evaluation/{data}-reference.log")
    for name, experiment in layout.experiments.items():
        yield from experiment_jobs(layout, name, experiment, logs)


def experiment_jobs(layout: Layout, name: str, experiment: Experiment, logs: str) -> Iterator[Job]:
    """Those of one experiment, from its weights to its scores."""
    folder = f"{layout.results}/{name}"
    if experiment.trained_as == name and experiment.weights is WeightsSource.TRAIN:
        lock = f"{folder}/state/{experiment.fingerprint()}/lock"
        yield Job(name, "training", f"{folder}/final.safetensors", f"{logs}/training/{name}.log", lock)
    shards = [
        ("samples", layout.samples(name), "sampling/{}-{}"),
        ("few steps", layout.few_steps(name), "sampling/{}-few-steps-{}"),
        ("snapshots", layout.snapshots(name) if experiment.snapshots else [], "sampling/{}-snapshot-{}"),
        ("features", layout.features(name), "evaluation/{}-features-{}"),
        ("bits/dim, test", layout.bounds(name, "test"), "evaluation/{}-likelihood-test-{}"),
        ("bits/dim, train", layout.bounds(name, "train"), "evaluation/{}-likelihood-train-{}"),
        ("scores", [f"{folder}/metrics.json"], "evaluation/{}-{}"),
    ]
    for kind, files, log in shards:
        for file in files:
            yield Job(name, kind, file, f"{logs}/{log.format(name, Path(file).stem)}.log")


def job_status(job: Job) -> JobStatus:
    """What has become of a job: its file, or else its lock, or else its log tells."""
    if Path(job.output).exists():
        return JobStatus(job, State.DONE, 1.0)
    log = read_tail(Path(job.log))
    lines = [line for line in log.splitlines() if line.strip()]
    last, part = lines[-1] if lines else "", part_done(log)
    if owner := living_owner(job.lock):
        words = [*describe_silence(Path(job.log)), *lines[-1:], str(owner).rstrip(","), *GPU.findall(log)[-1:]]
        return JobStatus(job, State.RUNNING, part, "; ".join(words))
    errors = [line for line in lines if line.startswith(ERROR)]
    if errors:
        return JobStatus(job, State.FAILED, part, errors[-1].removeprefix(ERROR))
    return JobStatus(job, State.STOPPED, part, last) if last else JobStatus(job, State.WAITING)


def living_owner(lock: Path) -> Owner | None:
    """The process that holds a lock; None where it is free, or its owner dead."""
    with suppress(OSError):
        owner = read_owner(lock)
        if owner and owner.is_alive(Lock(lock, "looking").heartbeat_age(), Owner.this_process()):
            return owner
    return None


def read_tail(log: Path) -> str:
    """The end of a log; nothing where there is none."""
    try:
        with open(log, "rb") as file:
            file.seek(max(log.stat().st_size - LOG_TAIL, 0))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def part_done(log: str) -> float:
    """How much of its work a log says is done, 0 to 1: steps of a training, epochs, or images of a range."""
    if found := TRAINING.findall(log) or EPOCHS.findall(log):
        done, of = map(int, found[-1])
        return done / of
    if found := CHUNKS.findall(log):
        _, last, start, stop = found[-1]
        first, end = (int(start), int(stop) + 1) if start else (0, int(stop))
        return (int(last) + 1 - first) / (end - first)
    return 0.0


def describe_silence(log: Path) -> list[str]:
    """That a log has not grown for long, where it has not."""
    with suppress(OSError):
        if (age := time.time() - log.stat().st_mtime) > QUIET:
            return [f"no line for {age / 60:.0f} min"]
    return []


def render(config: Config) -> RenderableType:
    """The state of a run: a line for all of it, one for each finished experiment, and all of the unfinished ones."""
    layout = Layout(config)
    found = [job_status(job) for job in all_jobs(layout)]
    counts = {state: sum(each.state is state for each in found) for state in State}
    summary = ", ".join(f"{count} {SUMMARY[state]}" for state, count in counts.items() if count)
    driver = living_owner(Path("results/.driver.lock"))
    who = f"{driver} is at work" if driver else "nobody is at work now"
    blocks = [Text(f"{layout.results}: {summary}; {who}", "bold")]
    blocks += [subject_block(list(group)) for _, group in groupby(found, key=lambda each: each.job.subject)]
    return Group(*blocks, Text(report_line(layout)))


def subject_block(found: list[JobStatus]) -> RenderableType:
    """A line for each kind of job of an experiment or a data set; one word where all are done."""
    subject = found[0].job.subject
    if all(each.state is State.DONE for each in found):
        return Text.assemble(f"{subject}: ", (State.DONE, STYLES[State.DONE]))
    table = Table.grid(Column(width=17), Column(width=18), Column(width=20), Column(ratio=1), padding=(0, 1))
    for kind, group in groupby(found, key=lambda each: each.job.kind):
        jobs = list(group)
        state = next(state for state in MOST_URGENT if any(each.state is state for each in jobs))
        done = sum(each.state is State.DONE for each in jobs)
        count = f" ({done} of {len(jobs)})" if len(jobs) > 1 else ""
        bar = ProgressBar(len(jobs), sum(each.part for each in jobs), width=20) if state is State.RUNNING else ""
        words = [each.words for each in jobs if each.words and each.state is state]
        more = [f"and {len(words) - MOST_WORDS} more"] * (len(words) > MOST_WORDS)
        table.add_row(
            f"  {kind}",
            Text(f"{state}{count}", STYLES[state]),
            bar,
            Text("\n".join(words[:MOST_WORDS] + more), overflow="fold"),
        )
    return Group(Text(subject), table)


def report_line(layout: Layout) -> str:
    """How many tables and figures there are, and the report."""
    tables = [f"{layout.results}/tables/{name}.csv" for name in layout.config.tables]
    figures = [f"{layout.results}/figures/{name}.png" for name in layout.config.figures]
    made = sum(Path(file).exists() for file in tables + figures)
    page = Path(f"{layout.results}/report.html")
    return f"{made} of {len(tables + figures)} tables and figures; {page if page.exists() else 'no report yet'}"
