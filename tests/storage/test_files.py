"""Files appear whole or not at all, whatever kills the writer, and damaged ones are named."""

import json
import math
import os
import resource
import signal
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import tiny_experiment
from hostile import Hostile

from ddpm.config.errors import DamagedFile, UserError
from ddpm.storage.checkpoints import State, save_state, save_weights
from ddpm.storage.files import (
    atomic_write,
    pid_namespace,
    read_json,
    read_npy,
    read_npz,
    rows_of_npz,
    write_csv,
    write_json,
    write_npy,
    write_npz,
    write_text,
    writing_npz,
)
from ddpm.storage.shards import pack_header
from ddpm.training.loop import write_history


def picture(path: Path) -> None:
    import matplotlib.pyplot as plt

    from ddpm.report.figures.style import save

    figure = plt.figure()
    save(figure, [path], "stamp")
    plt.close(figure)


def animation(path: Path) -> None:
    from ddpm.report.figures import draw

    source = path.with_name("trajectory.npz")
    if not source.exists():
        frames = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8, 1), dtype=np.uint8)
        write_npz(source, times=np.array([10, 5, 0]), q=frames, p=frames)
    draw("diffusion", [source], [path], "stamp")


def write_rows(path: Path, rows: np.ndarray, size: int = 7) -> None:
    """`rows` block by block, and another array before and after them."""
    with writing_npz(path) as archive:
        archive.add(before=np.array("é"))
        archive.add_rows("x", len(rows), (rows[i : i + size] for i in range(0, max(len(rows), 1), size)))
        archive.add(after=np.arange(3))


# Every kind of write of the project, of more than 64 bytes each.
WRITES = {
    "json": lambda path: write_json(path, {"key": list(range(100))}),
    "npy": lambda path: write_npy(path, np.arange(1000)),
    "npz": lambda path: write_npz(path, a=np.random.default_rng(0).random(1000)),
    "rows.npz": lambda path: write_rows(path, np.random.default_rng(0).random((100, 3))),
    "csv": lambda path: write_history(path, [(i, 0.5, 0.25, 1e-4) for i in range(100)]),
    "curve.csv": lambda path: write_csv(path, ("t", "rate"), zip(range(100), range(100), strict=True)),
    "weights.safetensors": lambda path: save_weights(path, {"w": torch.arange(100.0)}, {}),
    "state.safetensors": lambda path: save_state(path, State({"w": torch.arange(100.0)}, 7, "f", "d")),
    "png": picture,
    "pdf": picture,
    "gif": animation,
    "html": lambda path: write_text(path, "<p>" + "text " * 100),
}


