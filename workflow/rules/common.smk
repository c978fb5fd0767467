# Helpers of the rules: the checked configuration, and where things lie.

import json
import sys
from pathlib import Path

PACKAGE = f"{workflow.basedir}/workflow/ddpm"
sys.path.insert(0, f"{workflow.basedir}/workflow")

try:
    from ddpm import plan, resolving
    from ddpm.config import ConfigError, Selection
    from ddpm.report.figures import BEYOND, MODULES
except ModuleNotFoundError as error:
    raise WorkflowError(
        f"The workflow's configuration needs {error.name} in the environment that Snakemake runs in: "
        "use the README's command, or the environment of envs/snakemake.yaml."
    )

try:
    CONFIG = resolving.load(config)
except ConfigError as error:
    raise WorkflowError(str(error))

SCALE = CONFIG.scale
EXPERIMENTS = CONFIG.scale_config.experiments
COMPUTE = CONFIG.scale_config.compute
RESULTS = f"results/{SCALE}"
DATA = sorted({experiment.data for experiment in EXPERIMENTS.values()})
RELEASED = [name for name, experiment in EXPERIMENTS.items() if experiment.weights == "released"]
TRAINED = [name for name in EXPERIMENTS if name not in RELEASED]
# Published weights by name, and an experiment that says where they are.
CHECKPOINTS = {EXPERIMENTS[name].checkpoint.name: name for name in RELEASED}

# Jobs find the package here in any environment.
shell.prefix(f"export PYTHONPATH='{workflow.basedir}/workflow'; ")


def one_of(names):
    """A regular expression for just these names, or for none."""
    return "|".join(names) or "(?!)"


wildcard_constraints:
    experiment=one_of(EXPERIMENTS),
    data=one_of(DATA),
    checkpoint=one_of(CHECKPOINTS),
    stage="training|sampling|few_steps|likelihood|evaluation",
    split="test|train",
    shard=r"\d+",
    shards=r"\d+",


def experiment_of(wildcards):
    return EXPERIMENTS[wildcards.experiment]


def downloads(data):
    """The card of a data set's download; nothing for data that ship with a dependency."""
    return [f"resources/downloads/{data}/card.json"] if settings.DATASETS[data].files else []


def prepared(file):
    """A function that finds `file` of the prepared data set of a job's experiment."""
    return lambda wildcards: f"resources/{experiment_of(wildcards).data}/{file.format(**wildcards)}"


def reference_of(file):
    """A function that finds `file` among what belongs to the data set of a job's experiment at this scale."""
    return lambda wildcards: f"{RESULTS}/reference/{experiment_of(wildcards).data}/{file}"


def shards_of(experiment, folder, shards):
    """The numbered files of `folder` of an experiment."""
    return [f"{RESULTS}/{experiment}/{folder}/{i}-of-{shards}.npz" for i in range(1, shards + 1)]


def sample_shards(experiment):
    return shards_of(experiment, "samples", EXPERIMENTS[experiment].sampling.shards)


def feature_shards(experiment):
    return shards_of(experiment, "features", EXPERIMENTS[experiment].sampling.shards)


def few_steps_shards(experiment):
    return shards_of(experiment, "few_steps", EXPERIMENTS[experiment].few_steps.shards)


def bound_shards(experiment, split):
    likelihood = EXPERIMENTS[experiment].likelihood
    return shards_of(experiment, f"likelihood/{split}", likelihood.shards) if likelihood else []


def figure_sources(name):
    """The saved arrays that a figure is drawn from, and the metrics that say what they are."""
    (experiment,) = CONFIG.experiments_of(name)
    if name in ("figure6", "figure13", "figure14"):
        return sample_shards(experiment)
    array = {
        "diffusion": "trajectory.npz",
        "figure5": "rate_distortion.csv",
        "figure10": "progressive.csv",
        "figure15": "neighbours.npz",
        "fewsteps": "few_steps.csv",
    }[name]
    pictures = few_steps_shards(experiment) if name == "fewsteps" else []
    return [f"{RESULTS}/{experiment}/{array}", f"{RESULTS}/{experiment}/metrics.json", *pictures]


def repeat(option, files):
    """`files` as a command line: the option once before each."""
    return " ".join(f"{option} {file}" for file in files)


def code(*modules):
    """Modules whose change remakes a cheap output, as files of the package."""
    return [f"{PACKAGE}/{module}.py" for module in modules]


def figure_code(name):
    """The modules that draw a figure."""
    shared = ["samples", "style", *(["charts"] if name in ("figure5", "figure10", "fewsteps") else [])]
    return code("report/inputs", *(f"report/figures/{module}" for module in (name, *shared)))
