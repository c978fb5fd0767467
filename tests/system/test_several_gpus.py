"""A training takes as many GPUs as `compute.training_gpus` says, by a rule whose text does not change with it."""

import copy
import re

from workspace import PROJECT, SHRUNKEN

MODEL = "results/demo/digits-eps-simple/final.safetensors"

# Quoted throughout. A change of it makes every training's job run again, which finds its state finished.
FROZEN = """
        "python -m ddpm train --config {input.config:q} --data {input.data:q} --state {params.state:q}"
        " --out {output.weights:q} --history {output.history:q} --outcome {output.outcome:q}"
        " --snapshots {output.snapshots:q} --scale {params.scale:q} --device {resources.device:q} > {log:q} 2>&1"
"""


def test_the_line_of_training_is_what_it_was():
    """Another byte would run every training's job again."""
    rules = (PROJECT / "workflow/rules/training.smk").read_text()
    assert FROZEN in re.search(r"rule train:.*?(?=\n\nrule)", rules, re.DOTALL)[0] + "\n"


def test_two_processes_train_and_nothing_is_trained_again_for_another_number(fresh):
    """Here on the CPU, where processes stand for GPUs."""
    override = copy.deepcopy(SHRUNKEN)
    override["compute"] = {"training_gpus": 2}
    fresh.configure(override)
    done = fresh.snakemake("-p", "--resources", "gpu=2", "--", MODEL)
    assert "--device 2xcpu" in done.stderr
    assert "gpu=2" in done.stderr
    log = (fresh.results / "logs/training/digits-eps-simple.log").read_text()
    assert "ERROR" not in log
    assert (fresh.folder / MODEL).exists()
    for gpus in (None, 4):
        override["compute"]["training_gpus"] = gpus
        fresh.configure(override)
        assert "Nothing to be done" in fresh.snakemake("--", MODEL).stderr


def test_samples_likelihood_and_snapshots_are_spread_where_jobs_have_several_gpus(fresh):
    override = copy.deepcopy(SHRUNKEN)
    override["compute"] = {"gpus": 2, "training_gpus": 1}
    fresh.configure(override)
    planned = fresh.snakemake("-n", "-p", "--resources", "gpu=2").stdout
    jobs = re.findall(r"gpu=(\d).*\nShell command: python -m ddpm ([\w-]+)", planned)
    assert {command for gpus, command in jobs if gpus == "2"} == {
        "sample", "few-steps", "snapshot", "likelihood", "features"
    }, "no job has a GPU that it does not use"  # fmt: skip
    for command, device in {
        "train": "cpu", "sample": "2xcpu", "few-steps": "2xcpu", "snapshot": "2xcpu", "likelihood": "2xcpu",
        "features": "2xcpu", "classifier": "cpu", "trajectory": "cpu",
    }.items():  # fmt: skip
        lines = re.findall(rf"python -m ddpm {command} .*", planned)
        assert lines, command
        assert {re.search(r"--device (\S+)", line)[1] for line in lines} == {device}, command
