"""The cluster that the tests here share."""

import shutil
import tempfile
from pathlib import Path

import pytest
from slurm_cluster import Cluster, missing


@pytest.fixture(scope="session")
def cluster():
    if reason := missing():
        pytest.skip(reason)
    root = Path(tempfile.mkdtemp(prefix="slurm-"))
    with Cluster(root) as cluster:
        yield cluster
    shutil.rmtree(root)
