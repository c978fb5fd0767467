"""Folders of diffusers' DDPMPipeline: read as our network and process, and written so that others can use ours."""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors.torch import save

from ddpm.config.base import explain
from ddpm.config.errors import DamagedFile, UserError
from ddpm.config.schema import DiffusionConfig, NetworkConfig
from ddpm.storage.files import atomic_folder, read_json
from ddpm.training.convert.naming import to_diffusers
from ddpm.training.model import TrainedModel

AGAIN = "Get it again from its source."  # it may be the user's own, which is not to be deleted
# What our network always is, in the words of diffusers' UNet2DModel, and that class's own defaults.
UNET2D = {
    "_class_name": "UNet2DModel",
    "act_fn": "silu",
    "add_attention": True,
    "attention_head_dim": None,
    "center_input_sample": False,
    "class_embed_type": None,
    "downsample_padding": 0,
    "downsample_type": "conv",
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "mid_block_scale_factor": 1,
    "mid_block_type": "UNetMidBlock2D",
    "norm_eps": 1e-6,
    "num_class_embeds": None,
    "resnet_time_scale_shift": "default",
    "time_embedding_type": "positional",
    "upsample_type": "conv",
}
UNET2D_DEFAULTS = {
    **UNET2D,
    "attention_head_dim": 8,
    "downsample_padding": 1,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "norm_eps": 1e-5,
}
# What the process always is, which are the defaults of DDPMScheduler, too.
SCHEDULER = {
    "_class_name": "DDPMScheduler",
    "beta_schedule": "linear",
    "clip_sample": True,
    "clip_sample_range": 1.0,
    "rescale_betas_zero_snr": False,
    "steps_offset": 0,
    "thresholding": False,
    "trained_betas": None,
}
# Keys that change no image where all others are ours: versions and names, the size of learned embeddings, what finds a
# threshold that is not used, and which times fewer steps than T would visit.
HARMLESS = {
    "_diffusers_version", "_name_or_path", "tensor_format", "num_train_timesteps", "dynamic_thresholding_ratio",
    "sample_max_value", "timestep_spacing",
}  # fmt: skip
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
        ValueError: it has a setting that ours never has, or a key is missing or unknown.
    """
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
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"not a UNet2DModel's configuration ({error!r})") from error
    # As these keys are where they are null.
    implied = {"attn_norm_num_groups": network.groups, "time_embedding_dim": 4 * network.ch}
    theirs = UNET2D_DEFAULTS | config | {key: value for key, value in implied.items() if config.get(key) is None}
    refuse_other_settings("network", theirs, unet2d_config(network) | implied)
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
        **SCHEDULER,
        "num_train_timesteps": diffusion.timesteps,
        "beta_start": diffusion.beta_start,
        "beta_end": diffusion.beta_end,
        "variance_type": VARIANCES[diffusion.variance],
        "prediction_type": PREDICTIONS[diffusion.parameterization],
    }


def diffusion_of_scheduler(config: dict[str, Any]) -> DiffusionConfig:
    """Our process that equals the DDPMScheduler of `config`.

    Raises:
        ValueError: it is another process than the paper's, or a key is unknown.
    """

    def ours(names: dict[str, str], key: str, default: str) -> str:
        theirs = config.get(key, default)
        if theirs not in names.values():
            raise ValueError(f"{key} is {theirs!r}; known here: {', '.join(names.values())}")
        return next(mine for mine, name in names.items() if name == theirs)

    diffusion = DiffusionConfig(
        parameterization=ours(PREDICTIONS, "prediction_type", "epsilon"),
        objective="simple",
        variance=ours(VARIANCES, "variance_type", "fixed_small"),
        timesteps=config.get("num_train_timesteps", 1000),
        beta_start=config.get("beta_start", 1e-4),
        beta_end=config.get("beta_end", 0.02),
    )
    refuse_other_settings("process", config, scheduler_config(diffusion))
    return diffusion


def refuse_other_settings(kind: str, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    """Raise ValueError for the first of their keys that is neither as ours nor `HARMLESS`; an unknown null is that."""
    for key, value in theirs.items():
        if key in ours and value != ours[key]:
            raise ValueError(f"{key} is {value!r}; the authors' {kind} has {ours[key]!r}")
        if key not in ours and key not in HARMLESS and value is not None:
            raise ValueError(f"{key} is {value!r}, a key that is unknown here and may change the {kind}")


# In full precision, then in the half of `variant="fp16"`; in one file, or in several that an index lists.
WEIGHTS_FILES = tuple(
    f"diffusion_pytorch_model{name}"
    for variant in ("", ".fp16", ".bf16")
    for name in (
        f"{variant}.safetensors", f"{variant}.bin", f".safetensors.index{variant}.json", f".bin.index{variant}.json",
    )
)  # fmt: skip


def find(folder: Path, part: str, names: tuple[str, ...]) -> Path:
    """The file of one of `names` in the sub-folder `part`, or in `folder` itself as in folders of 2022."""
    candidates = [base / name for base in (folder / part, folder) for name in names]
    for path in candidates:
        if path.is_file():
            return path
    raise UserError(
        f"{folder}: not a folder of diffusers' DDPMPipeline: neither it nor {part} in it holds {' or '.join(names)}."
    )


def read_folder(folder: Path) -> tuple[NetworkConfig, DiffusionConfig, Path]:
    """The network, the process and the weights file, or the index of several, of a pipeline's folder.

    Raises:
        UserError: a file is missing, or it is not the authors' network or process; says which setting differs.
    """
    unet, scheduler = find(folder, "unet", ("config.json",)), find(folder, "scheduler", ("scheduler_config.json",))
    parts = []
    for path, translate, model in (
        (unet, network_of_unet2d, NetworkConfig), (scheduler, diffusion_of_scheduler, DiffusionConfig),
    ):  # fmt: skip
        try:
            document = read_json(path)
            if not isinstance(document, dict):
                raise ValueError("holds no names and values")
            parts.append(translate(document))
        except ValidationError as error:
            raise explain(error, model, str(path)) from None
        except ValueError as error:
            raise UserError(f"{path}: {error}. Only the authors' network and process can be imported.") from error
    return *parts, find(folder, "unet", WEIGHTS_FILES)


def weights_files(path: Path) -> list[Path]:
    """The files that hold the weights at `path`: those of an index, which lie beside it, or the file itself.

    Raises:
        UserError: an index that is none, or that names files elsewhere.
    """
    if ".index." not in path.name:
        return [path]
    try:
        files = [path.parent / name for name in sorted(set(read_json(path)["weight_map"].values()))]
    except (KeyError, TypeError, AttributeError) as error:
        raise DamagedFile(path, f"not an index of files of weights ({error!r})", AGAIN) from error
    for file in files:
        if file.parent != path.parent or not file.is_file():
            raise UserError(f"{file}: no such file beside {path.name}, which says that weights are in it.")
    return files


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
