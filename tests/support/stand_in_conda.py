"""A stand-in for conda: answers what Snakemake asks of it, and makes environments of a file's wheels with uv.

Run as `python stand_in_conda.py ROOT ARGUMENTS...`, with ROOT for conda's own folder and `uv` on PATH. An environment
has the wheels that its file lists, what these depend on, and nothing else. Its Python is the one that runs this,
whatever version the file asks for: no other can be counted on to be here.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

PROJECT = Path(__file__).parents[2]
UNTIL = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["uv"]["exclude-newer"]

# What `source ROOT/bin/activate PREFIX` runs.
ACTIVATE = """export CONDA_PREFIX="$1" PATH="$1/bin:$PATH"
. "$1/conda-meta/variables"
"""


def make_python(prefix: Path) -> None:
    """Make a Python environment without packages."""
    subprocess.run(["uv", "venv", "--quiet", "--no-project", "--python", sys.executable, prefix], check=True)


def installer(prefix: Path) -> list[str]:
    """A command that installs what follows it, and what that depends on, as published on the project's day."""
    return ["uv", "pip", "install", "--quiet", "--exclude-newer", UNTIL, "--python", f"{prefix}/bin/python"]


def hand_on_bytecode(prefix: Path) -> None:
    """What this Python has compiled of the same wheels: it takes half a minute to do so anew."""
    here, there = (Path(root) / f"lib/python3.{sys.version_info.minor}/site-packages" for root in (sys.prefix, prefix))
    for compiled in here.rglob("__pycache__"):
        if (module := there / compiled.relative_to(here)).parent.is_dir():
            shutil.copytree(compiled, module, dirs_exist_ok=True)


def create(file: Path, prefix: Path) -> None:
    document = yaml.safe_load(file.read_text())
    if unknown := set(document) - {"name", "channels", "dependencies", "variables"}:
        sys.exit(f"{file}: the stand-in knows no {unknown}")
    *packages, wheels = document["dependencies"]
    if [package.partition("=")[0] for package in packages] != ["python", "pip"] or set(wheels) != {"pip"}:
        sys.exit(f"{file}: the stand-in makes environments of python, pip, and wheels alone")
    make_python(prefix)
    (prefix / "conda-meta").mkdir()
    (prefix / "conda-meta/wheels.txt").write_text("\n".join(wheels["pip"]))
    subprocess.run([*installer(prefix), "--requirements", prefix / "conda-meta/wheels.txt"], check=True)
    hand_on_bytecode(prefix)
    variables = [f"export {name}={value!r}\n" for name, value in document.get("variables", {}).items()]
    (prefix / "conda-meta/variables").write_text("".join(variables))


def main(root: Path, arguments: list[str]) -> None:
    match arguments:
        case ["--version"]:
            print("conda 24.7.1")
        case ["info", "--json"]:
            (root / "bin").mkdir(parents=True, exist_ok=True)
            (root / "bin/activate").write_text(ACTIVATE)
            print(json.dumps({"conda_prefix": str(root), "platform": "linux-64"}))
        case ["config", "--get", "channel_priority", "--json"]:
            print(json.dumps({"get": {"channel_priority": "strict"}}))
        case ["clean", "-y", "--tarballs"]:
            pass
        case ["env", "create", *options]:
            parser = argparse.ArgumentParser()
            parser.add_argument("--quiet", action="store_true")
            parser.add_argument("--no-default-packages", action="store_true")
            parser.add_argument("--file", type=Path, required=True)
            parser.add_argument("--prefix", type=Path, required=True)
            asked = parser.parse_args(options)
            create(asked.file, asked.prefix)
        case _:
            sys.exit(f"the stand-in for conda does not know `conda {' '.join(arguments)}`")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
