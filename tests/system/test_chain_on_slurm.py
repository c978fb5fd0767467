"""The demo's chain on a real SLURM, with everything that happens to jobs there; its results are the local run's."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from slurm_cluster import Cluster, missing
from waiting import wait_for
from workspace import AWKWARD, PROJECT, SHRUNKEN, Workspace

pytestmark = pytest.mark.skipif(missing() is not None, reason=f"no SLURM: {missing()}")

SUPPORT = PROJECT / "tests/support"
DISTURBED, CANCELLED = "digits-eps-simple", "digits-eps-vlb-fixed"
OVERRIDE = {
    "classifier": SHRUNKEN["classifier"],
    "compute": {"gpus": 1, "training_gpus": 2},  # of the fake ones: `device: cpu` stays, with two processes
    "defaults": {
        **SHRUNKEN["defaults"],
        "training": {"steps": 24, "batch_size": 8, "warmup": 2, "log_every": 1, "save_every": 10},
    },
    "experiments": {
        DISTURBED: {
            "sampling": {"images": 48, "shards": 3, "batch_size": 8},
            "snapshots": None,
            "few_steps": None,
            "likelihood": None,
            "training": {"snapshot_every": 0},
        },
        CANCELLED: {"likelihood": None},
    },
}
TARGETS = [f"results/demo/{DISTURBED}/metrics.json", f"results/demo/{CANCELLED}/final.safetensors"]


class OnCluster(Workspace):
    """The project on the cluster's login node, with jobs that rest."""

    def __init__(self, folder: Path, cluster: Cluster):
        super().__init__(folder)
        self.configure(OVERRIDE)
        self.cluster = cluster
        self.runs = 0
        shutil.copy(SUPPORT / "resting.py", folder / "workflow/sitecustomize.py")
        for command, moment in {"train": 5, "sample": 2}.items():
            (folder / f"rest-{command}").write_text(str(moment))

    def start(self) -> subprocess.Popen:
        """The README's command, and what this cluster lacks or a test cannot wait for."""
        options = "--profile profiles/slurm --slurm-status-command squeue --slurm-init-seconds-before-status-checks 2"
        command = [sys.executable, SUPPORT / "slurm_driver.py", *options.split(), "--latency-wait", "5", *TARGETS]
        environment = self.cluster.environment()
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        self.runs += 1
        return started(command, self.folder, environment, self.log)

    @property
    def log(self) -> Path:
        return self.folder / f"driver-{self.runs}.log"

    def go_on(self, command: str) -> None:
        """No job of that command rests any longer."""
        (self.folder / f"rest-{command}").unlink()

    def resting(self, experiment: str, command: str, but: set[tuple[str, str]]) -> dict[str, str] | None:
        """The environment of the job that rests, unless it is one of `but`, by job and restart."""
        for note in self.folder.glob("resting-*[0-9]"):
            words, environment = json.loads(note.read_text())
            known = words[1] != command or f"/{experiment}/" not in words[3] or part(environment) in but
            if not known and Path("/proc", note.name.removeprefix("resting-")).exists():
                return environment
        return None


def part(environment: dict[str, str]) -> tuple[str, str]:
    """A job, and which of its starts."""
    return environment["SLURM_JOB_ID"], environment.get("DDPM_SLURM_RESTART_COUNT", "0")


def started(command, folder, environment, log: Path) -> subprocess.Popen:
    with log.open("w") as file:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=file, stderr=file, start_new_session=True)


def end(driver: subprocess.Popen) -> None:
    if driver.poll() is None:
        os.killpg(driver.pid, signal.SIGKILL)
        driver.wait()


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """The same without a cluster, undisturbed, while the cluster is at it; call it for its results."""
    workspace = Workspace(tmp_path_factory.mktemp("local"))
    workspace.configure(OVERRIDE)
    log = workspace.folder / "driver.log"
    driver = started([*workspace.command, *TARGETS], workspace.folder, workspace.environ, log)

    def results() -> Path:
        assert driver.wait() == 0, log.read_text()[-6000:]
        return workspace.results

    yield results
    end(driver)


