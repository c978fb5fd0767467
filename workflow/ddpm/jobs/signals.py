"""A job that has to end saves its work first: it knows its deadline, and it hears SIGTERM and SIGUSR1.

A signal ends the process at once, as Ctrl-C does, but where work is at hand that is worth saving: there it is noted,
and asked for between two steps. Where there is nothing to save, SIGUSR1, which a scheduler sends minutes before the
end, ends nothing: the process may be done by then. The deadline is only ever asked for.
"""

import math
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

from ddpm.config.errors import ExitCode, UserError

MARGIN = 30.0  # seconds left at the deadline, for what ends around this process


class Interrupted(BaseException):
    """The process is to end, and to be started again later. No `except Exception` of a library may swallow it."""

    status: int = ExitCode.INTERRUPTED


class Stopped(Interrupted):
    """It ends where it is, by a signal, and has saved nothing: started again with as much time, it may end alike."""

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.status = 128 + number


class StopSignal:
    """This process, as whoever started it may end it."""

    def __init__(self):
        self.signal = ""  # the first that was heard
        self.warning = ""  # SIGUSR1, if it came while there was nothing to save
        self.at_once: bool | None = None  # whether a signal ends the process where it is; None: nothing is to be saved
        self.save_takes = 0.0  # seconds: the longest, or what is expected before the first
        self.pace = 0.0  # seconds between two calls of `should_stop`, the latest or near-latest
        self.last_asked: float | None = None

    def listen(self) -> None:
        """React to SIGTERM and SIGUSR1 from here on. What comes after the first that counts changes nothing."""
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, self.on_signal)

    def on_signal(self, number: int, frame: object) -> None:
        if self.at_once is None and number == signal.SIGUSR1:
            self.warning = "SIGUSR1"
        elif not self.signal:
            self.signal = signal.Signals(number).name
            self.check()

    def check(self) -> None:
        """Raise `Stopped` if a signal was heard, and may end the process here."""
        if self.signal and self.at_once is not False:
            number = signal.Signals[self.signal]
            raise Stopped(f"interrupted by {self.signal}; only what was saved before stays", number)

    @contextmanager
    def ending(self, at_once: bool | None) -> Iterator[None]:
        """Whether a signal ends the process within this block, or is only noted until `should_stop`; see `at_once`."""
        before, self.at_once = self.at_once, at_once
        try:
            self.check()
            yield
        finally:
            self.at_once = before

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Measure how long it takes to save."""
        began = time.perf_counter()
        yield
        self.last_asked = time.perf_counter()
        self.save_takes = max(self.save_takes, self.last_asked - began)

    def should_stop(self) -> bool:
        """Whether to save and end now: a signal has come, or after one more round of the caller's it may be too late.

        Costs less than a microsecond.
        """
        now = time.perf_counter()
        if self.last_asked is not None:
            self.pace = max(now - self.last_asked, self.pace / 2)
        self.last_asked = now
        return bool(self.signal or self.warning) or self.left() < self.pace + 2 * self.save_takes + MARGIN

    def left(self) -> float:
        """Seconds until the deadline; infinity without one."""
        return self.deadline - time.time()

    @property
    def why(self) -> str:
        if self.signal or self.warning:
            return self.signal or self.warning
        return f"its deadline at {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(self.deadline))}"

    @cached_property
    def deadline(self) -> float:
        """Seconds since the epoch, from DDPM_DEADLINE, or from SLURM; infinity where neither says anything."""
        for name in ("DDPM_DEADLINE", "SLURM_JOB_END_TIME"):
            if value := os.environ.get(name):
                try:
                    return float(value)
                except ValueError:
                    raise UserError(f"{name}: {value!r} is not a number of seconds since 1970.") from None
        if job := os.environ.get("SLURM_JOB_ID"):  # SLURM before 23.02 has to be asked
            left = asked_of_slurm("squeue", "-h", "-j", job, "-o", "%L")
            return time.time() + (seconds(left) if left is not None else math.inf)
        return math.inf

    def require_time(self) -> None:
        """Raise a `UserError` where the deadline leaves no time to begin: each further try would end alike."""
        if self.left() < 2 * self.save_takes + MARGIN:
            raise UserError(
                f"{max(self.left(), 0):.0f} s are left until {self.why}: too few to do anything and to save it. "
                "Ask for a longer runtime, or mend DDPM_DEADLINE."
            )


stop_signal = StopSignal()


def asked_of_slurm(*command: str) -> str | None:
    """What one of SLURM's commands prints; nothing for a job that it no longer knows; None where it gives no answer."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode == 0:
        return done.stdout.strip()
    return "" if "Invalid job id" in done.stderr else None


def seconds(left: str) -> float:
    """SLURM's [days-][[hours:]minutes:]seconds; infinity for its UNLIMITED and the like."""
    if not (found := re.fullmatch(r"(?:(\d+)-)?(?:(?:(\d+):)?(\d+):)?(\d+)", left)):
        return math.inf
    days, hours, minutes, rest = (int(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + rest
