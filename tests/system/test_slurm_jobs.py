"""What a job on a real SLURM finds out about itself."""

import json
import re
import subprocess
import sys

import pytest
from slurm_cluster import missing
from waiting import wait_for
from workspace import PROJECT

pytestmark = pytest.mark.skipif(missing() is not None, reason=f"no SLURM: {missing()}")

stop_signal = """
import json, os, sys, time
from pathlib import Path
from ddpm.jobs import gpus
from ddpm.jobs.signals import stop_signal, UserError

stop_signal.save_takes = float(sys.argv[2])
try:
    stop_signal.require_time()
    refused = ""
except UserError as error:
    refused = str(error)
leased = gpus.lease(2)
told = {"deadline": stop_signal.deadline, "refused": refused, "leased": leased, "gpus": os.environ[gpus.VISIBLE]}
Path(sys.argv[1]).write_text(json.dumps(told))
while not Path("seen").exists():
    time.sleep(0.1)
"""


@pytest.mark.parametrize("save_takes", [10, 60])
def test_a_job_knows_its_deadline_and_its_gpus(save_takes, cluster, tmp_path):
    """Of two minutes. That deadline is noticed by a job which needs 150 s to save twice and to end. No nvidia-smi."""
    (tmp_path / "job.py").write_text(stop_signal)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/squeue").symlink_to(cluster.bin / "squeue")
    environment = {**cluster.environment(), "PYTHONPATH": f"{PROJECT}/workflow"}
    command = f"PATH={tmp_path}/bin exec {sys.executable} job.py told.json {save_takes}"
    options = ["--partition=gpu", "--gpus=2", "--nodes=1", "--mem=300", "--time=2", "--output=/dev/null", "--parsable"]
    job = subprocess.check_output(
        ["sbatch", *options, "--wrap", command], env=environment, cwd=tmp_path, text=True
    ).strip()
    wait_for((tmp_path / "told.json").exists, "what the job tells")
    shown = cluster.show(job)
    (tmp_path / "seen").touch()
    told = json.loads((tmp_path / "told.json").read_text())
    end = subprocess.check_output(["date", "-d", shown["EndTime"], "+%s"], text=True)
    assert told["deadline"] == pytest.approx(int(end), abs=20)
    assert bool(re.search("are left until its deadline at .*Ask for a longer runtime", told["refused"])) == (
        save_takes == 60
    )
    given = re.search(r"IDX:(\d)[-,](\d)", shown["GRES"]).groups()
    assert (told["leased"], told["gpus"]) == (False, ",".join(given))
