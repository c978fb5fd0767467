"""Samples over the course of a training, from the averaged weights and from the weights themselves."""

from functools import partial
from pathlib import Path

import numpy as np
import torch

from ddpm.compute.device import compile_if_worthwhile
from ddpm.compute.distributed import SINGLE_PROCESS, Group
from ddpm.config.errors import UserError
from ddpm.config.schema import FewStepsConfig, SamplingConfig, SnapshotsConfig
from ddpm.sampling.ancestral import sample_batch
from ddpm.sampling.batches import kept_batches, sample_range, write_shard
from ddpm.sampling.ddim import DDIM_SAMPLER, few_steps_batch
from ddpm.storage.chunk_cache import PartialBatch
from ddpm.storage.shards import ANCESTRAL_SAMPLER
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

    Both start from the same noise; `config.previews` of the latter are drawn. With a folder `state`, which must be
    this snapshot's own, a killed call is gone on with, and more images extend what is there.

    Args:
        group: the processes that share the batches; the first one writes.
    """
    channels, height, width = averaged.image_shape
    asked = config.model_dump(include={"images", "batch_size", "limit", "seed"})
    if config.steps is None:
        sampling, sampler, steps = SamplingConfig(**asked), ANCESTRAL_SAMPLER, averaged.diffusion.num_timesteps
    else:
        sampling, sampler, steps = (
            FewStepsConfig(**asked, steps=(config.steps,), eta=(0.0,)),
            DDIM_SAMPLER,
            config.steps,
        )
    previews = min(config.previews, config.images)
    parts = kept_batches(state and state / RAW, raw, sampling, ("raw",), sampler, device, log=log)

    def draw(trained: TrainedModel, first: int, last: int, draft: PartialBatch) -> tuple[np.ndarray, dict | None]:
        if config.steps is None:
            images, _, failure = sample_batch(trained, first, last, sampling, device, draft)
            return images, failure
        images, failure = few_steps_batch(trained, first, last, sampling, draft)
        return images if failure else images[:, 0], failure

    passes = config.images * steps
    compile_if_worthwhile(averaged.model, passes / group.size, device, log)

    # Weights without averaging may fail where their average does not: then there is nothing to show.
    shape, section = (height, width, channels), "snapshots"
    shown, status = sample_range(
        raw, 0, previews, config.batch_size, partial(draw, raw), {"raw": shape}, parts, group, log, section
    )
    parts.flush()  # before the hours that the others may take
    write_shard(
        path,
        averaged,
        sampling,
        1,
        draw=partial(draw, averaged),
        shapes={"images": shape},
        sampler=sampler,
        device=device,
        log=log,
        state=state and state / EMA,
        group=group,
        section=section,
        **shown,
    )
    if group.is_main and status["status"] == "sampled":
        parts.finish(0, previews, path)
