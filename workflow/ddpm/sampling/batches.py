"""What the samplers share: batch after batch into one file, and how a run that leaves its range ends."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ddpm.compute.distributed import SINGLE_PROCESS, Group
from ddpm.compute.memory import Fitting
from ddpm.config.enums import Quantisation
from ddpm.config.schema import FewStepsConfig, SamplingConfig
from ddpm.storage.chunk_cache import ChunkCache, PartialBatch
from ddpm.storage.files import write_npz
from ddpm.storage.shards import pack_header, shard_range
from ddpm.training.model import TrainedModel


def out_of_range(x: Tensor, limit: float) -> str | None:
    """Says how `x` has left [-limit, limit], or None."""
    largest = x.abs().amax().item()
    if largest <= limit:
        return None
    return f"|x_t| reached {largest:.4g} (limit {limit:g}; the data are in [-1, 1])"


class Unstable(Exception):
    """A run whose values left their range: an outcome, with its step and reason."""

    @property
    def status(self) -> dict:
        return self.args[0]

    def __str__(self) -> str:
        return self.status["reason"]


Arrays = dict[str, np.ndarray]
Draw = Callable[[int, int, PartialBatch], tuple]


def sample_range(
    trained: TrainedModel,
    start: int,
    stop: int,
    batch_size: int,
    draw: Draw,
    shapes: dict[str, tuple[int, ...]],
    parts: ChunkCache,
    group: Group = SINGLE_PROCESS,
    log=print,
    section: str = "sampling",
) -> tuple[Arrays, dict]:
    """Images start .. stop-1 and how it went: their arrays, which are empty for an unstable run, and its status.

    Of several processes each draws batches, and the first one gets them all; the others' arrays mean nothing.

    Args:
        draw: from the numbers of the first image and of the one past the last, and the draft in which a long
            calculation is kept, uint8 arrays [n, *shape] in the order of `shapes`, and then None or how it failed.
        shapes: name and shape per image of each of these arrays.
        parts: where finished batches are kept, with these names; and each process's drafts.
        section: of the configuration, that says `batch_size`. A batch that does not fit into the GPU's memory is cut.
    """
    began, fitting = time.monotonic(), Fitting(f"{section}.batch_size", log)

    def make(first: int, last: int) -> Arrays:
        def begun_or_new(begin: int, end: int) -> tuple:
            with parts.draft(begin, end, cut=(begin, end) != (first, last)) as draft:
                return draw(begin, end, draft)

        batches = []
        for *images, failure in fitting.each(begun_or_new, first, last):
            if failure is not None:
                raise Unstable(failure)
            batches.append(images)
        log(f"images {first}..{last - 1} of {start}..{stop - 1}, {time.monotonic() - began:.0f} s")
        return {name: np.concatenate(arrays) for name, arrays in zip(shapes, zip(*batches, strict=True), strict=True)}

    pieces, status = [], {"status": "sampled", "step": None, "reason": None}
    try:
        if trained.outcome["status"] == "unstable":
            raise Unstable(trained.outcome)
        pieces = list(group.each(parts, start, stop, batch_size, make, outcome=Unstable))
    except Unstable as error:
        status = error.status
        log(f"unstable: {error}")
        parts.drop_drafts(start, stop)
    nothing = {name: np.zeros((0, *shape), np.uint8) for name, shape in shapes.items()}
    return {name: np.concatenate([piece[name] for piece in (nothing, *pieces)]) for name in shapes}, status


def write_shard(
    path: Path,
    trained: TrainedModel,
    config: SamplingConfig | FewStepsConfig,
    shard: int,
    draw: Draw,
    shapes: dict[str, tuple[int, ...]],
    sampler: str,
    device: torch.device,
    log=print,
    quantisation: Quantisation = Quantisation.NEAREST,
    state: Path | None = None,
    group: Group = SINGLE_PROCESS,
    section: str = "sampling",
    **settings: np.ndarray,
) -> None:
    """Write shard number `shard` (from 1) of `config.shards`: what was drawn, and how it went.

    Args:
        draw, shapes: as of `drawn`.
        sampler: its name, a comma, and what else is to be known of it; `shards.read_shard` tells by the name.
        state: folder for finished batches and drafts, from which a later call goes on, and which more images extend.
        group: the processes that share the batches; the first one writes.
        section: as of `drawn`.
        settings: arrays that no image changes.
    """
    start, stop = shard_range(config.images, shard, config.shards)
    parts = kept_batches(state, trained, config, tuple(shapes), sampler, device, quantisation, log)
    arrays, status = sample_range(trained, start, stop, config.batch_size, draw, shapes, parts, group, log, section)
    if not group.is_main:
        return
    header = {**sample_metadata(trained, sampler, device, quantisation), "sampling": config.model_dump(mode="json")}
    write_npz(
        path,
        **arrays,
        **settings,
        start=np.array(start),
        status=pack_header(status),
        header=pack_header(header),
    )
    if status["status"] == "sampled":
        parts.finish(start, stop, path)


def kept_batches(
    state: Path | None,
    trained: TrainedModel,
    config: SamplingConfig | FewStepsConfig,
    names: tuple[str, ...],
    sampler: str,
    device: torch.device,
    quantisation: Quantisation = Quantisation.NEAREST,
    log=print,
) -> ChunkCache:
    """The finished batches in `state` of images that these weights and settings would give again."""
    asked = config.model_dump(mode="json")
    decisive = {key: value for key, value in asked.items() if key not in ("images", "shards", "batch_size")}
    drawn_by = {
        "sampler": sampler,
        "quantisation": quantisation,
        "device": device.type,
        "precision": trained.precision,
        **decisive,
    }
    return ChunkCache(state, trained.sha256, drawn_by, names, log)


def sample_metadata(
    trained: TrainedModel, sampler: str, device: torch.device, quantisation: Quantisation = Quantisation.NEAREST
) -> dict:
    """What every file of drawn images says of itself: the network, how it was trained and sampled."""
    return {
        "weights_sha256": trained.sha256,
        "weights": trained.header["weights"],
        "training": trained.header["config"],
        "trained": trained.outcome,
        "sampler": sampler,
        "quantisation": {
            Quantisation.NEAREST: "rounded to the nearest of 256 levels",
            Quantisation.TRUNCATE: "truncated to 256 levels",
        }[quantisation],
        "device": device.type,
        "precision": trained.precision,
    }
