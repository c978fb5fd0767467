"""Weights in other people's formats become a model.safetensors of ours: opened safely, checked, renamed."""

import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import torch
from pydantic import BaseModel
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ddpm.config.errors import DamagedFile, UserError
from ddpm.config.schema import DiffusionConfig, NetworkConfig
from ddpm.config.sources import Checkpoint
from ddpm.storage.checkpoints import save_weights
from ddpm.storage.download import digests, reading_root
from ddpm.storage.files import sha256, write_json
from ddpm.storage.weights_file import read_header
from ddpm.training.convert.diffusers_folder import read_folder
from ddpm.training.convert.naming import Weights, to_ours
from ddpm.training.convert.released import downloaded_checkpoint
from ddpm.unet import UNet

AGAIN = "Get it again from its source."  # it may be the user's own, which is not to be deleted


def read_tensors(path: Path) -> Weights:
    """The named tensors of a safetensors file, or of a pickle by torch, which is never allowed to run code.

    Raises:
        UserError: it is damaged, holds something other than named tensors, or would run code.
    """
    with open(path, "rb") as file:
        start = file.read(16)
    try:
        if start[8:9] == b"{":
            return load_file(path)
        refuse_packed(path)
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, EOFError, OSError, RuntimeError, ValueError, KeyError) as error:
        raise DamagedFile(path, f"not a whole file of weights ({first_line(error)})", AGAIN) from error
    except Exception as error:  # pickle.UnpicklingError, whatever else a hostile stream provokes
        raise UserError(
            f"{path}: is damaged, or holds more than tensors and would run code when opened, which is not allowed "
            f"({first_line(error)}). Get it again from a source that you trust, best as .safetensors."
        ) from error
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        held = ", ".join(list(map(str, tensors))[:5]) if isinstance(tensors, dict) else type(tensors).__name__
        raise UserError(f"{path}: holds {held}, where one mapping of names to tensors was expected. Extract it first.")
    return dict(tensors)


def refuse_packed(path: Path) -> None:
    """Raise ValueError for a zip of weights that takes more room when it is unpacked: torch packs nothing."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if sum(info.file_size for info in archive.infolist()) > path.stat().st_size:
                raise ValueError("its parts are packed, which torch's are not")


def first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def check_size(path: Path, network: NetworkConfig) -> None:
    """A file of float32 weights is as large as they are, and hardly larger."""
    with torch.device("meta"):
        numbers = sum(p.numel() for p in UNet(network).parameters())
    least, most = 4 * numbers, int(4 * numbers * 1.01) + 2**20
    if not least <= (size := path.stat().st_size) <= most:
        raise UserError(
            f"{path}: {size:,} bytes are not the size of this network's {numbers:,} float32 weights "
            f"({least:,} to {most:,} bytes). It is cut short, or another network's."
        )


# What mattered in training only.
INCIDENTAL = {"dropout", "objective"}


@dataclass
class Source:
    """Weights as they were found: the file, and what is known of it."""

    path: Path
    name: str
    network: NetworkConfig | None = None
    diffusion: DiffusionConfig | None = None
    weights: str = "unknown"  # ema, raw or unknown
    step: int | None = None
    checkpoint: dict = field(default_factory=dict)


def describe(checkpoint: Checkpoint, path: Path) -> Source:
    """What the registry, or an experiment's configuration, says of the weights in `path`."""
    return Source(
        path,
        checkpoint.name,
        NetworkConfig(**checkpoint.network) if checkpoint.network else None,
        DiffusionConfig(parameterization="eps", objective="simple", variance=checkpoint.variance)
        if checkpoint.variance
        else None,
        "ema" if checkpoint.averaged else "raw",
        checkpoint.step,
        checkpoint.model_dump(mode="json", exclude={"network"}),
    )


