# Helpers of the rules: the checked configuration, and where things lie.

import json
import shlex
import signal
import sys
from pathlib import Path

PACKAGE = f"{workflow.basedir}/workflow/ddpm"
sys.path.insert(0, f"{workflow.basedir}/workflow")

try:
    from ddpm.config import resolving
    from ddpm.config.base import ConfigError
    from ddpm.config.catalogue import DRAWN_FROM, SCORES_TABLE, WITH_SCORES
    from ddpm.config.errors import ExitCode, UserError
    from ddpm.config.precision import set_precision_env
    from ddpm.config.enums import Selection
    from ddpm.jobs import failures, gpus, slurm
    from ddpm.jobs.failures import explain
    from ddpm.jobs.locks import Lock, Locked
    from ddpm.planning import advising
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
set_precision_env(COMPUTE.precision)  # of all jobs, wherever they run
RESULTS = f"results/{SCALE}"
DATA = sorted({experiment.data for experiment in EXPERIMENTS.values()})
# All but those that sample from another's weights.
OWN_WEIGHTS = [
    name for name, experiment in EXPERIMENTS.items() if experiment.trained_as == name
]
RELEASED = [name for name in OWN_WEIGHTS if EXPERIMENTS[name].weights == "released"]
TRAINED = [name for name in OWN_WEIGHTS if name not in RELEASED]
# Published weights by name, and an experiment that says where they are.
CHECKPOINTS = {EXPERIMENTS[name].checkpoint.name: name for name in RELEASED}

# Data sets of which others published statistics of Inception's features, where ours are Inception's, too.
WITH_STATISTICS = [
    data
    for data in DATA
    if CONFIG.scale_config.features == "inception" and CONFIG.data_sets[data].statistics
]

INCEPTION = f"{CONFIG.inception.root or 'resources/inception'}/inception-2015-12-05.pt"
# Who looks at a TorchScript file before it is opened compares it with this, or with the published one's.
TRUSTED_NETWORK = ["--network-sha256", CONFIG.inception.sha256] * bool(
    CONFIG.inception.sha256
)
# What a rule writes that only hands `params.document` on.
WRITE_DOCUMENT = (
    "(printf '%s\\n' {params.document:q} > {output:q}.part && mv {output:q}.part {output:q}"
    " || (rm -f {output:q}.part && false)) 2> {log:q}"
)
CURVES = (
    "figure5",
    "figure10",
    "fewsteps",
    "reproduced",
    "training_curve",
)  # figures in the theme of charts

GPUS_HERE = 0

# Snakemake counts GPUs only where it is told how many there are. Elsewhere (`nodes`: --jobs of a cluster) those of this
# machine limit nothing.
if (
    workflow.is_main_process
    and workflow.resource_settings.nodes is None
    and COMPUTE.device != "cpu"
):
    if "gpu" not in workflow.global_resources:
        try:
            if free_gpus := gpus.count_free():
                workflow.register_resource("gpu", free_gpus)
        except UserError as error:
            raise WorkflowError(str(error))
    if "gpu" in workflow.global_resources:
        GPUS_HERE = workflow.global_resources["gpu"].value

# Jobs find the package here in any environment. They keep bytecode also where the environment, as in many images of
# containers, says otherwise: to compile torch's thousand modules anew would be more than half of a job's start.
# glibc keeps freed memory for the next tensor, a tenth of the CPU time of sampling; as it is set by itself, it gives the
# pages back to the system after every step, which has to clear them again.
PREFIX = (
    "export PYTHONPATH={} MALLOC_TRIM_THRESHOLD_=1073741824 MALLOC_MMAP_THRESHOLD_=33554432; "
    "unset PYTHONDONTWRITEBYTECODE; "
).format(
    shlex.quote(f"{workflow.basedir}/workflow").replace("{", "{{").replace("}", "}}")
)

# A job of a cluster: SLURM's warnings reach all of its processes, and Snakemake and the shell outlive them until the
# one that computes has saved its state. What is then interrupted goes on in another submission.
if workflow.remote_exec:
    slurm.export_restart_count()
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    PREFIX += f"trap : TERM; trap '[ $? != {ExitCode.INTERRUPTED:d} ] || python -m ddpm requeue' EXIT; "

shell.prefix(PREFIX)


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


