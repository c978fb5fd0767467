"""What is asked of SLURM, with stand-ins for its commands."""

import os
from pathlib import Path

import pytest

from ddpm.config.errors import UserError
from ddpm.jobs import slurm
from ddpm.jobs.locks import Owner


@pytest.fixture
def clients(tmp_path, monkeypatch):
    """A function that puts a stand-in for a command on PATH; what each was asked lands in its file in `tmp_path`."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    def put(name: str, script: str) -> Path:
        (tmp_path / name).write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/{name}.asked\n{script}\n')
        (tmp_path / name).chmod(0o755)
        return tmp_path / f"{name}.asked"

    return put


def test_a_later_start_of_a_job_is_told_from_an_earlier_one(monkeypatch):
    """Its processes find neither of SLURM's variables, and know by this one that an earlier start holds nothing."""
    job = {"SLURM_RESTART_COUNT": "2"}
    slurm.export_restart_count(job)
    del job["SLURM_RESTART_COUNT"]
    monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)
    for key, value in job.items():
        monkeypatch.setenv(key, value)
    assert Owner.this_process().restarts == "2"
    slurm.export_restart_count(first := {})
    assert not first


def test_a_job_is_queued_again(clients):
    asked = clients("scontrol", "")
    clients("squeue", "echo RUNNING")
    slurm.requeue({"SLURM_JOB_ID": "7"})
    assert asked.read_text().splitlines() == ["requeue 7"]


def test_a_job_that_is_being_cancelled_does_not_come_back(clients):
    asked = clients("scontrol", "")
    clients("squeue", "echo COMPLETING")
    slurm.requeue({"SLURM_JOB_ID": "7"})
    assert not asked.exists()


def test_what_cannot_be_queued_again_says_why(clients, monkeypatch):
    clients("squeue", "echo RUNNING")
    clients("scontrol", "echo Requeue disabled >&2; exit 1")
    with pytest.raises(UserError, match="Requeue disabled"):
        slurm.requeue({"SLURM_JOB_ID": "7"})
    with pytest.raises(UserError, match="no SLURM job"):
        slurm.requeue({})
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="squeue is not on PATH"):
        slurm.requeue({"SLURM_JOB_ID": "7"})


def test_only_this_folders_jobs_of_snakemake_are_cancelled(clients, tmp_path):
    lines = "11|rule_train_wildcards_a|/here\n9|rule_sample_wildcards_b|/here\n9|rule_sample_wildcards_b|/here\n"
    lines += "12|rule_train_wildcards_a|/elsewhere\n13|(null)|/here\n14|rule_train_wildcards_a|/not/here\n"
    clients("squeue", f"test -e {tmp_path}/scancel.asked || printf '{lines}'")
    asked = clients("scancel", "")
    said = []
    slurm.cancel_orphaned_jobs(Path("/here"), said.append)
    assert asked.read_text() == "9 11\n"
    assert "SLURM jobs 9, 11" in said[0]
    slurm.cancel_orphaned_jobs(Path("/here"), said.append)
    assert len(said) == 1


def test_jobs_that_do_not_end_stop_the_run(clients, monkeypatch):
    monkeypatch.setattr(slurm, "CANCEL_TIMEOUT", 0)
    clients("squeue", "echo '11|rule_train|/here'")
    clients("scancel", "")
    with pytest.raises(UserError, match="11 of an earlier run do not end"):
        slurm.cancel_orphaned_jobs(Path("/here"), lambda _: None)
