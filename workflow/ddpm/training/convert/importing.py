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
from ddpm.jobs.failures import first_line
from ddpm.storage.checkpoints import save_weights
from ddpm.storage.download import digests, downloaded, reading_root
from ddpm.storage.files import sha256, write_json
from ddpm.storage.weights_file import read_header
from ddpm.training.convert.diffusers_folder import AGAIN, read_folder, weights_files
from ddpm.training.convert.naming import Weights, to_ours
from ddpm.unet import UNet


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


def read_source(path: Path, network: NetworkConfig, log) -> tuple[Weights, dict]:
    """The tensors of a file, or of the files of an index; and what the header says of where they come from.

    Raises:
        UserError: the files are not as large as the network's weights in 16 or 32 bits each, or one is damaged.
    """
    with reading_root(path):
        files = weights_files(path)
    with torch.device("meta"):
        numbers = sum(p.numel() for p in UNet(network).parameters())
    least, most = 2 * numbers, int(4 * numbers * 1.01) + 2**20
    if not least <= (size := sum(file.stat().st_size for file in files)) <= most:
        raise UserError(
            f"{path}: {size:,} bytes are not the size of this network's {numbers:,} weights in 16 or 32 bits each "
            f"({least:,} to {most:,} bytes). It is cut short, or another network's."
        )
    tensors = {name: tensor for file in files for name, tensor in read_tensors(file).items()}
    about = {"file": path.name, "sha256": sha256(path)}
    if files != [path]:
        about["parts"] = {file.name: sha256(file) for file in files}
    precisions = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()})
    if precisions != ["float32"]:
        about["precisions"] = precisions
        log(f"{path}: weights in {' and '.join(precisions)}, which are float32 from here on")
    return tensors, about


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

    @classmethod
    def published(cls, path: Path, checkpoint: Checkpoint) -> "Source":
        """The weights in `path`, by what the registry, or an experiment's configuration, says of them."""
        process = {"parameterization": "eps", "objective": "simple", "variance": checkpoint.variance}
        return cls(
            path,
            checkpoint.name,
            NetworkConfig(**checkpoint.network) if checkpoint.network else None,
            DiffusionConfig(**process) if checkpoint.variance else None,
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
    card = path if path.name == "card.json" else path / "card.json"
    if card.is_file():
        try:
            checkpoint = Checkpoint(**downloaded(card)["checkpoint"])
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedFile(card, f"not the card of downloaded weights ({error})") from error
        path = card.parent
        if not (path / "config.json").is_file():
            path = path / checkpoint.weights_file.name
    if path.is_dir():
        return from_folder(path, checkpoint)
    if checkpoint is not None:
        known = checkpoint.weights_file.checksums
        if known and digests(path, *known) != known:
            whose = " and ".join(f"{kind.upper()} is {value}" for kind, value in known.items())
            raise DamagedFile(path, f"is not {checkpoint.name}, whose {whose}", "Download it again.")
        return Source.published(path, checkpoint)
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
    source = Source.published(weights, checkpoint)
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
    path: Path,
    out: Path,
    outcome: Path | None,
    config: dict | None = None,
    checkpoint: Checkpoint | None = None,
    log=print,
) -> None:
    """Write the weights at `path` as a model.safetensors of ours.

    Args:
        path: card.json (or its folder) of a download; a state dict as .ckpt, .pt, .bin or .safetensors in any
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
    content, about = read_source(source.path, network, log)
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
        "source": source.checkpoint | about,
    }
    save_weights(out, weights, header)
    if outcome is not None:
        write_json(outcome, end)
