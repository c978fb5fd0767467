"""Algorithm 2: ancestral sampling, and the chains that the figures show."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ddpm.compute import rng
from ddpm.compute.device import compile_if_worthwhile
from ddpm.compute.distributed import SINGLE_PROCESS, Group
from ddpm.config.schema import SamplingConfig
from ddpm.data.pixels import to_model_range, to_uint8
from ddpm.data.store import Images
from ddpm.sampling.batches import out_of_range, write_shard
from ddpm.storage.chunk_cache import NO_PARTIAL_BATCH, PartialBatch
from ddpm.storage.files import write_npz
from ddpm.storage.shards import ANCESTRAL_SAMPLER
from ddpm.training.model import TrainedModel

LOOK_EVERY = 50  # steps: a look at the values waits for the GPU


def reverse_chain(
    trained: TrainedModel, start: int, stop: int, seed: int, device: torch.device
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """The reverse process of images start .. stop-1, from t = T-1 down to 0.

    Yields:
        t (0-based), x_{t-1} [stop - start, C, H, W] (the sample itself after t = 0), and x0-hat predicted from x_t.
    """
    shape = trained.image_shape
    x = rng.normal(seed, "x_T", start=start, stop=stop, shape=shape, device=device)
    yield from denoise(trained, x, trained.diffusion.num_timesteps, seed, "z", start=start)


def denoise(
    trained: TrainedModel, x: Tensor, steps: int, *noise: object, start: int = 0
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """The reverse process from `x`, which is x_t of `steps` noising steps, down to t = 0.

    Args:
        noise: names the noise, together with t; row i of `x` gets that of item `start` + i.

    Yields: what `reverse_chain` does.
    """
    for t in reversed(range(steps)):
        z = rng.normal(*noise, t, start=start, stop=start + len(x), shape=x.shape[1:], device=x.device)
        x, x0 = trained.diffusion.p_sample(trained.model, x, torch.full((len(x),), t, device=x.device), z)
        yield t, x, x0


def preview_times(timesteps: int, previews: int) -> list[int]:
    """The 0-based times whose x0-hat is kept: 0, T/n, 2 T/n, ... (the authors' 20 slots, one per 50 steps)."""
    return [n * timesteps // previews for n in range(previews)]


@torch.inference_mode()
def sample_batch(
    trained: TrainedModel,
    start: int,
    stop: int,
    config: SamplingConfig,
    device: torch.device,
    draft: PartialBatch = NO_PARTIAL_BATCH,
) -> tuple[np.ndarray, np.ndarray, dict | None]:
    """Images start .. stop-1 as uint8 [n, H, W, C], previews [n, previews, H, W, C], and None or how it failed.

    Args:
        draft: of this batch: x_t (1-based) to the last bit, t, and the previews at the times from there on.

    Raises:
        Interrupted: this job has to end; the draft is kept.
    """
    timesteps, shape = trained.diffusion.num_timesteps, trained.image_shape
    slots = {t: n for n, t in enumerate(preview_times(timesteps, config.previews))}
    if kept := draft.load("t", "x", "previews"):
        steps, x, previews = int(kept["t"]), torch.from_numpy(kept["x"]).to(device), kept["previews"]
    else:
        steps, x = timesteps, rng.normal(config.seed, "x_T", start=start, stop=stop, shape=shape, device=device)
        channels, height, width = shape
        previews = np.zeros((stop - start, config.previews, height, width, channels), dtype=np.uint8)
    chain = denoise(trained, x, steps, config.seed, "z", start=start)
    for t, x, x0 in chain:
        if t in slots:
            previews[:, slots[t]] = to_uint8(x0, config.quantisation)
        if t % LOOK_EVERY == 0 and (reason := out_of_range(x, config.limit)):
            return previews[:0], previews[:0], {"status": "unstable", "step": t + 1, "reason": reason}
        if draft.should_save(done=t == 0):
            draft.keep(t=np.array(t), x=x.cpu().numpy(), previews=previews)
    return to_uint8(x, config.quantisation), previews, None


def sample_shard(
    trained: TrainedModel,
    config: SamplingConfig,
    shard: int,
    path: Path,
    device: torch.device,
    log=print,
    state: Path | None = None,
    group: Group = SINGLE_PROCESS,
) -> None:
    """Write shard number `shard` (from 1) of `config.shards`: images, previews, and how it went.

    With a folder `state` a killed call is gone on with, also within a batch, and images drawn for other shards are
    taken from there.

    The draws of image i depend on the seed and i alone. The network's arithmetic may round otherwise in the last
    bit for another batch size, which 8 bits per pixel do not show.
    """
    channels, height, width = trained.image_shape
    image = (height, width, channels)
    passes = config.images // config.shards * trained.diffusion.num_timesteps
    compile_if_worthwhile(trained.model, passes / group.size, device, log)
    write_shard(
        path,
        trained,
        config,
        shard,
        draw=lambda first, last, draft: sample_batch(trained, first, last, config, device, draft),
        shapes={"images": image, "previews": (config.previews, *image)},
        sampler=ANCESTRAL_SAMPLER,
        device=device,
        log=log,
        quantisation=config.quantisation,
        state=state,
        group=group,
        preview_times=np.array(preview_times(trained.diffusion.num_timesteps, config.previews), dtype=np.int64),
    )


def trajectory_times(timesteps: int, frames: int) -> list[int]:
    """1-based times from T down to 0 (the image itself), closer together near 0, where the picture forms."""
    return sorted({round(timesteps * (i / (frames - 1)) ** 1.5) for i in range(frames)}, reverse=True)


@torch.inference_mode()
def write_trajectory(trained: TrainedModel, images: Images, count: int, frames: int, seed: int, path: Path) -> None:
    """x_t of `count` real images under q and of `count` samples under p at the same times, as uint8.

    Args:
        images: the real images; the first `count` are taken.
        frames: about how many times between T and 0.
    """
    diffusion = trained.diffusion
    timesteps = diffusion.num_timesteps
    device = diffusion.betas.device
    times = trajectory_times(timesteps, frames)
    x = to_model_range(images[slice(count)]).to(device)
    shape = x.shape[1:]
    q = {0: x}
    for t in range(timesteps):
        noise = rng.normal(seed, "forward", t, start=0, stop=count, shape=shape, device=device)
        q[t + 1] = x = diffusion.q_step(x, torch.full((count,), t, device=device), noise)
    p = {timesteps: rng.normal(seed, "x_T", start=0, stop=count, shape=shape, device=device)}
    p |= {t: x for t, x, _ in reverse_chain(trained, 0, count, seed, device)}
    q_frames, p_frames = ([to_uint8(chain[t].nan_to_num()) for t in times] for chain in (q, p))
    write_npz(
        path,
        times=np.array(times),
        q=np.stack(q_frames, axis=1),
        p=np.stack(p_frames, axis=1),
    )
