"""What `--profile profiles/slurm` asks a cluster for, planned from nothing; no cluster is needed to plan."""

import re

import pytest
import yaml
from environments import rules
from fake_gpus import FakeGpus
from workspace import PROJECT, Workspace

LOCAL = {name for name, text in rules() if "localrule: True" in text}


def planned(workspace: Workspace, *arguments: str) -> list[tuple[str, dict[str, str]]]:
    """The jobs that a dry run would submit: the rule and the resources of each."""
    plan = workspace.snakemake("-n", "--profile", "profiles/slurm", *arguments).stdout
    found = re.findall(r"^rule (\w[\w-]*):\n(?:    .*\n)*?    resources: (.*)$", plan, re.M)
    jobs = [(rule, dict(re.findall(r"(\w+)=([^,]*)", resources))) for rule, resources in found]
    return [(rule, resources) for rule, resources in jobs if rule not in LOCAL | {"all"}]


@pytest.fixture(scope="module")
def paper(tmp_path_factory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("paper"), scale="paper")


@pytest.fixture(scope="module")
def jobs(paper):
    return planned(paper)


def test_what_needs_the_network_or_writes_a_document_stays_on_the_login_node():
    needs = {name for name, text in rules() if re.search(r' command="download| document=', text)}
    assert len(needs) == 10
    assert needs <= LOCAL, "`use rule` does not hand `localrule` on"


def test_every_job_says_what_it_needs(jobs):
    rules = {rule for rule, _ in jobs}
    assert {"prepare", "train", "sample", "features", "evaluate", "table2", "figure19", "page"} <= rules
    for rule, resources in jobs:
        assert resources["slurm_partition"] == ("gpu" if "gpu" in resources else "cpu"), rule
        assert resources.get("gpu", "1") == "1"
        assert ("gpu" in resources) == ("device" in resources) == (resources.get("nodes") == "1"), rule
        drawn = rule == "page" or re.match(r"table|figure|reproduced|training-curve|fewsteps|scores|diffusion", rule)
        assert int(resources["mem_mb"]) <= (2000 if drawn else 16000 if rule == "train" else 8000), rule
        # Longer than the warning, or that would come at once; no longer than a day, as common queues are.
        assert 30 <= int(resources["runtime"]) <= 1440, rule
        assert "--signal=USR1@300" in resources["slurm_extra"], rule


def test_the_gpus_of_this_machine_do_not_limit_a_clusters(paper, tmp_path, monkeypatch):
    """Of a login node with one."""
    for key, value in FakeGpus(tmp_path, 1).environment.items():
        monkeypatch.setitem(paper.environ, key, value)
    paper.configure({"compute": {"gpus": 2, "training_gpus": 4}})
    jobs = planned(paper, "results/paper/cifar10-eps-simple/metrics.json")
    paper.configure({})
    asked = {rule: (resources["gpu"], resources["device"]) for rule, resources in jobs if rule in ("train", "sample")}
    assert asked == {"train": ("4", "4xauto"), "sample": ("2", "2xauto")}


def test_what_no_node_takes_is_said_before_anything_is_submitted(paper, tmp_path, monkeypatch):
    """Of a cluster whose GPU nodes have half the memory that a training asks for."""
    write_commands(tmp_path / "bin", sinfo="echo 'gpu|1-00:00:00|16|999|gpu:4'; echo 'cpu|infinite|64|256000|(null)'")
    write_commands(tmp_path / "bin", **dict.fromkeys(("sbatch", "squeue", "sacct"), f"touch {tmp_path}/asked"))
    monkeypatch.setitem(paper.environ, "PATH", f"{tmp_path / 'bin'}:{paper.environ['PATH']}")
    target = "results/paper/celeba64-eps-simple/final.safetensors"
    done = paper.snakemake("--profile", "profiles/slurm", target, check=False)
    said = done.stdout + done.stderr
    assert done.returncode
    assert re.search(r"No node of this cluster takes train in partition gpu: [\d,]+ MB of memory, where .* 999\.", said)
    assert (
        "Nothing was submitted." in said and "prepare" not in said.partition("Nothing was")[0].partition("No node")[2]
    )
    assert not (tmp_path / "asked").exists()


def write_commands(folder, **scripts: str) -> None:
    folder.mkdir(exist_ok=True)
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)


def test_what_profiles_default_says_holds_on_a_cluster_too(monkeypatch):
    from snakemake.cli import parse_args  # a CPU second

    monkeypatch.chdir(PROJECT)
    _, options = parse_args(["--profile", "profiles/slurm"])
    default = yaml.safe_load((PROJECT / "profiles/default/profile.yaml").read_text())
    own = yaml.safe_load((PROJECT / "profiles/slurm/profile.yaml").read_text())
    assert {"nolock", "rerun-incomplete", "show-failed-logs", "keep-going"} <= default.keys() - own.keys()
    most = options.max_jobs_per_timespan
    assert (most.max_jobs, most.timespan) == (6000, 60)
    assert default.pop("max-jobs-per-timespan") == "6000/1m"
    for key, value in default.items():
        assert getattr(options, key.replace("-", "_")) == value, key
    assert options.executor == "slurm"


def test_the_account_is_the_users(paper, monkeypatch):
    monkeypatch.setitem(paper.environ, "SBATCH_ACCOUNT", "theirs")
    _, resources = planned(paper, "resources/cifar10/card.json")[-1]
    assert resources["slurm_account"] == "theirs"


def test_a_folder_that_slurms_jobs_would_not_find_is_refused_at_once(tmp_path):
    (tmp_path / "$HOME").mkdir()
    done = Workspace(tmp_path / "$HOME").snakemake("--profile", "profiles/slurm", "figure2", check=False)
    assert done.returncode == 1
    assert '$HOME: jobs of SLURM do not find a folder with $, ` or " in its name: rename it.' in done.stderr
