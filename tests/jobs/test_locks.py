"""One worker at a time: a living holder keeps others out, and a dead one nobody, however it died and wherever."""

import errno
import json
import multiprocessing
import os
import signal
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from waiting import wait_for

from ddpm.config.errors import ExitCode, UserError
from ddpm.jobs import locks, signals
from ddpm.jobs.locks import UNREADABLE, Lock, Locked, Owner, read_owner

FORK = multiprocessing.get_context("fork")
ELSEWHERE = {"host": "n7", "pids": "n7 another-boot pid:[1]"}


def silent(message: str) -> None:
    pass


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "state" / "lock"


@contextmanager
def held_by_another(path: Path):
    """A process that holds the lock until the block ends, unless the block ends the process."""

    def hold() -> None:
        with Lock(path, "testing", silent).acquire():
            signal.pause()

    process = FORK.Process(target=hold)
    process.start()
    wait_for(lambda: (read_owner(path) or UNREADABLE).pid == process.pid, "the other's lock")
    yield process
    process.kill()
    process.join()


def leave_lock(path: Path, ago: float = 0.0, **of_owner) -> Owner:
    """A lock file as a process left it whose last heartbeat was `ago` seconds ago."""
    holder = replace(Owner.this_process(), **of_owner)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(holder)))
    os.utime(path, (time.time() - ago,) * 2)
    return holder


def is_free(path: Path) -> bool:
    """Whether the lock can be had at once."""
    try:
        with Lock(path, "testing", silent, timeout=0).acquire():
            return True
    except Locked:
        return False


def test_a_lock_is_held_and_given_back(path):
    with Lock(path, "testing").acquire() as lock:
        assert read_owner(path) == lock.me
        assert not is_free(path)
    assert not list(path.parent.iterdir())
    assert is_free(path)


def test_a_lock_falls_with_its_object(path):
    Lock(path, "testing").acquire()
    assert not path.exists()


def test_a_forked_child_does_not_give_back_its_parents_lock(path):
    lock = Lock(path, "testing").acquire()

    def end() -> None:
        nonlocal lock
        lock.release()
        del lock

    child = FORK.Process(target=end)
    child.start()
    child.join()
    assert read_owner(path) == lock.me


def test_a_living_holder_is_named_with_what_to_do(path):
    with held_by_another(path) as process, pytest.raises(Locked) as refused:
        Lock(path, "training this", silent, timeout=0).acquire()
    for words in (f"process {process.pid}", "training this", "since 20", f"kill {process.pid} on ", f"delete {path}"):
        assert words in str(refused.value)
    assert refused.value.code == ExitCode.LOCKED == 73


