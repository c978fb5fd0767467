"""The demo's chain on a real SLURM, with everything that happens to jobs there; its results are the local run's."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from slurm_cluster import Cluster, missing, wait_for
from workspace import SHRUNKEN, Workspace

pytestmark = pytest.mark.skipif(missing() is not None, reason=f"no SLURM: {missing()}")

DISTURBED, CANCELLED = "digits-eps-simple", "digits-eps-vlb-fixed"
OVERRIDE = {
    "classifier": SHRUNKEN["classifier"],
    "compute": {"gpus": 1},  # of the fake ones: `device: cpu` stays
    "defaults": {
        **SHRUNKEN["defaults"],
        "training": {"steps": 24, "batch_size": 8, "warmup": 2, "log_every": 1, "save_every": 10},
    },
    "experiments": {
        DISTURBED: {
            "sampling": {"images": 48, "shards": 3},
            "snapshots": None,
            "few_steps": None,
            "likelihood": None,
            "training": {"snapshot_every": 0},
        },
        CANCELLED: {"likelihood": None},
    },
}
TARGETS = [f"results/demo/{DISTURBED}/metrics.json", f"results/demo/{CANCELLED}/final.safetensors"]

# What makes the copy of the project slow where a test wants to be in time: trainings rest while the file `slow` is
# there, and the first task of an array is the last one to end. A trainer that is told to stop saves its state.
TOLD = """
    told = []
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda *_: told.append(True))
"""
RESTING = """
        if step in (7, 13, 17, 20) and Path("slow").exists():
            Path(f"resting-{os.getpid()}").write_text(str(first_step))
            while Path("slow").exists() and not told:
                time.sleep(0.2)
        if told:
            save_state(state_folder, trainer.state(fingerprint, images.sha256))
            sys.exit(75)
"""
LATE = """
    if sys.argv[1] == "sample" and os.environ.get("SLURM_ARRAY_TASK_ID") == "1":
        __import__("time").sleep(15)
"""


class Edited(Workspace):
    """The project with these edits, which metrics.json knows by their hash."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.configure(OVERRIDE)
        loop = folder / "workflow/ddpm/training/loop.py"
        edit(loop, "import shutil\n", "import signal\nimport sys\n")
        edit(loop, "    fingerprint = training_fingerprint(config)\n", TOLD)
        edit(loop, "        step = trainer.step\n", RESTING)
        edit(folder / "workflow/ddpm/__main__.py", 'exit status 1."""\n', LATE)


