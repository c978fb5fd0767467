"""One at a time: who works on a folder says so in a file, and who finds that file checks whether its writer lives.

filelock, which downloads use, asks the kernel. That cannot say who holds a lock, since when, and as which job of a
scheduler, and not every network disk passes the question on to other hosts. It also cannot be left to a person to
mend: here a lock whose holder is dead falls by itself, and one whose holder cannot be asked shows a sign of life.
"""

import errno
import glob
import json
import math
import os
import re
import socket
import stat
import subprocess
import tempfile
import threading
import time
import weakref
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from uuid import uuid4

from ddpm.config.errors import ExitCode, UserError
from ddpm.jobs.signals import Interrupted, stop_signal
from ddpm.jobs.slurm import RESTARTS, try_ask

BEAT = 20  # seconds between two signs of life
STALE = 300  # seconds without one, after which a holder that cannot be asked counts as dead
SAY_EVERY = 60  # seconds between two lines in the log of one that waits
LONGEST = 2**16  # bytes of a lock file
LONGEST_PAUSE = 30  # seconds between two attempts
TIMEOUT = 600  # seconds of waiting, outside of SLURM and without DDPM_LOCK_WAIT
# States of a SLURM job whose processes may still write. One that waits to run again has none.
RUNNING = {"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "RESIZING", "STAGE_OUT"}


class Locked(UserError):
    """Somebody else is at this work."""

    code = ExitCode.LOCKED


HIDDEN = ""  # the birth of a process that is there, and another user's of whom nothing more is shown


def pids_of() -> str:
    """Where a process number means something: this boot of this machine, and this namespace of it."""
    host = socket.gethostname()
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{host} {boot} {os.readlink('/proc/self/ns/pid')}"
    return host


def birth_of(pid: int) -> str | None:
    """When a process was started, which tells it from a later one of the same number; None where it is dead."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if state in "ZX" else rest[18]
    except OSError:
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return HIDDEN
    with suppress(OSError):  # no /proc here
        return subprocess.check_output(["ps", "-o", "lstart=", "-p", str(pid)], text=True).strip()
    return HIDDEN


@dataclass(frozen=True)
class Owner:
    """A process that holds a lock."""

    token: str  # of this lock, of all that there ever were
    host: str
    pids: str  # where its number means something
    pid: int
    birth: str | None
    job: str  # SLURM's, or nothing
    restarts: str  # of that job
    cluster: str
    since: str

    @classmethod
    def me(cls) -> "Owner":
        """This process, for a new lock."""
        job, cluster = (os.environ.get(f"SLURM_{name}", "") for name in ("JOB_ID", "CLUSTER_NAME"))
        restarts = os.environ.get(RESTARTS) or os.environ.get(f"DDPM_{RESTARTS}", "")
        pid, since = os.getpid(), time.strftime("%Y-%m-%d %H:%M:%S")
        return cls(uuid4().hex, socket.gethostname(), pids_of(), pid, birth_of(pid), job, restarts, cluster, since)

    def is_alive(self, silent: float, me: "Owner") -> bool:
        """Whether the holder lives, as `me` can tell, `silent` seconds after its last sign of life."""
        if self.pids == me.pids and (birth := birth_of(self.pid)) != HIDDEN:
            return birth == self.birth
        if self.job and self.cluster == me.cluster:
            if self.job != me.job:
                if (states := try_ask("squeue", "-h", "-j", self.job, "-o", "%T")) is not None:
                    return not RUNNING.isdisjoint(states.split())
            elif self.restarts != me.restarts:  # this very job, before SLURM started it again
                return False
        return silent < STALE

    def __str__(self) -> str:
        if self == ANOTHER_USERS:
            return "another user, whose lock may not be read here,"
        if not self.token:
            return "somebody who has left no name"
        job = f", SLURM job {self.job}{f' of {self.cluster}' if self.cluster else ''}" if self.job else ""
        return f"process {self.pid} on {self.host}{job}, since {self.since},"

    @property
    def remedy(self) -> str:
        """How to end it by hand."""
        if self == ANOTHER_USERS:
            return "`ls -l` names the user"
        if not self.token:
            return "if you know who it is"
        return f"scancel {self.job}" if self.job else f"kill {self.pid} on {self.host}"


UNREADABLE = Owner(token="", host="", pids="", pid=0, birth=None, job="", restarts="", cluster="", since="")
"""Who has not written its name to the end yet, or was killed before."""


ANOTHER_USERS = replace(UNREADABLE, token="another user's")  # noqa: S106 - a token of a lock, and no secret
"""Whose lock file this user may not read, as a umask of 077 makes it."""


def holder_in(path: Path) -> Owner | None:
    """Whom the lock file names; None where there is no file.

    Raises:
        UserError: it is no file, but a link, say, which nobody's lock is.
    """
    try:
        with open(path, "rb", opener=open_plain) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise IsADirectoryError(errno.EISDIR, "no plain file", str(path))
            return Owner(**json.loads(file.read(LONGEST)))
    except FileNotFoundError:
        return None
    except PermissionError:
        return ANOTHER_USERS
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise
        raise UserError(f"{path}: is a link, a folder or the like, where a lock file is to be. Remove it.") from None
    except (ValueError, TypeError, RecursionError):
        return UNREADABLE


def open_plain(path: str, flags: int) -> int:
    """Open without following a link, and without waiting for whoever may be at a pipe's other end."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


class Lock:
    """The right to do a piece of work, as long as the file `path` names this process.

    It falls with `release`, with this object or with the process, also where that is killed.

    Args:
        work: what the holder does, for messages: "training this state".
        patience: seconds to wait for a living holder, where DDPM_LOCK_WAIT does not say it. By default ten minutes;
            in a SLURM job, which is queued again, until it has to end.
    """

    def __init__(self, path: Path, work: str, log=print, patience: float | None = None):
        self.path, self.work, self.log, self.patience = path, work, log, patience
        self.began = self.said = -math.inf
        self.pause = 0.5  # seconds until the next attempt
        self.release = lambda: None  # until it is held

    def acquire(self) -> "Lock":
        """Wait for the lock.

        Raises:
            Locked: its holder lives on; the message says who that is and what to do.
            Interrupted: this job has to end.
        """
        while not self.attempt():
            time.sleep(self.pause)
        return self

    def attempt(self) -> bool:
        """Take the lock if it is free or its holder dead. Raises what `acquire` does when it is time to."""
        if (holder := self.take()) is None:
            return True
        silent, now = self.heartbeat_age(), time.monotonic()
        if self.began < 0:
            self.began = now
        waited, patience = now - self.began, self.bearable()
        who = f"{holder} is {self.work} (last sign of life {silent:.0f} s ago)"
        if waited >= patience:
            raise Locked(
                f"{self.path}: {who}. Waited for {waited:.0f} s; DDPM_LOCK_WAIT sets how long. Wait until it has "
                f"ended, or end it ({holder.remedy}), and run the same command again: it goes on from what is saved. "
                f"A lock falls with its holder, or, where that cannot be asked, {STALE} s after its last sign of life. "
                f"If the holder is certainly dead, delete {self.path}."
            )
        if now - self.said >= SAY_EVERY:
            self.said = now
            limit = f"for up to {patience:.0f} s" if patience < math.inf else "until this job has to end"
            self.log(f"{who}; waiting for it {limit}")
        if stop_signal.should_stop():
            raise Interrupted(f"interrupted by {stop_signal.why} while waiting: {who}")
        self.pause = min(2 * self.pause, LONGEST_PAUSE)
        return False

    def bearable(self) -> float:
        """Seconds to wait in all."""
        if value := os.environ.get("DDPM_LOCK_WAIT"):
            try:
                return float(value)
            except ValueError:
                raise UserError(f"DDPM_LOCK_WAIT: {value!r} is not a number of seconds.") from None
        if self.patience is not None:
            return self.patience
        return math.inf if "SLURM_JOB_ID" in os.environ else TIMEOUT

    def take(self) -> Owner | None:
        """Take the lock, or return the living holder that is in the way."""
        self.me = Owner.me()
        with stop_signal.ending(at_once=False):  # or a file without a name could stay
            while True:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                try:
                    file = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
                    break
                except FileExistsError:
                    if (holder := holder_in(self.path)) is None:  # it has just been given back
                        continue
                    if holder.is_alive(self.heartbeat_age(), self.me) or (holder := self.remove(holder)):
                        return holder
                except FileNotFoundError:  # the folder has just been removed
                    continue
            try:
                os.write(file, json.dumps(asdict(self.me)).encode())
            except OSError as error:
                os.close(file)
                self.path.unlink()
                error.filename = str(self.path)  # a write that fails does not say where
                raise
            ended = threading.Event()
            self.release = weakref.finalize(self, release_file, self.path, self.me, ended)
            threading.Thread(target=beat, args=(file, ended), daemon=True).start()
        return None

    def heartbeat_age(self) -> float:
        """Seconds since the holder's last sign of life, by the clock of the disk, which all hosts share."""
        with suppress(FileNotFoundError), tempfile.TemporaryFile(dir=self.path.parent) as probe:
            return max(os.fstat(probe.fileno()).st_mtime - self.path.stat().st_mtime, 0.0)
        return 0.0

    def remove(self, dead: Owner) -> Owner | None:
        """Remove the lock file of `dead`; returns who is at that already.

        One at a time: of two who found it dead, the slower could remove the lock that the faster has taken since.
        """
        guard = Lock(self.path.with_name(f"{self.path.name}-{guard_of(dead)}"), "removing a lock", self.log)
        if (faster := guard.take()) is not None:
            return faster
        with guard:
            if holder_in(self.path) == dead and (dead.pid or self.heartbeat_age() >= STALE):
                self.log(f"{dead} was {self.work} and is dead: its lock falls")
                self.path.unlink()
        return None

    def check(self) -> None:
        """Raise `Locked` if the lock is no longer this process's: before what would undo another's work."""
        if (holder := holder_in(self.path)) != self.me:
            now = f"{holder} holds it now" if holder else "its file was deleted"
            raise Locked(f"{self.path}: this process has lost the right of {self.work}: {now}. It stops here.")

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


def guard_of(dead: Owner) -> str:
    """Eight digits for the name of a lock under which a dead holder's is removed."""
    return dead.token[:8] if re.fullmatch("[0-9a-f]{32}", dead.token) else "00000000"


def beat(file: int, ended: threading.Event) -> None:
    """Touch the open lock file now and then, which nobody else's at its path would be."""
    while not ended.wait(BEAT):
        with suppress(OSError):
            os.utime(file)
    os.close(file)


def release_file(path: Path, me: Owner, ended: threading.Event) -> None:
    """Remove the lock file, if it is still this process's, and no child's that was forked with it.

    Before it go the files of who was killed while removing an earlier lock of that path, of which there is none now.
    """
    if os.getpid() == me.pid:
        ended.set()
        with suppress(OSError):
            if holder_in(path) == me:
                for guard in path.parent.glob(f"{glob.escape(path.name)}-*"):
                    if re.fullmatch("-[0-9a-f]{8}", guard.name.removeprefix(path.name)):
                        guard.unlink(missing_ok=True)
                path.unlink()
