"""Shards of images: which images, in which batches, by which sampler, and the file with how it went."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from ddpm.compute.device import compile_if_worthwhile
from ddpm.compute.distributed import SINGLE_PROCESS, Group
from ddpm.compute.memory import BatchSplitter
from ddpm.config.enums import Quantisation
from ddpm.config.schema import FewStepsConfig, SamplingConfig
from ddpm.data.pixels import to_uint8
from ddpm.sampling.ancestral import reverse_process
from ddpm.sampling.base import Callback, Step, initial_noise, named_noise
from ddpm.sampling.ddim import ddim_times, sample_ddim
from ddpm.storage.chunk_cache import Arrays, ChunkCache, concatenate
from ddpm.storage.files import write_npz
from ddpm.storage.shards import ANCESTRAL_SAMPLER, DDIM_SAMPLER, SETTINGS, pack_header, shard_range
from ddpm.training.model import TrainedModel

T = TypeVar("T")
LOOK_EVERY = 50  # steps: a look at the values waits for the GPU


class Unstable(Exception):
    """A run whose values left their range: an outcome. Its `status` is what the file says."""

    @property
    def status(self) -> dict:
        return self.args[0]

    def __str__(self) -> str:
        return self.status["reason"]


def check_range(x: Tensor, t: int, limit: float, setting: str = "") -> None:
    """Raise `Unstable` if `x`, where the step of the 0-based index t ended, has left [-limit, limit].

    Args:
        setting: begins the reason: of which of several settings `x` is.
    """
    largest = x.abs().amax().item()
    if not largest <= limit:  # nor is a NaN
        reason = f"{setting}|x_t| reached {largest:.4g} (limit {limit:g}; the data are in [-1, 1])"
        raise Unstable({"status": "unstable", "step": t + 1, "reason": reason})


def range_check(limit: float) -> Callback:
    """A callback of a sampler that looks at its values now and then; see `check_range`."""

    def check(step: Step) -> None:
        if step.t % LOOK_EVERY == 0:
            check_range(step.x, step.t, limit)

    return check


def attempt(draw: Callable[[], T], trained: TrainedModel, log) -> tuple[T | None, dict]:
    """What `draw` returns, and how it went; nothing where it raises `Unstable`, or where the training was unstable."""
    try:
        if trained.outcome["status"] == "unstable":
            raise Unstable(trained.outcome)
        return draw(), {"status": "sampled", "step": None, "reason": None}
    except Unstable as failure:
        log(f"unstable: {failure}")
        return None, failure.status


def preview_times(timesteps: int, count: int) -> list[int]:
    """The 0-based times whose x0-hat is kept: 0, T/n, 2 T/n, ... (the authors' 20 slots, one per 50 steps)."""
    return [n * timesteps // count for n in range(count)]


class ImageSampler(ABC):
    """Draws numbered images from a network, and says what is to be known of them."""

    section: str  # of the configuration, that says `batch_size`
    title: str  # the sampler's name, a comma, and what else is to be known; `shards.read_shard` tells by the name
    evaluations: int  # of the network, for an image
    quantisation = Quantisation.NEAREST
    shapes: dict[str, tuple[int, ...]]  # name and shape per image of each array that is drawn
    constants: Arrays  # of the file, that no image changes

    def __init__(self, trained: TrainedModel, config: SamplingConfig | FewStepsConfig, device: torch.device):
        self.trained, self.config, self.device = trained, config, device
        self.constants = {}

    @abstractmethod
    def draw(self, start: int, stop: int) -> Arrays:
        """The images start .. stop-1: uint8 arrays [stop - start, *shape] of these names.

        The draws of image i depend on the seed and i alone. The network's arithmetic may round otherwise in the last
        bit for another batch size, which 8 bits per pixel do not show.

        Raises:
            Unstable: their values left the range that `limit` allows.
        """

    @property
    def metadata(self) -> dict:
        """What the header of the file says."""
        about = sample_metadata(self.trained, self.title, self.device, self.quantisation)
        return {**about, "sampling": self.config.model_dump(mode="json")}

    def cache(self, folder: Path | None, log=print) -> ChunkCache:
        """The finished batches in `folder` of images that these weights and settings would give again."""
        decisive = {"sampler": self.title, "device": self.device.type, "precision": self.trained.precision}
        decisive |= {"quantisation": self.quantisation}
        decisive |= self.config.model_dump(mode="json", exclude={"images", "shards", "batch_size"})
        return ChunkCache(folder, self.trained.sha256, decisive, tuple(self.shapes), log)


class AncestralSampler(ImageSampler):
    """All T steps of Algorithm 2: `images`, and `previews`, x0-hat at each of `preview_times`."""

    section, title = "sampling", ANCESTRAL_SAMPLER

    def __init__(self, trained: TrainedModel, config: SamplingConfig, device: torch.device):
        super().__init__(trained, config, device)
        self.quantisation, self.evaluations = config.quantisation, trained.diffusion.num_timesteps
        self.preview_times, image = preview_times(self.evaluations, config.previews), trained.pixels_shape
        self.shapes = {"images": image, "previews": (config.previews, *image)}
        self.constants = {"preview_times": np.array(self.preview_times, dtype=np.int64)}

    @torch.inference_mode()
    def draw(self, start: int, stop: int) -> Arrays:
        previews = np.zeros((stop - start, *self.shapes["previews"]), dtype=np.uint8)
        slots, check = {t: n for n, t in enumerate(self.preview_times)}, range_check(self.config.limit)

        def callback(step: Step) -> None:
            if step.t in slots:
                previews[:, slots[step.t]] = to_uint8(step.x0, self.quantisation)
            check(step)

        x = reverse_process(self.trained, start, stop, self.config.seed, callback)
        return {"images": to_uint8(x, self.quantisation), "previews": previews}


class FewStepsSampler(ImageSampler):
    """DDIM: `images` [settings, H, W, C], one for each spacing, eta and number of steps.

    The file also has of each setting its spacing, its eta, its steps, and its evaluations: fewer than steps where
    quadratic times repeat. All settings of an image start from the noise of ancestral sampling with the same seed.

    Raises:
        UserError: steps that the network's process does not have.
    """

    section, title = "few_steps", DDIM_SAMPLER

    def __init__(self, trained: TrainedModel, config: FewStepsConfig, device: torch.device):
        super().__init__(trained, config, device)
        self.settings = list(product(config.spacing, config.eta, config.steps))
        timesteps = trained.diffusion.num_timesteps
        self.times = [ddim_times(timesteps, steps, spacing) for spacing, _, steps in self.settings]
        evaluations = [len(times) for times in self.times]
        self.evaluations = sum(evaluations)
        self.shapes = {"images": (len(self.settings), *trained.pixels_shape)}
        columns = (*zip(*self.settings, strict=True), evaluations)
        self.constants = {key: np.array(column) for key, column in zip(SETTINGS, columns, strict=True)}

    @torch.inference_mode()
    def draw(self, start: int, stop: int) -> Arrays:
        images = []
        for (spacing, eta, steps), times in zip(self.settings, self.times, strict=True):
            x = initial_noise(self.trained, self.config.seed, start, stop)
            noise = named_noise(x, self.config.seed, "few-steps z", start=start)
            x = sample_ddim(self.trained, x, times[::-1], noise, eta=eta)
            check_range(x, 0, self.config.limit, f"{spacing}, eta {eta:g}, {steps} steps: ")
            images.append(to_uint8(x))
        return {"images": np.stack(images, axis=1)}


def sample_range(
    sampler: ImageSampler, start: int, stop: int, cache: ChunkCache, group: Group = SINGLE_PROCESS, log=print
) -> tuple[Arrays, dict]:
    """Images start .. stop-1 and how it went: their arrays, which are empty for an unstable run, and its status.

    Of several processes each draws batches, and the first one gets them all; the others' arrays mean nothing. A batch
    that does not fit into the GPU's memory is cut.
    """
    began, splitter = time.monotonic(), BatchSplitter(f"{sampler.section}.batch_size", log)

    def draw_batch(first: int, last: int) -> Arrays:
        drawn = concatenate(list(splitter.each(sampler.draw, first, last)))
        log(f"images {first}..{last - 1} of {start}..{stop - 1}, {time.monotonic() - began:.0f} s")
        return drawn

    def draw() -> list[Arrays]:
        return list(group.each(cache, start, stop, sampler.config.batch_size, draw_batch, outcome=Unstable))

    batches, status = attempt(draw, sampler.trained, log)
    nothing = {name: np.zeros((0, *shape), np.uint8) for name, shape in sampler.shapes.items()}
    return concatenate([nothing, *(batches or ())]), status


def sample_shard(
    sampler: ImageSampler,
    shard: int,
    path: Path,
    log=print,
    state: Path | None = None,
    group: Group = SINGLE_PROCESS,
    **more: np.ndarray,
) -> None:
    """Write shard number `shard` (from 1) of `config.shards`: what `sampler` draws, and how it went.

    Args:
        state: folder for finished batches, from which a killed call goes on, and images of other shards are taken.
        group: the processes that share the batches; the first one writes.
        more: arrays of the file.
    """
    config = sampler.config
    start, stop = shard_range(config.images, shard, config.shards)
    passes = config.images // config.shards * sampler.evaluations
    compile_if_worthwhile(sampler.trained.model, passes / group.size, sampler.device, log)
    cache = sampler.cache(state if group.is_main else None, log)
    arrays, status = sample_range(sampler, start, stop, cache, group, log)
    if not group.is_main:
        return
    arrays |= {**more, **sampler.constants, "start": np.array(start)}
    write_npz(path, **arrays, status=pack_header(status), header=pack_header(sampler.metadata))
    if status["status"] == "sampled":
        cache.finish(start, stop, path)


def sample_metadata(
    trained: TrainedModel, title: str, device: torch.device, quantisation: Quantisation = Quantisation.NEAREST
) -> dict:
    """What every file of drawn images says of itself: the network, how it was trained and sampled."""
    return {
        "weights_sha256": trained.sha256,
        "weights": trained.header["weights"],
        "training": trained.header["config"],
        "trained": trained.outcome,
        "sampler": title,
        "quantisation": {
            Quantisation.NEAREST: "rounded to the nearest of 256 levels",
            Quantisation.TRUNCATE: "truncated to 256 levels",
        }[quantisation],
        "device": device.type,
        "precision": trained.precision,
    }
