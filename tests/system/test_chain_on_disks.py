"""The results on a disk that is read-only or gets full: what the person sees, and how the same command goes on."""

from pathlib import Path

import pytest
from disks import PAGE, Disk

from ddpm.storage.files import OWNED_FILES

EXPERIMENT = "digits-eps-simple"
TRAINED, SCORED = (f"results/demo/{EXPERIMENT}/{name}" for name in ("final.safetensors", "metrics.json"))


@pytest.fixture
def disk(fresh) -> Disk:
    """What the project's folder `results` is on."""
    disk = Disk(fresh.folder / "results", "size=16k")
    yield disk
    disk.unmount()


def contents(results: Path) -> dict[str, bytes]:
    """The files of the experiment and of what it is compared with, but for the state."""
    files = [file for name in (EXPERIMENT, "reference") for file in (results / name).rglob("*") if file.is_file()]
    files = [file for file in files if file.name != OWNED_FILES]  # whose order is that in which files were made
    names = {file: str(file.relative_to(results)) for file in files}
    return {name: file.read_bytes() for file, name in names.items() if "/state/" not in name}


def test_the_chain_goes_on_when_the_disk_of_its_results_takes_more(fresh, finished, disk):
    def failing(target: str) -> str:
        done = fresh.snakemake(target, check=False)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert not [file for file in disk.folder.rglob("*") if ".part" in file.name or "lock" in file.name]
        return done.stderr

    lock = f"{disk.folder}/.driver.lock: cannot be"
    disk.remount("ro")
    screen = failing(SCORED)
    assert f"{lock} read or written: it is on a file system that is mounted read-only. Have that changed" in screen
    assert "rule prepare" not in screen, "before any work"

    disk.remount("rw")
    (disk.folder / "filler").write_bytes(bytes(16384))
    assert f"{lock} written, since the disk of {disk.folder} is full: 0.00 GB are free. Make room" in failing(SCORED)
    (disk.folder / "filler").unlink()
    disk.leave(PAGE)  # for the lock
    assert "stage_config of experiment" in failing(f"results/demo/{EXPERIMENT}/config/training.json")

    # Both snapshots of step 4 are half as large as a state, those of step 8 too.
    state = next((finished.results / EXPERIMENT / "state").glob("*/000000004-*.safetensors")).stat().st_size
    disk.leave(int(2.3 * state))
    screen = failing(TRAINED)
    said = screen[screen.index("1 job has failed:") :]
    assert f"train of experiment {EXPERIMENT} (stage training)" in said
    (where,) = (fresh.results / EXPERIMENT / "state").glob("[0-9a-f]*")
    assert f"    ERROR: {where}/000000008-" in said
    assert f"cannot be written, since the disk of {where} is full: 0.00 GB are free. Make room there" in said
    assert [file.name[:9] for file in where.glob("*.safetensors")] == ["000000004"], "the state before is whole"

    disk.leave(3 * state)
    fresh.snakemake(TRAINED)
    log = fresh.results / f"logs/training/{EXPERIMENT}.log"
    assert f"resuming {EXPERIMENT} at step 4" in log.read_text()

    disk.leave(200_000)
    screen = failing(SCORED)
    assert "is full: 0.00 GB are free. Make room there" in screen[screen.index(" failed:") :]

    disk.remount("size=100m")
    fresh.snakemake(SCORED)
    undisturbed, made = contents(finished.results), contents(fresh.results)
    assert f"{EXPERIMENT}/metrics.json" in made
    assert [name for name, content in made.items() if content != undisturbed[name]] == []
