"""A trained network, read from its file of weights and prepared for inference."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from ddpm.compute.device import prepare_for_inference, prepare_model
from ddpm.config.enums import Precision
from ddpm.config.errors import DamagedFile, UserError
from ddpm.config.schema import DiffusionConfig, NetworkConfig
from ddpm.diffusion import GaussianDiffusion
from ddpm.storage.checkpoints import unpack
from ddpm.unet import UNet


@dataclass
class TrainedModel:
    """A trained network, ready to use: in evaluation mode, on its device."""

    model: UNet
    diffusion: GaussianDiffusion
    header: dict
    sha256: str
    precision: Precision = Precision.FP32

    @property
    def outcome(self) -> dict:
        """{"status": "trained" | "unstable", "step": ..., "reason": ...}"""
        return self.header["outcome"]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)"""
        network = self.model.config
        return network.channels, network.image_size, network.image_size

    @property
    def pixels_shape(self) -> tuple[int, int, int]:
        """(H, W, C), as images lie in files."""
        channels, height, width = self.image_shape
        return height, width, channels


def load_model(path: Path, device: torch.device | None = None) -> TrainedModel:
    """The network and the process that a weights file describes.

    Args:
        device: the network is moved to it and prepared for it; None: it stays on the CPU, its weights bit for bit.

    Raises:
        UserError: there is no such file, or it is damaged.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file. Train the experiment first.")
    content = path.read_bytes()
    tensors, header = unpack(content, path)
    try:
        config = header["config"]
        network = NetworkConfig(**config["network"])
        with torch.device("meta"):  # without memory: the file may name a network that no machine could hold
            model = UNet(network)
        if (needed := count(model.parameters())) != (found := count(tensors.values())):
            raise ValueError(f"{found:,} numbers, where it has {needed:,}")
        diffusion = GaussianDiffusion.from_config(DiffusionConfig(**config["diffusion"]))
        # Copied, since the file's bytes are not aligned as torch's own memory is, on which sums may depend.
        aligned = {name: tensor.to(torch.float32, copy=True) for name, tensor in tensors.items()}
        model.load_state_dict(aligned, assign=True)
    except (KeyError, RuntimeError, ValueError, TypeError) as error:
        raise DamagedFile(path, f"its weights do not fit the network that it names ({error})") from error
    if device is None:
        model = model.eval().requires_grad_(False)
    else:
        model, diffusion = prepare_for_inference(prepare_model(model, device)), diffusion.to(device)
    return TrainedModel(model, diffusion, header, hashlib.sha256(content).hexdigest(), model.precision)


def count(tensors: Iterable[torch.Tensor]) -> int:
    """Numbers in all of them together."""
    return sum(tensor.numel() for tensor in tensors)
