"""What this machine lacks for a plan, what would fit instead, and when to stop a run before it starts."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ddpm.config.enums import Objective, Parameterization
from ddpm.config.experiment import Experiment
from ddpm.config.registry import default_for
from ddpm.config.resolving import SCALES, Config
from ddpm.config.sources import RemoteFile
from ddpm.planning.inventory import all_work
from ddpm.planning.machine import GB, Machine, in_gb, this_machine
from ddpm.planning.plan import Hours, Memory, Plan, cpu_device, duration, hours_of, jobs_on_cpu, rate_of
from ddpm.planning.rates import RATES, Rates, no_rate, read_rates, slow_cpu
from ddpm.storage.download import may_be_changed

LONGEST = 24  # hours that a run may take on a CPU without being stopped
FEWER_IMAGES = 5_000
USABLE = 0.9  # of a GPU's memory: the rest is CUDA's
COMMON_GPUS = (80 * GB, 24 * GB)


def warnings(plan: Plan) -> list[str]:
    """Where this machine cannot do what is planned."""
    here = [*gpu_warnings(plan), *disk_warnings(plan), *memory_warnings(plan)]
    return [*here, *source_warnings(plan), *unknown_warnings(plan)]


def source_warnings(plan: Plan) -> list[str]:
    """Data sets that would not be downloaded as the configuration is."""
    asked = dict.fromkeys(work.subject for work in plan.work if work.rule == "download_data")
    refused = [name for name in asked if (data := plan.config.data_sets[name]) and not data.unverified]
    return [
        f"No download of {name}: it comes by plain HTTP, on which anybody can change it, and no checksum is known. Set "
        f"sources.{name}.unverified: true in config.yaml to take it as it comes, or its root to where it is."
        for name in refused
        if any(isinstance(f, RemoteFile) and may_be_changed(f) for f in plan.config.data_sets[name].files)
    ]


def gpu_warnings(plan: Plan) -> list[str]:
    config, machine = plan.config, plan.machine
    if machine.gpus or config.scale_config.compute.device == "cpu":
        return []
    on_cpu = Hours.of(plan.work, Rates(read_rates(cpu_device(config, machine), plan.root / RATES), no_rate))
    if on_cpu.known:
        known = f"On its CPU, as measured, this would take {on_cpu}"
    else:
        known = "How long its CPU would take is not known; `python -m ddpm plan --measure` finds out"
    return [f"No GPU: nvidia-smi finds none on this machine. {known}."]


def disk_warnings(plan: Plan) -> list[str]:
    """Folders on the same disk share its room."""
    lines = []
    for number in dict.fromkeys(disk.number for disk in plan.machine.disks.values()):
        folders = [folder for folder, disk in plan.machine.disks.items() if disk.number == number]
        free = plan.machine.disks[folders[0]].free
        needed = sum((work.disk or 0) * work.share for work in plan.work if work.folder in folders)
        if needed > free:
            names = " and ".join(f"{folder}/" for folder in folders)
            lines.append(
                f"Too little disk: {in_gb(needed)} are needed in {names}, {in_gb(free)} are free. Make the "
                "folder a link to a larger disk, or run less."
            )
    return lines


def memory_warnings(plan: Plan) -> list[str]:
    lines = []
    for memory in plan.memory:
        names = ", ".join(memory.experiments)
        if plan.config.scale_config.compute.device == "cpu":
            most = memory.images(plan.machine.memory)
            if most < asked_micro_batch(plan, memory):
                remedy = f"Set training.micro_batch: {most}" if most else "Train it on a larger machine"
                lines.append(
                    f"Too little memory to train {names}: {in_gb(memory.whole)} for a whole batch, this machine "
                    f"has {in_gb(plan.machine.memory)}. {remedy}."
                )
            continue
        known = [gpu.memory for gpu in plan.machine.gpus if gpu.memory]
        if known and not memory.images(USABLE * min(known)):
            needed = (memory.state + memory.per_image) / USABLE
            lines.append(
                f"Too little GPU memory to train {names}: not even one image at a time fits into "
                f"{in_gb(min(known))}; {in_gb(needed)} are needed."
            )
    return lines


def asked_micro_batch(plan: Plan, memory: Memory) -> int:
    return plan.config.scale_config.experiments[memory.experiments[0]].training.micro_batch or memory.batch


def unknown_warnings(plan: Plan) -> list[str]:
    unknown = [f"{work.rule} {work.subject}" for work in plan.work if work.disk is None]
    return [f"Not known before it is there, and in no sum: the size of {', '.join(unknown)}."] if unknown else []


def memory_lines(plan: Plan) -> list[str]:
    """What training needs, and the largest micro-batch that fits: here, or where a GPU is missing, into common ones."""
    known = [gpu.memory for gpu in plan.machine.gpus if gpu.memory]
    if plan.config.scale_config.compute.device == "cpu":
        sizes, usable = [plan.machine.memory], 1.0
    else:
        sizes, usable = [min(known)] if known else COMMON_GPUS, USABLE
    lines = []
    for memory in plan.memory:
        fitting = ", ".join(f"{memory.images(usable * size):,} fit into {in_gb(size)}" for size in sizes)
        needed = f"{in_gb(memory.state)} and {in_gb(memory.per_image)} per image, {in_gb(memory.whole)} at once"
        lines.append(f"{', '.join(memory.experiments)}: {needed}; of a batch's {memory.batch} images, {fitting}.")
    if lines and not plan.on_cpu:
        lines.append("Where a GPU's memory runs out, training halves its micro-batch by itself.")
    return lines


def what_fits(config: Config, rates: Rates, root: Path = Path()) -> list[str]:
    """Smaller runs, each with the hours that it would take at `rates`."""

    def estimate(changed: Config) -> Hours:
        return Hours.of(all_work(changed, root), rates)

    options = []
    if config.scale != "demo":
        options.append("`--config scale=demo`: the whole chain on digits, in minutes on any CPU.")
    if config.scale not in ("demo", "quick") and (SCALES / "quick.yaml").exists():
        options.append("`--config scale=quick`: the paper's CIFAR-10 models, shortened, on one GPU.")
    experiments = config.scale_config.experiments
    if published := [name for name, experiment in experiments.items() if is_published(experiment)]:
        training = [each for each in all_work(config, root) if each.rule in ("train", "snapshot")]
        saved = Hours.of((each for each in training if each.subject in published), rates)
        options.append(
            "published weights, by `override: {experiments: {NAME: {weights: released}}}`, save "
            f"{saved} of training; there are some for {', '.join(published)}."
        )
    originals = [name for name, experiment in experiments.items() if not experiment.repeat]
    if len(originals) > 1 and estimate(config).known:
        alone = {name: estimate(only(config, name)) for name in originals}
        least = min(alone, key=lambda name: alone[name].known)
        options.append(f"fewer experiments: {alone[least]} for `experiments: [{least}]`.")
    fewer = {name: with_images(each, FEWER_IMAGES) for name, each in experiments.items()}
    if fewer != experiments:
        options.append(
            f"fewer samples: {estimate(with_experiments(config, fewer))} with "
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
    sizes = experiment.network.model_dump(include=set(checkpoint.network or ()))
    return sizes == (checkpoint.network or {})


def with_experiments(config: Config, experiments: dict[str, Experiment]) -> Config:
    scale = config.scale_config.model_copy(update={"experiments": experiments})
    return config.model_copy(update={"scale_config": scale})


def only(config: Config, name: str) -> Config:
    """The configuration with experiment `name`, and its repeats, alone."""
    names = [name, *config.repeats_of(name)]
    return with_experiments(config, {each: config.scale_config.experiments[each] for each in names})


def with_images(experiment: Experiment, most: int) -> Experiment:
    """The experiment with no more than `most` samples."""
    images = min(experiment.sampling.images, most)
    return experiment.model_copy(update={"sampling": experiment.sampling.model_copy(update={"images": images})})


def advice(
    config: Config, jobs: Iterable[tuple[str, str | None]], machine: Machine | None = None, root: Path = Path()
) -> str | None:
    """Why not to start `jobs` on this machine, and what would fit; None where nothing speaks against it.

    Without a GPU, no more than LONGEST hours of the CPU are begun: as it was measured, or else at a guess.

    Args:
        jobs: the rule of each job that is about to run, and its experiment, data set or checkpoint if it has one.
    """
    machine = machine or this_machine()
    if machine.gpus:
        return None
    side_by_side = jobs_on_cpu(config, machine)
    measured = {
        network: {kind: side_by_side * rate for kind, rate in kinds.items()}
        for network, kinds in read_rates(cpu_device(config, machine), root / RATES).items()
    }
    rates = Rates(measured, slow_cpu)
    asked, known = Counter(jobs), Counter()
    # What is done already and runs nevertheless is done again.
    works = [replace(work, done=0) for work in all_work(config, root)]
    for work in works:
        known[work.rule, work.subject] += work.jobs
    about_to_run = [work for work in works if asked[work.rule, work.subject]]
    hours = sum(
        (hours_of(work, rates) or 0) * asked[work.rule, work.subject] / known[work.rule, work.subject]
        for work in about_to_run
    )
    if hours <= LONGEST:
        return None
    sources = {rate.source for work in about_to_run if (rate := rate_of(work, rates))}
    options = "\n".join(f"  - {option}" for option in what_fits(config, rates, root))
    return (
        f"This machine has no GPU (nvidia-smi finds none), and its CPU would take about {duration(hours)} for what is "
        f"about to run ({'; '.join(sorted(sources))}). Nothing has been started. What would fit, at the same rate:\n"
        f"{options}\n"
        "`snakemake plan` shows what every part takes; `python -m ddpm plan --measure` measures this CPU."
    )
