"""How a command ends: errors for the user, and the one list of exit codes.

docs/operations.md and `python -m ddpm --help` repeat that list.
"""

from enum import IntEnum
from pathlib import Path


class ExitCode(IntEnum):
    """A code, and its meaning in one sentence. From 70 on they are nearly those of sysexits.h."""

    meaning: str

    def __new__(cls, code: int, meaning: str) -> "ExitCode":
        member = int.__new__(cls, code)
        member._value_, member.meaning = code, meaning
        return member

    OK = 0, "Done: every file that was asked for is there."
    USER_ERROR = 1, "Failed: the last lines say what is wrong and what to do."
    USAGE = 2, "Not a command, or not its options: see --help."
    UNEXPECTED = 70, "Failed in a way that nobody thought of: the traceback says where."
    MEMORY = 71, "The GPU's memory, or main memory, is full, and smaller batches do not help."
    LOCKED = 73, "Somebody else is at this work: the message says who, since when, and what to do."
    DISK = 74, "A disk is full, a quota used up, or a folder may not be written to."
    INTERRUPTED = 75, "Interrupted by SIGTERM or SIGUSR1, and saved: the same command goes on from there."


def list_exit_codes() -> str:
    """All exit codes with their meanings, for a help text."""
    return "Exit codes:\n\n" + "\n\n".join(f"{code.value}: {code.meaning}" for code in ExitCode)


class UserError(Exception):
    """An error that the user can mend: shown as one message, without a traceback."""

    code = ExitCode.USER_ERROR


class DiskError(UserError):
    """A disk or folder that does not take what is to be written."""

    code = ExitCode.DISK


class DamagedFile(UserError):
    """A file that is not what its name says. One of a user's own needs another `remedy`: nobody is to delete it."""

    def __init__(self, path: Path | str, what: str, remedy: str = "Delete it and run the same command again."):
        super().__init__(f"{path}: {what}. {remedy}")
        self.path, self.what = path, what
