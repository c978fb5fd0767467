"""The variational bound on the log likelihood of real images, term by term (eq. 5)."""

import time
from pathlib import Path

import numpy as np
import torch

from ddpm import rng
from ddpm.config import LikelihoodConfig
from ddpm.data.pixels import to_model_range
from ddpm.data.store import Images
from ddpm.files import write_npz
from ddpm.shards import bounds, pack_header
from ddpm.training.state import Trained


@torch.inference_mode()
def bound_of_batch(
    trained: Trained, images: np.ndarray, start: int, split: str, seed: int, device: torch.device
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Terms [n, T] in bits/dim, squared errors of x0-hat [n, T] (range [-1, 1]), prior [n] in bits/dim.

    One draw of noise per image and time, named by the image's number `start + i`; averaged weights; x0-hat clipped.
    """
    x0 = to_model_range(images).to(device)
    terms, errors = [], []
    for t in range(trained.diffusion.num_timesteps):
        noise = rng.normal(
            seed, "likelihood", split, t, start=start, stop=start + len(x0), shape=x0.shape[1:], device=device
        )
        times = torch.full((len(x0),), t, device=device)
        term, error = trained.diffusion.bound_terms(trained.model, x0, times, noise)
        terms.append(term)
        errors.append(error)
    prior = trained.diffusion.prior_bits(x0)
    return torch.stack(terms, 1).cpu().numpy(), torch.stack(errors, 1).cpu().numpy(), prior.cpu().numpy()


def likelihood_shard(
    trained: Trained,
    images: Images,
    split: str,
    count: int,
    config: LikelihoodConfig,
    shard: int,
    path: Path,
    device: torch.device,
    log=print,
) -> None:
    """Write shard number `shard` (from 1) of the bound of the first `count` images of `split`."""
    start, stop = bounds(count, shard, config.shards)
    timesteps = trained.diffusion.num_timesteps
    parts = [(np.zeros((0, timesteps), np.float32), np.zeros((0, timesteps), np.float32), np.zeros(0, np.float32))]
    began = time.monotonic()
    if trained.outcome["status"] != "unstable":
        for first in range(start, stop, config.batch_size):
            last = min(first + config.batch_size, stop)
            parts.append(bound_of_batch(trained, images[slice(first, last)], first, split, config.seed, device))
            log(f"{split} images {first}..{last - 1} of {start}..{stop - 1}, {time.monotonic() - began:.0f} s")
    terms, errors, prior = (np.concatenate(kind) for kind in zip(*parts, strict=True))
    header = {
        "weights_sha256": trained.sha256,
        "images_sha256": images.sha256,
        "split": split,
        "likelihood": config.model_dump(mode="json"),
        "device": str(device),
    }
    write_npz(
        path,
        terms=terms,
        squared_errors=errors,
        prior=prior,
        start=np.array(start),
        header=pack_header(header),
    )
