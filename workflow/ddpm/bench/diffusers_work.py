"""The same work by diffusers: its U-Net in the published CIFAR-10 configuration, its schedulers and its average, eager.

Training is the loop of its own guide to unconditional generation, sampling that of its DDPMPipeline; with the fused
Adam of torch and diffusers' grouped average, which are its fastest.
"""

from collections.abc import Callable
from itertools import count

import torch
from diffusers import DDPMScheduler, UNet2DModel
from diffusers.training_utils import EMAModel
from torch import nn
from torch.nn import functional as F

from ddpm.precision import Precision

# config.json of google/ddpm-cifar10-32, and the paper's dropout.
PUBLISHED = {
    "sample_size": 32,
    "in_channels": 3,
    "out_channels": 3,
    "layers_per_block": 2,
    "block_out_channels": (128, 256, 256, 256),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "norm_eps": 1e-6,
    "attention_head_dim": None,
    "dropout": 0.1,
}


def network(device: torch.device, memory_format: torch.memory_format) -> UNet2DModel:
    return UNet2DModel(**PUBLISHED).to(device, memory_format=memory_format)


def scheduler() -> DDPMScheduler:
    return DDPMScheduler(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02, variance_type="fixed_large")


def training_step(
    batch: int, precision: Precision, memory_format: torch.memory_format, device: torch.device
) -> Callable[[], object]:
    """One update of weights and average with `batch` images that lie on the device."""
    model, noising = network(device, memory_format).train(), scheduler()
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-4, fused=True)
    average = EMAModel(model.parameters(), decay=0.9999, foreach=True)
    images = torch.rand(batch, 3, 32, 32, device=device).mul(2).sub(1).contiguous(memory_format=memory_format)

    def step() -> None:
        noise = torch.randn_like(images)
        t = torch.randint(1000, (batch,), device=device)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision is Precision.BF16):
            output = model(noising.add_noise(images, noise, t), t, return_dict=False)[0]
        F.mse_loss(output.float(), noise).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        average.step(model.parameters())

    return step


def sampling_step(
    batch: int, precision: Precision, memory_format: torch.memory_format, device: torch.device
) -> Callable[[], object]:
    """One reverse step of `batch` images."""
    dtype = torch.bfloat16 if precision is Precision.BF16 else torch.float32
    model, reverse = nn.Module.to(network(device, memory_format).eval(), dtype), scheduler()  # its own `to` warns
    reverse.set_timesteps(1000)

    @torch.no_grad()
    def chains():
        for _ in count():
            x = torch.randn(batch, 3, 32, 32, dtype=dtype, device=device).contiguous(memory_format=memory_format)
            for t in reverse.timesteps:
                yield (x := reverse.step(model(x, t).sample, t, x).prev_sample)

    chain = chains()
    return lambda: next(chain)


STEPS = {"training": training_step, "sampling": sampling_step}
