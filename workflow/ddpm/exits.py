"""How a command ends, for what has started it: a scheduler, Snakemake, a script."""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit status of `python -m ddpm`. Those from 70 on are near what sysexits.h means by them."""

    OK = 0
    """All is done."""
    USER_ERROR = 1
    """Something that the person at the keyboard can mend: the message says what, and how."""
    USAGE = 2
    """An option or argument that the command does not take."""
    UNEXPECTED = 70
    """Anything that nobody thought of; the traceback is in the log."""
    MEMORY = 71
    """The GPU's memory, or main memory, is full, and smaller batches do not help."""
    LOCKED = 73
    """Another process holds what this one needs: two trainings of one state, for instance."""
    DISK = 74
    """A disk that is full, a quota that is used up, a folder that may not be written to."""
    INTERRUPTED = 75
    """Stopped before the end, with all that was done saved: the same command goes on from there."""