class OnCluster(Edited):
    """It on the cluster's login node."""

    def __init__(self, folder: Path, cluster: Cluster):
        super().__init__(folder)
        self.cluster = cluster
        self.runs = 0

    def start(self) -> subprocess.Popen:
        """The README's command, and what this cluster lacks or a test cannot wait for."""
        driver = Path(__file__).parent / "driver.py"
        command = [sys.executable, driver, "--profile", "profiles/slurm", "--slurm-status-command", "squeue"]
        command += ["--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "5", *TARGETS]
        environment = self.cluster.environment()
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        self.runs += 1
        with self.log.open("w") as log:
            return subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    @property
    def log(self) -> Path:
        return self.folder / f"driver-{self.runs}.log"


def edit(file: Path, after: str, text: str) -> None:
    content = file.read_text()
    assert content.count(after) == 1, f"{file}: {after!r}"
    file.write_text(content.replace(after, after + text))


def resting(workspace: Workspace, experiment: str) -> tuple[int, dict[str, str]] | None:
    """The training of `experiment` that rests: the step that it went on from, and its process's environment."""
    config = f"results/demo/{experiment}/config/training.json"
    for note in workspace.folder.glob("resting-*"):
        process = Path("/proc") / note.name.removeprefix("resting-")
        try:
            if config in (process / "cmdline").read_text().split("\0"):
                lines = (process / "environ").read_text().split("\0")
                return int(note.read_text()), dict(line.split("=", 1) for line in lines if "=" in line)
        except OSError:  # it has ended
            continue
    return None


@pytest.fixture(scope="module")
def local(tmp_path_factory) -> Workspace:
    """The same, undisturbed, without a cluster."""
    workspace = Edited(tmp_path_factory.mktemp("local"))
    workspace.snakemake(*TARGETS)
    return workspace


@pytest.fixture(scope="module")
def story(cluster, local, tmp_path_factory) -> dict:
    """What was seen while the chain ran on the cluster, and its workspace."""
    workspace = OnCluster(tmp_path_factory.mktemp("on-cluster"), cluster)
    slow = workspace.folder / "slow"
    slow.touch()
    seen = {"workspace": workspace, "steps": []}
    ended = set()
    driver = workspace.start()

    def rests(experiment):
        """The environment and the job of the training, once it rests."""

        def found():
            assert driver.poll() in (None, -signal.SIGKILL), workspace.log.read_text()[-6000:]
            rest = resting(workspace, experiment)
            if rest and rest[1]["SLURM_JOB_ID"] not in ended:
                return rest if experiment != DISTURBED or rest[0] not in seen["steps"] else None
            return None

        step, environment = wait_for(found, f"a resting trainer of {experiment}", 240)
        if experiment == DISTURBED:  # each of whose parts goes on from another step
            seen["steps"].append(step)
        return environment, environment["SLURM_JOB_ID"]

    def again(job, restarts):
        """The disturbed training, once it rests in its next part."""
        wait_for(lambda: cluster.show(job).get("Restarts") == str(restarts), f"restart {restarts} of job {job}")
        assert rests(DISTURBED)[1] == job

    try:
        environment, job = rests(DISTURBED)
        other, cancelled = rests(CANCELLED)
        seen |= {"job": job, "cancelled": cancelled, "environments": [environment, other]}
        seen["shown"] = [cluster.show(each) for each in (job, cancelled)]
        # One comes to its time limit, the other one is cancelled by hand.
        cluster.bring_to_its_limit(job)
        cluster.ask(f"scancel {cancelled}")
        ended.add(cancelled)
        again(job, 1)
        seen["tried again"] = rests(CANCELLED)[1]
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
        workspace.snakemake("--unlock")
        driver = workspace.start()
        wait_for(lambda: "left in the queue" in workspace.log.read_text(), "the second driver")
        slow.unlink()
        wait_for(lambda: driver.poll() is not None, "the end", 400)
        seen["log"] = workspace.log.read_text()
        assert driver.returncode == 0, seen["log"][-6000:]
        sampling = cluster.ask("squeue -h -r --states=all -o %F|%N|%k").splitlines()
        seen["sampled on"] = [line.split("|")[:2] for line in sampling if "|rule_sample_" in line]
        yield seen
    finally:
        if driver.poll() is None:
            os.killpg(driver.pid, signal.SIGKILL)
            driver.wait()


def test_results_are_the_local_runs(story, local):
    there = story["workspace"].results
    trained = ("final.safetensors", "training.csv", "training.json")
    names = [f"{experiment}/{name}" for experiment in (DISTURBED, CANCELLED) for name in trained]
    names += [f"{DISTURBED}/{name}" for name in ("model.safetensors", "metrics.json")]
    names += [f"{DISTURBED}/{folder}/{i}-of-3.npz" for folder in ("samples", "features") for i in (1, 2, 3)]
    for name in names:
        assert (there / name).read_bytes() == (local.results / name).read_bytes(), name


def test_a_job_sees_the_gpu_that_slurm_gave_it(story):
    for environment, shown in zip(story["environments"], story["shown"], strict=True):
        assert shown["TresPerJob"] == "gres:gpu:1"
        assert environment["CUDA_VISIBLE_DEVICES"] == re.search(r"IDX:(\d)", shown["GRES"])[1]


def test_a_training_goes_on_over_time_limits_in_one_job_and_without_the_driver(story, cluster):
    """Time limit, emptied node, time limit, cancelled: each part went on where the one before had stopped."""
    parts = [record["JobState"] for record in cluster.finished() if record["JobId"] == story["job"]]
    assert len(parts) == 4
    assert parts[-1] == "CANCELLED"
    assert story["steps"] == [0, 7, 13, 17]


def test_a_drained_node_is_left_and_another_one_taken(story):
    assert story["while draining"] == "RUNNING"
    assert story["nodes"] == ["n1", "n2"]


def test_a_job_that_was_cancelled_by_hand_is_tried_again_once(story, cluster):
    states = [record["JobState"] for record in cluster.finished() if record["JobId"] == story["cancelled"]]
    assert states == ["CANCELLED"]
    assert story["tried again"] != story["cancelled"]


def test_what_a_killed_driver_left_behind_is_cancelled_and_said(story, cluster):
    left = sorted((story["job"], story["tried again"]), key=int)
    assert f"left in the queue: SLURM jobs {', '.join(left)}." in story["log"]
    last = {record["JobId"]: record["JobState"] for record in cluster.finished()}
    assert {last[job] for job in left} == {"CANCELLED"}


def test_shards_are_one_array_over_nodes_and_none_waits_for_the_first(story, cluster):
    """The first task ends last, by more than Snakemake waits for files."""
    (array,) = re.findall(r"Submitted array job with Snakemake IDs [\d,]+ and SLURM job ID (\d+)", story["log"])
    assert "individual task IDs are 1-3" in story["log"]
    assert story["log"].count("Trying to restart") == 0
    assert len({node for job, node in story["sampled on"] if job == array}) == 2
