"""Does each deviation of a well-known port make a test fail? `./run python tests/deviate.py [ROW ...]`

For every entry of deviations.yaml: the edit is made in a copy of the package, and the tests that docs/fidelity.md names
for the row run on it. Two at a time; about twelve minutes on two cores.
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


def failure(names: list[str], file: str | None = None, source: str = "") -> str | None:
    """The first of the tests `names` that fails on a copy of the workflow in which `file` holds `source`, or None."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(PACKAGE.parent, folder, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
        if file:
            (Path(folder) / "ddpm" / file).write_text(source)
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *files_of(names)]
        environment = {**os.environ, "PYTHONPATH": folder, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [*command, "-k", " or ".join(names)], env=environment, cwd=TESTS.parent, capture_output=True, text=True
        )
    if done.returncode not in (0, 1):  # no test ran, or pytest itself failed
        raise RuntimeError(done.stdout + done.stderr)
    failed = re.search(r"^(?:FAILED|ERROR) .*?(\w+\.py(?:::\S+)?)", done.stdout, re.M)
    return failed[1] if done.returncode else None


def main() -> None:
    wanted = [int(row) for row in sys.argv[1:]]
    chosen = [deviation for deviation in DEVIATIONS if not wanted or deviation["row"] in wanted]
    rows = tests_of_rows()
    if failed := failure(sorted({name for deviation in chosen for name in rows[deviation["row"]]})):
        sys.exit(f"without any deviation, {failed} fails: mend that first")
    print("without a deviation, all tests of these rows pass", flush=True)
    survivors = 0
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(lambda d: failure(rows[d["row"]], d["file"], deviated(d)), chosen)
        for deviation, by in zip(chosen, found, strict=True):
            survivors += by is None
            verdict = f"noticed by {by}" if by else "NOT NOTICED"
            print(f"row {deviation['row']:2}  {deviation['port']}: {verdict}", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} deviations are noticed")
    sys.exit(survivors > 0)


if __name__ == "__main__":
    main()
