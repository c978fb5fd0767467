"""Projects in which Snakemake is run for real, and a cluster of SLURM's."""

import shutil
import tempfile
from pathlib import Path

import pytest
from slurm_cluster import Cluster, missing
from workspace import AWKWARD, Workspace


@pytest.fixture(scope="session")
def cluster():
    if reason := missing():
        pytest.skip(reason)
    root = Path(tempfile.mkdtemp(prefix="slurm-"))
    with Cluster(root) as cluster:
        yield cluster
    shutil.rmtree(root)


@pytest.fixture(scope="package")
def finished(tmp_path_factory) -> Workspace:
    """The whole chain, run once, in a folder with an awkward name; tests that change it leave it finished."""
    workspace = Workspace(tmp_path_factory.mktemp(f"{AWKWARD} $x"))
    workspace.snakemake()
    return workspace


@pytest.fixture
def fresh(tmp_path) -> Workspace:
    """A project in which nothing has run yet."""
    return Workspace(tmp_path)
