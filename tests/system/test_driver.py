"""Snakemake started twice, or killed: one makes the results, the other is told who does; a killed one blocks nobody."""

import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from waiting import wait_for
from workspace import PROJECT

TARGET = "results/demo/digits-mu-simple/final.safetensors"
PLAIN = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # a PATH to the Python that users have


def test_a_second_driver_is_refused_and_a_killed_one_is_just_started_again(fresh):
    """The training of the killed driver lives on: the next one's job waits for it, and trains nothing again."""
    command = [sys.executable, "-m", "snakemake", "--cores", "2", TARGET]
    shutil.copy(PROJECT / "tests/support/resting.py", fresh.folder / "workflow/sitecustomize.py")
    (fresh.folder / "rest-train").write_text("5")  # it is at it, however long the next lines take
    driver = subprocess.Popen(command, cwd=fresh.folder, env={**os.environ, "PATH": PLAIN}, stderr=subprocess.DEVNULL)
    wait_for(lambda: list(fresh.folder.glob("resting-*[0-9]")) or driver.poll(), "a training that rests")
    (trainer,) = (int(note.name.removeprefix("resting-")) for note in fresh.folder.glob("resting-*[0-9]"))

    second = fresh.snakemake(TARGET, check=False)
    assert second.returncode == 1
    for words in ("results/.driver.lock", f"process {driver.pid} on", "is making these results", f"kill {driver.pid}"):
        assert words in second.stderr
    assert "Traceback" not in second.stderr
    fresh.snakemake("plan")
    fresh.snakemake("-n", TARGET)

    driver.kill()
    driver.wait()
    third = subprocess.Popen(command, cwd=fresh.folder, env={**os.environ, "PATH": PLAIN}, stderr=subprocess.PIPE)
    log = fresh.results / "logs/training/digits-mu-simple.log"

    def waits() -> bool:
        with suppress(FileNotFoundError):  # the driver removes it before the job is started again
            return f"process {trainer} on" in log.read_text()
        return False

    wait_for(lambda: waits() or third.poll() is not None, "a job that waits for it")
    (fresh.folder / "rest-train").unlink()
    _, said = third.communicate()
    assert third.returncode == 0, said
    assert "resuming digits-mu-simple at step 8" in log.read_text()
    assert (fresh.folder / TARGET).exists()
    assert not (fresh.folder / "results/.driver.lock").exists()


def test_the_driver_looks_for_jobs_only_when_one_has_ended(fresh, tmp_path):
    """And not in between, more often with each job that has: with a hundred short jobs that adds up to a minute."""
    (tmp_path / "bin").mkdir()
    slow = tmp_path / "bin/python"
    slow.write_text(f'#!/bin/sh\nsleep 3\nexec {sys.executable} "$@"\n')
    slow.chmod(0o755)
    fresh.environ["PATH"] = f"{slow.parent}{os.pathsep}{fresh.environ['PATH']}"
    done = fresh.snakemake("--cores", "1", "--verbose", "figure2", "resources/digits/card.json")
    looked, ended = (len(re.findall(words, done.stderr)) for words in (r"Ready jobs: \d+", r"Finished jobid: \d+"))
    assert ended == 3
    assert 1 < looked <= ended + 1


def test_jobs_keep_their_bytecode_though_the_environment_says_not_to(fresh):
    package = fresh.folder / "workflow/ddpm"
    for kept in package.rglob("__pycache__/*.pyc"):
        kept.unlink()
    fresh.environ |= {"PATH": PLAIN, "PYTHONDONTWRITEBYTECODE": "1"}
    fresh.snakemake("figure2")
    assert list(package.rglob("__pycache__/figure2.*.pyc"))
