"""SIGKILL at random moments, to jobs of every kind and to Snakemake, and the plain command again each time."""

import os
import random
import shlex
import signal
import subprocess
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
import ready
from killing import Journal
from workspace import PROJECT, SHRUNKEN, Workspace

from ddpm.storage.files import OWNED_FILES

KILLS = 50
DRIVER_KILLS = 6
SAVED_EVERY = SHRUNKEN["defaults"]["training"]["save_every"]
# What no run makes as the one before: times, what belongs to the work in progress, and in which order files were made.
ELSEWHERE = {"logs", "benchmarks", "state", "report.html", OWNED_FILES}


def made(workspace: Workspace) -> dict[str, bytes]:
    """The content of every file that the chain makes, by its place in the project."""
    contents = {}
    for name in ("results", "resources"):
        for folder, _, files in os.walk(workspace.folder / name):
            for path in (Path(folder, file) for file in files):
                place = path.relative_to(workspace.folder)
                if ELSEWHERE.isdisjoint(place.parts):
                    try:
                        contents[str(place)] = path.read_bytes()
                    except FileNotFoundError:  # a lock, or a part, of a job that lives on without its Snakemake
                        assert path.name.startswith("."), path
    return contents


class Killed(Workspace):
    """A project whose jobs end themselves (killing.py), and whose Snakemake is killed, too."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.journal = Journal(folder / "journal")
        self.driver_kills = 0
        self.chance = random.Random(0)
        programs = folder / "bin"
        programs.mkdir()
        (programs / "python").write_text(
            f'#!/bin/sh\nexec {shlex.join([*ready.python(), str(PROJECT / "tests/support/killing.py")])} "$@"\n'
        )
        (programs / "python").chmod(0o755)
        self.environ |= {
            "PATH": f"{programs}{os.pathsep}{self.environ['PATH']}",
            "KILLING_JOURNAL": str(self.journal.path),
        }

    def run(self) -> int | None:
        """The plain command; its exit status, or None if it was killed."""
        with open(self.folder / "said", "w") as said:
            driver = subprocess.Popen(self.command, cwd=self.folder, env=self.environ, stdout=said, stderr=said)
        try:
            return driver.wait(self.chance.uniform(1, 8) if self.driver_kills < DRIVER_KILLS else None)
        except subprocess.TimeoutExpired:
            driver.send_signal(signal.SIGKILL)  # its jobs live on
            driver.wait()
            self.driver_kills += 1
            return None


@pytest.fixture(scope="module")
def killed(finished, tmp_path_factory) -> Killed:
    """The whole chain, finished in spite of its kills; what stood at any time was as an undisturbed run makes it."""
    workspace, undisturbed = Killed(tmp_path_factory.mktemp("killed")), made(finished)
    while (status := workspace.run()) != 0:
        said = (workspace.folder / "said").read_text()
        assert status is None or "jobs have failed" in said or "job has failed" in said, said[-5000:]
        for place, content in made(workspace).items():
            if not any(part.startswith(".") for part in Path(place).parts):
                assert content == undisturbed[place], f"{place}\n{said[-5000:]}"
        assert len(workspace.journal.lines("began")) < 1000, said[-5000:]
    return workspace


def test_every_file_is_that_of_an_undisturbed_run(killed, finished):
    there, undisturbed = made(killed), made(finished)
    assert there.keys() == undisturbed.keys()
    assert [place for place in there if there[place] != undisturbed[place]] == []


def test_every_kind_of_job_was_killed(killed):
    kills = Counter(command for _, command, _ in killed.journal.lines("killed"))
    assert kills.total() + killed.driver_kills >= KILLS
    assert set(kills) == {argv[1] for _, argv in killed.journal.lines("began")}


def test_no_step_that_was_saved_is_trained_again(killed):
    """Each process goes on at most `save_every` steps before the last one's end."""
    steps = {}
    for process, config, step in killed.journal.lines("step"):
        steps.setdefault(config, {}).setdefault(process, []).append(step)
    resumed = 0
    for processes in steps.values():
        for before, after in pairwise(processes.values()):
            assert after[0] > before[-1] - SAVED_EVERY
            resumed += after[0] > 1
    assert resumed


def test_no_piece_that_was_saved_is_made_again(killed):
    """A piece is saved when it is made, so only the last of a folder may be lost with a process.

    A job that ends while Snakemake is dead has discarded its pieces for a whole file, which Snakemake makes anew.
    """
    pieces, discarded = {}, []
    for process, folder, *piece in killed.journal.lines("piece", "discarded"):
        if piece:
            pieces.setdefault(folder, {}).setdefault(process, []).append(tuple(piece))
        else:
            discarded += [(below, pieces.pop(below)) for below in list(pieces) if Path(below).is_relative_to(folder)]
    resumed = 0
    for folder, processes in [*discarded, *pieces.items()]:
        made_before = set()
        for lock_output in processes.values():
            assert made_before.isdisjoint(lock_output), folder
            made_before |= set(lock_output[:-1])
        resumed += len(processes) > 1 and len(made_before) > 0
    assert resumed
