"""The variational bound on the log likelihood of real images, term by term (eq. 5)."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ddpm.compute import rng
from ddpm.compute.device import compile_if_worthwhile
from ddpm.compute.distributed import SINGLE_PROCESS, Group
from ddpm.compute.memory import BatchSplitter
from ddpm.config.schema import LikelihoodConfig
from ddpm.data.pixels import to_model_range
from ddpm.data.store import Images
from ddpm.evaluation.rate_distortion import ERRORS, KEYS, PRIOR, TERMS
from ddpm.storage.chunk_cache import Arrays, ChunkCache, concatenate
from ddpm.storage.files import write_npz
from ddpm.storage.shards import pack_header, shard_range
from ddpm.training.model import TrainedModel


@dataclass(frozen=True)
class Bound:
    """The bound that a network gives for the first `count` images of one split of a data set."""

    trained: TrainedModel
    images: Images
    split: str
    count: int
    config: LikelihoodConfig
    device: torch.device

    @torch.inference_mode()
    def compute(self, start: int, stop: int) -> Arrays:
        """Of the images start .. stop-1: terms [n, T] in bits/dim, squared errors of x0-hat [n, T] (range [-1, 1]),
        prior [n] in bits/dim.

        One draw of noise per image and time, named by the image's number; averaged weights; x0-hat clipped.
        """
        trained, seed, split = self.trained, self.config.seed, self.split
        x0 = to_model_range(self.images[slice(start, stop)]).to(self.device)
        terms, errors = [], []
        for t in range(trained.diffusion.num_timesteps):
            noise = rng.normal(
                seed, "likelihood", split, t, start=start, stop=stop, shape=x0.shape[1:], device=self.device
            )
            times = torch.full((len(x0),), t, device=self.device)
            term, error = trained.diffusion.bound_terms(trained.model, x0, times, noise)
            terms.append(term)
            errors.append(error)
        by_time = {TERMS: terms, ERRORS: errors}
        by_image = {key: torch.stack(values).cpu().numpy().T for key, values in by_time.items()}
        return {**by_image, PRIOR: trained.diffusion.prior_bits(x0).cpu().numpy()}

    @property
    def nothing(self) -> Arrays:
        """That of no images."""
        by_time = np.zeros((0, self.trained.diffusion.num_timesteps), np.float32)
        return {TERMS: by_time, ERRORS: by_time, PRIOR: np.zeros(0, np.float32)}

    def cache(self, folder: Path | None, log=print) -> ChunkCache:
        """The finished batches in `folder` that these weights and settings would give again."""
        settings = {"split": self.split, "images": self.images.sha256, "seed": self.config.seed}
        settings |= {"device": self.device.type, "precision": self.trained.precision}
        return ChunkCache(folder, self.trained.sha256, settings, KEYS, log)

    @property
    def metadata(self) -> dict:
        """What the header of the file says."""
        return {
            "weights_sha256": self.trained.sha256,
            "images_sha256": self.images.sha256,
            "split": self.split,
            "likelihood": self.config.model_dump(mode="json"),
            "device": self.device.type,
            "precision": self.trained.precision,
        }


def likelihood_shard(
    bound: Bound, shard: int, path: Path, log=print, state: Path | None = None, group: Group = SINGLE_PROCESS
) -> None:
    """Write shard number `shard` (from 1) of `config.shards` of a bound; no images if the training was unstable.

    `state`, with finished batches in `images`, and `group` are as of `sample_shard`.
    """
    trained, config = bound.trained, bound.config
    start, stop = shard_range(bound.count, shard, config.shards)
    passes = (stop - start) * trained.diffusion.num_timesteps
    compile_if_worthwhile(trained.model, passes / group.size, bound.device, log)
    cache = bound.cache(state / "images" if state and group.is_main else None, log)
    began, splitter = time.monotonic(), BatchSplitter("likelihood.batch_size", log)

    def compute_batch(first: int, last: int) -> Arrays:
        made = concatenate(list(splitter.each(bound.compute, first, last)))
        log(f"{bound.split} images {first}..{last - 1} of {start}..{stop - 1}, {time.monotonic() - began:.0f} s")
        return made

    batches = [bound.nothing]
    if stable := trained.outcome["status"] != "unstable":
        batches += group.each(cache, start, stop, config.batch_size, compute_batch)
    if not group.is_main:
        return
    write_npz(path, **concatenate(batches), start=np.array(start), header=pack_header(bound.metadata))
    if stable:
        cache.finish(start, stop, path)
