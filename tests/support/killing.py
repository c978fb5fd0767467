"""The `python` of the jobs in a chain that is killed again and again: it ends itself, and keeps a journal of its work.

A kill comes at a random time, or just before a random one of the moments at which most can be lost: a file is opened
for writing, renamed, linked or removed, a step of training or a piece of work is done.
"""

import json
import os
import random
import runpy
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

KILLS = 3  # at most of each command
KILLS_OF_TRAININGS = 8
ATTEMPTS = 2  # of a job, that may be killed
LATEST = 1.0  # seconds; most jobs take less
MOMENTS = 15
MOMENTS_OF_TRAININGS = 25  # most of them behind the first save
FEWEST = 2  # moments of any job: it opens a file, and renames it
WRITING = os.O_WRONLY | os.O_RDWR
CHANGES = ("os.rename", "os.remove", "os.link", "os.rmdir", "shutil.rmtree")


class Journal:
    """Lines of a file to which several processes write."""

    def __init__(self, path: Path):
        self.path = path

    def add(self, what: str, *about: object) -> None:
        with open(self.path, "a") as file:
            file.write(json.dumps([what, os.getpid(), *about]) + "\n")

    def lines(self, *what: str) -> list[list]:
        """The process, and what else was noted of these kinds."""
        text = self.path.read_text() if self.path.exists() else ""
        return [about for kind, *about in map(json.loads, text.splitlines()) if kind in what]


class Killer:
    def __init__(self, journal: Journal, command: str, chance: random.Random, surely: bool):
        self.journal, self.command = journal, command
        self.moments = -1  # until the kill, where it does not come by time
        training = command == "train"
        # For a save, so that at least one of each goes on from its own.
        self.waits = surely and command in ("train", "sample", "reference")
        if surely or training or chance.random() < 0.6:
            most = MOMENTS_OF_TRAININGS if training else MOMENTS
            self.moments = chance.randint(1, FEWEST if surely else most)
            sys.addaudithook(self.hear)
        else:
            threading.Thread(target=self.kill_after, args=(chance.uniform(0, LATEST),), daemon=True).start()

    def kill(self, when: str) -> None:
        self.journal.add("killed", self.command, when)
        os.kill(os.getpid(), signal.SIGKILL)

    def kill_after(self, seconds: float) -> None:
        time.sleep(seconds)
        self.kill(f"after {seconds:.1f} s")

    def hear(self, event: str, arguments: tuple) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING
        path = str(arguments[0]) if writes or event in CHANGES else ""
        if any(folder in path for folder in ("results/", "resources/")):
            self.moment(f"{event} {path}")

    def moment(self, what: str, saved: bool = False) -> None:
        self.waits &= not saved
        if self.waits:
            return
        self.moments -= 1
        if self.moments == 0:
            self.kill(f"before {what}")


def noted(work: Callable, note: Callable[[], None]) -> Callable:
    def done(*arguments):
        result = work(*arguments)
        note(*arguments)
        return result

    return done


def note_work(journal: Journal, command: str, moment: Callable[..., None]) -> None:
    """Have noted every step of a training, every piece of other work, and where a whole file takes the pieces' place.

    A piece is saved as soon as it is made.
    """
    from ddpm.storage import chunk_cache

    chunk_cache.SAVE_EVERY = 0
    unclaim_folder = chunk_cache.unclaim_folder

    def discard_noted(folder: Path, *names: str):
        journal.add("discarded", str(folder))
        return unclaim_folder(folder, *names)

    chunk_cache.unclaim_folder = discard_noted
    each = chunk_cache.ChunkCache.each

    def each_noted(self, start: int, stop: int, size: int, make: Callable):
        def note(first: int, last: int) -> None:
            journal.add("piece", str(self.folder), first, last)
            moment(f"piece {first}..{last}", saved=first > start)

        return each(self, start, stop, size, noted(make, note))

    chunk_cache.ChunkCache.each = each_noted
    if command == "train":
        from ddpm.training.loop import Trainer

        def note(trainer: Trainer, *_: object) -> None:
            journal.add("step", sys.argv[sys.argv.index("--config") + 1], trainer.state.step)
            moment(f"step {trainer.state.step}", saved=trainer.state.step > trainer.config.save_every)

        Trainer.training_step = noted(Trainer.training_step, note)


def main() -> None:
    arguments = sys.argv[1:]
    if arguments[:2] != ["-m", "ddpm"]:
        os.execv(sys.executable, [sys.executable, *arguments])
    sys.argv = ["ddpm", *arguments[2:]]
    journal, command = Journal(Path(os.environ["KILLING_JOURNAL"])), sys.argv[1]
    attempt = sum(before == sys.argv for _, before in journal.lines("began"))
    journal.add("began", sys.argv)
    killed = sum(before == command for _, before, _ in journal.lines("killed"))
    moment = lambda what, saved=False: None  # noqa: E731
    if attempt < ATTEMPTS and killed < (KILLS_OF_TRAININGS if command == "train" else KILLS):
        moment = Killer(journal, command, random.Random(f"{sys.argv} {attempt}"), surely=killed == 0).moment
    sys.path[0] = os.getcwd()  # as `-m` has it
    note_work(journal, command, moment)
    runpy.run_module("ddpm", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
