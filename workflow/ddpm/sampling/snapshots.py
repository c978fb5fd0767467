"""Samples over the course of a training, from the averaged weights and from the weights themselves."""

from pathlib import Path

import torch

from ddpm.compute.distributed import SINGLE_PROCESS, Group
from ddpm.config.errors import UserError
from ddpm.config.schema import FewStepsConfig, SamplingConfig, SnapshotsConfig
from ddpm.sampling.runner import (
    AncestralSampler,
    Arrays,
    FewStepsSampler,
    ImageSampler,
    sample_range,
    sample_shard,
)
from ddpm.storage.weights_file import EMA, RAW, snapshot_file
from ddpm.training.model import TrainedModel, load_model


def snapshot_weights(
    final: Path, snapshots: Path, step: int, device: torch.device
) -> tuple[TrainedModel, TrainedModel]:
    """The averaged weights and the weights after `step` updates; twice the last ones of a training that ended before.

    Raises:
        UserError: the training went on beyond `step`, and left no snapshot of it.
    """
    files = [snapshot_file(snapshots, step, kind) for kind in (EMA, RAW)]
    if all(file.exists() for file in files):
        averaged, raw = (load_model(file, device) for file in files)
        return averaged, raw
    trained = load_model(final, device)
    if trained.outcome["status"] != "unstable":
        raise UserError(f"{files[0]}: no such snapshot. Train the experiment with training.snapshot_every first.")
    return trained, trained


class SnapshotSampler(ImageSampler):
    """The images alone of another sampler, as the array `name`."""

    section = "snapshots"

    def __init__(self, of: ImageSampler, name: str):
        super().__init__(of.trained, of.config, of.device)
        self.of, self.name, self.title, self.evaluations = of, name, of.title, of.evaluations
        self.shapes = {name: of.trained.pixels_shape}

    def draw(self, start: int, stop: int) -> Arrays:
        return {self.name: self.of.draw(start, stop)["images"].reshape(stop - start, *self.shapes[self.name])}


def snapshot_shard(
    averaged: TrainedModel,
    raw: TrainedModel,
    config: SnapshotsConfig,
    path: Path,
    device: torch.device,
    log=print,
    state: Path | None = None,
    group: Group = SINGLE_PROCESS,
) -> None:
    """Write samples of one snapshot: `images` of the averaged weights, and `raw`, the first ones without averaging.

    Both start from the same noise; `config.previews` of the latter are drawn. `state`, which must be this snapshot's
    own, and `group` are as of `sample_shard`.
    """
    asked = config.model_dump(include={"images", "batch_size", "limit", "seed"})

    def sampler(trained: TrainedModel, name: str) -> SnapshotSampler:
        if config.steps is None:
            return SnapshotSampler(AncestralSampler(trained, SamplingConfig(**asked), device), name)
        few_steps = FewStepsConfig(**asked, steps=(config.steps,), eta=(0.0,))
        return SnapshotSampler(FewStepsSampler(trained, few_steps, device), name)

    # Weights without averaging may fail where their average does not: then there is nothing to show.
    raw_count, raw_sampler = min(config.previews, config.images), sampler(raw, "raw")
    cache = raw_sampler.cache(state / RAW if state and group.is_main else None, log)
    shown, status = sample_range(raw_sampler, 0, raw_count, cache, group, log)
    cache.flush()  # before the hours that the others may take
    sample_shard(sampler(averaged, "images"), 1, path, log, state and state / EMA, group, **shown)
    if group.is_main and status["status"] == "sampled":
        cache.finish(0, raw_count, path)
