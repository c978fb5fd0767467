# Helpers of the rules: the checked configuration, and where things lie.

import json
import shlex
import signal
import sys
import threading
from pathlib import Path

sys.path.insert(0, f"{workflow.basedir}/workflow")

try:
    from ddpm.config import resolving
    from ddpm.config.base import ConfigError
    from ddpm.config.catalogue import SCORES_TABLE
    from ddpm.config.enums import PRECISION_ENV, Selection
    from ddpm.config.errors import ExitCode, UserError
    from ddpm.config.layout import Layout
    from ddpm.config.reading import read_snakemakes_config
    from ddpm.jobs import failures, gpus, slurm
    from ddpm.jobs.locks import Lock, Locked
    from ddpm.planning import advising, cluster
    from ddpm.report import code
    from ddpm.report.figures import BEYOND
except ModuleNotFoundError as error:
    raise WorkflowError(
        f"The workflow's configuration needs {error.name} in the environment that Snakemake runs in: "
        "use the README's command, or the environment of envs/snakemake.yaml."
    )

try:
    # In its place, since `plan` hands it on. The arguments as they were typed are in none of Snakemake's documents.
    config |= read_snakemakes_config(
        config, workflow.configfiles, workflow.config_settings.config_args
    )
    CONFIG = resolving.load(config)
except ConfigError as error:
    raise WorkflowError(str(error))

FILES = Layout(CONFIG)
RESULTS = FILES.results
SCALE = CONFIG.scale
EXPERIMENTS = CONFIG.scale_config.experiments
COMPUTE = CONFIG.scale_config.compute
DATA = sorted({experiment.data for experiment in EXPERIMENTS.values()})
# All but those that sample from another's weights.
OWN_WEIGHTS = [
    name for name, experiment in EXPERIMENTS.items() if experiment.trained_as == name
]
RELEASED = [name for name in OWN_WEIGHTS if EXPERIMENTS[name].weights == "released"]
TRAINED = [name for name in OWN_WEIGHTS if name not in RELEASED]
# Published weights by name, and an experiment that says where they are.
CHECKPOINTS = {EXPERIMENTS[name].checkpoint.name: name for name in RELEASED}

WITH_STATISTICS = [data for data in DATA if FILES.statistics(data)]

# Who looks at a TorchScript file before it is opened compares it with this, or with the published one's.
TRUSTED_NETWORK = ["--network-sha256", CONFIG.inception.sha256] * bool(
    CONFIG.inception.sha256
)


def one_of(names):
    """A regular expression for just these names, or for none."""
    return "|".join(names) or "(?!)"


wildcard_constraints:
    experiment=one_of(EXPERIMENTS),
    data=one_of(DATA),
    checkpoint=one_of(CHECKPOINTS),
    stage="training|sampling|snapshots|few_steps|likelihood|evaluation",
    split="test|train",
    shard=r"\d+",
    shards=r"\d+",
    step=r"\d+",
    kind="|-crop",


def experiment_of(wildcards):
    return EXPERIMENTS[wildcards.experiment]


def weights(wildcards):
    """The weights that a job's experiment samples from."""
    return FILES.weights(wildcards.experiment)


def network(wildcards):
    """The network that gives the scores of a job's experiment."""
    return FILES.network(experiment_of(wildcards).data)


def prepared(file):
    """A function that finds `file` of the prepared data set of a job's experiment."""
    return (
        lambda wildcards: f"resources/{experiment_of(wildcards).data}/{file.format(**wildcards)}"
    )


def reference_of(file):
    """A function that finds `file` among what belongs to the data set of a job's experiment at this scale."""
    return (
        lambda wildcards: f"{RESULTS}/reference/{experiment_of(wildcards).data}/{file}"
    )


def repeat(option, values):
    """The words of a command line with the option before each of `values`; the shell line has to quote them (`:q`)."""
    return [word for value in values for word in (option, str(value))]
