"""Folders of diffusers' DDPMPipeline: read as our network and process, and written so that others can use ours."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save

from ddpm.config.errors import UserError
from ddpm.config.schema import DiffusionConfig, NetworkConfig
from ddpm.storage.files import atomic_folder, read_json
from ddpm.training.convert.naming import to_diffusers
from ddpm.training.model import TrainedModel

# What our network always is, in the words of diffusers' UNet2DModel, and that class's own defaults.
UNET2D = {
    "act_fn": "silu",
    "attention_head_dim": None,
    "center_input_sample": False,
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-6,
    "time_embedding_type": "positional",
}
UNET2D_DEFAULTS = {
    **UNET2D,
    "attention_head_dim": 8,
    "downsample_padding": 1,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "norm_eps": 1e-5,
}
VARIANCES = {"fixedlarge": "fixed_large", "fixedsmall": "fixed_small"}
PREDICTIONS = {"eps": "epsilon", "x0": "sample"}


def unet2d_config(network: NetworkConfig) -> dict[str, Any]:
    """The config.json of the UNet2DModel that equals our network.

    Raises:
        ValueError: UNet2DModel cannot be that network.
    """
    if network.ch_mult[0] != 1:
        raise ValueError(f"UNet2DModel's first level is as wide as its base; ch_mult begins with {network.ch_mult[0]}")
    levels = len(network.ch_mult)
    kinds = ["Attn" if network.image_size >> i in network.attn_resolutions else "" for i in range(levels)]
    return {
        "_class_name": "UNet2DModel",
        **UNET2D,
        "sample_size": network.image_size,
        "in_channels": network.channels,
        "out_channels": network.out_channels,
        "layers_per_block": network.num_res_blocks,
        "block_out_channels": [network.ch * multiplier for multiplier in network.ch_mult],
        "norm_num_groups": network.groups,
        "dropout": network.dropout,
        "down_block_types": [f"{kind}DownBlock2D" for kind in kinds],
        "up_block_types": [f"{kind}UpBlock2D" for kind in reversed(kinds)],
    }


def network_of_unet2d(config: dict[str, Any]) -> NetworkConfig:
    """Our network that equals the UNet2DModel of `config`.

    Raises:
        ValueError: it has a setting that ours never has, or a key is missing.
    """
    for key, ours in UNET2D.items():
        if (theirs := config.get(key, UNET2D_DEFAULTS[key])) != ours:
            raise ValueError(f"{key} is {theirs!r}; the authors' network has {ours!r}")
    try:
        size, widths = config["sample_size"], config["block_out_channels"]
        network = NetworkConfig(
            image_size=size,
            channels=config["in_channels"],
            out_channels=config["out_channels"],
            ch=widths[0],
            ch_mult=[width // widths[0] for width in widths],
            num_res_blocks=config["layers_per_block"],
            attn_resolutions=[size >> i for i, kind in enumerate(config["down_block_types"]) if "Attn" in kind],
            dropout=config.get("dropout", 0.0),
            groups=config.get("norm_num_groups", 32),
        )
        same = unet2d_config(network)
        for key in ("block_out_channels", "down_block_types", "up_block_types"):
            if list(config[key]) != same[key]:
                raise ValueError(f"{key} is {list(config[key])}; the authors' network would have {same[key]}")
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"not a UNet2DModel's configuration ({error!r})") from error
    return network


def scheduler_config(diffusion: DiffusionConfig) -> dict[str, Any]:
    """The scheduler_config.json of the DDPMScheduler that samples as we do.

    Raises:
        ValueError: DDPMScheduler has no such process.
    """
    if diffusion.parameterization not in PREDICTIONS or diffusion.variance not in VARIANCES:
        raise ValueError(
            f"DDPMScheduler has no {diffusion.parameterization} prediction with {diffusion.variance} variance; it has "
            f"{' and '.join(PREDICTIONS)} with {' and '.join(VARIANCES)}"
        )
    return {
        "_class_name": "DDPMScheduler",
        "num_train_timesteps": diffusion.timesteps,
        "beta_start": diffusion.beta_start,
        "beta_end": diffusion.beta_end,
        "beta_schedule": "linear",
        "variance_type": VARIANCES[diffusion.variance],
        "prediction_type": PREDICTIONS[diffusion.parameterization],
        "clip_sample": True,
    }


def diffusion_of_scheduler(config: dict[str, Any]) -> DiffusionConfig:
    """Our process that equals the DDPMScheduler of `config`.

    Raises:
        ValueError: it is another process than the paper's.
    """
    for key, ours in (("beta_schedule", "linear"), ("clip_sample", True), ("trained_betas", None)):
        if (theirs := config.get(key, ours)) != ours:
            raise ValueError(f"{key} is {theirs!r}; the authors' process has {ours!r}")

    def ours(names: dict[str, str], key: str, default: str) -> str:
        theirs = config.get(key, default)
        if theirs not in names.values():
            raise ValueError(f"{key} is {theirs!r}; known here: {', '.join(names.values())}")
        return next(mine for mine, name in names.items() if name == theirs)

    return DiffusionConfig(
        parameterization=ours(PREDICTIONS, "prediction_type", "epsilon"),
        objective="simple",
        variance=ours(VARIANCES, "variance_type", "fixed_small"),
        timesteps=config.get("num_train_timesteps", 1000),
        beta_start=config.get("beta_start", 1e-4),
        beta_end=config.get("beta_end", 0.02),
    )


WEIGHTS_FILES = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")


def find(folder: Path, part: str, names: tuple[str, ...]) -> Path:
    """The file of one of `names` in the sub-folder `part`, or in `folder` itself as in folders of 2022."""
    candidates = [base / name for base in (folder / part, folder) for name in names]
    for path in candidates:
        if path.is_file():
            return path
    raise UserError(f"{folder}: not a folder of diffusers' DDPMPipeline: none of {', '.join(map(str, candidates))}.")


def read_folder(folder: Path) -> tuple[NetworkConfig, DiffusionConfig, Path]:
    """The network, the process and the weights file of a pipeline's folder.

    Raises:
        UserError: a file is missing, or it is not the authors' network or process; says which setting differs.
    """
    unet, scheduler = find(folder, "unet", ("config.json",)), find(folder, "scheduler", ("scheduler_config.json",))
    parts = []
    for path, translate in ((unet, network_of_unet2d), (scheduler, diffusion_of_scheduler)):
        try:
            document = read_json(path)
            if not isinstance(document, dict):
                raise ValueError("holds no names and values")
            parts.append(translate(document))
        except ValueError as error:
            raise UserError(f"{path}: {error}. Only the authors' network and process can be imported.") from error
    return *parts, find(folder, "unet", WEIGHTS_FILES)


def export(trained: TrainedModel, folder: Path) -> None:
    """Write `trained` as a folder that diffusers' DDPMPipeline.from_pretrained loads; whole or not at all.

    Raises:
        UserError: `folder` exists, or diffusers has no such network or process.
    """
    network, diffusion = trained.model.config, DiffusionConfig(**trained.header["config"]["diffusion"])
    try:
        documents = {
            "model_index.json": {
                "_class_name": "DDPMPipeline",
                "scheduler": ["diffusers", "DDPMScheduler"],
                "unet": ["diffusers", "UNet2DModel"],
            },
            "unet/config.json": unet2d_config(network),
            "scheduler/scheduler_config.json": scheduler_config(diffusion),
        }
    except ValueError as error:
        raise UserError(f"{folder}: cannot be written: {error}.") from error
    weights = to_diffusers(trained.model.state_dict(), len(network.ch_mult))
    with atomic_folder(folder) as part:
        for name, document in documents.items():
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            (part / name).write_text(json.dumps(document, indent=2) + "\n")
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
        (part / "unet" / WEIGHTS_FILES[0]).write_bytes(save(tensors, metadata={"format": "pt"}))
