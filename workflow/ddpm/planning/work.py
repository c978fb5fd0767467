"""Everything that would run at a scale: operations and bytes of each kind of job, and how much of it is done."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import nan
from pathlib import Path

from ddpm.compute.flops import FLOAT, INCEPTION_FLOPS, network_cost, training_flops
from ddpm.config.enums import Features, WeightsSource
from ddpm.config.experiment import Experiment
from ddpm.config.layout import Layout
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
    """All jobs of one rule for one experiment, data set or checkpoint; nan stands for a number that is not known."""

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
    flops: float = 0
    """Of all jobs."""
    download: float = 0
    """Bytes of all jobs."""
    disk: float = 0
    """Bytes that all jobs leave behind."""
    folder: str = "results"

    @property
    def share(self) -> float:
        """The part that is still to do."""
        return 1 - self.done / self.jobs

    @property
    def left(self) -> "Work":
        """The work that is still to do."""
        sizes = {key: self.share * getattr(self, key) for key in ("flops", "download", "disk")} if self.done else {}
        return replace(self, jobs=self.jobs - self.done, done=0, **sizes)

    def rate(self, rates: Rates) -> Rate:
        return rates.of(self.kind, self.network)

    def hours(self, rates: Rates) -> float:
        """One job after another."""
        return self.flops / self.rate(rates).flops / 3600 if self.kind else 0.0


def all_work(config: Config) -> list[Work]:
    """Everything that costs time, network or disk, in the order in which it runs; done or not.

    Scores, tables and figures are left out: they are made of what is listed here, in minutes.
    """
    experiments = config.scale_config.experiments.values()
    data_sets = {name: config.data_sets[name] for name in sorted({each.data for each in experiments})}
    released = {each.checkpoint.name: each for each in experiments if each.weights is WeightsSource.RELEASED}
    return [
        *(work for data in data_sets.values() for work in data_work(data)),
        *(download_weights_work(experiment) for experiment in released.values()),
        *(reference_work(config, data) for data in data_sets.values()),
        *(work for experiment in experiments for work in experiment_work(config, experiment)),
    ]


def work_left(config: Config) -> tuple[Work, ...]:
    """What of `all_work` is still to do."""
    return tuple(work.left for work in all_work(config) if work.share)


def data_work(data: DataSet) -> Iterator[Work]:
    """Downloading a data set and writing its arrays."""
    prepared = Path("resources", data.name, "card.json").exists()
    size = sum(getattr(file, "size", None) or file.about or nan for file in data.files)
    if data.files and not data.root:
        done = prepared or Path("resources/downloads", data.name, "card.json").exists()
        yield Work("download_data", data.name, done=int(done), download=size, disk=size, folder="resources")
    if data.reader is Reader.LSUN:  # which stays compressed, as it was downloaded
        disk = 0 if data.root else size
    else:
        disk = image_bytes(data) * sum(count_images(data, split) for split in ("train", "test"))
    yield Work("prepare", data.name, done=int(prepared), disk=disk, folder="resources")


def download_weights_work(experiment: Experiment) -> Work:
    """Published weights: float32 numbers, where their size is not known."""
    checkpoint, weights = experiment.checkpoint, weights_bytes(experiment)
    size = sum(file.size or (0 if file.name.endswith(".json") else weights) for file in checkpoint.files)
    done = Path("resources/weights", checkpoint.name, "card.json").exists()
    return Work("download_weights", checkpoint.name, done=int(done), download=size, disk=size, folder="resources")


def reference_work(config: Config, data: DataSet) -> Work:
    """What samples are compared with: features of the real images."""
    counts = [count_images(data, split) for split in ("train", "test")]
    images = sum(min(count, data.reference or count) for count in counts)
    done = Path("results", config.scale, "reference", data.name, "features.npz").exists()
    return features_work(config, "reference", data.name, images, 0, jobs=1, done=int(done))


def features_work(config: Config, rule: str, subject: str, images: float, previews: int, jobs: int, done: int) -> Work:
    """Features and class probabilities; those of the small classifier take next to no time.

    Args:
        previews: further images for each of `images`, of which clean-FID needs none.
    """
    if config.scale_config.features is Features.CLASSIFIER:
        size = images * FLOAT * config.scale_config.classifier.features * (1 + previews)
        return Work(rule, subject, jobs=jobs, done=done, disk=size)
    flops = images * INCEPTION_FLOPS * (2 + previews)
    disk = images * FLOAT * (CLEAN_OUTPUTS + INCEPTION_OUTPUTS * (1 + previews))
    return Work(rule, subject, jobs=jobs, done=done, kind=Kind.SAMPLING, flops=flops, disk=disk)


def experiment_work(config: Config, experiment: Experiment) -> Iterator[Work]:
    """From the weights of an experiment to the features of its samples."""
    name, network, layout, own = experiment.name, experiment.network, Layout(config), experiment.trained_as
    results = Path(layout.results)
    weights = "final.safetensors" if experiment.training else "model.safetensors"
    trained = count_done(experiment, "training", results / own, [results / own / weights])
    if name == own:
        if experiment.training:
            yield train_work(experiment, results / name, trained)
        else:
            yield Work("import_weights", name, done=trained, disk=weights_bytes(experiment))

    timesteps, pixels = experiment.diffusion.timesteps, image_bytes(experiment.data_set)

    def drawn(
        rule: str, stage: str, files: list[str], images: float, evaluations: float, size: float, part: str = ""
    ) -> Work:
        """Files with so many images in all, each of which takes evaluations of the network and leaves bytes."""
        done = count_done(experiment, stage, results / name, list(map(Path, files))) if trained else 0
        flops = images * evaluations * network_cost(network).flops
        return Work(rule, name, part, len(files), done, Kind.SAMPLING, network, flops, disk=images * size)

    if (files := layout.snapshots(name)) and name == own and (settings := experiment.snapshots):
        images = len(files) * (settings.images + settings.previews)
        yield drawn("snapshot", "snapshots", files, images, settings.steps or timesteps, pixels)
    settings, files = experiment.sampling, layout.samples(name)
    images, previews = settings.images, settings.previews
    yield (samples := drawn("sample", "sampling", files, images, timesteps, (1 + previews) * pixels))
    features = list(map(Path, layout.features(name))) if samples.done == samples.jobs else []
    scored = sum(file.exists() for file in features)
    if settings := experiment.few_steps:
        chains = len(settings.spacing) * len(settings.eta)  # per number of steps
        each, evaluations = chains * len(settings.steps) * pixels, chains * sum(settings.steps)
        yield drawn("few_steps", "few_steps", layout.few_steps(name), settings.images, evaluations, each)
    if settings := experiment.likelihood:
        for split in ("test", "train"):
            if (count := getattr(settings, split)) == "all":
                count = count_images(experiment.data_set, split)
            files = layout.bounds(name, split)
            yield drawn("likelihood", "likelihood", files, count, timesteps, 2 * FLOAT * timesteps, split)
    if settings := experiment.latents:
        # A chain, and three ways on from each quarter of it (Figure 7); eleven mixtures of each pair from the middle
        # (Figure 8), and of one pair from each eighth of T (Figure 9).
        chains = settings.chains * (1 + 3 * (1 + 0.75 + 0.5 + 0.25)) + 11 * (settings.pairs * 0.5 + 4.5)
        files = [f"{layout.results}/{name}/latents.npz"]
        yield drawn("latents", "latents", files, round(chains), timesteps, pixels)
    yield features_work(config, "features", name, images, previews, samples.jobs, scored)


def train_work(experiment: Experiment, folder: Path, done: int) -> Work:
    """The steps after the newest saved state; weights are kept of the states, each snapshot twice, and the end."""
    training, states = experiment.training, saved_states(folder / "state" / experiment.fingerprint())
    steps = training.steps - max((step_of(path)[0] for path in states), default=0)
    flops = steps * training.batch_size * training_flops(experiment.network)
    disk = weights_bytes(experiment) * (KEPT_STATES * VECTORS + 2 * len(training.snapshot_steps) + 2)
    return Work("train", experiment.name, "", 1, done, Kind.TRAINING, experiment.network, flops, disk=disk)


def count_done(experiment: Experiment, stage: str, folder: Path, files: list[Path]) -> int:
    """How many of `files` are there, if the settings in `folder` of the stage are still the experiment's."""
    document = folder / "config" / f"{stage}.json"
    if document.exists() and read_json(document) != experiment.stage_config(stage):
        return 0
    return sum(file.exists() for file in files)


def count_images(data: DataSet, split: str) -> float:
    """Images of a split: as known before, or as found when the data were prepared."""
    card, known = Path("resources", data.name, "card.json"), getattr(data, split)
    if known is None and card.exists():
        known = read_json(card).get(split)
    return nan if known is None else known


def image_bytes(data: DataSet) -> int:
    return data.image_size**2 * data.channels


def weights_bytes(experiment: Experiment) -> int:
    return FLOAT * network_cost(experiment.network).parameters
