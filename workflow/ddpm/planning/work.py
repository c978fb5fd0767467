"""Everything that would run at a scale: operations and bytes of each kind of job, and how much of it is done."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ddpm.compute.flops import FLOAT, INCEPTION_FLOPS, network_cost, training_flops
from ddpm.config.enums import Features, WeightsSource
from ddpm.config.experiment import Experiment
from ddpm.config.resolving import Config
from ddpm.config.schema import NetworkConfig
from ddpm.config.sources import DataSet, Reader
from ddpm.planning.rates import Kind, Rate, Rates
from ddpm.storage.files import read_json
from ddpm.storage.weights_file import KEPT_STATES, saved_states, step_of

INCEPTION_OUTPUTS, CLEAN_OUTPUTS = 2048 + 1008, 2048  # features and probabilities of an image; those of clean-FID
VECTORS = 4  # of a training's state: weights, average, and Adam's two


@dataclass(frozen=True)
class Work:
    """All jobs of one rule for one experiment, data set or checkpoint. None stands for a number that is not known."""

    rule: str
    subject: str
    part: str = ""
    """Of its jobs, where another line holds the others."""
    jobs: int = 1
    done: int = 0
    """Jobs whose files are there, made with the same settings."""
    kind: Kind | None = None
    """None where nothing is computed that takes long."""
    network: NetworkConfig | None = None
    """What computes; None beside a kind: Inception."""
    flops: float | None = 0
    """Of all jobs."""
    download: int | None = 0
    """Bytes of all jobs."""
    disk: int | None = 0
    """Bytes that all jobs leave behind."""
    folder: str = "results"

    @property
    def share(self) -> float:
        """The part that is still to do."""
        return 1 - self.done / self.jobs

    def rate(self, rates: Rates) -> Rate | None:
        return rates.of(self.kind, self.network) if self.kind else None

    def hours(self, rates: Rates) -> float | None:
        """For what is left, one job after another; None where a count or a rate is not known."""
        if not self.kind:
            return 0.0
        rate = self.rate(rates)
        return None if rate is None or self.flops is None else self.flops * self.share / rate.flops / 3600


def all_work(config: Config, root: Path = Path()) -> list[Work]:
    """Everything that costs time, network or disk, in the order in which it runs; done or not.

    Scores, tables and figures are left out: they are made of what is listed here, in minutes.
    """
    experiments = config.scale_config.experiments.values()
    data_sets = {name: config.data_sets[name] for name in sorted({each.data for each in experiments})}
    released = {each.checkpoint.name: each for each in experiments if each.weights is WeightsSource.RELEASED}
    return [
        *(work for data in data_sets.values() for work in data_work(data, root / "resources")),
        *(download_weights_work(experiment, root / "resources") for experiment in released.values()),
        *(reference_work(config, data, root) for data in data_sets.values()),
        *(work for experiment in experiments for work in experiment_work(config, experiment, root)),
    ]


def data_work(data: DataSet, resources: Path) -> Iterator[Work]:
    """Downloading a data set and writing its arrays."""
    prepared = (resources / data.name / "card.json").exists()
    size = total(getattr(file, "size", None) or file.about for file in data.files)
    if data.files and not data.root:
        done = prepared or (resources / "downloads" / data.name / "card.json").exists()
        yield Work("download_data", data.name, done=int(done), download=size, disk=size, folder="resources")
    if data.reader is Reader.LSUN:  # which stays compressed, as it was downloaded
        disk = 0 if data.root else size
    else:
        images = total(count_images(data, split, resources) for split in ("train", "test"))
        disk = times(images, image_bytes(data))
    yield Work("prepare", data.name, done=int(prepared), disk=disk, folder="resources")


def download_weights_work(experiment: Experiment, resources: Path) -> Work:
    """Published weights: float32 numbers, where their size is not known."""
    checkpoint, weights = experiment.checkpoint, weights_bytes(experiment)
    size = sum(file.size or (0 if file.name.endswith(".json") else weights) for file in checkpoint.files)
    done = (resources / "weights" / checkpoint.name / "card.json").exists()
    return Work("download_weights", checkpoint.name, done=int(done), download=size, disk=size, folder="resources")


def reference_work(config: Config, data: DataSet, root: Path) -> Work:
    """What samples are compared with: features of the real images."""
    counts = [count_images(data, split, root / "resources") for split in ("train", "test")]
    images = total(None if count is None else min(count, data.reference or count) for count in counts)
    done = (root / "results" / config.scale / "reference" / data.name / "features.npz").exists()
    return features_work(config, "reference", data.name, images, 0, jobs=1, done=int(done))


def features_work(
    config: Config, rule: str, subject: str, images: int | None, previews: int, jobs: int, done: int
) -> Work:
    """Features and class probabilities; those of the small classifier take next to no time.

    Args:
        previews: further images for each of `images`, of which clean-FID needs none.
    """
    if config.scale_config.features is Features.CLASSIFIER:
        size = times(images, FLOAT * config.scale_config.classifier.features * (1 + previews))
        return Work(rule, subject, jobs=jobs, done=done, disk=size)
    flops = times(images, INCEPTION_FLOPS * (2 + previews))
    disk = times(images, FLOAT * (CLEAN_OUTPUTS + INCEPTION_OUTPUTS * (1 + previews)))
    return Work(rule, subject, jobs=jobs, done=done, kind=Kind.SAMPLING, flops=flops, disk=disk)


def experiment_work(config: Config, experiment: Experiment, root: Path) -> Iterator[Work]:
    """From the weights of an experiment to the features of its samples."""
    name, network, results = experiment.name, experiment.network, root / "results" / config.scale
    folder, trained_in = results / name, results / experiment.trained_as
    weights = "final.safetensors" if experiment.training else "model.safetensors"
    trained = count_done(experiment, "training", trained_in, [weights])
    if folder == trained_in:
        if experiment.training:
            yield train_work(experiment, folder, trained)
        else:
            yield Work("import_weights", name, done=trained, disk=weights_bytes(experiment))
    done = {}
    for draw in draws(experiment, root):
        done[draw.rule] = count_done(experiment, draw.stage, folder, draw.files) if trained else 0
        flops = times(draw.images, draw.evaluations * network_cost(network).flops)
        disk = times(draw.images, draw.bytes)
        jobs = len(draw.files)
        yield Work(draw.rule, name, draw.part, jobs, done[draw.rule], Kind.SAMPLING, network, flops, disk=disk)
    sampling = experiment.sampling
    files = shards("features", sampling.shards) if done["sample"] == sampling.shards else []
    scored = sum((folder / file).exists() for file in files)
    yield features_work(config, "features", name, sampling.images, sampling.previews, sampling.shards, scored)


def train_work(experiment: Experiment, folder: Path, done: int) -> Work:
    """The steps after the newest saved state; weights are kept of the states, each snapshot twice, and the end."""
    training, states = experiment.training, saved_states(folder / "state" / experiment.fingerprint())
    steps = training.steps - max((step_of(path)[0] for path in states), default=0)
    flops = steps * training.batch_size * training_flops(experiment.network)
    disk = weights_bytes(experiment) * (KEPT_STATES * VECTORS + 2 * len(training.snapshot_steps) + 2)
    return Work("train", experiment.name, "", 1, done, Kind.TRAINING, experiment.network, flops, disk=disk)


class Draw(NamedTuple):
    """Files that a rule samples: of so many images in all, with evaluations of the network and bytes for each."""

    rule: str
    stage: str
    files: list[str]
    images: int | None
    evaluations: float
    bytes: int
    part: str = ""


def draws(experiment: Experiment, root: Path) -> Iterator[Draw]:
    """All that is sampled from the weights of an experiment."""
    timesteps, pixels = experiment.diffusion.timesteps, image_bytes(experiment.data_set)
    steps = experiment.training.snapshot_steps if experiment.training else []
    if steps and experiment.name == experiment.trained_as:
        settings, files = experiment.snapshots, [f"snapshots/{step}.npz" for step in steps]
        images = len(files) * (settings.images + settings.previews)
        yield Draw("snapshot", "snapshots", files, images, settings.steps or timesteps, pixels)
    settings = experiment.sampling
    files = shards("samples", settings.shards)
    yield Draw("sample", "sampling", files, settings.images, timesteps, (1 + settings.previews) * pixels)
    if settings := experiment.few_steps:
        files, each = shards("few_steps", settings.shards), len(settings.eta) * len(settings.steps) * pixels
        yield Draw("few_steps", "few_steps", files, settings.images, len(settings.eta) * sum(settings.steps), each)
    if settings := experiment.likelihood:
        for split in ("test", "train"):
            files, images = shards(f"likelihood/{split}", settings.shards), getattr(settings, split)
            if images == "all":
                images = count_images(experiment.data_set, split, root / "resources")
            yield Draw("likelihood", "likelihood", files, images, timesteps, 2 * FLOAT * timesteps, split)
    if settings := experiment.latents:
        # A chain, and three ways on from each quarter of it (Figure 7); eleven mixtures of each pair from the middle
        # (Figure 8), and of one pair from each eighth of T (Figure 9).
        chains = settings.chains * (1 + 3 * (1 + 0.75 + 0.5 + 0.25)) + 11 * (settings.pairs * 0.5 + 4.5)
        yield Draw("latents", "latents", ["latents.npz"], round(chains), timesteps, pixels)


def count_done(experiment: Experiment, stage: str, folder: Path, files: list[str]) -> int:
    """How many of `files` are there, if the stage's settings are still those that they were made with."""
    document = folder / "config" / f"{stage}.json"
    if document.exists() and read_json(document) != experiment.stage_config(stage):
        return 0
    return sum((folder / file).exists() for file in files)


def shards(folder: str, number: int) -> list[str]:
    return [f"{folder}/{i}-of-{number}.npz" for i in range(1, number + 1)]


def count_images(data: DataSet, split: str, resources: Path) -> int | None:
    """Images of a split: as known before, or as found when the data were prepared."""
    card, known = resources / data.name / "card.json", getattr(data, split)
    return read_json(card).get(split) if known is None and card.exists() else known


def image_bytes(data: DataSet) -> int:
    return data.image_size**2 * data.channels


def weights_bytes(experiment: Experiment) -> int:
    return FLOAT * network_cost(experiment.network).parameters


def times(number: float | None, each: float) -> float | None:
    return None if number is None else number * each


def total(numbers: Iterable[float | None]) -> float | None:
    numbers = list(numbers)
    return None if None in numbers else sum(numbers)
