"""A stand-in for Apptainer: builds what stands for an image from a definition, and runs commands with what it holds.

Run as `python stand_in_apptainer.py ARGUMENTS...`, with `uv` on PATH. Nothing is pulled, and nothing shut off: the
image is a virtual environment made by the definition's own %post, in which `pip` is uv's; a command finds its Python
and the system's programs on PATH. One that names a file of the host that Apptainer need not show it is refused.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from stand_in_conda import hand_on_bytecode, installer, make_python

SYSTEM = "/usr/bin:/bin"
SHOWN = ("/bin", "/dev", "/etc", "/proc", "/sys", "/usr")  # the image's own; Apptainer may show more of the host


def sections(definition: str) -> dict[str, str]:
    """The parts of a definition file by name; its header is ""."""
    lines = "\n".join(line for line in definition.splitlines() if not line.startswith("#"))
    header, *parts = re.split(r"^%(\w+)$", lines, flags=re.MULTILINE)
    return {"": header, **dict(zip(parts[::2], parts[1::2], strict=True))}


def build(image: Path, definition: Path) -> None:
    parts = sections(definition.read_text())
    if not re.fullmatch(r"Bootstrap: docker\nFrom: \S+", parts[""].strip()):
        sys.exit(f"{definition}: the header is not understood")
    root = image.with_suffix(".root").absolute()
    for line in parts["files"].strip().splitlines():
        source, target = line.split()
        (root / target[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, root / target[1:])
    make_python(root / "python")
    (root / "commands").mkdir()
    uv = f'PATH={os.environ["PATH"]} exec {" ".join(installer(root / "python"))} "$@"'
    (root / "commands/pip").write_text(f'#!/bin/sh\n[ "$1" = install ] && shift\n{uv}\n')
    (root / "commands/pip").chmod(0o755)
    script = parts["post"].replace("/opt/", f"{root}/opt/")
    subprocess.run(["sh", "-ec", script], env={**os.environ, "PATH": f"{root}/commands:{SYSTEM}"}, check=True)
    hand_on_bytecode(root / "python")
    image.write_text(json.dumps({"root": str(root), "environment": parts["environment"]}))
    execute(image, Path.home(), ["sh", "-ec", parts["test"]])


def execute(image: Path, home: Path, command: list[str]) -> None:
    held = json.loads(image.read_text())
    path = f"{held['root']}/python/bin:{SYSTEM}"
    inside = ["sh", "-c", f'{held["environment"]}\nexec "$@"', "sh", *command]
    done = subprocess.run(inside, env={**os.environ, "PATH": path, "HOME": str(home)}, check=False)
    if done.returncode:
        sys.exit(done.returncode)


def main(arguments: list[str]) -> None:
    match arguments:
        case ["--version"]:
            print("apptainer version 1.3.0")
        case ["build", image, definition]:
            build(Path(image), Path(definition))
        case ["exec", *options]:
            parser = argparse.ArgumentParser()
            parser.add_argument("--home", type=Path, required=True)
            parser.add_argument("--bind", type=Path, action="append", default=[])
            parser.add_argument("--nv", action="store_true")
            parser.add_argument("image", type=Path)
            parser.add_argument("command", nargs=argparse.REMAINDER)
            asked = parser.parse_args(options)
            for path in map(Path, re.findall(r"(?<![\w.])/[\w./-]+", " ".join(asked.command))):
                if path.exists() and not any(path.is_relative_to(shown) for shown in (asked.home, *asked.bind, *SHOWN)):
                    sys.exit(f"the image does not show {path}")
            execute(asked.image, asked.home, asked.command)
        case _:
            sys.exit(f"the stand-in for Apptainer does not know `apptainer {' '.join(arguments)}`")


if __name__ == "__main__":
    main(sys.argv[1:])
