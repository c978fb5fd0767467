"""A Python that has loaded torch, Snakemake and the rest already: a process that tests start is forked from it.

Most of the CPU time of a tiny network's job, and of Snakemake with ten jobs, goes into imports. `python()` is a command
that takes what Python takes: `-m ddpm ...`, `-m snakemake ...`, torchrun and killing.py run in a fork, in the folder
and with the variables, files and exit status of a plain Python. The package is loaded, too, for jobs whose copy of it
is the same; Snakemake, and the jobs of a changed copy, import it anew from where it lies; all else is run by a plain
Python. All processes of the tests share one such Python; an environment of test_conda.py has one of its own.
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
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path

CLIENT = Path(__file__).with_name("ready_client.py")
SOCKET = "READY_SOCKET"  # the variable that says where the server listens
WORKFLOW = Path(__file__).parents[2] / "workflow"
PRELOADED = (
    "docutils.core filelock jinja2 lmdb matplotlib.backends.backend_agg matplotlib.backends.backend_pdf "
    "matplotlib.figure numpy pandas pandas.io.formats.style PIL.Image PIL.PngImagePlugin psutil pyarrow.parquet "
    "pydantic requests safetensors.numpy safetensors.torch scipy.linalg seaborn sklearn.datasets snakemake.cli "
    "snakemake.executors.local snakemake.report snakemake.workflow tabulate torch torch.backends.mkldnn "
    "torch.distributed torch.nn.functional typer yaml"
)


def python(executable: Path = sys.executable, place: Path | None = None) -> list[str]:
    """The command, in place of `executable`, whose server listens at `place`; without, that of all tests."""
    return [str(executable), "-I", "-S", str(CLIENT), str(place or os.environ[SOCKET])]


def environment() -> dict[str, str]:
    """The tests' own, in which `python`, also for torchrun, is that command."""
    own = Path(os.environ[SOCKET]).with_name("bin")
    programs = [own, Path(sys.executable).parent, os.environ["PATH"]]
    return os.environ | {"PATH": os.pathsep.join(map(str, programs)), "PYTHON_EXEC": str(own / "python")}


@cache
def started() -> tuple[subprocess.Popen, Path]:
    """The server of all tests, and where it listens."""
    server, place = start()
    os.environ[SOCKET] = str(place)
    return server, place


def start(
    executable: Path = sys.executable, environment: Mapping[str, str] = os.environ
) -> tuple[subprocess.Popen, Path]:
    """A server, and where it listens, beside bin/python, the command; it loads nothing before it is needed."""
    folder = Path(tempfile.mkdtemp(prefix="ready-"))
    (folder / "bin").mkdir()
    (folder / "bin/python").write_text(f'#!/bin/sh\nexec {shlex.join(python(executable, folder / "socket"))} "$@"\n')
    (folder / "bin/python").chmod(0o755)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
        listener.listen(64)
        server = subprocess.Popen(
            [executable, __file__, str(listener.fileno())],
            stdin=subprocess.PIPE,
            pass_fds=[listener.fileno()],
            env={**environment, "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"},
        )
    return server, folder / "socket"


def stop() -> None:
    """End the server of all tests, if this process has started it."""
    if started.cache_info().currsize:
        end(*started())


def end(server: subprocess.Popen, place: Path) -> None:
    server.stdin.close()
    server.wait()
    shutil.rmtree(place.parent)


def contents(workflow: Path) -> dict[Path, bytes]:
    """Every file of a folder of the workflow, by its place in it, without what Python has compiled."""
    files = (Path(folder, name) for folder, _, names in os.walk(workflow) for name in names)
    return {file.relative_to(workflow): file.read_bytes() for file in files if file.suffix != ".pyc"}


def preload() -> dict[Path, bytes]:
    """Import all that this Python has packages for; what the package and its data were."""
    for name in PRELOADED.split():
        with suppress(ModuleNotFoundError):
            import_module(name)
    loaded = contents(WORKFLOW)
    sys.path.insert(0, str(WORKFLOW))
    for file in loaded:
        if file.suffix == ".py" and file.stem not in ("__main__", "measuring"):  # which looks for a GPU
            with suppress(ModuleNotFoundError):
                import_module(".".join(file.with_suffix("").parts).removesuffix(".__init__"))
    del sys.path[0]
    gc.collect()
    gc.freeze()
    return loaded


def move_package(workflow: Path | None) -> None:
    """Have the package that is loaded lie in `workflow`; with None, have it loaded by none."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] != "ddpm":
            continue
        if workflow is None:
            del sys.modules[name]
            continue
        for key, value in list(vars(module).items()):
            if isinstance(value, Path) and value.is_relative_to(WORKFLOW):
                setattr(module, key, workflow / value.relative_to(WORKFLOW))
        module.__file__ = str(workflow / Path(module.__file__).relative_to(WORKFLOW))
        module.__spec__.origin = module.__file__
        if hasattr(module, "__path__"):
            module.__path__[:] = [str(Path(module.__file__).parent)]


def serve(listener: socket.socket) -> None:
    """Fork a process for each connection, until standard input ends; who hangs up has killed its process."""
    events = select.epoll()
    events.register(listener, select.EPOLLIN)
    events.register(0, 0)  # and its end
    processes: dict[int, int] = {}  # by their pidfd
    clients: dict[int, socket.socket] = {}  # by the process
    loaded: dict[Path, bytes] = {}
    while True:
        for file, _ in events.poll():
            if file == 0:
                return
            if file == listener.fileno():
                loaded = loaded or preload()
                connection, _ = listener.accept()
                if not (process := os.fork()):
                    for other in (events, listener, *clients.values()):
                        other.close()
                    run(connection, loaded)
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


def run(connection: socket.socket, loaded: dict[Path, bytes]) -> None:
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
    here = next((folder for folder in map(Path, sys.path) if (folder / "ddpm").is_dir()), None)
    same = here and arguments[1] != "snakemake" and contents(here) == loaded
    move_package(here.resolve() if same else None)
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
    serve(socket.socket(fileno=int(sys.argv[1])))
    os._exit(0)  # libraries that are taken apart would complain of each other
