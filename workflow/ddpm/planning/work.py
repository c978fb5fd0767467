"""What one kind of job costs, and the small sums that all of them share."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ddpm.compute.flops import FLOAT, INCEPTION_FLOPS
from ddpm.config.enums import Features
from ddpm.config.resolving import Config
from ddpm.config.schema import NetworkConfig
from ddpm.config.sources import DataSet
from ddpm.planning.rates import Kind
from ddpm.storage.files import read_json

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


def scored(config: Config, rule: str, subject: str, images: int | None, jobs: int, done: int) -> Work:
    """Features and class probabilities of `images`; those of the small classifier take next to no time."""
    if config.scale_config.features is Features.CLASSIFIER:
        size = times(images, FLOAT * config.scale_config.classifier.features)
        return Work(rule, subject, jobs=jobs, done=done, disk=size)
    flops, disk = times(images, INCEPTION_FLOPS), times(images, FLOAT * INCEPTION_OUTPUTS)
    return Work(rule, subject, jobs=jobs, done=done, kind=Kind.SAMPLING, flops=flops, disk=disk)


def shards(folder: str, number: int) -> list[str]:
    return [f"{folder}/{i}-of-{number}.npz" for i in range(1, number + 1)]


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