def forked(write, path: Path, limit: int = 0) -> int:
    """The status of a process that writes, killed by the kernel in the write that passes `limit` bytes."""
    pid = os.fork()
    if pid == 0:
        if limit:
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        status = 1
        try:
            write(path)
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("kind", WRITES)
def test_killed_inside_a_write(kind, tmp_path):
    path, write = tmp_path / f"result.{kind}", WRITES[kind]
    is_folder = kind.startswith("state")  # states are files of their own in a folder
    if kind in ("png", "pdf", "gif"):
        write(tmp_path / f"warm.{kind}")  # imports and fonts

    def content() -> dict[str, bytes]:
        found = path.glob("*") if is_folder else [path]
        return {file.name: file.read_bytes() for file in found if file.is_file() and file.name[0] != "."}

    assert forked(write, path, limit=64) == -signal.SIGXFSZ
    assert content() == {}
    assert forked(write, path) == 0
    good = content()
    assert len(good) == 1
    size = len(next(iter(good.values())))
    for limit in (1, size // 2, size - 1):
        assert forked(write, path, limit) == -signal.SIGXFSZ
        assert content() == good
    assert forked(write, path) == 0
    assert content() == good, "the write that goes through makes the same file"
    assert not list(tmp_path.rglob(".*part*")), "and removes what the killed ones left"


def test_a_failing_writer_leaves_nothing(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_write(path) as part:
        part.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_that_has_the_old_file_open_never_sees_the_new_one(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with open(path) as reader:
        write_text(path, "new")
        assert reader.read() == "old"
    assert path.read_text() == "new"


def test_parts_of_the_living_and_of_other_hosts_are_left_alone(tmp_path):
    mine = tmp_path / f".a.{pid_namespace()}.{os.getppid()}.part.txt"
    other = tmp_path / ".a.elsewhere.1.part.txt"
    for part in (mine, other):
        part.write_text("being written")
    with atomic_write(tmp_path / "a.txt") as part:
        part.write_text("new")
    assert mine.exists()
    assert other.exists()


def test_a_part_of_a_dead_writer_that_had_this_processs_number_is_not_written_into(tmp_path):
    (tmp_path / "kept.txt").write_text("kept")
    os.link(tmp_path / "kept.txt", tmp_path / f".a.{pid_namespace()}.{os.getpid()}.part.txt")
    with atomic_write(tmp_path / "a.txt") as part:
        part.write_text("new")
    assert (tmp_path / "kept.txt").read_text() == "kept"


def test_round_trips(tmp_path):
    write_json(tmp_path / "a.json", {"a": [1, None]})
    write_npy(tmp_path / "a.npy", np.arange(5))
    write_npz(tmp_path / "a.npz", x=np.arange(3), text=np.array("é"))
    assert read_json(tmp_path / "a.json") == {"a": [1, None]}
    assert read_npy(tmp_path / "a.npy").tolist() == list(range(5))
    assert str(read_npz(tmp_path / "a.npz", "text")["text"]) == "é"


def test_a_number_that_json_does_not_know_becomes_null_and_is_said(tmp_path):
    document = {"a": [1.5, np.float64("nan")], "nll": {"test": float("-inf")}, "n": 10**20, "x": (2, None, True)}
    write_json(tmp_path / "a.json", document)
    found = json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail)
    expected = {"a": [1.5, None], "nll": {"test": None}, "n": 10**20, "x": [2, None, True]}
    assert found == {**expected, "not_finite": {"a.1": "nan", "nll.test": "-inf"}}
    assert json.loads(str(pack_header({"x": math.inf}))) == {"x": None, "not_finite": {"x": "inf"}}


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_no_configuration_has_such_a_number(value):
    with pytest.raises(UserError, match="finite number"):
        tiny_experiment(training={"loss_limit": value})


@pytest.mark.parametrize("shape", [(20, 3), (21, 2, 4), (1,), (0, 5)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, ">i2", np.uint8])
@pytest.mark.parametrize("size", [1, 7, 20, 1000])  # every row, a rest, all of some, more than there are
def test_rows_are_written_and_read_in_blocks(shape, dtype, size, tmp_path):
    rows = np.random.default_rng(0).integers(0, 250, shape).astype(dtype)
    write_rows(tmp_path / "a.npz", rows, size)
    with np.load(tmp_path / "a.npz") as archive:
        assert archive["x"].dtype == rows.dtype
        np.testing.assert_array_equal(archive["x"], rows)
        assert (str(archive["before"]), archive["after"].tolist()) == ("é", [0, 1, 2])
    blocks = list(rows_of_npz(tmp_path / "a.npz", "x", 7))
    assert [len(block) for block in blocks] == [7] * (len(rows) // 7) + [len(rows) % 7] * (len(rows) % 7 > 0)
    np.testing.assert_array_equal(np.concatenate([rows[:0], *blocks]), rows)
    np.savez_compressed(tmp_path / "b.npz", x=rows)  # as all other archives of the project are
    np.testing.assert_array_equal(np.concatenate([rows[:0], *rows_of_npz(tmp_path / "b.npz", "x", 7)]), rows)


@pytest.mark.parametrize(
    ("blocks", "words"),
    [
        ([np.zeros((2, 3)), np.zeros((2, 3))], "4 rows, where 5 were announced"),
        ([np.zeros((2, 3)), np.zeros((4, 3))], "6 rows, where 5 were announced"),
        ([np.zeros((2, 3)), np.zeros((3, 4))], "block"),
        ([np.zeros((2, 3)), np.zeros((3, 3), np.float32)], "block"),
    ],
)
def test_other_rows_than_announced_leave_no_archive(blocks, words, tmp_path):
    with pytest.raises(ValueError, match=words), writing_npz(tmp_path / "a.npz") as archive:
        archive.add_rows("x", 5, blocks)
    assert not list(tmp_path.iterdir())


def test_damaged_rows_are_named_with_the_way_out(tmp_path):
    path = tmp_path / "a.npz"
    write_rows(path, np.arange(500.0).reshape(100, 5))
    whole_file = path.read_bytes()
    flipped = bytearray(whole_file)
    flipped[len(flipped) // 2] ^= 0xFF  # in the middle of the rows: their checksum tells
    for content in (whole_file[: len(whole_file) // 2], b"<html>", bytes(flipped)):
        path.write_bytes(content)
        with pytest.raises(DamagedFile, match=r"a\.npz: not a whole .npz archive .* Delete it"):
            list(rows_of_npz(path, "x", 10))
    with writing_npz(path) as archive, pytest.raises(ValueError, match="announced"):
        archive.add_rows("x", 100, [np.zeros((95, 5))])
    with pytest.raises(DamagedFile, match="reshape"):  # fewer rows than its own header says
        list(rows_of_npz(path, "x", 10))
    # Archives that hold something else, whole as they are.
    np.savez(path, x=np.array([{"a": 1}], dtype=object), columns=np.asfortranarray(np.eye(3)))
    for key, words in (("x", "no rows"), ("columns", "no rows"), ("y", r"\['y'\] was expected")):
        with pytest.raises(DamagedFile, match=words):
            list(rows_of_npz(path, key, 10))
    path.unlink()
    with pytest.raises(UserError, match="no such file"):
        list(rows_of_npz(path, "x", 10))


def test_rows_with_a_newer_header_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive, archive.open("x.npy", "w") as member:
        np.lib.format.write_array(member, np.zeros((3, 2)), version=(2, 0))
    assert read_npz(tmp_path / "a.npz", "x")["x"].shape == (3, 2)
    with pytest.raises(DamagedFile, match="newer version"):
        list(rows_of_npz(tmp_path / "a.npz", "x", 2))


def test_an_archive_of_a_kind_that_numpy_never_writes_is_damaged(tmp_path):
    path = tmp_path / "a.npz"
    write_rows(path, np.arange(50.0).reshape(10, 5))
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x01\x02")  # the first entry of the directory, whose flags are 8 bytes further
    content[at + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(DamagedFile, match="encrypted"):
        read_npz(path, "before")


READERS = {"json": read_json, "npy": read_npy, "npz": lambda path: read_npz(path, "x")}


@pytest.mark.parametrize("kind", READERS)
def test_damaged_files_are_named_with_the_way_out(kind, tmp_path):
    path = tmp_path / f"a.{kind}"
    if kind == "json":
        write_json(path, {"key": list(range(50))})
    elif kind == "npy":
        write_npy(path, np.arange(500))
    else:
        write_npz(path, x=np.arange(500))
    whole_file = path.read_bytes()
    damages = {
        "empty": b"",
        "cut": whole_file[: len(whole_file) // 2],
        "foreign": b"<html>quota exceeded</html>",
    }
    if kind == "npz":
        flipped = bytearray(whole_file)
        flipped[len(flipped) // 2] ^= 0xFF
        damages["flipped"] = bytes(flipped)
    for name, content in damages.items():
        path.write_bytes(content)
        with pytest.raises(DamagedFile) as caught:
            np.array(READERS[kind](path))
        assert str(path) in str(caught.value), name
        assert "Delete it" in str(caught.value), name
    path.unlink()
    with pytest.raises(UserError, match="no such file"):
        READERS[kind](path)


def test_archives_without_the_expected_array_are_foreign(tmp_path):
    write_npz(tmp_path / "a.npz", y=np.arange(3))
    with pytest.raises(DamagedFile, match=r"\['x'\] was expected"):
        read_npz(tmp_path / "a.npz", "x")


def test_pickles_are_never_opened(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.array([Hostile(tmp_path / "code ran")], dtype=object))
    with pytest.raises(DamagedFile):
        read_npz(path, "x")
    assert not (tmp_path / "code ran").exists()


def test_the_command_line_shows_the_message_and_no_traceback(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps({})[:1])
    command = [
        sys.executable,
        "-m",
        "ddpm",
        "table",
        "table1",
        "--metrics",
        str(path),
        "--out",
        str(tmp_path / "t.csv"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert f"ERROR: {path}" in textwrap.dedent(done.stderr)
