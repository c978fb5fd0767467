"""What part of the demo's CPU time is not work, but the starts of processes and Snakemake itself.

`./run python tests/support/starting.py [ARGS]` runs the demo in a folder of its own and prints the seconds of each
command; ARGS go to Snakemake. The jobs' `python` is this file, too: it notes how long their imports
take, and runs them.
"""

import importlib._bootstrap as bootstrap
import os
import resource
import runpy
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import process_time

from killing import Journal

JOURNAL = "STARTING_JOURNAL"
PROJECT = Path(__file__).parents[2]


class Imports:
    """CPU seconds of the outermost imports, which hold all others."""

    def __init__(self):
        self.seconds, self.importing = 0.0, False
        self.load: Callable = bootstrap._find_and_load  # asked only for what is not there yet
        bootstrap._find_and_load = self.timed

    def timed(self, *module: object) -> object:
        if self.importing:
            return self.load(*module)
        self.importing, began = True, process_time()
        try:
            return self.load(*module)
        finally:
            self.importing = False
            self.seconds += process_time() - began


def run_job(arguments: list[str]) -> None:
    """`python -m ddpm ...`, with a line about it in the journal."""
    sys.argv, sys.path[0] = ["ddpm", *arguments], os.getcwd()
    began, imports = process_time(), Imports()
    try:
        runpy.run_module("ddpm", run_name="__main__", alter_sys=True)
    finally:
        start = began + imports.seconds
        Journal(Path(os.environ[JOURNAL])).add("job", arguments[0], start, process_time() - start)


def main(arguments: list[str]) -> None:
    import pandas as pd  # not in the jobs

    with tempfile.TemporaryDirectory() as folder:
        journal, python = Journal(Path(folder, "journal")), Path(folder, "bin", "python")
        python.parent.mkdir()
        python.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, __file__])} "$@"\n')
        python.chmod(0o755)
        places = [str(python.parent), str(Path(sys.executable).parent), os.environ["PATH"]]
        environ = {**os.environ, "PATH": os.pathsep.join(places), JOURNAL: str(journal.path)}
        demo = ["snakemake", "--cores", str(os.cpu_count()), "--directory", str(Path(folder, "demo")), *arguments]
        subprocess.run(demo, cwd=PROJECT, env=environ, check=True)
        jobs = pd.DataFrame(journal.lines("job"), columns=["process", "command", "start", "work"])
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    table = jobs.groupby("command").agg(jobs=("work", "size"), start=("start", "sum"), work=("work", "sum"))
    print(table.sort_values("start", ascending=False).round(1).to_string())
    total, started, worked = used.ru_utime + used.ru_stime, jobs["start"].sum(), jobs["work"].sum()
    rest = total - started - worked
    print(
        f"CPU time: {total:.0f} s. Work of jobs: {worked / total:.1%}, their starts: {started / total:.1%}, "
        f"Snakemake, shells and ends of jobs: {rest / total:.1%}."
    )


if __name__ == "__main__":
    if sys.argv[1:3] == ["-m", "ddpm"] and JOURNAL in os.environ:
        run_job(sys.argv[3:])
    else:
        main(sys.argv[1:])
