"""Write what is installed, with hashes: requirements.txt, and of envs/ the lists of the conda environments and uv.txt.

Run it with `uv run envs/lock.py` in the project's folder after a pin of pyproject.toml has changed. uv resolves, as of
the day that pyproject.toml names; no address of an index gets into a file. tests/security/test_supply_chain.py compares
what is here with pyproject.toml.
"""

import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.markers import Marker

ROOT = Path(__file__).parents[1]
UV = "uv==0.13.9"
HEADER = "# Every package of ./run with the hashes of its files, by `uv run envs/lock.py`. Not to be edited by hand.\n"
UV_HEADER = "# uv, where ./run has to bring it along, by `uv run envs/lock.py`. Not to be edited by hand.\n"
MARK = "--require-hashes"  # in a conda environment's list of wheels: before it the pins, behind it what they depend on
# On these machines the conda environments are made, by the Python that they name; the tests make them with their own.
LINUX = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": "x86_64"}
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
WHEEL = re.compile(r"-(py[23.py]*|cp31[1-9]|cp3\d+-abi3)-(.*[-.])?(any|(manylinux|linux)\w*x86_64)(\.\w+)*\.whl$")


def uv(*arguments: str, given: str = "") -> str:
    command = ["uv", *arguments]
    return subprocess.run(command, cwd=ROOT, input=given, capture_output=True, text=True, check=True).stdout


def hashes() -> dict[tuple[str, str], list[str]]:
    """By package and version, the hashes of the files for LINUX; of one without such wheels, its source's."""
    found = {}
    for package in tomllib.loads((ROOT / "uv.lock").read_text())["package"]:
        files = [file for file in package.get("wheels", []) if WHEEL.search(file["url"].partition("#")[0])]
        files = files or [package["sdist"]] if "sdist" in package else files
        found[package["name"], package.get("version", "")] = sorted({file["hash"] for file in files})
    return found


def closure(pins: list[str], constraints: Path) -> Iterator[tuple[str, str, str]]:
    """Of `pins` and what they depend on on LINUX: name, version and marker."""
    options = ("--universal", "--python-version", PYTHONS[0], "--no-annotate", "--no-header", "--constraint")
    for line in uv("pip", "compile", "-", *options, str(constraints), given="\n".join(pins)).splitlines():
        requirement, _, marker = line.partition(" ; ")
        environments = [{**LINUX, "python_version": python, "python_full_version": f"{python}.9"} for python in PYTHONS]
        if not marker or any(Marker(marker).evaluate(environment) for environment in environments):
            name, _, version = requirement.partition("==")
            yield name, version, marker


def with_hashes(file: Path, known: dict[tuple[str, str], list[str]], constraints: Path) -> str:
    """The conda environment in `file` with hashes for its pins, and for what these depend on."""
    head, _, rest = file.read_text().partition("  - pip:\n")
    wheels, _, tail = rest.partition("variables:\n")
    listed = [line.strip().removeprefix("- ") for line in wheels.splitlines()]
    own = [line.split(" ")[0] for line in listed[: listed.index(MARK) if MARK in listed else None]]
    names = [pin.partition("==")[0] for pin in own]
    of_own, others = [], []
    for name, version, marker in closure(own, constraints):
        files = [f"--hash={each}" for each in known[name, version]]
        line = " ".join([f"{name}=={version}", *([f"; {marker}"] if marker else []), *files])
        (of_own if name in names else others).append(line)
    entries = [*of_own, MARK, *others]
    return f"{head}  - pip:\n" + "".join(f"      - {entry}\n" for entry in entries) + f"variables:\n{tail}"


def main() -> None:
    uv("lock")
    exported = uv("export", "--frozen", "--no-emit-project", "--no-header", "--no-annotate")
    (ROOT / "requirements.txt").write_text(HEADER + exported)
    (ROOT / "envs/uv.txt").write_text(
        UV_HEADER + uv("pip", "compile", "-", "--generate-hashes", "--no-annotate", "--no-header", given=UV)
    )
    known = hashes()
    for file in sorted((ROOT / "envs").glob("*.yaml")):
        file.write_text(with_hashes(file, known, ROOT / "requirements.txt"))


if __name__ == "__main__":
    main()
