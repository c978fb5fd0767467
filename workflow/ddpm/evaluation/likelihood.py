"""The variational bound on the log likelihood, term by term (eq. 5), and the rate-distortion curve (Section 4.3)."""

import time
from pathlib import Path

import numpy as np
import torch

from ddpm import rng
from ddpm.config import LikelihoodConfig
from ddpm.data.store import Images, to_model_range
from ddpm.files import read_npz, write_npz
from ddpm.shards import bounds, pack_header, unpack_header
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


def read_bounds(shards: list[Path]) -> dict[str, dict]:
    """By split, all its shards in the order of their images: terms, squared_errors [N, T], prior [N], and a header."""
    keys = ("terms", "squared_errors", "prior")
    by_split: dict[str, list[dict]] = {}
    for path in shards:
        shard = read_npz(path, *keys, "start", "header")
        header = unpack_header(shard["header"])
        by_split.setdefault(header["split"], []).append({**shard, "header": header})
    bounds = {}
    for split, parts in by_split.items():
        parts.sort(key=lambda part: int(part["start"]))
        arrays = {key: np.concatenate([part[key] for part in parts]).astype(np.float64) for key in keys}
        bounds[split] = {**arrays, "header": parts[0]["header"]}
    return bounds


def rmse(mean_square: np.ndarray) -> np.ndarray:
    """Root of a mean square in the range [-1, 1], on the scale 0..255."""
    return 127.5 * np.sqrt(mean_square)


def rate_distortion(bound: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The progressive code's curve: columns over the paper's t = 1 .. T (Table 4, Figure 5).

    rate: bits/dim until x_t is known: L_T and the terms of all times above t.
    distortion: root mean squared error of x0-hat(x_t) on 0..255, the mean over images inside the root;
    distortion_mean: the mean over images of each image's root (the paper leaves open which it shows).
    """
    mean_terms = bound["terms"].mean(0)
    above = np.append(np.cumsum(mean_terms[::-1])[::-1][1:], 0.0)
    timesteps = len(mean_terms)
    t = np.arange(1, timesteps + 1)
    return {
        "t": t,
        "reverse_time": timesteps - t + 1,
        "rate": bound["prior"].mean() + above,
        "distortion": rmse(bound["squared_errors"].mean(0)),
        "distortion_mean": rmse(bound["squared_errors"]).mean(0),
    }


def likelihood_summary(bound: dict[str, np.ndarray]) -> dict[str, float | int] | None:
    """Bits/dim with its standard error over images, and its two parts; None where there are no images."""
    count = len(bound["terms"])
    if count == 0:
        return None
    totals = bound["terms"].sum(1) + bound["prior"]
    return {
        "bits_per_dim": float(totals.mean()),
        "standard_error": float(totals.std(ddof=1) / np.sqrt(count)) if count > 1 else float("nan"),
        "images": count,
        "prior": float(bound["prior"].mean()),
        "rate": float((totals - bound["terms"][:, 0]).mean()),
        "distortion_bits": float(bound["terms"][:, 0].mean()),
        "distortion_rmse": float(rmse(bound["squared_errors"][:, 0].mean())),
    }
