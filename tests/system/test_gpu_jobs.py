"""Snakemake runs as many GPU jobs at a time as this machine has free GPUs, each on its own."""

import os
import re
import subprocess
import sys

import pytest
from fake_gpus import FakeGpus
from workspace import SHRUNKEN, Workspace

DOCUMENT = "results/demo/digits-eps-simple/config/training.json"  # made in a moment
# A job as the rules' are, but for CUDA, which is not here: it leases, and fails where another one has its GPU.
JOB = """
import os, sys, time
from pathlib import Path
from ddpm.jobs import gpus
gpus.POLL_INTERVAL = 0.05
from ddpm.jobs.failures import report_failure
try:
    gpus.lease(int(sys.argv[2]))
except Exception as error:
    sys.exit(report_failure(error, []))
together = Path("at-a-time")
places = [together / uuid for uuid in os.environ[gpus.VISIBLE].split(",")]
for place in places:
    place.touch(exist_ok=False)
met = Path("met")  # once jobs have met as the test wants them to
while not met.exists() and not eval(Path("until").read_text()):
    time.sleep(0.02)
met.touch()
print(len(list(together.glob("*"))))
for place in places:
    place.unlink()
Path(sys.argv[1]).write_text(os.environ[gpus.VISIBLE])
"""
RULE = """

rule gpu_job:
    output:
        "gpu/{size}-{number}.txt",
    log:
        "gpu/{size}-{number}.log",
    wildcard_constraints:
        number="[0-9]+",
        size="[0-9]+",
    resources:
        gpu=lambda wildcards: int(wildcards.size),
    shell:
        "python job.py {output} {wildcards.size} > {log} 2>&1"
"""


@pytest.fixture
def box(tmp_path, monkeypatch):
    """A project on a machine with so many GPUs, of which a job takes one."""

    def make(count: int, device: str = "auto") -> tuple[Workspace, FakeGpus]:
        machine = FakeGpus(tmp_path / "machine", count)
        for key, value in machine.environment.items():
            monkeypatch.setenv(key, value)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        (tmp_path / "project").mkdir()
        workspace = Workspace(tmp_path / "project")
        workspace.configure({**SHRUNKEN, "compute": {"gpus": 1, "device": device}})
        return workspace, machine

    return make


def provided(workspace: Workspace, *arguments: str) -> str | None:
    """The number of GPUs that Snakemake says it gives out."""
    found = re.search(r"Provided resources: .*?gpu=\D*(\d+)", workspace.snakemake(DOCUMENT, *arguments).stderr)
    return found and found[1]


def test_as_many_as_are_free_and_what_a_user_says_wins(box):
    workspace, machine = box(3)
    assert provided(workspace) == "3"
    machine.computes(a1=4711)
    assert provided(workspace, "--forceall") == "2"
    assert provided(workspace, "--forceall", "--resources", "gpu=7") == "7"
    # Other resources do not take it away, as they would from a profile's list.
    assert provided(workspace, "--forceall", "--resources", "mem_mb=8000") == "2"


@pytest.mark.parametrize(("count", "device"), [(0, "auto"), (3, "cpu")])
def test_no_limit_where_jobs_compute_on_the_cpu(count, device, box):
    workspace, _ = box(count, device)
    assert provided(workspace) is None


EXECUTOR = """
import os, subprocess
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.settings import CommonSettings

common_settings = CommonSettings(
    non_local_exec=True, implies_no_shared_fs=False, job_deploy_sources=False, pass_default_storage_provider_args=True,
    pass_default_resources_args=True, pass_envvar_declarations_to_cmd=False, init_seconds_before_status_checks=0,
)

class Executor(RemoteExecutor):
    def run_job(self, job):
        process = subprocess.Popen(self.format_job_exec(job), shell=True)
        self.report_job_submission(SubmittedJobInfo(job, aux={"process": process}))

    async def check_active_jobs(self, active_jobs):
        for info in active_jobs:
            status = info.aux["process"].poll()
            if status is None:
                yield info
            elif status:
                self.report_job_error(info)
            else:
                self.report_job_success(info)

    def cancel_jobs(self, active_jobs):
        pass
"""