def find_source(path: Path, checkpoint: Checkpoint | None) -> Source:
    """What is at `path`: a download's card.json, a file of weights, or a folder of diffusers.

    Args:
        checkpoint: what the weights are, where they do not say it themselves.

    Raises:
        UserError: there is nothing, or something else.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file or folder. Download the weights first.")
    if path.name == "card.json" or (path / "card.json").is_file():
        card = path if path.name == "card.json" else path / "card.json"
        checkpoint = downloaded_checkpoint(card)
        path = card.parent
        if (path / "config.json").is_file():
            return from_folder(path, checkpoint)
        path = path / checkpoint.weights_file.name
    if path.is_dir():
        return from_folder(path, checkpoint)
    if checkpoint is not None:
        known = checkpoint.weights_file.checksums
        if known and digests(path, *known) != known:
            whose = " and ".join(f"{kind.upper()} is {value}" for kind, value in known.items())
            raise DamagedFile(path, f"is not {checkpoint.name}, whose {whose}", "Download it again.")
        return describe(checkpoint, path)
    if header := read_header(path):
        config = header["config"]
        return Source(
            path,
            config["name"],
            NetworkConfig(**config["network"]),
            DiffusionConfig(**config["diffusion"]),
            header["weights"],
            header["outcome"]["step"],
        )
    return Source(path, path.stem)


def from_folder(folder: Path, checkpoint: Checkpoint | None) -> Source:
    """The weights of a diffusers folder; where `checkpoint` says what network they are, its own words must agree."""
    with reading_root(folder):
        network, diffusion, weights = read_folder(folder)
    if checkpoint is None:
        return Source(weights, folder.name, network, diffusion)
    source = describe(checkpoint, weights)
    source.network, source.diffusion = source.network or network, source.diffusion or diffusion
    refuse_another("network", network, source.network, folder)
    return source


def refuse_another(kind: str, here: BaseModel | None, wanted: BaseModel, path: Path) -> None:
    """Raise where the weights at `path` are known to be of another network or process than is wanted."""
    if here is None:
        return
    ours, theirs = (each.model_dump(mode="json", exclude=INCIDENTAL) for each in (wanted, here))
    if different := [f"{key} {theirs[key]}, not {ours[key]}" for key in ours if ours[key] != theirs[key]]:
        raise UserError(f"{path}: is of another {kind}: {'; '.join(different)}.")


def import_weights(
    path: Path, out: Path, outcome: Path | None, config: dict | None = None, checkpoint: Checkpoint | None = None
) -> None:
    """Write the weights at `path` as a model.safetensors of ours.

    Args:
        path: card.json (or its folder) of `download_weights`; a state dict as .ckpt, .pt, .bin or .safetensors in any
            of the three namings; or a folder of diffusers' DDPMPipeline.
        out, outcome: model.safetensors, and training.json where it is asked for.
        config: an experiment's training document, which the weights must fit.
        checkpoint: published weights that the file is a copy of; its checksum must be theirs.

    Raises:
        UserError: the file is damaged, hostile, or of another network; nothing is written.
    """
    if config and "checkpoint" in config:
        checkpoint = Checkpoint(**config["checkpoint"])
    source = find_source(path, checkpoint)
    network = NetworkConfig(**config["network"]) if config else source.network
    diffusion = DiffusionConfig(**config["diffusion"]) if config else source.diffusion
    if network is None or diffusion is None:
        raise UserError(
            f"{path}: does not say which network and process it is for. Say it by --checkpoint NAME (published "
            "weights) or --config FILE (an experiment's training document)."
        )
    refuse_another("network", source.network, network, source.path)
    refuse_another("process", source.diffusion, diffusion, source.path)
    check_size(source.path, network)
    content = read_tensors(source.path)
    try:
        weights = {name: tensor.float() for name, tensor in to_ours(content, network).items()}
    except ValueError as error:
        raise UserError(f"{source.path}: not the weights of this network: {error}.") from error
    document = config or {
        "name": source.name,
        "data": checkpoint.data if checkpoint else None,
        "network": network.model_dump(mode="json"),
        "diffusion": diffusion.model_dump(mode="json"),
    }
    end = {"status": "released", "step": source.step, "reason": None}
    header = {
        "config": document,
        "weights": source.weights,
        "outcome": end,
        "source": {**source.checkpoint, "file": source.path.name, "sha256": sha256(source.path)},
    }
    save_weights(out, weights, header)
    if outcome is not None:
        write_json(outcome, end)
