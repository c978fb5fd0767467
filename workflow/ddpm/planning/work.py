"""What would run: jobs, operations, downloads and files of every experiment, less what is there already."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ddpm.config import Experiment, Features, NetworkConfig, WeightsSource
from ddpm.data.registry import DataSet, Reader
from ddpm.files import read_json
from ddpm.planning.costs import FLOAT, INCEPTION_FLOPS, network_cost, training_flops
from ddpm.planning.rates import Kind
from ddpm.resolving import Config

KEPT_STATES, VECTORS = 2, 4  # of a training: see training/state.py
INCEPTION_OUTPUTS = 2048 + 1008  # features and probabilities of an image


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


@dataclass(frozen=True)
class Place:
    """The folders in which a scale's files lie."""

    results: Path
    """results/SCALE"""
    resources: Path


def all_work(config: Config, root: Path = Path()) -> list[Work]:
    """Everything that costs time, network or disk, in the order in which it runs; done or not.

    Scores, tables and figures are left out: they are made of what is listed here, in minutes.
    """
    place = Place(root / "results" / config.scale, root / "resources")
    experiments = config.scale_config.experiments.values()
    data_sets = {experiment.data: experiment.data_set for experiment in experiments}
    released = {
        experiment.checkpoint.name: experiment
        for experiment in experiments
        if experiment.weights is WeightsSource.RELEASED
    }
    work = [each for _, data in sorted(data_sets.items()) for each in data_work(data, place)]
    work += [weights_work(name, experiment, place) for name, experiment in released.items()]
    for name, data in sorted(data_sets.items()):
        done = (place.results / "reference" / name / "features.npz").exists()
        work.append(reference_work(config, data, place, done))
    return work + [each for experiment in experiments for each in ExperimentWork(experiment, place).all(config)]


def data_work(data: DataSet, place: Place) -> Iterator[Work]:
    """Downloading a data set and writing its arrays."""
    prepared = (place.resources / data.name / "card.json").exists()
    size = total(getattr(file, "size", None) or file.about for file in data.files)
    if data.files and not data.root:
        there = prepared or (place.resources / "downloads" / data.name / "card.json").exists()
        yield Work("download_data", data.name, done=int(there), download=size, disk=size, folder="resources")
    if data.reader is Reader.LSUN:  # which stays compressed, as it was downloaded
        disk = 0 if data.root else size
    else:
        images = total(count(data, split, place) for split in ("train", "test"))
        disk = times(images, image_bytes(data))
    yield Work("prepare", data.name, done=int(prepared), disk=disk, folder="resources")


def weights_work(name: str, experiment: Experiment, place: Place) -> Work:
    """Downloading published weights: float32 numbers, where the size is not known."""
    numbers = FLOAT * network_cost(experiment.network).parameters
    size = sum(file.size or (0 if file.name.endswith(".json") else numbers) for file in experiment.checkpoint.files)
    there = (place.resources / "weights" / name / "card.json").exists()
    return Work("download_weights", name, done=int(there), download=size, disk=size, folder="resources")


def reference_work(config: Config, data: DataSet, place: Place, done: bool) -> Work:
    """What samples are compared with: features of the real images."""
    counts = (count(data, split, place) for split in ("train", "test"))
    images = total(None if number is None else min(number, data.reference or number) for number in counts)
    return scored(config, "reference", data.name, images, jobs=1, done=int(done))


def scored(config: Config, rule: str, subject: str, images: int | None, jobs: int, done: int) -> Work:
    """Features and class probabilities of `images`; those of the small classifier take next to no time."""
    if config.scale_config.features is Features.CLASSIFIER:
        size = times(images, FLOAT * config.scale_config.classifier.features)
        return Work(rule, subject, jobs=jobs, done=done, disk=size)
    flops, disk = times(images, INCEPTION_FLOPS), times(images, FLOAT * INCEPTION_OUTPUTS)
    return Work(rule, subject, jobs=jobs, done=done, kind=Kind.SAMPLING, flops=flops, disk=disk)


