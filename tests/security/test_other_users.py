"""Several users on one machine or disk: nobody's file leads another one's job astray, or is taken for its own."""

import multiprocessing
import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ddpm.config.errors import ExitCode, UserError
from ddpm.jobs import gpus, locks
from ddpm.jobs.locks import Lock, Locked, read_owner
from ddpm.storage import files
from ddpm.storage.files import atomic_write, pid_namespace, private_folder


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "lock"


def lock(path: Path) -> Lock:
    return Lock(path, "working", lambda message: None, timeout=0)


# Would fail if a link that leads nowhere were taken for a lock that was just given back: an endless loop.
@pytest.mark.parametrize("kind", ["dangling link", "link", "folder", "pipe"])
def test_what_is_no_lock_file_is_named_and_left_alone(kind, path, tmp_path):
    target = tmp_path / "target"
    match kind:
        case "dangling link":
            path.symlink_to(tmp_path / "nowhere")
        case "link":
            target.write_text("of the user")
            path.symlink_to(target)
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)

    def take() -> None:
        try:
            lock(path).acquire()
        except UserError as error:
            os._exit(0 if "is a link, a folder or the like, where a lock file is to be" in str(error) else 2)
        os._exit(3)

    child = multiprocessing.get_context("fork").Process(target=take)
    child.start()
    child.join(20)
    ended = child.exitcode
    child.kill()
    assert ended == 0, "it must not wait, follow or remove it"
    assert os.path.lexists(path)
    assert not target.exists() or target.read_text() == "of the user"


# Would fail if a lock that may not be read were an error of the disk.
def test_a_lock_that_may_not_be_read_is_another_users(path, monkeypatch):
    path.write_text("{}")
    plain = locks.open_plain

    def refuse(name: str, flags: int) -> int:
        if name == str(path):
            raise PermissionError(13, "Permission denied", name)
        return plain(name, flags)

    monkeypatch.setattr(locks, "open_plain", refuse)
    with pytest.raises(Locked, match=r"somebody who has left no name that can be read here is working") as caught:
        lock(path).acquire()
    assert caught.value.code == ExitCode.LOCKED
    os.utime(path, (0, 0))
    with lock(path).acquire():  # of somebody without a heartbeat for long
        pass


# Would fail if a lock of a kind that this version never writes ended the process, or was read without an end.
@pytest.mark.parametrize("content", [b"[]", b'"x"', b"[" * 10**6, b'{"token": "../../x"}', bytes(10**6), b"\xff"])
def test_a_strange_lock_file_is_nobodys(content, path):
    path.write_bytes(content)
    assert read_owner(path) == locks.UNREADABLE


# Would fail if what lies beside a lock were removed by the beginning of its name.
def test_files_beside_a_lock_stay(path):
    beside = [path.with_name(f"lock{end}") for end in ("-settings.json", "-notes", "-0123456", "-012345678")]
    for file in beside:
        file.write_text("of the user")
    left = path.with_name("lock-0a1b2c3d")
    left.write_text("{}")
    lock(path).acquire().release()
    assert all(file.exists() for file in beside)
    assert not left.exists()


def test_a_token_leads_to_no_other_folder(path):
    """A lock's content is somebody else's word."""
    holder = locks.Owner.this_process()
    assert locks.guard_of(replace(holder, token="../../etc/x")) == "00000000"
    assert locks.guard_of(holder) == holder.token[:8]


# Would fail if a process number were believed that is of another container's processes.
def test_a_living_writer_in_another_container_keeps_its_file(tmp_path, monkeypatch):
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(files, "pid_namespace", lambda: pid_namespace().partition("-")[0] + "-1234567")
        with atomic_write(tmp_path / "a.txt") as theirs:
            theirs.write_text("being written")
            kept = theirs.with_name(theirs.name.replace(str(os.getpid()), str(2**22 + 1)))  # which no process here has
            theirs.rename(kept)
            elsewhere.undo()
            with atomic_write(tmp_path / "a.txt") as mine:
                mine.write_text("new")
            assert kept.exists()
            kept.rename(theirs)
    assert (tmp_path / "a.txt").read_text() == "being written"


def test_processes_of_another_namespace_are_of_another_place():
    """As those of a container are, which may have the same host's name."""
    assert pid_namespace().endswith(f"-{os.stat('/proc/self/ns/pid').st_ino}")
    code = "from ddpm.storage.files import pid_namespace; print(pid_namespace())"
    apart = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", code]
    try:
        done = subprocess.run(apart, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no unshare here")
    if done.returncode:
        pytest.skip(f"no namespaces here: {done.stderr.strip()}")
    assert done.stdout.strip() != pid_namespace()


# Would fail if leases were kept in a folder that others can write to, or behind a link of theirs.
def test_a_folder_of_leases_is_this_users_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("DDPM_GPU_LEASES", str(tmp_path / "leases"))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "leases").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="is a link, or belongs to somebody else"):
        gpus.lease_folder()
    (tmp_path / "leases").unlink()
    (tmp_path / "leases").mkdir()
    for mode in (0o777, 0o770, 0o1777):
        (tmp_path / "leases").chmod(mode)
        with pytest.raises(UserError, match=r"others may write to it \(chmod go-w"):
            gpus.lease_folder()
    (tmp_path / "leases").chmod(0o755)
    assert gpus.lease_folder() == tmp_path / "leases"


def test_a_new_folder_is_closed(tmp_path):
    assert stat.S_IMODE(private_folder(tmp_path / "new", "").stat().st_mode) == 0o700


def test_a_folder_of_another_user_is_refused(tmp_path):
    if os.getuid() != 0:
        pytest.skip("only root can give a folder away")
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", 12345, -1)
    with pytest.raises(UserError, match="belongs to somebody else"):
        private_folder(tmp_path / "theirs", "")
