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

LEASING = """
import json, os, sys, time
from pathlib import Path
from ddpm.jobs import gpus

leased = gpus.lease(2)
Path(sys.argv[1]).write_text(json.dumps({"leased": leased, "gpus": os.environ[gpus.VISIBLE]}))
while not Path("seen").exists():
    time.sleep(0.1)
"""


def test_a_job_knows_its_gpus(cluster, tmp_path):
    """It needs no nvidia-smi for that."""
    (tmp_path / "job.py").write_text(LEASING)
    (tmp_path / "bin").mkdir()
    environment = {**cluster.environment(), "PYTHONPATH": f"{PROJECT}/workflow"}
    command = f"PATH={tmp_path}/bin exec {sys.executable} job.py found.json"
    options = ["--partition=gpu", "--gpus=2", "--nodes=1", "--mem=300", "--time=2", "--output=/dev/null", "--parsable"]
    job = subprocess.check_output(
        ["sbatch", *options, "--wrap", command], env=environment, cwd=tmp_path, text=True
    ).strip()
    wait_for((tmp_path / "found.json").exists, "what the job has found")
    shown = cluster.show(job)
    (tmp_path / "seen").touch()
    found = json.loads((tmp_path / "found.json").read_text())
    given = re.search(r"IDX:(\d)[-,](\d)", shown["GRES"]).groups()
    assert (found["leased"], found["gpus"]) == (False, ",".join(given))
