"""What ends a command reaches the person: in words, with what to do, and by an exit code."""

import errno
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import run_ddpm

from ddpm import cli
from ddpm.compute.memory import OutOfMemory
from ddpm.config.errors import DiskError, ExitCode, UserError
from ddpm.jobs import failures
from ddpm.jobs.failures import KEYS, explain
from ddpm.jobs.signals import StopSignal
from ddpm.storage.files import write_npy, write_npz, write_text


@pytest.fixture(autouse=True)
def listening(monkeypatch):
    """What `main` does to the signals of its process is undone, and this process's own job is left as it was."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    monkeypatch.setattr(cli, "stop_signal", StopSignal())
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def ended_by(error: BaseException, monkeypatch, capsys, *arguments: str) -> tuple[int, str]:
    """Exit status and stderr of `ddpm figure`, or another command, where `error` is raised."""

    def fail(*_):
        raise error

    monkeypatch.setattr("ddpm.report.figures.draw", fail)
    monkeypatch.setattr("ddpm.data.prepare.download_data", fail)
    monkeypatch.setattr(sys, "argv", ["ddpm", *(arguments or ("figure", "figure2", "--out", "f.png"))])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code), capsys.readouterr().err


def test_a_mistake_of_the_person_is_one_message(monkeypatch, capsys):
    assert ended_by(UserError("x.json: no such file."), monkeypatch, capsys) == (1, "ERROR: x.json: no such file.\n")


def test_a_gpu_that_torch_was_not_built_for_is_said(monkeypatch, capsys):
    error = RuntimeError("CUDA error: no kernel image is available for execution on the device")
    code, said = ended_by(error, monkeypatch, capsys)
    assert code == 1
    assert "this torch holds no code for this GPU" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(("error", "code"), [(OutOfMemory("not even one"), 71), (DiskError("x: the disk is full"), 74)])
def test_an_error_brings_its_code(error, code, monkeypatch, capsys):
    assert ended_by(error, monkeypatch, capsys) == (code, f"ERROR: {error}\n")


def test_what_nobody_thought_of_leaves_its_traceback_and_names_the_command(monkeypatch, capsys):
    code, said = ended_by(ZeroDivisionError("by zero"), monkeypatch, capsys)
    assert code == ExitCode.UNEXPECTED
    assert "Traceback" in said
    assert "raise error" in said
    last = said.splitlines()[-1]
    assert last.startswith("ERROR: unexpected ZeroDivisionError: by zero")
    assert last.endswith("python -m ddpm figure figure2 --out f.png")


def test_usage_is_2(monkeypatch):
    assert run_ddpm("figure", "--no-such-option").returncode == ExitCode.USAGE
    assert run_ddpm("--help").returncode == ExitCode.OK


@pytest.mark.parametrize(
    "command", ["sample", "train", "few-steps", "snapshot", "likelihood", "classifier", "interpolate"]
)
def test_a_full_gpu_names_the_key_to_lower(command):
    full = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")
    ending = explain(full, [command, "--config", "c.json"])
    assert ending.code == ExitCode.MEMORY
    assert ending.traceback
    assert "CUDA out of memory. Tried to allocate 2.00 GiB." in ending.message
    assert f"lower {KEYS[command]} in the configuration" in ending.message


def test_the_keys_to_lower_exist():
    from ddpm.config.base import models_in
    from ddpm.config.experiment import Experiment, Scale

    fields = {**Scale.model_fields, **Experiment.model_fields}
    for name in KEYS.values():
        section, key = name.split(".")
        (model,) = models_in(fields[section].annotation)
        assert key in model.model_fields, name
    commands = run_ddpm("--help").stdout
    for command in KEYS:
        assert re.search(rf"\b{command}\b", commands)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_full_main_memory_is_told_from_a_gpus(error):
    ending = explain(error, ["sample"])
    assert ending.code == ExitCode.MEMORY
    assert "main memory is full" in ending.message
    assert "sampling.batch_size" in ending.message
    assert "GPU" not in ending.message


def test_a_missing_package_names_the_environment(monkeypatch, capsys):
    code, said = ended_by(ModuleNotFoundError("No module named 'lmdb'", name="lmdb"), monkeypatch, capsys)
    assert code == ExitCode.USER_ERROR
    assert "Traceback" not in said
    for words in ("lmdb is missing", sys.executable, "--use-conda", "./run"):
        assert words in said
    code, _ = ended_by(ModuleNotFoundError("No module named 'ddpm.nothing'", name="ddpm.nothing"), monkeypatch, capsys)
    assert code == ExitCode.UNEXPECTED, "that is our mistake"


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, ("is full", "GB are free", "Make room")),
        (errno.EDQUOT, ("quota of your account", "raised")),
        (errno.EROFS, ("mounted read-only",)),
        (errno.EACCES, ("permissions",)),
    ],
)
def test_a_disk_that_refuses_is_named(number, words, tmp_path):
    path = tmp_path / "not/there/yet.npz"
    ending = explain(OSError(number, os.strerror(number), str(path)), ["prepare"])
    assert ending.code == ExitCode.DISK
    assert not ending.traceback
    assert str(path) in ending.message
    for word in (*words, str(tmp_path)):
        assert word in ending.message
    # Where the error does not name the file, its traceback has to.
    assert explain(OSError(number, os.strerror(number)), ["prepare"]).traceback


@pytest.mark.parametrize(
    "error", [FileNotFoundError(2, "No such file", "x"), OSError(errno.EIO, "Input/output error", "x")]
)
def test_other_errors_of_files_keep_their_traceback(error):
    ending = explain(error, ["prepare"])
    assert (ending.code, ending.traceback) == (ExitCode.UNEXPECTED, True)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: write_npy(path, np.zeros(2**18)),
        lambda path: write_npz(path, compressed=False, a=np.zeros(2**18)),
        lambda path: write_text(path, "x" * 2**21),
    ],
    ids=["npy", "npz", "text"],
)
def test_every_writer_says_that_a_real_disk_is_full(write, mounted, request):
    folder = mounted().folder
    name = f"out.{request.node.callspec.id}"
    write_text(folder / name, "what was there")
    with pytest.raises(OSError) as full:
        write(folder / name)
    ending = explain(full.value, ["prepare"])
    assert ending.code == ExitCode.DISK
    assert f"{folder}/{name}: cannot be written, since the disk of {folder} is full" in ending.message
    assert "0.00 GB are free" in ending.message
    assert [path.name for path in folder.iterdir()] == [name], "no half file is left"
    assert (folder / name).read_text() == "what was there"


def test_a_command_on_a_full_and_on_a_read_only_disk(mounted):
    full, fixed = mounted("size=100k").folder, mounted("size=1m,ro").folder
    (full / "filler").write_bytes(bytes(96 * 1024))
    for folder, words in ((full, "is full"), (fixed, "mounted read-only")):
        done = run_ddpm("figure", "figure2", "--out", folder / "figure2.png")
        assert done.returncode == ExitCode.DISK, done.stderr
        assert "Traceback" not in done.stderr
        assert done.stderr.startswith(f"ERROR: {folder}/")
        assert words in done.stderr


def test_where_its_log_is_on_the_full_disk_the_exit_code_says_so_and_the_end_of_the_run(mounted):
    full = mounted("size=100k").folder
    (full / "filler").write_bytes(bytes(100 * 1024))
    for out in (full / "figure2.png", full / "no-such-folder/figure2.png"):
        with open(full / "job.log", "w") as log:
            command = [sys.executable, "-m", "ddpm", "figure", "figure2", "--out", str(out)]
            assert subprocess.run(command, stdout=log, stderr=log, check=False).returncode == ExitCode.DISK
    assert (full / "job.log").stat().st_size == 0
    assert f"the disk of {full} is full" in failures.last_words(full / "job.log")[-1]


def test_who_is_told_to_end_and_has_nothing_saved_does_not_say_that_it_has(monkeypatch, capsys):
    """75 would start it again from nothing, as often as its time is too short."""
    monkeypatch.setattr("ddpm.report.figures.draw", lambda *_: signal.raise_signal(signal.SIGTERM))
    monkeypatch.setattr(sys, "argv", ["ddpm", "figure", "figure2", "--out", "f.png"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 128 + signal.SIGTERM
    assert "interrupted by SIGTERM" in capsys.readouterr().out


def test_a_signal_while_the_last_words_are_said_changes_nothing(monkeypatch, capsys):
    def report_failure(error, arguments):
        signal.raise_signal(signal.SIGTERM)
        return failures.report_failure(error, arguments)

    monkeypatch.setattr(cli, "report_failure", report_failure)
    assert ended_by(UserError("x.json: no such file."), monkeypatch, capsys) == (1, "ERROR: x.json: no such file.\n")


def test_a_folder_that_may_not_be_looked_into_is_named(tmp_path):
    """As root may look anywhere: a name that is too long is refused likewise."""
    hidden = tmp_path / ("x" * 300)
    ending = explain(PermissionError(errno.EACCES, "Permission denied", str(hidden / "folder/f.npz")), ["prepare"])
    assert ending.code == ExitCode.DISK
    assert f"Have that changed for {tmp_path}" in ending.message


# What failed jobs said last.


def log(folder: Path, text: str) -> str:
    path = folder / f"{len(list(folder.iterdir()))}.log"
    path.write_text(text)
    return str(path)


def test_the_summary_has_each_jobs_last_words(tmp_path):
    progress = "".join(f"step {i}/1000 loss 0.1\n" for i in range(500))
    traceback = 'Traceback (most recent call last):\n  File "x.py", line 1\nZeroDivisionError: by zero\n'
    jobs = [
        failures.FailedJob("train", "training", {"experiment": "a"}, [log(tmp_path, f"{progress}ERROR: full\nb\n")]),
        failures.FailedJob("sample", "sampling", {"experiment": "b", "shard": "2"}, [log(tmp_path, progress)]),
        failures.FailedJob("page", "report", {}, [log(tmp_path, f"{traceback}ERROR: unexpected ZeroDivisionError\n")]),
        failures.FailedJob("prepare", "data", {"data": "digits"}, [str(tmp_path / "none.log")]),
    ]
    said = failures.summary(jobs)
    lines = said.splitlines()
    assert lines[0] == "4 jobs have failed:"
    trained = lines.index("train of experiment a (stage training)")
    assert lines[trained + 1 : trained + 4] == ["    ERROR: full", "    b", f"    All it said: {jobs[0].logs[0]}"]
    killed = lines.index("sample of experiment b, shard 2 (stage sampling)")
    assert lines[killed + 1 : killed + 13] == [f"    step {i}/1000 loss 0.1" for i in range(488, 500)]
    assert "ended without a word of its own: killed" in lines[killed + 13]
    drawn = lines.index("page (stage report)")
    assert lines[drawn + 1] == "    ERROR: unexpected ZeroDivisionError"
    assert "Its log cannot be read" in lines[lines.index("prepare of data digits (stage data)") + 1]
    assert "the same command goes on" in lines[-1]
    assert failures.summary(jobs[:1]).startswith("1 job has failed:")


@pytest.mark.parametrize(
    "words",
    [
        "Usage: python -m ddpm train [OPTIONS]\n╭─ Error ───╮\n│ Missing option '--config'. │\n╰───────────╯",
        "Traceback (most recent call last):\nImportError: libcudart.so.13: cannot open shared object file",
        "/bin/bash: line 1: python: command not found",
        "/usr/bin/python: No module named ddpm",
        "/bin/bash: line 1: 4711 Killed python -m ddpm train",
        "slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-11-27 DUE TO TIME LIMIT ***",
    ],
)
def test_where_the_log_says_the_reason_nothing_is_guessed(words, tmp_path):
    assert failures.last_words(Path(log(tmp_path, f"step 1/8 loss 0.5\n{words}\n"))) == [
        "step 1/8 loss 0.5",
        *words.splitlines(),
    ]


def test_what_the_command_line_says_of_wrong_usage_is_a_reason():
    assert failures.SAYS_WHY.search(run_ddpm("train").stderr)


def test_a_later_error_counts_and_a_long_one_is_cut(tmp_path):
    words = failures.last_words(Path(log(tmp_path, "ERROR: first\nERROR: second\n" + "x\n" * 50)))
    assert words == ["ERROR: second", *["x"] * 11]
