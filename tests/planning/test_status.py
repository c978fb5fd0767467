"""`status`: what is done, runs, waits or has failed, from the files, locks and logs of a run."""

import io
import json
import os
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from rich.console import Console

from ddpm.config.layout import Layout
from ddpm.config.resolving import load
from ddpm.jobs.locks import Lock, Owner
from ddpm.planning.status import Job, State, all_jobs, job_status, part_done, render

MAIN = "digits-eps-simple"
DIGITS = {"scale": "demo", "experiments": [MAIN], "override": {"experiments": {MAIN: {"sampling": {"shards": 4}}}}}
LOG = "computing in fp32\non GPU 1 (NVIDIA H100)\nstep 450/900 loss 0.0512 10.2 steps/s 44 s left\n"


@pytest.fixture
def config():
    return load(DIGITS)


@pytest.fixture
def jobs(config):
    return {(job.kind, Path(job.output).name): job for job in all_jobs(Layout(config))}


def write(file: Path | str, text: str = "") -> None:
    path = Path(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def of_kind(jobs, kind) -> list[Job]:
    return [job for (each, _), job in jobs.items() if each == kind]


def shown(config) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(render(config))
    return console.export_text()


def test_every_job_waits_before_the_first_start(config, jobs):
    kinds = [job.kind for job in jobs.values()]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "prepare": 1, "classifier": 1, "reference": 1, "training": 1, "samples": 4, "few steps": 1, "snapshots": 3,
        "features": 4, "bits/dim, test": 1, "bits/dim, train": 1, "scores": 1,
    }  # fmt: skip
    assert {job_status(job).state for job in jobs.values()} == {State.WAITING}
    assert "results/demo: 19 waiting; nobody is at work now" in shown(config)


def test_a_running_training_says_how_far_it_is_and_where(config, jobs):
    (training,) = of_kind(jobs, "training")
    write(training.log, LOG)
    with Lock(training.lock, "training", print).acquire():
        found = job_status(training)
        assert (found.state, found.part) == (State.RUNNING, 0.5)
        for words in ("loss 0.0512 10.2 steps/s 44 s left", f"process {os.getpid()} on", "GPU 1 (NVIDIA H100)"):
            assert words in found.words
        assert "1 running" in shown(config)
    assert job_status(training).state is State.STOPPED


def test_the_job_of_slurm_is_named(jobs):
    (training,) = of_kind(jobs, "training")
    elsewhere = replace(Owner.this_process(), host="node7", pids="node7-1", pid=1, job="4711", cluster="far")
    write(training.lock, json.dumps(asdict(elsewhere)))
    assert "on node7, SLURM job 4711 of far" in job_status(training).words


def test_a_log_that_does_not_grow_is_said(jobs):
    (training,) = of_kind(jobs, "training")
    write(training.log, LOG)
    os.utime(training.log, (time.time() - 1200,) * 2)
    with Lock(training.lock, "training", print).acquire():
        assert job_status(training).words.startswith("no line for 20 min; step 450/900")


def test_a_dead_process_runs_nothing(jobs):
    (training,) = of_kind(jobs, "training")
    write(training.log, LOG)
    write(training.lock, json.dumps(asdict(replace(Owner.this_process(), birth="another process's"))))
    found = job_status(training)
    assert (found.state, found.words) == (State.STOPPED, "step 450/900 loss 0.0512 10.2 steps/s 44 s left")


def test_a_failed_job_says_why(config, jobs):
    (prepare,) = of_kind(jobs, "prepare")
    write(prepare.log, "reading\nERROR: digits.csv: damaged. Get it again.\n")
    found = job_status(prepare)
    assert (found.state, found.words) == (State.FAILED, "digits.csv: damaged. Get it again.")
    assert "1 failed" in shown(config)


def test_shards_of_one_kind_share_a_line(config, jobs):
    first, second, *_ = of_kind(jobs, "samples")
    write(first.output)
    write(second.log, "images 64..79 of 64..127, 3 s\n")
    with Lock(second.lock, "making it", print).acquire():
        (line,) = [line for line in shown(config).splitlines() if line.startswith("  samples")]
    assert "runs (1 of 4)" in line
    assert "images 64..79 of 64..127, 3 s" in line


def test_a_running_download_holds_the_lock_of_a_file():
    jobs = all_jobs(Layout(load({"scale": "quick"})))
    (download,) = [job for job in jobs if job.kind == "download"]
    write(download.log, "cifar-10-python.tar.gz: 1,000 of 2,000 bytes, 0:00:01 left, 1.0 MB/s\n")
    assert job_status(download).state is State.STOPPED
    with Lock(Path("resources/downloads/cifar10/.cifar-10-python.tar.gz.lock"), "downloading it", print).acquire():
        assert job_status(download).state is State.RUNNING


def test_what_is_finished_takes_one_line(config, jobs):
    for job in jobs.values():
        write(job.output)
    write(Path("results/demo/report.html"))
    lines = shown(config).splitlines()
    assert f"{MAIN}: done" in lines
    assert "results/demo: 19 done; nobody is at work now" in lines
    assert lines[-1].endswith("results/demo/report.html")


def test_how_much_a_log_says_is_done():
    for log, part in (
        ("", 0),
        ("step 0/900 loss 1.0 1 steps/s\nstep 300/900 loss", 1 / 3),
        ("classifier: epoch 3/15 loss 1.2", 1 / 5),
        ("images 0..63 of 0..255, 12 s", 1 / 4),
        ("images 128..191 of 128..255, 12 s", 1 / 2),
        ("test images 0..9 of 0..39, 1 s\ntest images 10..19 of 0..39, 1 s", 1 / 2),
        ("interpolations: images 5..9 of 20, 1 s", 1 / 2),
    ):  # fmt: skip
        assert part_done(log) == pytest.approx(part), log


def test_the_command_prints_it(config, capsys):
    from typer.testing import CliRunner

    from ddpm.cli import app

    write(Path("config.yaml"), json.dumps(DIGITS))
    done = CliRunner().invoke(app, ["status"])
    assert done.exit_code == 0, done.output
    assert "19 waiting" in done.output


def test_watching_looks_again_until_it_is_told_to_stop(config, monkeypatch):
    from typer.testing import CliRunner

    from ddpm.cli import app, planning

    write(Path("config.yaml"), json.dumps(DIGITS))
    training = next(job for job in all_jobs(Layout(config)) if job.kind == "training")
    monkeypatch.setattr(planning.time, "sleep", lambda seconds: write(training.output))
    monkeypatch.setattr(planning.stop_signal, "should_stop", iter([False, True]).__next__)
    done = CliRunner().invoke(app, ["status", "--watch"])
    assert done.exit_code == 0, done.output
    assert "1 done, 18 waiting" in done.output