def test_elsewhere_this_machines_gpus_limit_nothing(box):
    workspace, _ = box(1)
    plugin = workspace.folder / "plugins/snakemake_executor_plugin_elsewhere"
    plugin.mkdir(parents=True)
    (plugin / "__init__.py").write_text(EXECUTOR)
    workspace.command[: workspace.command.index("-m")] = [sys.executable]  # the other one knows its plugins already
    workspace.environ["PYTHONPATH"] = f"{plugin.parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    add_jobs(workspace)
    done = workspace.snakemake("--executor", "elsewhere", "--jobs", "4", "gpu/2-1.txt", check=False)
    assert "gpu=" not in "".join(re.findall("Provided resources: .*", done.stderr))
    # The job asks for two GPUs, is not cut down to this machine's one, and says so in the end.
    assert re.search(r"resources: .*gpu=2", done.stdout + done.stderr), done.stderr
    assert "ERROR: 2 GPUs are needed here" in (workspace.folder / "gpu/2-1.log").read_text()


def add_jobs(workspace: Workspace, until: str = "True") -> None:
    """Jobs of which the first ones hold their GPUs until the expression is true."""
    with open(workspace.folder / "Snakefile", "a") as file:
        file.write(RULE)
    (workspace.folder / "job.py").write_text(JOB)
    (workspace.folder / "at-a-time").mkdir()
    (workspace.folder / "until").write_text(until)


def test_each_of_nine_jobs_has_a_gpu_of_its_own(box):
    workspace, machine = box(3)
    machine.computes(a0=4711)
    add_jobs(workspace, 'len(list(together.glob("*"))) == 2')
    jobs = [f"gpu/1-{i}.txt" for i in range(9)]
    workspace.snakemake("--cores", "8", *jobs)
    used = {(workspace.folder / job).read_text() for job in jobs}
    assert used == {"GPU-a1", "GPU-a2"}
    logs = [(workspace.folder / job).with_suffix(".log").read_text() for job in jobs]
    assert max(int(log.split()[-1]) for log in logs) == 2, "two run at a time"
    assert not any("waiting" in log for log in logs), "none is started that would have to wait"


@pytest.mark.parametrize(("cores", "threads"), [(8, 4), (2, 1), (32, 8)])
def test_cores_are_shared_out_so_that_every_gpu_has_a_job(cores, threads, box):
    """The paper's jobs would take eight threads."""
    workspace, _ = box(2)
    workspace.configure({**SHRUNKEN, "compute": {"gpus": 1, "device": "auto", "threads": 8}})
    model = "results/demo/digits-eps-simple/final.safetensors"
    planned = workspace.snakemake("-n", "--cores", str(cores), model).stdout
    found = re.findall(r"\nrule train:(?:\n    .*)*?\n    threads: (\d+)", planned)
    assert (found or ["1"]) == [str(threads)]


def test_a_job_of_two_runs_beside_one_of_one(box):
    workspace, _ = box(3)
    add_jobs(workspace)
    jobs = ["gpu/2-1.txt", "gpu/1-1.txt", "gpu/2-2.txt", "gpu/1-2.txt"]
    workspace.snakemake("--cores", "8", *jobs)
    sizes = [len((workspace.folder / job).read_text().split(",")) for job in jobs]
    assert sizes == [2, 1, 2, 1]


def test_without_a_limit_leases_alone_keep_jobs_apart(box):
    """What a user's --resources, or two Snakemakes side by side, may come to."""
    workspace, _ = box(1)
    add_jobs(workspace, 'any("waiting" in log.read_text() for log in Path("gpu").glob("*.log"))')
    jobs = [f"gpu/1-{i}.txt" for i in range(4)]
    workspace.snakemake("--cores", "8", *jobs, "--resources", "gpu=8")
    assert {(workspace.folder / job).read_text() for job in jobs} == {"GPU-a0"}
    logs = [(workspace.folder / job).with_suffix(".log").read_text() for job in jobs]
    assert any("waiting for 1 of 1 GPUs (GPU 0: another job of yours has it)" in log for log in logs)


def test_the_lock_folder_is_the_same_for_every_job():
    """Snakemake gives each job a TMPDIR of its own choice."""
    code = "from ddpm.jobs.gpus import lease_folder; print(lease_folder())"
    environment = {key: value for key, value in os.environ.items() if key != "DDPM_GPU_LEASES"}
    folders = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**environment, "TMPDIR": where},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for where in ("/tmp", "/var/tmp")
    }
    assert folders == {f"/tmp/ddpm-gpus-{os.getuid()}\n"}
