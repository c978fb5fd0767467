"""Has a process forked from the Python that listens at a socket (ready.py), and passes for it.

`python -I -S ready_client.py SOCKET ARGUMENTS...`
"""

import _socket  # a quarter of what socket takes to load
import array
import json
import os
import signal
import sys

MODULES = (["-m", "ddpm"], ["-m", "snakemake"], ["-m", "torch.distributed.run"])
_, place, *arguments = sys.argv
if arguments[0] == "-u":  # torchrun's
    os.environ["PYTHONUNBUFFERED"] = "1"
    del arguments[0]
known = arguments[:2] in MODULES or arguments[0].endswith("/killing.py")
if not known or os.environ.get("OMP_NUM_THREADS", "1") != "1":  # as the others' is
    os.execv(sys.executable, [sys.executable, *arguments])
connection = _socket.socket(_socket.AF_UNIX)
connection.connect(place)


def told() -> int:
    """The next number of the server's; -9 if it is gone."""
    said = b""
    while not said.endswith(b"\n"):
        said += connection.recv(1) or b"-9\n"
    return int(said)


def pass_on(number: int, _: object) -> None:
    os.kill(process, number)


message = json.dumps([arguments, dict(os.environ)]).encode()
files = array.array("i", [0, 1, 2, os.open(".", os.O_RDONLY)])
connection.sendmsg([len(message).to_bytes(8, "big")], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, files)])
connection.sendall(message)
process = told()
for each in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(each, pass_on)
status = told()
if status < 0:
    if status != -signal.SIGKILL:
        signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
os._exit(status)
