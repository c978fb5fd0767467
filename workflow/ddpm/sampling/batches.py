"""What the samplers share: batch after batch into one file, and how a run that leaves its range ends."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ddpm.config import FewStepsConfig, Quantisation, SamplingConfig
from ddpm.files import write_npz
from ddpm.parts import Parts
from ddpm.shards import bounds, pack_header
from ddpm.training.state import Trained


def out_of_range(x: Tensor, limit: float) -> str | None:
    """Says how `x` has left [-limit, limit], or None."""
    largest = x.abs().amax().item()
    if largest <= limit:
        return None
    return f"|x_t| reached {largest:.4g} (limit {limit:g}; the data are in [-1, 1])"


class Unstable(Exception):
    """A run whose values left their range: an outcome, with its step and reason."""

    def __init__(self, status: dict):
        super().__init__(status["reason"])
        self.status = status


def write_shard(
    path: Path,
    trained: Trained,
    config: SamplingConfig | FewStepsConfig,
    shard: int,
    draw: Callable[[int, int], tuple],
    shapes: dict[str, tuple[int, ...]],
    sampler: str,
    device: torch.device,
    log=print,
    quantisation: Quantisation = Quantisation.NEAREST,
    state: Path | None = None,
    **settings: np.ndarray,
) -> None:
    """Write shard number `shard` (from 1) of `config.shards`: what was drawn, and how it went.

    Args:
        draw: from the numbers of the first image and of the one past the last, uint8 arrays [n, *shape] in the
            order of `shapes`, and then None or how it failed.
        shapes: name and shape per image of each of these arrays. All are empty for an unstable run.
        sampler: its name, a comma, and what else is to be known of it; `shards.read_shard` tells by the name.
        state: folder for finished batches, from which a later call goes on, and which more images extend.
        settings: arrays that no image changes.
    """
    start, stop = bounds(config.images, shard, config.shards)
    header = about(trained, sampler, device, quantisation)
    asked, status, began = config.model_dump(mode="json"), None, time.monotonic()
    decisive = {key: value for key, value in asked.items() if key not in ("images", "shards", "batch_size")}
    drawn_by = {"sampler": sampler, "quantisation": quantisation, "device": device.type, **decisive}
    parts = Parts(state, trained.sha256, drawn_by, tuple(shapes), log)

    def make(first: int, last: int) -> dict[str, np.ndarray]:
        *drawn, failure = draw(first, last)
        if failure is not None:
            raise Unstable(failure)
        log(f"images {first}..{last - 1} of {start}..{stop - 1}, {time.monotonic() - began:.0f} s")
        return dict(zip(shapes, drawn, strict=True))

    pieces, nothing = [], {name: np.zeros((0, *shape), np.uint8) for name, shape in shapes.items()}
    try:
        if trained.outcome["status"] == "unstable":
            raise Unstable(trained.outcome)
        pieces = list(parts.each(start, stop, config.batch_size, make))
    except Unstable as error:
        status = error.status
        log(f"unstable: {error}")
    write_npz(
        path,
        **{name: np.concatenate([piece[name] for piece in (nothing, *pieces)]) for name in shapes},
        **settings,
        start=np.array(start),
        status=pack_header(status or {"status": "sampled", "step": None, "reason": None}),
        header=pack_header({**header, "sampling": asked}),
    )
    if status is None:
        parts.finish(start, stop, path)


def about(
    trained: Trained, sampler: str, device: torch.device, quantisation: Quantisation = Quantisation.NEAREST
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
        "device": str(device),
    }
