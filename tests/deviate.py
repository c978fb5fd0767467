"""Does each deviation of a well-known port make a test fail? `./run python tests/deviate.py [ROW ...]`

For every entry of deviations.yaml: the edit is made in a copy of the package, and the tests that docs/fidelity.md names
for the row run on it. Two at a time; about six minutes.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "workflow/ddpm"
DEVIATIONS = yaml.safe_load((TESTS / "deviations.yaml").read_text())


def deviated(deviation: dict) -> str:
    """The source of the deviation's file after its edit, which must have just one place."""
    source = (PACKAGE / deviation["file"]).read_text()
    places = source.count(deviation["old"])
    if places != 1:
        raise ValueError(f"row {deviation['row']}, {deviation['port']}: {places} places in {deviation['file']}")
    return source.replace(deviation["old"], deviation["new"])


def tests_of_rows() -> dict[int, list[str]]:
    """By row of docs/fidelity.md, the tests that its last column names; "the same" means those of the row before."""
    rows: dict[int, list[str]] = {}
    for line in (TESTS.parent / "docs/fidelity.md").read_text().splitlines():
        if found := re.match(r"\| (\d+) \|.*\|([^|]*)\|$", line):
            row, held = int(found[1]), found[2]
            rows[row] = rows[row - 1] if "the same" in held else re.findall(r"`(test_\w+)`", held)
    return rows


def files_of(names: list[str]) -> list[Path]:
    """The test files that define `names`."""
    pattern = re.compile(rf"^def ({'|'.join(names)})\b", re.M)
    return [path for path in sorted(TESTS.rglob("test_*.py")) if pattern.search(path.read_text())]


def run(deviation: dict) -> tuple[bool, str]:
    """Whether a named test fails on the deviation, and which."""
    names = tests_of_rows()[deviation["row"]]
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(PACKAGE, Path(folder) / "ddpm", ignore=shutil.ignore_patterns("__pycache__"))
        (Path(folder) / "ddpm" / deviation["file"]).write_text(deviated(deviation))
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *files_of(names)]
        environment = {**os.environ, "PYTHONPATH": folder, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [*command, "-k", " or ".join(names)], env=environment, cwd=TESTS.parent, capture_output=True, text=True
        )
    failed = re.findall(r"^(?:FAILED|ERROR) \S*?(?:::(\S+))?(?: |$)", done.stdout, re.M)
    return done.returncode == 1, failed[0] if failed else f"exit {done.returncode}"


def main() -> None:
    wanted = [int(row) for row in sys.argv[1:]]
    chosen = [deviation for deviation in DEVIATIONS if not wanted or deviation["row"] in wanted]
    survivors = 0
    with ThreadPoolExecutor(2) as pool:
        for deviation, (noticed, by) in zip(chosen, pool.map(run, chosen), strict=True):
            survivors += not noticed
            verdict = f"noticed by {by}" if noticed else f"NOT NOTICED ({by})"
            print(f"row {deviation['row']:2}  {deviation['port']}: {verdict}", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} deviations are noticed")
    sys.exit(survivors > 0)


if __name__ == "__main__":
    main()
