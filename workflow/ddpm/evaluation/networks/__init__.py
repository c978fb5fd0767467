"""The networks that scores come from, by the suffix of their file."""

from pathlib import Path
from typing import TYPE_CHECKING

from ddpm.config.errors import UserError
from ddpm.evaluation.networks.base import FeatureNetwork

if TYPE_CHECKING:
    import torch


def load_network(path: Path, device: "torch.device | str" = "cpu", trusted: str | None = None) -> FeatureNetwork:
    """The network in `path`, by its suffix: .safetensors is a classifier of this project, .pt is Inception.

    Args:
        trusted: see `load_inception`.

    Raises:
        UserError: there is no such file, or it has another suffix.
        DamagedFile: it is not what its suffix says.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file. Train the classifier, or download the network, first.")
    match path.suffix:
        case ".safetensors":
            from ddpm.evaluation.networks.classifier import load_classifier

            return load_classifier(path, device)
        case ".pt":
            from ddpm.evaluation.networks.inception import load_inception

            return load_inception(path, device, trusted)
    raise UserError(f"{path}: a network of the scores is a classifier (.safetensors) or Inception (.pt).")
