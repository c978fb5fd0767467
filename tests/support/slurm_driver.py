"""Snakemake, which asks SLURM for the state of its jobs every two seconds instead of ever more seldom."""

import sys

from snakemake.cli import main
from snakemake_executor_plugin_slurm import Executor

Executor.next_seconds_between_status_checks = property(lambda executor: 2, lambda executor, seconds: None)
sys.exit(main())
