"""A Python that has loaded torch, Snakemake and the rest already: a process that tests start is forked from it.

Most of the CPU time of a tiny network's job, and of Snakemake with ten jobs, goes into imports. `python()` is a command
that takes what Python takes: `-m ddpm ...`, `-m snakemake ...` and killing.py run in a fork, in the folder and with the
variables, files and exit status of a plain Python, and with the package's modules imported anew from where they lie;
all else is run by a plain Python.
"""

import atexit
import gc
import json
import os
import runpy
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path

CLIENT = Path(__file__).with_name("ready_client.py")
PRELOADED = (
    "docutils.core filelock jinja2 lmdb matplotlib.backends.backend_agg matplotlib.backends.backend_pdf "
    "matplotlib.figure numpy pandas pandas.io.formats.style PIL.Image PIL.PngImagePlugin psutil pyarrow.parquet "
    "pydantic requests safetensors.numpy safetensors.torch scipy.linalg seaborn sklearn.datasets snakemake.cli "
    "snakemake.executors.local snakemake.report snakemake.workflow tabulate torch torch.backends.mkldnn "
    "torch.distributed torch.nn.functional torchvision.transforms.v2.functional typer yaml"
)


def python() -> list[str]:
    """The command, in place of `sys.executable`."""
    return [sys.executable, "-I", "-S", str(CLIENT), str(started()[1])]


def environment() -> dict[str, str]:
    """The tests' own, in which `python` is that command."""
    folder = started()[1].parent
    programs = {"python": f'#!/bin/sh\nexec {shlex.join(python())} "$@"\n'}
    added = {"PATH": os.pathsep.join([str(folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])}
    for name, script in programs.items():
        if not (path := folder / "bin" / name).exists():
            path.write_text(script)
            path.chmod(0o755)
    return os.environ | added


@cache
def started() -> tuple[subprocess.Popen, Path]:
    """The server of this process, and where it listens."""
    folder = Path(tempfile.mkdtemp(prefix="ready-"))
    (folder / "bin").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
        listener.listen(64)
        server = subprocess.Popen(
            [sys.executable, __file__, str(listener.fileno())],
            stdin=subprocess.PIPE,
            pass_fds=[listener.fileno()],
            env={**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"},
        )
    return server, folder / "socket"


def stop() -> None:
    """End the server, if there is one."""
    if started.cache_info().currsize:
        server, place = started()
        server.stdin.close()
        server.wait()
        shutil.rmtree(place.parent)


def serve(listener: socket.socket) -> None:
    """Fork a process for each connection, until standard input ends; who hangs up has killed its process."""
    events = select.epoll()
    events.register(listener, select.EPOLLIN)
    events.register(0, 0)  # and its end
    processes: dict[int, int] = {}  # by their pidfd
    clients: dict[int, socket.socket] = {}  # by the process
    while True:
        for file, _ in events.poll():
            if file == 0:
                return
            if file == listener.fileno():
                connection, _ = listener.accept()
                if not (process := os.fork()):
                    for other in (events, listener, *clients.values()):
                        other.close()
                    run(connection)
                connection.sendall(b"%d\n" % process)
                clients[process] = connection
                events.register(connection, 0)
                processes[ends := os.pidfd_open(process)] = process
                events.register(ends, select.EPOLLIN)
            elif file in processes:
                _, status = os.waitpid(process := processes.pop(file), 0)
                events.unregister(file)
                os.close(file)
                with suppress(OSError), clients.pop(process) as connection:
                    events.unregister(connection)  # if the client is still there
                    connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
            else:  # unless the process has ended just now
                for process in [process for process, connection in clients.items() if connection.fileno() == file]:
                    os.kill(process, signal.SIGKILL)
                    events.unregister(file)


def run(connection: socket.socket) -> None:
    """Become the process that the client asks for, to the end."""
    message, handed, *_ = socket.recv_fds(connection, 8, 4)
    length = int.from_bytes(message, "big")
    content = b""
    while len(content) < length:
        content += connection.recv(length - len(content))
    arguments, environment = json.loads(content)
    connection.close()
    for number, file in zip((0, 1, 2), handed, strict=False):
        os.dup2(file, number)
    os.fchdir(handed[3])
    for file in handed:
        os.close(file)
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    sys.dont_write_bytecode = bool(environment.get("PYTHONDONTWRITEBYTECODE"))
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", closefd=False, buffering=1 if environment.get("PYTHONUNBUFFERED") else -1)  # noqa: SIM115
    sys.stderr = open(2, "w", closefd=False, buffering=1, errors="backslashreplace")  # noqa: SIM115
    added = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:1] = [os.getcwd(), *added]
    sys.modules.pop("sitecustomize", None)
    with suppress(ModuleNotFoundError):
        import_module("sitecustomize")  # as every Python does
    code = 1
    try:
        if arguments[0] == "-m":
            sys.argv[:] = arguments[1:]
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        else:
            sys.argv[:] = arguments
            runpy.run_path(sys.argv[0], run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    threading._shutdown()
    atexit._run_exitfuncs()
    with suppress(OSError):
        sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    for name in PRELOADED.split():
        import_module(name)
    gc.collect()
    gc.freeze()
    serve(socket.socket(fileno=int(sys.argv[1])))
    os._exit(0)  # libraries that are taken apart would complain of each other
