"""The stand-ins for conda and Apptainer as commands on PATH, where the environment of the tests is not."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from workspace import PROJECT

SYSTEM = "/usr/bin:/bin"


def find_uv() -> Path:
    """uv, which makes the stand-ins' environments; skips the test where it is not."""
    uv = shutil.which("uv", path=f"{os.environ['PATH']}:{PROJECT / '.uv/bin'}")
    if not uv:
        pytest.skip("uv, which makes the environments, is not here")
    return Path(uv)


def put(name: str, folder: Path, *arguments: Path) -> None:
    """Write the command `name` into `folder`: the stand-in of that name, with `arguments` before those it is given."""
    folder.mkdir(parents=True, exist_ok=True)
    words = (sys.executable, PROJECT / f"tests/support/stand_in_{name}.py", *arguments)
    path = f'PATH="{find_uv().parent}:$PATH"'
    (folder / name).write_text(f'#!/bin/sh\n{path} exec {" ".join(map(str, words))} "$@"\n')
    (folder / name).chmod(0o755)


def environ(*folders: Path) -> dict[str, str]:
    """The tests' variables without their environment; on PATH the folders, and the system's programs."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return {**kept, "PATH": ":".join([*map(str, folders), SYSTEM])}


def with_index(command: list, text: str = "", **options) -> None:
    """Run what needs a package index; where none can be reached, the test is skipped."""
    options |= {"capture_output": True, "text": True, "check": False}
    done = subprocess.run(command, input=text, **options)
    if done.returncode:
        ask = [find_uv(), "pip", "compile", "--quiet", "--no-cache", "-"]
        asked = subprocess.run(ask, input="pip", capture_output=True, text=True, check=False)
        if asked.returncode:
            pytest.skip(f"uv reaches no package index: {asked.stderr.splitlines()[0]}")
        pytest.fail(done.stdout + done.stderr)