def threads_of(gpus):
    """CPU threads of a job that takes so many GPUs: no more than leave enough cores for a job on each other GPU."""
    if not (GPUS_HERE and gpus and workflow.cores):
        return COMPUTE.threads
    return max(min(COMPUTE.threads, workflow.cores * gpus // GPUS_HERE), 1)


def experiment_of(wildcards):
    return EXPERIMENTS[wildcards.experiment]


def weights(wildcards):
    """The weights that a job's experiment samples from."""
    return f"{RESULTS}/{experiment_of(wildcards).trained_as}/model.safetensors"


def downloads(data):
    """The card of a data set's download; nothing for data that ship with a dependency, or lie in a `root`."""
    source = CONFIG.data_sets[data]
    return (
        [f"resources/downloads/{data}/card.json"]
        if source.files and not source.root
        else []
    )


def network_of(data):
    """What turns images of `data` into features and class probabilities at this scale."""
    if CONFIG.scale_config.features == "inception":
        return INCEPTION
    return f"{RESULTS}/reference/{data}/classifier.safetensors"


def network(wildcards):
    return network_of(experiment_of(wildcards).data)


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


def shards_of(experiment, folder, shards):
    """The numbered files of `folder` of an experiment."""
    return [
        f"{RESULTS}/{experiment}/{folder}/{i}-of-{shards}.npz"
        for i in range(1, shards + 1)
    ]


def sample_shards(experiment):
    return shards_of(experiment, "samples", EXPERIMENTS[experiment].sampling.shards)


def feature_shards(experiment):
    return shards_of(experiment, "features", EXPERIMENTS[experiment].sampling.shards)


def few_steps_shards(experiment):
    return shards_of(experiment, "few_steps", EXPERIMENTS[experiment].few_steps.shards)


def bound_shards(experiment, split):
    likelihood = EXPERIMENTS[experiment].likelihood
    return (
        shards_of(experiment, f"likelihood/{split}", likelihood.shards)
        if likelihood
        else []
    )


def snapshot_samples(experiment):
    """The samples of each snapshot of a training."""
    training = EXPERIMENTS[experiment].training
    return [
        f"{RESULTS}/{experiment}/snapshots/{step}.npz"
        for step in (training.snapshot_steps if training else ())
    ]


def first_samples(experiment, count=256):
    """As many shards as hold the first `count` samples."""
    sampling = EXPERIMENTS[experiment].sampling
    enough = min(-(-count * sampling.shards // sampling.images), sampling.shards)
    return sample_shards(experiment)[:enough]


def with_repeats(name):
    """The experiments of a table, and those that repeat them with other seeds."""
    experiments = CONFIG.experiments_of(name)
    repeats = [
        repeat for experiment in experiments for repeat in CONFIG.repeats_of(experiment)
    ]
    return list(dict.fromkeys(experiments + repeats))


def figure_sources(name):
    """The saved arrays that a figure is drawn from, and the metrics that say what they are."""
    if name == "reproduced":
        return [
            f"{RESULTS}/tables/{table}.csv"
            for table in CONFIG.tables
            if table != SCORES_TABLE
        ]
    experiments = list(dict.fromkeys(CONFIG.experiments_of(name)))
    if name not in DRAWN_FROM:
        scored = [
            f"{RESULTS}/{experiment}/metrics.json"
            for experiment in experiments
            if name in WITH_SCORES
        ]
        return [
            shard for experiment in experiments for shard in first_samples(experiment)
        ] + scored
    (experiment,) = experiments
    sources = [f"{RESULTS}/{experiment}/{file}" for file in DRAWN_FROM[name]]
    if name == "fewsteps":
        sources += few_steps_shards(experiment)
    if name == "training-curve" and EXPERIMENTS[experiment].snapshots:
        sources += [
            f"{RESULTS}/{experiment}/snapshots.{suffix}" for suffix in ("csv", "npz")
        ]
    return sources


def jobs_to_run():
    """The rule of each job that is about to run, and its experiment, data set or checkpoint."""
    for job in workflow.dag.needrun_jobs():
        wildcards = job.wildcards_dict
        yield job.rule.name, next(
            (
                wildcards[key]
                for key in ("experiment", "data", "checkpoint")
                if key in wildcards
            ),
            None,
        )


def failed_jobs():
    """What `failures.summary` needs to know of each job that has failed."""
    for job in workflow.scheduler.failed:
        for each in getattr(job, "jobs", [job]):  # those of a group
            stage = Path(each.rule.snakefile).stem
            yield failures.FailedJob(
                each.rule.name,
                stage,
                each.wildcards_dict,
                [str(log) for log in each.log],
            )


def repeat(option, values):
    """The words of a command line with the option before each of `values`; the shell line has to quote them (`:q`)."""
    return [word for value in values for word in (option, str(value))]


def code(*modules):
    """Modules whose change remakes a cheap output, as files of the package."""
    return [f"{PACKAGE}/{module}.py" for module in modules]


def figure_code(names):
    """The modules that draw figures."""
    drawing = dict.fromkeys(MODULES[name] for name in names)
    shared = ["__init__", "samples", "style"]
    if not drawing.keys().isdisjoint(CURVES):
        shared.append("charts")
    used = code(
        "report/inputs",
        "storage/tables",
        *(f"report/figures/{module}" for module in (*drawing, *shared)),
    )
    if "figure5" in names:
        used += [f"{PACKAGE}/report/published/table4.csv"]
    return used + (code("report/rendering") if "reproduced" in names else [])


def stamp_of(name):
    """The small print in a figure."""
    return ", ".join(filter(None, (CONFIG.data_of(name), f"scale {SCALE}")))


def drawn_together():
    """Groups of figures that are drawn from the same files, and so by one job."""
    groups = {}
    for name in CONFIG.figures:
        key = (*figure_sources(name), stamp_of(name))
        groups.setdefault(key, []).append(name)
    return groups.values()
