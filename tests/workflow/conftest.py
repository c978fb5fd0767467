"""Projects in which Snakemake is run for real."""

import pytest
from workspace import Workspace


@pytest.fixture(scope="package")
def finished(tmp_path_factory) -> Workspace:
    """The whole chain, run once; tests that change it leave it finished."""
    workspace = Workspace(tmp_path_factory.mktemp("workspace"))
    workspace.snakemake()
    return workspace


@pytest.fixture
def fresh(tmp_path) -> Workspace:
    """A project in which nothing has run yet."""
    return Workspace(tmp_path)
