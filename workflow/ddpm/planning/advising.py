"""What this machine lacks for a plan, what would fit instead, and when to stop a run before it starts."""

from collections import Counter
from collections.abc import Iterable, Iterator
from math import isnan

from ddpm.config.enums import Objective, Parameterization
from ddpm.config.experiment import Experiment
from ddpm.config.registry import default_for
from ddpm.config.resolving import Config
from ddpm.config.sources import RemoteFile
from ddpm.planning.cluster import compare, misfits, read_profile
from ddpm.planning.machine import GB, Machine, in_gb, this_machine
from ddpm.planning.plan import Hours, Plan, duration
from ddpm.planning.rates import NO_RATE, SLOW_CPU, Rates, read_rates
from ddpm.planning.work import all_work, work_left
from ddpm.storage.download import may_be_changed

LONGEST = 24  # hours that a run may take on a CPU without being stopped
FEWER_IMAGES = 5_000
USABLE = 0.9  # of a GPU's memory: the rest is CUDA's
COMMON_GPUS = (80 * GB, 24 * GB)


def warnings(plan: Plan) -> list[str]:
    """Where this machine, or this cluster, cannot do what is planned."""
    found = [*gpu_warnings(plan), *disk_warnings(plan), *memory_warnings(plan), *source_warnings(plan)]
    found += misfits(read_profile(), plan.machine.nodes)
    if unknown := [f"{work.rule} {work.subject}" for work in plan.work if isnan(work.disk)]:
        found.append(f"Not in the sums, since it is not known before the download: the size of {', '.join(unknown)}.")
    return found


def gpu_warnings(plan: Plan) -> Iterator[str]:
    if plan.machine.gpus or plan.for_cpu:
        return
    on_cpu = Hours.of(plan.work, Rates(read_rates(plan.device), NO_RATE))
    if on_cpu.known:
        known = f"On its CPU, as measured, this would take {on_cpu}"
    else:
        known = "How long its CPU would take is not known; `python -m ddpm plan --measure` finds out"
    yield f"No GPU: nvidia-smi finds none on this machine. {known}."


def disk_warnings(plan: Plan) -> Iterator[str]:
    """Folders on the same disk share its room."""
    disks = plan.machine.disks
    for number in dict.fromkeys(disk.number for disk in disks.values()):
        folders = [folder for folder, disk in disks.items() if disk.number == number]
        free = disks[folders[0]].free
        needed = sum(work.disk for work in plan.work if work.folder in folders and not isnan(work.disk))
        if needed > free:
            yield (
                f"Too little disk: {in_gb(needed)} are needed in {' and '.join(f'{name}/' for name in folders)}, "
                f"{in_gb(free)} are free. Make the folder a link to a larger disk, or run less."
            )


def memory_warnings(plan: Plan) -> Iterator[str]:
    """A GPU has to take one image at a time, to which a training comes down by itself."""
    for memory in plan.memory:
        if plan.gpu_memory and not memory.images(USABLE * plan.gpu_memory):
            yield (
                f"Too little GPU memory to train {', '.join(memory.experiments)}: not even one image at a time fits "
                f"into {in_gb(plan.gpu_memory)}; {in_gb((memory.state + memory.per_image) / USABLE)} are needed."
            )


def source_warnings(plan: Plan) -> Iterator[str]:
    """Data sets that would not be downloaded as the configuration is."""
    for name in dict.fromkeys(work.subject for work in plan.work if work.rule == "download_data"):
        data = plan.config.data_sets[name]
        if not data.unverified and any(isinstance(f, RemoteFile) and may_be_changed(f) for f in data.files):
            yield (
                f"No download of {name}: it comes by plain HTTP, on which anybody can change it, and no checksum is "
                f"known. In config.yaml, set sources.{name}.unverified: true to allow the download, or its root to the "
                "folder of your copy."
            )


def memory_lines(plan: Plan) -> list[str]:
    """What training needs of a GPU, and the largest micro-batch that fits: here, or into common ones."""
    lines = []
    for memory in plan.memory:
        sizes = [plan.gpu_memory] if plan.gpu_memory else COMMON_GPUS
        fitting = ", ".join(f"{memory.images(USABLE * size):,} fit into {in_gb(size)}" for size in sizes)
        needed = f"{in_gb(memory.state)} and {in_gb(memory.per_image)} per image, {in_gb(memory.whole)} at once"
        lines.append(f"{', '.join(memory.experiments)}: {needed}; of a batch's {memory.batch} images, {fitting}.")
    if lines:
        lines.append("Where a GPU's memory runs out, training halves its micro-batch by itself.")
    return lines


def cluster_lines(plan: Plan) -> list[str]:
    """What a cluster is asked for; of a scale that wants none, where there is one."""
    return list(compare(read_profile(), plan.machine.nodes)) if plan.machine.nodes or not plan.for_cpu else []


