"""Everything that would run at a scale: data sets, published weights, references, and each experiment's work."""

from collections.abc import Iterator
from pathlib import Path

from ddpm.compute.flops import FLOAT, network_cost
from ddpm.config.enums import WeightsSource
from ddpm.config.experiment import Experiment
from ddpm.config.resolving import Config
from ddpm.config.sources import DataSet, Reader
from ddpm.planning.experiments import ExperimentWork
from ddpm.planning.work import Place, Work, count, image_bytes, scored, times, total


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
