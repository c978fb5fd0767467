"""A real SLURM on this machine: three nodes on loopback, made of Debian's packages, without systemd or cgroups."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from waiting import wait_for

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel", "sinfo")

# Sizes are declared, not this machine's (config_overrides), so that what the profile asks for fits, and that two jobs
# of one CPU fill a node with GPUs. A job that is queued again waits until its credentials have expired: seconds here,
# two minutes by default.
CONF = """
ClusterName=throwaway
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={root}/munge/sock,cred_expire=5
SlurmctldPort={ports[0]}
SlurmctldPidFile={root}/run/slurmctld.pid
SlurmdPidFile={root}/run/slurmd-%n.pid
StateSaveLocation={root}/spool/ctld
SlurmdSpoolDir={root}/spool/%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={root}/jobs.txt
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=2,defer_batch
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
GresTypes=gpu
ReturnToService=2
KillWait=5
MinJobAge=600
NodeName=n1 NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 RealMemory=256000 Gres=gpu:a100:4 Weight=1
NodeName=n2 NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 RealMemory=256000 Gres=gpu:a100:4 Weight=2
NodeName=n3 NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[3]} CPUs=16 RealMemory=256000
PartitionName=cpu Nodes=n3 Default=YES MaxTime=1440 State=UP
PartitionName=gpu Nodes=n1,n2 Default=NO MaxTime=1440 State=UP
"""
GRES = """
AutoDetect=off
NodeName=n1 Name=gpu Type=a100 File={root}/run/gpu[0-3]
NodeName=n2 Name=gpu Type=a100 File={root}/run/gpu[4-7]
"""


def missing() -> str | None:
    """Why there can be no cluster here, or None."""
    if absent := [program for program in PROGRAMS if not shutil.which(program)]:
        return f"no {', '.join(absent)} here: apt-get install munge slurmctld slurmd slurm-client"
    return None if os.geteuid() == 0 else "SLURM's daemons start jobs of others, and need root for it"


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


class Cluster:
    """Partition `cpu` is n3; partition `gpu` is n1 and n2 with two CPUs and four devices each that pass for GPUs."""

    def __init__(self, root: Path):
        """`root` is an empty folder with a short path: a socket lies in it."""
        self.root = root
        self.bin = root / "bin"
        for folder in ("etc", "run", "munge", "bin", *(f"spool/{name}" for name in ("ctld", "n1", "n2", "n3"))):
            (root / folder).mkdir(parents=True)
        (root / "munge").chmod(0o711)
        ports = free_ports(4)
        for name, text in (("slurm", CONF), ("gres", GRES)):
            (root / f"etc/{name}.conf").write_text(text.format(root=root, ports=ports))
        (root / "munge/key").write_bytes(os.urandom(1024))
        (root / "munge/key").chmod(0o400)
        for i in range(8):
            os.mknod(root / f"run/gpu{i}", 0o666 | 0o020000, os.makedev(1, 3))  # GPUs need a device: /dev/null's
        # The job-step executor drops SLURM_CONF before its own srun: the clients are wrapped instead.
        for client in (*PROGRAMS[3:], "sacct", "sacctmgr"):
            wrapper = self.bin / client
            wrapper.write_text(f'#!/bin/sh\nSLURM_CONF={root}/etc/slurm.conf exec {shutil.which(client)} "$@"\n')
            wrapper.chmod(0o755)
        self.daemons: list[subprocess.Popen] = []

    def __enter__(self) -> "Cluster":
        munge = {"key-file": "key", "socket": "sock", "pid-file": "pid", "seed-file": "seed"}
        files = [f"--{option}={self.root}/munge/{file}" for option, file in munge.items()]
        self.start("munged", "-F", "--force", *files)
        wait_for((self.root / "munge/sock").exists, "munge")
        self.start("slurmctld", "-D", "-i")
        for node in ("n1", "n2", "n3"):
            self.start("slurmd", "-D", "-N", node)
        wait_for(lambda: self.ask("sinfo -h -N -t idle -o %N", check=False).split() == ["n1", "n2", "n3"], "idle nodes")
        return self

    def start(self, *command: str) -> None:
        environment = {**os.environ, "SLURM_CONF": f"{self.root}/etc/slurm.conf"}
        with (self.root / f"{command[0]}-{len(self.daemons)}.log").open("w") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        self.daemons.append(process)

    def __exit__(self, *_) -> None:
        self.ask("scancel --me", check=False)
        with contextlib.suppress(AssertionError):
            wait_for(lambda: not self.jobs(), "the end of all jobs", 60)
        for daemon in reversed(self.daemons):
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(60)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        for process in self.left_over():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def left_over(self) -> list[int]:
        """Processes of jobs that outlived them, which cgroups would prevent; known by this cluster's configuration."""
        mark = f"SLURM_CONF={self.root}/etc/slurm.conf".encode()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark in (process / "environ").read_bytes().split(b"\0"):
                    found.append(int(process.name))
        return found

    def environment(self) -> dict[str, str]:
        return {**os.environ, "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}"}

    def ask(self, command: str, check: bool = True) -> str:
        """What a client of SLURM prints."""
        done = subprocess.run(
            command.split(), env=self.environment(), capture_output=True, text=True, check=False, timeout=300
        )
        assert not check or done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def jobs(self, comment: str = "") -> list[str]:
        """The ids of jobs in the queue or running, with `comment` in their comment."""
        lines = self.ask("squeue -h -r -o %i|%k", check=False).splitlines()
        return [line.split("|")[0] for line in lines if comment in line.split("|")[1]]

    def show(self, job: str) -> dict[str, str]:
        """What is known of a job: `JobState`, `Restarts`, `NodeList`, `GRES` and the like."""
        return dict(re.findall(r"(\w+)=(\S+)", self.ask(f"scontrol show job -d {job}")))

    def bring_to_its_limit(self, job: str) -> None:
        """Let a running job's time be up in five and a half minutes, and wait until, warned, it is queued again."""
        end = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(time.time() + 325))
        self.ask(f"scontrol update JobId={job} EndTime={end}")
        restarts = self.show(job)["Restarts"]
        wait_for(lambda: self.show(job)["Restarts"] != restarts, f"job {job}, queued again")
        self.ask(f"scontrol update JobId={job} TimeLimit=1440")  # it would keep the short one

    def finished(self) -> list[dict[str, str]]:
        """One record per submission that has ended."""
        file = self.root / "jobs.txt"
        return [dict(re.findall(r"(\w+)=(\S+)", line)) for line in file.read_text().splitlines()]