SMALLER_RUNS = {
    "demo": "the whole chain on digits, in minutes on any CPU",
    "glimpse": "the paper's main CIFAR-10 model, in minutes on one GPU",
    "quick": "the paper's CIFAR-10 models, shortened, on one GPU",
    "released": "the authors' own weights, sampled and scored; nothing is trained",
}


def what_fits(config: Config, rates: Rates) -> list[str]:
    """Smaller runs, each with the hours that it would take at `rates`."""
    options = []
    for scale, what in SMALLER_RUNS.items():  # the smallest first
        if scale == config.scale:
            break
        options.append(f"`--config scale={scale}`: {what}.")
    experiments = config.scale_config.experiments
    if published := [name for name, experiment in experiments.items() if is_published(experiment)]:
        work = [work for work in work_left(config) if work.subject in published]
        saved = Hours.of((each for each in work if each.rule in ("train", "snapshot")), rates)
        options.append(
            "published weights, by `override: {experiments: {NAME: {weights: released}}}`, save "
            f"{saved} of training; there are some for {', '.join(published)}."
        )
    originals = [name for name, experiment in experiments.items() if not experiment.repeat]
    if len(originals) > 1 and Hours.of(work_left(config), rates).known:
        alone = {name: hours_of(config, [name, *config.repeats_of(name)], rates) for name in originals}
        least = min(alone, key=lambda name: alone[name].known)
        options.append(f"fewer experiments: {alone[least]} for `experiments: [{least}]`.")
    if any(experiment.sampling.images > FEWER_IMAGES for experiment in experiments.values()):
        options.append(
            f"fewer samples: {hours_of(config, experiments, rates, FEWER_IMAGES)} with "
            f"`override: {{defaults: {{sampling: {{images: {FEWER_IMAGES}}}}}}}`."
        )
    return options


def is_published(experiment: Experiment) -> bool:
    """Whether an experiment that is trained could take published weights of its network and method instead."""
    checkpoint = default_for(experiment.data)
    method = (experiment.diffusion.parameterization, experiment.diffusion.objective)
    if experiment.repeat or experiment.seeds.training:  # which are for what is trained here
        return False
    if not (experiment.training and checkpoint) or method != (Parameterization.EPS, Objective.SIMPLE):
        return False
    sizes = experiment.network.model_dump(mode="json", include=set(checkpoint.network or ()))
    return sizes == (checkpoint.network or {})


def hours_of(config: Config, names: Iterable[str], rates: Rates, most: int | None = None) -> Hours:
    """For the experiments `names` alone, each with no more than `most` samples."""
    experiments = {}
    for name in names:
        experiment = config.scale_config.experiments[name]
        images = min(experiment.sampling.images, most or experiment.sampling.images)
        sampling = experiment.sampling.model_copy(update={"images": images})
        experiments[name] = experiment.model_copy(update={"sampling": sampling})
    scale = config.scale_config.model_copy(update={"experiments": experiments})
    return Hours.of(work_left(config.model_copy(update={"scale_config": scale})), rates)


def advice(config: Config, jobs: Iterable[tuple[str, str | None]], machine: Machine | None = None) -> str | None:
    """Why not to start `jobs` on this machine, and what would fit; None where nothing speaks against it.

    Without a GPU, no more than LONGEST hours of the CPU are begun: as it was measured, or else at a guess.

    Args:
        jobs: the rule of each job that is about to run, and its experiment, data set or checkpoint if it has one.
    """
    machine = machine or this_machine()
    if machine.gpus:
        return None
    compute = config.scale_config.compute
    measured = read_rates(machine.cpu_name(compute))
    rates = Rates(measured, SLOW_CPU, machine.jobs_on_cpu(compute))
    # Also of what is done already: if it runs nevertheless, it is done again.
    works = [work for work in all_work(config) if work.kind]
    asked, known = Counter(jobs), Counter()
    for work in works:
        known[work.rule, work.subject] += work.jobs
    hours, sources = 0, set()
    for work in works:
        job = (work.rule, work.subject)
        if asked[job] and not isnan(work.flops):
            hours += work.hours(rates) * asked[job] / known[job]
            sources.add(work.rate(rates).source)
    if hours <= LONGEST:
        return None
    options = "\n".join(f"  - {option}" for option in what_fits(config, rates))
    return (
        f"This machine has no GPU (nvidia-smi finds none), and its CPU would take about {duration(hours)} for what is "
        f"about to run ({'; '.join(sorted(sources))}). Nothing has been started. What would fit, at the same rate:\n"
        f"{options}\n"
        "`snakemake plan` shows what every part takes; `python -m ddpm plan --measure` measures this CPU."
    )
