"""A job that has to end saves its work first: it hears SIGTERM and SIGUSR1, which SLURM sends before its time is up.

A signal ends the process at once, as Ctrl-C does, but where work is at hand that is worth saving: there it is noted,
and asked for between two steps. Where there is nothing to save, SIGUSR1, which a scheduler sends minutes before the
end, ends nothing: the process may be done by then.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ddpm.config.errors import ExitCode


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

    def should_stop(self) -> bool:
        """Whether to save and end now, since a signal has come."""
        return bool(self.signal or self.warning)

    @property
    def why(self) -> str:
        """What ends this process; of several that share a job, another may have heard it."""
        return self.signal or self.warning or "a signal to another process"


stop_signal = StopSignal()


def die_with(parent: int, number: int) -> None:
    """Have the kernel send this process a signal when its parent has ended, however that ends; on Linux."""
    if sys.platform == "linux":
        set_signal_at_parents_death = 1
        ctypes.CDLL(None).prctl(set_signal_at_parents_death, number)
        if os.getppid() != parent:  # it ended before
            os._exit(1)