class ExperimentWork:
    """The work of one experiment; its methods follow the stages."""

    def __init__(self, experiment: Experiment, place: Place):
        self.experiment = experiment
        self.folder = place.results / experiment.name
        self.place = place
        self.cost = network_cost(experiment.network)
        self.weights = FLOAT * self.cost.parameters
        self.steps = experiment.training.snapshot_steps if experiment.training else []
        final = "final.safetensors" if experiment.training else "model.safetensors"
        self.trained = self.done("training", [final])

    def done(self, stage: str, files: list[str]) -> int:
        """How many of `files` are there, if the stage's settings are still those that they were made with."""
        document = self.folder / "config" / f"{stage}.json"
        if document.exists() and read_json(document) != self.experiment.stage_config(stage):
            return 0
        return sum((self.folder / file).exists() for file in files)

    def all(self, config: Config) -> Iterator[Work]:
        """From the weights to the features of the samples."""
        yield self.train() if self.experiment.training else self.import_weights()
        if self.steps:
            yield self.snapshot()
        yield (samples := self.sample())
        if self.experiment.few_steps:
            yield self.few_steps()
        if self.experiment.likelihood:
            yield from (self.likelihood(split) for split in ("test", "train"))
        if self.experiment.latents:
            yield self.latents()
        yield self.features(config, samples)

    def train(self) -> Work:
        """The steps after the newest saved state; weights are kept of the states, each snapshot twice, and the end."""
        training, name = self.experiment.training, self.experiment.name
        steps = training.steps - saved_step(self.folder / "state" / self.experiment.fingerprint())
        return Work(
            "train",
            name,
            done=self.trained,
            kind=Kind.TRAINING,
            network=self.experiment.network,
            flops=steps * training.batch_size * training_flops(self.experiment.network),
            disk=self.weights * (KEPT_STATES * VECTORS + 2 * len(self.steps) + 2),
        )

    def import_weights(self) -> Work:
        return Work("import_weights", self.experiment.name, done=self.trained, disk=self.weights)

    def drawn(
        self, rule: str, files: list[str], images: int | None, evaluations: float, bytes_each: int,
        stage: str = "", part: str = "",
    ) -> Work:  # fmt: skip
        """Jobs that write `files`, with so many evaluations of the network and bytes for each of all `images`."""
        return Work(
            rule,
            self.experiment.name,
            part=part,
            jobs=len(files),
            done=self.done(stage or rule, files) if self.trained else 0,
            kind=Kind.SAMPLING,
            network=self.experiment.network,
            flops=times(images, evaluations * self.cost.flops),
            disk=times(images, bytes_each),
        )

    @property
    def timesteps(self) -> int:
        return self.experiment.diffusion.timesteps

    @property
    def pixels(self) -> int:
        return image_bytes(self.experiment.data_set)

    def snapshot(self) -> Work:
        settings, files = self.experiment.snapshots, [f"snapshots/{step}.npz" for step in self.steps]
        images = len(files) * (settings.images + settings.previews)
        return self.drawn("snapshot", files, images, self.timesteps, self.pixels, stage="snapshots")

    def sample(self) -> Work:
        settings = self.experiment.sampling
        files, pictures = shards("samples", settings.shards), 1 + settings.previews
        return self.drawn("sample", files, settings.images, self.timesteps, pictures * self.pixels, stage="sampling")

    def few_steps(self) -> Work:
        settings = self.experiment.few_steps
        files, pictures = shards("few_steps", settings.shards), len(settings.eta) * len(settings.steps)
        evaluations = len(settings.eta) * sum(settings.steps)
        return self.drawn("few_steps", files, settings.images, evaluations, pictures * self.pixels)

    def likelihood(self, split: str) -> Work:
        settings = self.experiment.likelihood
        images = getattr(settings, split)
        if images == "all":
            images = count(self.experiment.data_set, split, self.place)
        files = shards(f"likelihood/{split}", settings.shards)
        return self.drawn("likelihood", files, images, self.timesteps, 2 * FLOAT * self.timesteps, part=split)

    def latents(self) -> Work:
        """A chain, and three ways on from each quarter of it (Figure 7); eleven mixtures of each pair from the middle
        (Figure 8), and of one pair from each eighth of T (Figure 9)."""
        settings = self.experiment.latents
        chains = settings.chains * (1 + 3 * (1 + 0.75 + 0.5 + 0.25)) + 11 * (settings.pairs * 0.5 + 4.5)
        return self.drawn("latents", ["latents.npz"], round(chains), self.timesteps, self.pixels)

    def features(self, config: Config, samples: Work) -> Work:
        """Of the samples and their previews."""
        settings = self.experiment.sampling
        files = shards("features", settings.shards) if samples.done == samples.jobs else []
        done = sum((self.folder / file).exists() for file in files)
        images = settings.images * (1 + settings.previews)
        return scored(config, "features", self.experiment.name, images, samples.jobs, done)


def shards(folder: str, number: int) -> list[str]:
    return [f"{folder}/{i}-of-{number}.npz" for i in range(1, number + 1)]


def saved_step(state: Path) -> int:
    """The step of the newest saved state of a training; 0 where there is none."""
    return max((int(path.name.partition("-")[0]) for path in state.glob("[0-9]*-*.safetensors")), default=0)


def count(data: DataSet, split: str, place: Place) -> int | None:
    """Images of a split: as known before, or as found when the data were prepared."""
    card = place.resources / data.name / "card.json"
    known = getattr(data, split)
    return read_json(card).get(split) if known is None and card.exists() else known


def image_bytes(data: DataSet) -> int:
    return data.image_size**2 * data.channels


def times(number: float | None, each: float) -> float | None:
    return None if number is None else number * each


def total(numbers: Iterable[float | None]) -> float | None:
    numbers = list(numbers)
    return None if None in numbers else sum(numbers)
