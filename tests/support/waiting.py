"""Tests wait for what happens, not for seconds; and show what they run where they fail."""

import shlex
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def wait_for(condition: Callable[[], T], what: str, seconds: float = 600) -> T:
    """The first true value of `condition()`. The limit is many times what the busiest machine takes."""
    end, pause = time.monotonic() + seconds, 0.01
    while not (value := condition()):
        assert time.monotonic() < end, f"{what}: not within {seconds:g} s"
        time.sleep(pause := min(1.2 * pause, 0.5))
    return value


def alive(process: int) -> bool:
    """Whether it runs; a zombie, for which its parent has not asked yet, does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def show(command: list[str], folder: Path, done: subprocess.CompletedProcess) -> None:
    """Print what was run, where, and its last words: pytest shows them with a test that fails."""
    print(f"$ cd {shlex.quote(str(folder))} && {shlex.join(command)}\n{(done.stdout + done.stderr)[-8000:]}")
    print(f"exit status {done.returncode}")