def test_a_job_of_a_scheduler_is_named_with_how_to_cancel_it(path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.setenv("SLURM_CLUSTER_NAME", "big")
    with Lock(path, "testing").acquire(), pytest.raises(Locked, match=r"SLURM job 4711 of big.*scancel 4711"):
        Lock(path, "testing", silent, timeout=0).acquire()


def test_one_that_waits_says_so_and_goes_on_when_the_holder_ends(path):
    said = []
    with held_by_another(path) as process:

        def log(message: str) -> None:
            said.append(message)
            process.kill()

        with Lock(path, "testing", log).acquire() as lock:
            assert read_owner(path) == lock.me
    assert "waiting for it for up to 600 s" in said[0]
    assert "is dead: its lock is removed" in said[1]
    assert len(said) == 2


def test_how_long_to_wait_is_the_environments_word(path, monkeypatch):
    monkeypatch.setenv("DDPM_LOCK_WAIT", "0.2")
    said = []
    with held_by_another(path), pytest.raises(Locked, match=r"Waited for \d+ s; DDPM_LOCK_WAIT"):
        Lock(path, "testing", said.append).acquire()
    assert len(said) == 1
    monkeypatch.setenv("DDPM_LOCK_WAIT", "long")
    with held_by_another(path), pytest.raises(UserError, match="DDPM_LOCK_WAIT=long: must be a number"):
        Lock(path, "testing", said.append).acquire()


def test_a_job_of_a_scheduler_waits_until_it_has_to_end(path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.setattr(signals.stop_signal, "warning", "")
    said = []

    def log(line: str) -> None:
        said.append(line)
        signals.stop_signal.warning = "SIGUSR1"

    with held_by_another(path), pytest.raises(signals.Interrupted, match=r"by SIGUSR1 while waiting: process"):
        Lock(path, "testing", log).acquire()
    assert "until this job has to end" in said[0]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_lock_of_a_killed_process_falls(path, number):
    with held_by_another(path) as process:
        os.kill(process.pid, number)  # a zombie until it is waited for: dead nevertheless
        wait_for(lambda: not locks.birth_of(process.pid), "its end")
        assert path.exists()
        assert is_free(path)


def test_a_stopped_process_lives(path):
    with held_by_another(path) as process:
        os.kill(process.pid, signal.SIGSTOP)
        os.utime(path, (0, 0))
        assert not is_free(path)


def test_a_process_number_that_was_used_again_is_no_holder(path):
    leave_lock(path, birth="12345")  # the number of this very process
    assert is_free(path)


def test_a_process_of_another_user_of_whom_nothing_is_shown_is_told_by_its_sign_of_life(path, monkeypatch):
    monkeypatch.setattr(locks, "birth_of", lambda pid: locks.HIDDEN)
    leave_lock(path, birth="1")
    assert not is_free(path)
    leave_lock(path, birth="1", ago=301)
    assert is_free(path)


def test_a_holder_on_another_host_lives_while_it_gives_signs(path):
    """Also where a process here has its number, and none has."""
    for pid in (os.getpid(), 2**22 + 1):
        leave_lock(path, **ELSEWHERE, pid=pid, ago=150)
        assert not is_free(path)
        leave_lock(path, **ELSEWHERE, pid=pid, ago=301)
        assert is_free(path)


def test_a_lock_file_of_an_earlier_version_is_believed_while_it_gives_signs(path):
    """It named this host's process numbers in other words, and its owner may live."""
    pids = f"{os.uname().nodename} 0b1c-boot pid:[4026531836]"
    leave_lock(path, pids=pids, ago=150)
    assert not is_free(path)
    leave_lock(path, pids=pids, ago=301)
    assert is_free(path)


def test_signs_of_life_are_given(path, monkeypatch):
    monkeypatch.setattr(locks, "HEARTBEAT_INTERVAL", 0.01)
    with Lock(path, "testing").acquire() as lock:
        os.utime(path, (0, 0))
        wait_for(lambda: lock.heartbeat_age() < 60, "a heartbeat", 60)


def test_the_age_of_a_sign_is_told_by_the_clock_of_the_disk(path, monkeypatch):
    leave_lock(path, **ELSEWHERE)
    monkeypatch.setattr(time, "time", lambda: 1e12)  # this host's is wrong
    assert not is_free(path)


@pytest.mark.parametrize(
    ("answer", "job", "ago", "free"),
    [
        ("echo RUNNING", {"job": "7"}, 9999, False),
        ("echo COMPLETING", {"job": "7"}, 9999, False),
        ("echo SUSPENDED", {"job": "7"}, 9999, False),
        ("echo PENDING", {"job": "7"}, 0, True),  # it waits to be started again
        ("true", {"job": "7"}, 0, True),
        ("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", {"job": "7"}, 0, True),
        ("echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1", {"job": "7"}, 0, False),
        ("echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1", {"job": "7"}, 301, True),
        ("true", {"job": "7", "cluster": "other"}, 0, False),  # where this squeue knows no jobs
        ("true", {"job": ""}, 0, False),
        ("echo RUNNING", {"job": "8", "restarts": "1"}, 0, True),  # this job, before it was started again
        ("echo RUNNING", {"job": "8"}, 0, False),  # this job's other node
        ("echo RUNNING", {"job": "8"}, 301, True),
    ],
)
def test_a_holder_that_is_a_job_of_this_cluster_is_asked_of_its_scheduler(answer, job, ago, free, path, monkeypatch):
    squeue = path.parent.parent / "bin" / "squeue"
    squeue.parent.mkdir()
    squeue.write_text(f'#!/bin/sh\n[ "$3" = 7 ] || exit 99\n{answer}\n')
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{squeue.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "8")
    monkeypatch.setenv("SLURM_CLUSTER_NAME", "this")
    leave_lock(path, **ELSEWHERE, ago=ago, **job)
    assert is_free(path) == free


def test_without_a_scheduler_the_sign_of_life_counts(path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    leave_lock(path, **ELSEWHERE, job="7")
    assert not is_free(path)


@pytest.mark.parametrize("content", ["", '{"token": "ab', '{"pid": 1}', "[]", '{"other": 2}'])
def test_a_lock_without_a_name_falls_when_nobody_comes_to_write_it(content, path):
    path.parent.mkdir()
    path.write_text(content)
    assert not is_free(path)
    os.utime(path, (time.time() - 301,) * 2)
    assert is_free(path)


def test_of_two_who_found_it_dead_the_slower_removes_nothing(path):
    dead = leave_lock(path, birth="1")
    with Lock(path, "testing", silent).acquire() as faster:
        slower = Lock(path, "testing", silent)
        assert slower.remove_stale(dead) is None
        assert read_owner(path) == faster.me


def test_a_lock_whose_name_is_being_written_is_not_removed(path):
    path.parent.mkdir()
    path.touch()
    Lock(path, "testing", silent).remove_stale(UNREADABLE)
    assert path.exists()


def test_who_is_removing_a_dead_holders_lock_is_in_the_way_of_others(path):
    dead = leave_lock(path, birth="1")
    with held_by_another(path.with_name(f"lock-{dead.token[:8]}")) as process:
        with pytest.raises(Locked, match=f"process {process.pid}"):
            Lock(path, "testing", silent, timeout=0).acquire()
        assert read_owner(path) == dead
    assert is_free(path), "and where it was killed, it is in nobody's way"


def test_what_one_killed_behind_its_removal_of_a_lock_leaves_goes_with_the_next_lock(path):
    dead = leave_lock(path, birth="1")
    with held_by_another(path.with_name(f"lock-{dead.token[:8]}")):
        path.unlink()
    assert [file.name for file in path.parent.iterdir()] == [f"lock-{dead.token[:8]}"]
    assert is_free(path)
    assert list(path.parent.iterdir()) == []


def test_never_two_at_once(tmp_path):
    """Of 48 processes, six at a time, each second one dies with the lock in hand; none finds another one inside."""
    path, inside = tmp_path / "lock", tmp_path / "inside"

    def visit(dies: bool) -> None:
        lock = Lock(path, "testing", silent)
        while not lock.attempt():
            time.sleep(0.001)
        os.close(os.open(inside, os.O_CREAT | os.O_EXCL))  # fails where another one is inside
        time.sleep(0.002)
        inside.unlink()
        if not dies:
            lock.release()

    def work(number: int) -> None:
        for visits in range(8):
            if (child := os.fork()) == 0:
                status = 1
                with suppress(OSError, Locked):
                    visit(dies=bool((number + visits) % 2))
                    status = 0
                os._exit(status)
            assert os.waitpid(child, 0)[1] == 0

    processes = [FORK.Process(target=work, args=(number,)) for number in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 6


def test_a_disk_that_has_no_room_for_a_name_is_named_and_no_lock_stays(path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    files = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left") as refused:
        patch.setattr(os, "write", full)
        Lock(path, "testing", silent).acquire()
    assert refused.value.filename == str(path)
    assert not path.exists()
    assert len(os.listdir("/proc/self/fd")) <= files  # those of earlier tests are closed by and by


def test_who_has_lost_the_lock_notices(path):
    lock = Lock(path, "testing").acquire()
    lock.check()
    other = leave_lock(path, **ELSEWHERE)
    with pytest.raises(Locked, match=r"lost the right of testing: process .* on n7"):
        lock.check()
    lock.release()
    assert read_owner(path) == other, "and gives back what is its own only"
    path.unlink()
    with pytest.raises(Locked, match="its file was deleted"):
        lock.check()
