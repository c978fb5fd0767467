"""Few-step sampling: an addition, in no table or figure of the paper.

Denoising Diffusion Implicit Models (Song, Meng and Ermon, ICLR 2021, arXiv 2010.02502), whose alpha_t is the abar_t
of diffusion.py; equation numbers in this file are theirs. Any network of this project will do, as it was trained.
"""

from collections.abc import Iterator
from itertools import islice, pairwise, product
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ddpm.compute import rng
from ddpm.compute.device import compile_if_worthwhile
from ddpm.compute.distributed import SINGLE_PROCESS, Group
from ddpm.config.enums import Spacing
from ddpm.config.errors import UserError
from ddpm.config.schema import FewStepsConfig
from ddpm.data.pixels import to_uint8
from ddpm.diffusion import GaussianDiffusion, Model, per_image
from ddpm.sampling.batches import out_of_range, write_shard
from ddpm.storage.chunk_cache import NO_PARTIAL_BATCH, PartialBatch
from ddpm.storage.shards import DDIM
from ddpm.training.model import TrainedModel

DDIM_SAMPLER = f"{DDIM}, few steps, x0-hat not clipped"


def ddim_times(timesteps: int, steps: int, spacing: str) -> list[int]:
    """The 0-based times that are visited, ascending from 0; sampling runs through them from the last to the first.

    Appendix D.2, as in the authors' code. A large number of quadratic steps repeats the first times; each is
    visited once, since a step from a time to itself changes nothing.

    Raises:
        UserError: steps outside 2 .. timesteps.
    """
    if not 2 <= steps <= timesteps:
        raise UserError(f"few_steps.steps: {steps}: this network has {timesteps} timesteps; allowed: 2..{timesteps}")
    match Spacing(spacing):
        case Spacing.UNIFORM:
            return [i * (timesteps // steps) for i in range(steps)]
        case Spacing.QUADRATIC:
            return sorted({int(t) for t in np.linspace(0, np.sqrt(0.8 * timesteps), steps) ** 2})


def ddim_step(
    diffusion: GaussianDiffusion, model: Model, x_t: Tensor, t: Tensor, t_prev: Tensor, eta: float, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """One step of eq. 12 with the sigma of eq. 16: x at t_prev, and x0-hat; each [B, C, H, W].

    x0-hat is not clipped, as in the authors' code, and eps is recovered from it for every parameterisation. A learned
    variance is ignored.

    Args:
        t, t_prev: [B], 0-based, t_prev < t; t_prev = -1 is the image itself, where abar = 1.
        eta: in [0, 1]. 0 is deterministic; 1 has the posterior's variance (fixedsmall) where t_prev = t - 1.
        noise: standard normal, [B, C, H, W].
    """
    abar, abar_prev = diffusion.alphas_cumprod[t], diffusion.alphas_cumprod_prev[t_prev + 1]
    sigma = eta * ((1 - abar_prev) / (1 - abar)).sqrt() * (1 - abar / abar_prev).sqrt()
    *_, x0 = diffusion.p_mean_variance(model, x_t, t, clip_denoised=False)
    eps = diffusion.predict_eps_from_x0(x_t, t, x0)
    x_prev = (
        per_image(abar_prev.sqrt(), x_t) * x0
        + per_image((1 - abar_prev - sigma**2).sqrt(), x_t) * eps
        + per_image(sigma, x_t) * noise
    )
    return x_prev, x0


def ddim_chain(
    trained: TrainedModel, x: Tensor, times: list[int], eta: float, seed: int, start: int
) -> Iterator[tuple[int, Tensor]]:
    """The chain through `times`, from the last one to the image, of the images from number `start` on.

    The draws of image i depend on the seed, the time and i alone.

    Args:
        x: at the last of `times`, [n, C, H, W].

    Yields:
        each time, and x at the one before it.
    """
    for t_prev, t in reversed(list(pairwise([-1, *times]))):
        noise = rng.normal(seed, "few-steps z", t, start=start, stop=start + len(x), shape=x.shape[1:], device=x.device)
        at_t, at_prev = (torch.full((len(x),), time, device=x.device) for time in (t, t_prev))
        x, _ = ddim_step(trained.diffusion, trained.model, x, at_t, at_prev, eta, noise)
        yield t, x


@torch.inference_mode()
def few_steps_batch(
    trained: TrainedModel, start: int, stop: int, config: FewStepsConfig, draft: PartialBatch = NO_PARTIAL_BATCH
) -> tuple[np.ndarray, dict | None]:
    """Images start .. stop-1 of every setting as uint8 [n, settings, H, W, C], and None or how one failed.

    All settings of an image start from the noise of ancestral sampling with the same seed.

    Args:
        draft: of this batch: the images of the finished settings, and of the next one x to the last bit, and the
            time behind which it is.

    Raises:
        Interrupted: this job has to end; the draft is kept.
    """
    device = trained.diffusion.betas.device
    kept = draft.load("images", "t", "x")
    images = list(kept["images"]) if kept else []
    for eta, steps in islice(product(config.eta, config.steps), len(images), None):
        times = ddim_times(trained.diffusion.num_timesteps, steps, config.spacing)
        if kept:
            x, times, kept = torch.from_numpy(kept["x"]).to(device), times[: times.index(int(kept["t"]))], None
        else:
            x = rng.normal(config.seed, "x_T", start=start, stop=stop, shape=trained.image_shape, device=device)
        chain = ddim_chain(trained, x, times, eta, config.seed, start)
        for t, x in chain:
            if draft.should_save(done=t == 0):
                draft.keep(images=np.array(images, np.uint8), t=np.array(t), x=x.cpu().numpy())
        if reason := out_of_range(x, config.limit):
            return np.zeros(0), {"status": "unstable", "step": 1, "reason": f"eta {eta:g}, {steps} steps: {reason}"}
        images.append(to_uint8(x))
    return np.stack(images, axis=1), None


def few_steps_shard(
    trained: TrainedModel,
    config: FewStepsConfig,
    shard: int,
    path: Path,
    device: torch.device,
    log=print,
    state: Path | None = None,
    group: Group = SINGLE_PROCESS,
) -> None:
    """Write shard number `shard` (from 1) of `config.shards`: the images of every pair of eta and steps.

    The file holds images [n, settings, H, W, C], and of each setting its eta, its steps, and its evaluations of the
    network, which are fewer than the steps where quadratic times repeat.

    Raises:
        UserError: steps that the network's process does not have.
    """
    channels, height, width = trained.image_shape
    eta, steps = zip(*product(config.eta, config.steps), strict=True)
    evaluations = [len(ddim_times(trained.diffusion.num_timesteps, count, config.spacing)) for count in steps]
    passes = config.images // config.shards * sum(evaluations)
    compile_if_worthwhile(trained.model, passes / group.size, device, log)
    write_shard(
        path,
        trained,
        config,
        shard,
        draw=lambda first, last, draft: few_steps_batch(trained, first, last, config, draft),
        shapes={"images": (len(eta), height, width, channels)},
        sampler=DDIM_SAMPLER,
        device=device,
        log=log,
        state=state,
        group=group,
        section="few_steps",
        eta=np.array(eta),
        steps=np.array(steps),
        evaluations=np.array(evaluations),
    )