@pytest.fixture(scope="module")
def story(cluster, local, tmp_path_factory):
    """What was seen while the chain ran on the cluster, and its workspace."""
    workspace = OnCluster(tmp_path_factory.mktemp(AWKWARD), cluster)
    seen = {"workspace": workspace, "steps": []}
    parts = set()
    driver = workspace.start()

    def rests(experiment: str, command: str = "train") -> dict[str, str]:
        """The environment of the job, once it rests and has not rested before."""

        def found():
            assert driver.poll() in (None, -signal.SIGKILL), workspace.log.read_text()[-6000:]
            return workspace.resting(experiment, command, parts)

        environment = wait_for(found, f"a resting {command} of {experiment}")
        parts.add(part(environment))
        return environment

    def again(job: str, restarts: int) -> None:
        """The disturbed training, once it rests in its next part; notes from which step it went on."""
        assert part(rests(DISTURBED)) == (job, str(restarts))
        log = (workspace.results / f"logs/training/{DISTURBED}.log").read_text()
        seen["steps"] += map(int, re.findall(r"resuming \S+ at step (\d+)", log))

    try:
        seen["environments"] = [rests(DISTURBED), rests(CANCELLED)]
        job, cancelled = (environment["SLURM_JOB_ID"] for environment in seen["environments"])
        seen |= {"job": job, "cancelled": cancelled, "shown": [cluster.show(each) for each in (job, cancelled)]}
        # One comes to its time limit, the other one is cancelled by hand.
        cluster.ask(f"scancel {cancelled}")
        cluster.bring_to_its_limit(job)
        again(job, 1)
        seen["tried again"] = rests(CANCELLED)["SLURM_JOB_ID"]
        # Its node is drained, which it survives, and then emptied.
        node = cluster.show(job)["NodeList"]
        cluster.ask(f"scontrol update NodeName={node} State=DRAIN Reason=test")
        time.sleep(1)
        seen["while draining"] = cluster.show(job)["JobState"]
        cluster.ask(f"scontrol requeue {job}")
        again(job, 2)
        seen["nodes"] = [node, cluster.show(job)["NodeList"]]
        cluster.ask(f"scontrol update NodeName={node} State=RESUME")
        # The driver is killed, and the second time limit comes while there is none.
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        cluster.bring_to_its_limit(job)
        again(job, 3)
        driver = workspace.start()
        wait_for(lambda: "left in the queue" in workspace.log.read_text(), "the second driver")
        workspace.go_on("train")
        # A shard gets the signal of a time limit.
        sampling = rests(DISTURBED, "sample")["SLURM_JOB_ID"]
        cluster.ask(f"scancel --signal=USR1 {sampling}")
        wait_for(lambda: cluster.show(sampling)["Restarts"] == "1", "the shard, queued again")
        workspace.go_on("sample")
        wait_for(lambda: driver.poll() is not None, "the end of the driver")
        seen["log"] = workspace.log.read_text()
        assert driver.returncode == 0, seen["log"][-6000:]
        lines = cluster.ask("squeue -h -r --states=all -o %F|%N|%k").splitlines()
        seen["sampled on"] = [line.split("|")[:2] for line in lines if "|rule_sample_" in line]
        yield seen
    finally:
        end(driver)


def test_results_are_the_local_runs(story, local):
    there, here = story["workspace"].results, local()
    trained = ("final.safetensors", "training.csv", "training.json")
    names = [f"{experiment}/{name}" for experiment in (DISTURBED, CANCELLED) for name in trained]
    names += [f"{DISTURBED}/{name}" for name in ("model.safetensors", "metrics.json")]
    names += [f"{DISTURBED}/{folder}/{i}-of-3.npz" for folder in ("samples", "features") for i in (1, 2, 3)]
    for name in names:
        assert (there / name).read_bytes() == (here / name).read_bytes(), name


def test_a_training_on_two_gpus_sees_the_two_that_slurm_gave_it(story):
    for environment, shown in zip(story["environments"], story["shown"], strict=True):
        assert (shown["TresPerJob"], shown["NumNodes"]) == ("gres:gpu:2", "1")
        given = re.search(r"IDX:(\d)[-,](\d)", shown["GRES"]).groups()
        assert environment["CUDA_VISIBLE_DEVICES"] == ",".join(given)
        assert environment["LOCAL_WORLD_SIZE"] == "2"


def test_a_training_goes_on_over_time_limits_in_one_job_and_without_the_driver(story, cluster):
    """Time limit, emptied node, time limit, cancelled: each part went on where the one before had stopped."""
    parts = [record["JobState"] for record in cluster.finished() if record["JobId"] == story["job"]]
    assert len(parts) == 4
    assert parts[-1] == "CANCELLED"
    assert story["steps"] == [5, 10, 15]
    log = story["workspace"].results / f"logs/training/{DISTURBED}.log"
    assert f"resuming {DISTURBED} at step 20" in log.read_text()


def test_a_drained_node_is_left_and_another_one_taken(story):
    assert story["while draining"] == "RUNNING"
    assert sorted(story["nodes"]) == ["n1", "n2"]


def test_a_job_that_was_cancelled_by_hand_is_tried_again_once(story, cluster):
    states = [record["JobState"] for record in cluster.finished() if record["JobId"] == story["cancelled"]]
    assert states == ["CANCELLED"]
    assert story["tried again"] != story["cancelled"]


def test_what_a_killed_driver_left_behind_is_cancelled_and_said(story, cluster):
    left = sorted((story["job"], story["tried again"]), key=int)
    assert f"left in the queue: SLURM jobs {', '.join(left)}." in story["log"]
    last = {record["JobId"]: record["JobState"] for record in cluster.finished()}
    assert {last[job] for job in left} == {"CANCELLED"}


def test_shards_are_jobs_of_their_own_and_one_goes_on_in_a_second_part(story):
    """It ends last, by more than Snakemake waits for files. On which node each runs depends on when the others end."""
    assert story["log"].count("Trying to restart") == 0
    assert len({job for job, _ in story["sampled on"]}) == 3
    assert {node for _, node in story["sampled on"]} <= {"n1", "n2"}
    logs = [log.read_text() for log in (story["workspace"].results / "logs/sampling").glob("*.log")]
    assert sorted(log.count("were kept from earlier work") for log in logs) == [0, 0, 1]
