"""One process at a time: the owner of a piece of work names itself in a lock file, and touches it while it lives.

filelock's SoftFileLease (4.2.11) cannot carry this: it takes over from a living process that is suspended, and never
from a dead one behind an empty file or on a disk without RENAME_EXCHANGE (NFS). Elsewhere a process must have watched
the file for all of its duration, and only private methods could ask SLURM.
"""

import errno
import glob
import json
import math
import os
import re
import socket
import stat
import tempfile
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import uuid4

from ddpm.config.errors import ExitCode, UserError
from ddpm.jobs.signals import Interrupted, stop_signal
from ddpm.jobs.slurm import RESTARTS, try_ask
from ddpm.storage.files import pid_namespace

HEARTBEAT_INTERVAL = 20  # seconds
HEARTBEAT_TIMEOUT = 300  # seconds without a heartbeat, after which an owner that cannot be checked counts as dead
WAIT_TIMEOUT = 600  # seconds to wait, outside of SLURM and without DDPM_LOCK_WAIT
MAX_PAUSE = 30  # seconds between two attempts
LOG_EVERY = 60  # seconds
MAX_BYTES = 2**16  # of a lock file
# States of a SLURM job whose processes may still write. One that waits to run again has none.
RUNNING = {"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "RESIZING", "STAGE_OUT"}


class Locked(UserError):
    """Another process does this work."""

    code = ExitCode.LOCKED


HIDDEN = ""  # the birth of another user's process that exists, and of which the system shows no more


def birth_of(pid: int) -> str | None:
    """When a process was started, which tells it from a later one of the same number; None where it is dead."""
    with suppress(OSError):
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if state in "ZX" else rest[18]
    try:
        with suppress(PermissionError):
            os.kill(pid, 0)
    except ProcessLookupError:
        return None
    return HIDDEN


@dataclass(frozen=True)
class Owner:
    """A process that holds a lock."""

    token: str  # of this lock, unlike that of any other
    host: str
    pids: str  # where its number means something: this boot of this machine, this namespace
    pid: int
    birth: str | None
    job: str  # SLURM's, or nothing
    restarts: str  # of that job
    cluster: str
    since: str

    @classmethod
    def this_process(cls) -> "Owner":
        """For a new lock."""
        pids = pid_namespace()
        with suppress(OSError):
            pids += " " + Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        job, cluster = (os.environ.get(f"SLURM_{name}", "") for name in ("JOB_ID", "CLUSTER_NAME"))
        restarts = os.environ.get(RESTARTS) or os.environ.get(f"DDPM_{RESTARTS}", "")
        pid, since = os.getpid(), time.strftime("%Y-%m-%d %H:%M:%S")
        return cls(uuid4().hex, socket.gethostname(), pids, pid, birth_of(pid), job, restarts, cluster, since)

    def is_alive(self, heartbeat_age: float, me: "Owner") -> bool:
        """Whether the owner lives, as far as `me` can check, `heartbeat_age` seconds after its last heartbeat."""
        if self.pids == me.pids and (birth := birth_of(self.pid)) != HIDDEN:
            return birth == self.birth
        if self.job and self.cluster == me.cluster:
            if self.job != me.job:
                if (states := try_ask("squeue", "-h", "-j", self.job, "-o", "%T")) is not None:
                    return not RUNNING.isdisjoint(states.split())
            elif self.restarts != me.restarts:  # this very job, before SLURM started it again
                return False
        return heartbeat_age < HEARTBEAT_TIMEOUT

    def __str__(self) -> str:
        if not self.token:
            return "somebody who has left no name that can be read here"
        job = f", SLURM job {self.job}{f' of {self.cluster}' if self.cluster else ''}" if self.job else ""
        return f"process {self.pid} on {self.host}{job}, since {self.since},"

    @property
    def remedy(self) -> str:
        """How to end it by hand."""
        if not self.token:
            return "`ls -l` names the user"
        return f"scancel {self.job}" if self.job else f"kill {self.pid} on {self.host}"


UNREADABLE = Owner(token="", host="", pids="", pid=0, birth=None, job="", restarts="", cluster="", since="")
"""Has not written its name to the end yet, or was killed before; or is another user, with a umask of 077."""


def read_owner(path: Path) -> Owner | None:
    """The owner that the lock file names; None where there is no file.

    Raises:
        UserError: it is a link, a folder or the like, which no owner makes.
    """
    try:
        with open(path, "rb", opener=open_plain) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise IsADirectoryError(errno.EISDIR, "no plain file", str(path))
            return Owner(**json.loads(file.read(MAX_BYTES)))
    except FileNotFoundError:
        return None
    except PermissionError:
        return UNREADABLE
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise
        raise UserError(f"{path}: is a link, a folder or the like, where a lock file is to be. Remove it.") from None
    except (ValueError, TypeError, RecursionError):
        return UNREADABLE


def open_plain(path: str, flags: int) -> int:
    """Open without following a link, and without waiting at a pipe."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def seconds_from(variable: str, default: float) -> float:
    """What an environment variable says, or else `default`."""
    value = os.environ.get(variable) or default
    try:
        return float(value)
    except ValueError:
        raise UserError(f"{variable}={value}: must be a number of seconds.") from None


def lock_beside(path: Path) -> Path:
    """The lock file of whoever makes the file or folder `path`."""
    return path.with_name(f".{path.name}.lock")


class Lock:
    """The right to do a piece of work, as long as the file `path` names this process.

    It ends with `release`, with this object or with the process, also where that is killed.

    Args:
        work: what the owner does, for messages: "training this state".
        timeout: seconds to wait for a living owner, where DDPM_LOCK_WAIT does not say it. By default ten minutes; in a
            SLURM job, which is queued again, until it has to end.
    """

    def __init__(self, path: Path, work: str, log=print, timeout: float | None = None):
        self.path, self.work, self.log, self.timeout = path, work, log, timeout
        self.waits_since: float | None = None
        self.logged = -math.inf
        self.pause = 0.5  # seconds until the next attempt
        self.release: Callable[[], object] = lambda: None  # until it is held

    def acquire(self) -> "Lock":
        """Wait for the lock.

        Raises:
            Locked: its owner lives on; the message says who that is and what to do.
            Interrupted: this job has to end.
        """
        while not self.attempt():
            time.sleep(self.pause)
        return self

    def attempt(self) -> bool:
        """Take the lock if it is free or its owner dead. Raises what `acquire` does when it is time to."""
        if (owner := self.take()) is None:
            return True
        default = math.inf if "SLURM_JOB_ID" in os.environ else WAIT_TIMEOUT
        timeout = seconds_from("DDPM_LOCK_WAIT", default if self.timeout is None else self.timeout)
        now = time.monotonic()
        self.waits_since = now if self.waits_since is None else self.waits_since
        waited = now - self.waits_since
        who = f"{owner} is {self.work} (last heartbeat {self.heartbeat_age():.0f} s ago)"
        if waited >= timeout:
            raise Locked(
                f"{self.path}: {who}. Waited for {waited:.0f} s; DDPM_LOCK_WAIT sets how long. Wait until it has "
                f"ended, or end it ({owner.remedy}), and run the same command again: it goes on from what is saved. "
                "The lock of a dead process is removed at once, or, where that cannot be checked, "
                f"{HEARTBEAT_TIMEOUT} s after its last heartbeat. If it is certainly dead, delete {self.path}."
            )
        if now - self.logged >= LOG_EVERY:
            self.logged = now
            limit = f"for up to {timeout:.0f} s" if timeout < math.inf else "until this job has to end"
            self.log(f"{who}; waiting for it {limit}")
        if stop_signal.should_stop():
            raise Interrupted(f"interrupted by {stop_signal.why} while waiting: {who}")
        self.pause = min(2 * self.pause, MAX_PAUSE)
        return False

    def take(self) -> Owner | None:
        """Take the lock, or return the living owner that is in the way."""
        self.me = Owner.this_process()
        with stop_signal.ending(at_once=False):  # or a file without a name could stay
            while (file := self.create_file()) is None:
                owner = read_owner(self.path)
                if owner and (owner.is_alive(self.heartbeat_age(), self.me) or (owner := self.remove_stale(owner))):
                    return owner
            try:
                os.write(file, json.dumps(asdict(self.me)).encode())
            except OSError as error:
                os.close(file)
                self.path.unlink()
                error.filename = str(self.path)  # a write that fails does not say where
                raise
            ended = threading.Event()
            self.release = weakref.finalize(self, release_file, self.path, self.me, ended)
            threading.Thread(target=send_heartbeats, args=(file, ended), daemon=True).start()
        return None

    def create_file(self) -> int | None:
        """A new and open lock file; None where there is one, or where its folder has just been removed."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError, FileNotFoundError):
            return os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        return None

    def heartbeat_age(self) -> float:
        """Seconds since the owner's last heartbeat, by the clock of the disk, which all hosts share."""
        with suppress(FileNotFoundError), tempfile.TemporaryFile(dir=self.path.parent) as probe:
            return max(os.fstat(probe.fileno()).st_mtime - self.path.stat().st_mtime, 0.0)
        return 0.0

    def remove_stale(self, dead: Owner) -> Owner | None:
        """Remove the lock file of `dead`; returns the process that is removing it already.

        One at a time: of two that found it dead, the slower could remove the lock that the faster has taken since.
        """
        guard = Lock(self.path.with_name(f"{self.path.name}-{guard_of(dead)}"), "removing a lock", self.log)
        if (faster := guard.take()) is not None:
            return faster
        with guard:
            if read_owner(self.path) == dead and (dead.pid or self.heartbeat_age() >= HEARTBEAT_TIMEOUT):
                self.log(f"{dead} was {self.work} and is dead: its lock is removed")
                self.path.unlink()
        return None

    def check(self) -> None:
        """Raise `Locked` if the lock is no longer this process's: before what would undo another's work."""
        if (owner := read_owner(self.path)) != self.me:
            now = f"{owner} holds it now" if owner else "its file was deleted"
            raise Locked(f"{self.path}: this process has lost the right of {self.work}: {now}. It stops here.")

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


def guard_of(dead: Owner) -> str:
    """Eight digits for the name of the lock under which a dead owner's is removed."""
    return dead.token[:8] if re.fullmatch("[0-9a-f]{32}", dead.token) else "00000000"


def send_heartbeats(file: int, ended: threading.Event) -> None:
    """Touch the open lock file now and then; a later one at its path is another file."""
    while not ended.wait(HEARTBEAT_INTERVAL):
        with suppress(OSError):
            os.utime(file)
    os.close(file)


def release_file(path: Path, me: Owner, ended: threading.Event) -> None:
    """Remove the lock file, if it is still `me`'s, and this is no child that was forked with it.

    First remove the guards of processes that were killed while they removed an earlier lock of that path.
    """
    if os.getpid() == me.pid:
        ended.set()
        with suppress(OSError):
            if read_owner(path) == me:
                for guard in path.parent.glob(f"{glob.escape(path.name)}-*"):
                    if re.fullmatch("-[0-9a-f]{8}", guard.name.removeprefix(path.name)):
                        guard.unlink(missing_ok=True)
                path.unlink()
