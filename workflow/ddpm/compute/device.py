"""How a device computes our networks: in which precision and memory format, and whether compiled.

Weights, their average, the optimiser and the diffusion process are float32 everywhere; bf16 is what the layers between
the first convolution and the last compute in. docs/speed.md says what that gains, and what it costs in quality.
"""

import importlib.util
import os
import shutil
from pathlib import Path

import torch
from torch import nn

from ddpm.compute.flops import network_cost
from ddpm.config.enums import PRECISION_ENV, Precision
from ddpm.config.errors import UserError
from ddpm.config.schema import NetworkConfig
from ddpm.jobs import processor
from ddpm.storage.files import private_folder

WIDE = 128  # channels from which bf16 and, on a GPU, channels_last are faster; memory limits narrower networks
COMPILE_BREAK_EVEN_FLOPS = 6e15  # from so many operations on a job gains more than compiling takes, a minute


def has_bf16(device: torch.device) -> bool:
    """Whether the device has instructions for bf16; without, it is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return processor.has_bf16()


def precision_of(network: NetworkConfig, device: torch.device) -> Precision:
    """The precision that the environment asks for; auto: the one that is faster on the device.

    Raises:
        UserError: the environment names no precision.
    """
    try:
        asked = Precision(os.environ.get(PRECISION_ENV, Precision.AUTO))
    except ValueError:
        allowed = ", ".join(Precision)
        raise UserError(
            f"{PRECISION_ENV}={os.environ[PRECISION_ENV]}: no such precision. Give one of {allowed}."
        ) from None
    if asked is not Precision.AUTO:
        return asked
    return Precision.BF16 if network.ch >= WIDE and has_bf16(device) else Precision.FP32


def prepare_model(model: nn.Module, device: torch.device) -> nn.Module:
    """Move the network to `device`, with the precision and memory format that are fast there. Weights stay float32."""
    model.precision = precision_of(model.config, device)
    on_cpu, wide = device.type == "cpu", model.config.ch >= WIDE
    for layer in model.modules():
        if hasattr(layer, "fused"):  # oneDNN has a fast transposed convolution in float32 only
            layer.fused = not on_cpu or model.precision is Precision.FP32
    return model.to(device, memory_format=torch.channels_last if on_cpu or wide else torch.preserve_format)


def prepare_for_inference(model: nn.Module) -> nn.Module:
    """Put the network into evaluation mode, without gradients. Weights that bf16 rounds are rounded once, here."""
    model = model.eval().requires_grad_(False)
    if model.precision is Precision.BF16:
        for layer in model.inner_layers():
            layer.to(torch.bfloat16)
    return model


def worth_compiling(network: NetworkConfig, passes: float, device: torch.device) -> bool:
    """Whether compiling the network saves a job more time than it takes. On a CPU it never does."""
    return device.type == "cuda" and passes * network_cost(network).flops >= COMPILE_BREAK_EVEN_FLOPS


def compile_if_worthwhile(model: nn.Module, passes: float, device: torch.device, log=print) -> bool:
    """Have the network compiled at its first call, if this job is long enough to gain by that.

    Args:
        passes: forward passes of one image in the whole job; one with its gradient counts as three.

    Returns:
        Whether it will be. TORCH_COMPILE_DISABLE=1 in the environment turns it off.
    """
    if not worth_compiling(model.config, passes, device):
        return False
    if missing := missing_compiler():
        log(f"the network is not compiled, which would be faster: there is no {missing}")
        return False
    try:
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder()))
    except UserError as error:
        log(f"the network is not compiled, which would be faster: {error}")
        return False
    model.compile(dynamic=False)
    return True


COMPILED = Path("resources/compiled")


def cache_folder() -> Path:
    """The folder of compiled code, which this process will run: only this user may enter it.

    Raises:
        UserError: it is somebody else's, or others may have put files there.
    """
    folder = private_folder(COMPILED.absolute(), "Remove it, so that it is made anew.")
    folder.chmod(0o700)
    return folder


def missing_compiler() -> str | None:
    """What torch.compile needs on a GPU and is not there; None: nothing is missing."""
    if importlib.util.find_spec("triton") is None:
        return "Triton"
    if not (os.environ.get("CC") or any(map(shutil.which, ("gcc", "clang", "cc")))):
        return "C compiler (gcc, clang, or the one that CC names)"
    return None
