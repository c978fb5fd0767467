"""Nobody else on a machine can speak to the processes of one job, or have them run code."""

import ast
import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
from helpers import tiny_experiment, train_command
from workspace import PROJECT

from ddpm.compute.distributed import pack_answer, unpack_answer
from ddpm.storage.checkpoints import saved_states

WAIT = 120  # seconds


def listening(process: psutil.Process) -> list[str]:
    """The addresses at which a process, or one that it has started, takes connections."""
    found = []
    for each in (process, *process.children(recursive=True)):
        try:
            found += [c.laddr.ip for c in each.net_connections("inet") if c.status == psutil.CONN_LISTEN]
        except psutil.NoSuchProcess:
            continue
    return found


def is_outside(interface: str) -> bool:
    addresses = psutil.net_if_addrs()[interface]
    return any(each.family == socket.AF_INET and not each.address.startswith("127.") for each in addresses)


# Would fail if the launcher met its processes by torch's rendezvous, or gloo took the interface of the host's name.
def test_nothing_listens_beyond_loopback_and_the_meeting_is_this_users(digits, tmp_path):
    config = tiny_experiment(training={"batch_size": 12, "steps": 10**6}).stage_config("training")
    command = [sys.executable, "-m", *train_command(config, digits, tmp_path / "run"), "--device", "2xcpu"]
    (tmp_path / "tmp").mkdir()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path / "tmp")}
    # As users of torchrun set it, and as gloo chooses where the host's name is that of a network's address.
    environment["GLOO_SOCKET_IFNAME"] = next(filter(is_outside, psutil.net_if_addrs()), "")
    job = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        process, seen, limit = psutil.Process(job.pid), set(), time.monotonic() + WAIT
        while not saved_states(tmp_path / "run/state") and time.monotonic() < limit:
            seen |= set(listening(process))
            time.sleep(0.05)
        seen |= set(listening(process))
        assert saved_states(tmp_path / "run/state"), "it must have trained"
        assert seen == {"127.0.0.1"}
        (meeting,) = (tmp_path / "tmp").glob("ddpm-*")
        assert meeting.stat().st_mode & 0o777 == 0o700
    finally:
        job.send_signal(signal.SIGTERM)
        job.wait(60)
    assert not list((tmp_path / "tmp").glob("ddpm-*")), "and it goes with them"


# Would fail if any message between processes were a pickle.
def test_no_pickle_goes_between_processes():
    for file in (PROJECT / "workflow/ddpm").rglob("*.py"):
        called = {node.attr for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Attribute)}
        assert not {name for name in called if name.endswith(("_object", "_object_list"))}, file
        assert "elastic" not in file.read_text(), file


class Outcome(Exception):
    pass


@pytest.mark.parametrize("piece", [None, {}, {"x": np.arange(6.0).reshape(2, 3), "n": np.zeros((0, 4), np.uint8)}])
def test_pieces_come_through_whole(piece):
    came = unpack_answer(pack_answer(piece), Outcome)
    assert type(came) is type(piece)
    if piece:
        assert came.keys() == piece.keys()
        assert all(np.array_equal(came[key], piece[key]) and came[key].dtype == piece[key].dtype for key in piece)


def test_an_outcome_comes_through():
    came = unpack_answer(pack_answer(Outcome({"status": "unstable", "step": 3})), Outcome)
    assert type(came) is Outcome
    assert came.args == ({"status": "unstable", "step": 3},)


# Would fail if an array of objects, which is a pickle, were taken.
def test_a_message_that_would_run_code_is_refused(tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "code ran"),)

    from io import BytesIO

    words = np.frombuffer(json.dumps({"outcome": None, "nothing": False}).encode(), np.uint8)
    np.savez(buffer := BytesIO(), words=words, x=np.array([Hostile()], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        unpack_answer(buffer.getvalue(), Outcome)
    assert not (tmp_path / "code ran").exists()
