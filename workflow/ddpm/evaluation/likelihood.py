"""The variational bound on the log likelihood of real images, term by term (eq. 5)."""

import re
import time
from pathlib import Path

import numpy as np
import torch

from ddpm.compute import rng
from ddpm.compute.device import compile_if_worthwhile
from ddpm.compute.distributed import SINGLE_PROCESS, Group
from ddpm.compute.memory import Fitting
from ddpm.config.schema import LikelihoodConfig
from ddpm.data.pixels import to_model_range
from ddpm.data.store import Images
from ddpm.storage.chunk_cache import ChunkCache, discard
from ddpm.storage.files import write_npz
from ddpm.storage.shards import pack_header, shard_range
from ddpm.training.model import TrainedModel

TERMS, ERRORS, PRIOR = KEYS = ("terms", "squared_errors", "prior")
TIMES = 10  # times between two looks at the clock, which wait for the GPU


@torch.inference_mode()
def bound_of_batch(
    trained: TrainedModel,
    images: np.ndarray,
    start: int,
    split: str,
    seed: int,
    device: torch.device,
    parts: ChunkCache,
) -> dict[str, np.ndarray]:
    """Terms [n, T] in bits/dim, squared errors of x0-hat [n, T] (range [-1, 1]), prior [n] in bits/dim.

    One draw of noise per image and time, named by the image's number `start + i`; averaged weights; x0-hat clipped.

    Args:
        parts: of this batch, whose items are the times; a batch through all of them may take more than a minute.
    """
    x0 = to_model_range(images).to(device)

    def make(first: int, last: int) -> dict[str, np.ndarray]:
        """Terms and errors of the 0-based times first .. last-1, [last - first, n]."""
        terms, errors = [], []
        for t in range(first, last):
            noise = rng.normal(
                seed, "likelihood", split, t, start=start, stop=start + len(x0), shape=x0.shape[1:], device=device
            )
            times = torch.full((len(x0),), t, device=device)
            term, error = trained.diffusion.bound_terms(trained.model, x0, times, noise)
            terms.append(term)
            errors.append(error)
        return {TERMS: torch.stack(terms).cpu().numpy(), ERRORS: torch.stack(errors).cpu().numpy()}

    pieces = list(parts.each(0, trained.diffusion.num_timesteps, TIMES, make))
    by_image = {key: np.concatenate([piece[key] for piece in pieces]).T for key in parts.keys}
    return {**by_image, PRIOR: trained.diffusion.prior_bits(x0).cpu().numpy()}


def likelihood_shard(
    trained: TrainedModel,
    images: Images,
    split: str,
    count: int,
    config: LikelihoodConfig,
    shard: int,
    path: Path,
    device: torch.device,
    log=print,
    state: Path | None = None,
    group: Group = SINGLE_PROCESS,
) -> None:
    """Write shard number `shard` (from 1) of the bound of the first `count` images of `split`.

    With a folder `state` a killed call is gone on with, and what is known of images of other shards is taken from
    there. It holds finished batches (`images`), and of a batch of more than a minute the times that are done (`times`).

    Args:
        group: the processes that share the batches; the first one writes.
    """
    start, stop = shard_range(count, shard, config.shards)
    timesteps, began = trained.diffusion.num_timesteps, time.monotonic()
    settings = {"split": split, "images": images.sha256, "seed": config.seed, "device": device.type}
    settings["precision"] = trained.precision
    compile_if_worthwhile(trained.model, (stop - start) * timesteps / group.size, device, log)
    parts = ChunkCache(state / "images" if state and group.is_main else None, trained.sha256, settings, KEYS, log)
    times, fitting = state / "times" if state else None, Fitting("likelihood.batch_size", log)

    def bound(first: int, last: int) -> dict[str, np.ndarray]:
        batch = f"{split} images {first}..{last - 1}"
        folder = times / f"{first}-{last}" if times else None
        done = ChunkCache(
            folder, trained.sha256, settings, (TERMS, ERRORS), lambda message: log(f"{batch}, times: {message}")
        )
        return bound_of_batch(trained, images[slice(first, last)], first, split, config.seed, device, done)

    def make(first: int, last: int) -> dict[str, np.ndarray]:
        made = list(fitting.each(bound, first, last))
        log(f"{split} images {first}..{last - 1} of {start}..{stop - 1}, {time.monotonic() - began:.0f} s")
        return {key: np.concatenate([piece[key] for piece in made]) for key in KEYS}

    empty = {key: np.zeros((0, timesteps), np.float32) for key in (TERMS, ERRORS)} | {PRIOR: np.zeros(0, np.float32)}
    pieces = []
    if stable := trained.outcome["status"] != "unstable":
        pieces = list(group.each(parts, start, stop, config.batch_size, make))
    if not group.is_main:
        return
    header = {
        "weights_sha256": trained.sha256,
        "images_sha256": images.sha256,
        "split": split,
        "likelihood": config.model_dump(mode="json"),
        "device": device.type,
        "precision": trained.precision,
    }
    write_npz(
        path,
        **{key: np.concatenate([piece[key] for piece in (empty, *pieces)]) for key in KEYS},
        start=np.array(start),
        header=pack_header(header),
    )
    if stable:
        parts.finish(start, stop, path)
    for folder in times.glob("*-*") if times else ():
        if (span := re.fullmatch(r"(\d+)-(\d+)", folder.name)) and start <= int(span[1]) and int(span[2]) <= stop:
            discard(folder)
