"""The names of the same weights elsewhere, both ways.

Two namings besides ours: that of the converted official checkpoints (ours, with q, k and v as three layers), and that
of diffusers' UNet2DModel. All three hold the same numbers for the same network, so each way is a renaming.
"""

import re
from collections.abc import Callable

import torch
from torch import Tensor

from ddpm.config.schema import NetworkConfig
from ddpm.unet import UNet

Weights = dict[str, Tensor]

# Our parts and diffusers', in the order in which they are replaced.
DIFFUSERS_NAMES = [
    (r"^temb\.dense\.(\d)", lambda m: f"time_embedding.linear_{int(m[1]) + 1}"),
    (r"\.block\.", ".resnets."),
    (r"\.attn\.", ".attentions."),
    (r"^mid\.block_(\d)", lambda m: f"mid_block.resnets.{int(m[1]) - 1}"),
    (r"^mid\.attn_1", "mid_block.attentions.0"),
    (r"^down\.", "down_blocks."),
    (r"\.downsample\.", ".downsamplers.0."),
    (r"\.upsample\.", ".upsamplers.0."),
    (r"\.temb_proj\.", ".time_emb_proj."),
    (r"\.nin_shortcut\.", ".conv_shortcut."),
    (r"^norm_out", "conv_norm_out"),
    (r"(attentions\.\d+)\.norm\.", r"\1.group_norm."),
    (r"\.proj_out\.", ".to_out.0."),
]

# The names of attention layers in diffusers folders of 2022, and today's.
OLD_DIFFUSERS_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def to_official(weights: Weights) -> Weights:
    """Our weights under the names of the converted official checkpoints."""
    converted = {}
    for name, tensor in weights.items():
        if ".qkv." in name:
            for letter, third in zip("qkv", tensor.chunk(3), strict=True):
                converted[name.replace("qkv", letter)] = third
        else:
            converted[name] = tensor
    return converted


def to_diffusers(weights: Weights, levels: int) -> Weights:
    """Our weights under diffusers' names and in its shapes; `levels` is the network's number of resolutions."""
    converted = {}
    for name, tensor in to_official(weights).items():
        name = re.sub(r"\.attn(\.\d+|_1)\.([qkv])\.", r".attn\1.to_\2.", name)
        name = re.sub(r"^up\.(\d+)", lambda m: f"up_blocks.{levels - 1 - int(m[1])}", name)  # counted from below
        for pattern, replacement in DIFFUSERS_NAMES:
            name = re.sub(pattern, replacement, name)
        if ".attentions." in name and tensor.ndim == 4:
            tensor = tensor[:, :, 0, 0]  # a convolution of size 1 is a dense layer there
        converted[name] = tensor
    return converted


def rename_back(theirs: Weights, ours: Weights, naming: Callable[[Weights], Weights]) -> Weights:
    """`theirs` under our names: each of our tensors is put together from the pieces that `naming` makes of it.

    Args:
        ours: our names with tensors of the right shapes, as of a network on the meta device.

    Raises:
        ValueError: names are missing or unknown, or shapes are others; the first few are listed.
    """
    expected = naming(ours)
    problems = []
    if missing := sorted(expected.keys() - theirs.keys()):
        problems.append(f"{len(missing)} tensors are missing, such as {', '.join(missing[:3])}")
    if unknown := sorted(theirs.keys() - expected.keys()):
        problems.append(f"{len(unknown)} have no place in it, such as {', '.join(unknown[:3])}")
    for name in expected.keys() & theirs.keys():
        if theirs[name].shape != expected[name].shape:
            problems.append(f"{name} is {tuple(theirs[name].shape)}, not {tuple(expected[name].shape)}")
    if problems:
        raise ValueError("; ".join(problems[:4]))
    back = {}
    for name, tensor in ours.items():
        pieces = [theirs[key] for key in naming({name: tensor})]
        back[name] = torch.cat(pieces).reshape(tensor.shape)
    return back


def to_ours(theirs: Weights, network: NetworkConfig) -> Weights:
    """Weights in any of the three namings under ours, of just the shapes of `network`.

    Raises:
        ValueError: they are those of no such network, or not all finite.
    """
    with torch.device("meta"):
        ours = UNet(network).state_dict()
    if any(name.startswith("time_embedding.") for name in theirs):
        pattern = rf"(attentions\.\d+)\.({'|'.join(OLD_DIFFUSERS_NAMES)})\."
        theirs = {
            re.sub(pattern, lambda m: f"{m[1]}.{OLD_DIFFUSERS_NAMES[m[2]]}.", name): tensor
            for name, tensor in theirs.items()
        }
        converted = rename_back(theirs, ours, lambda weights: to_diffusers(weights, len(network.ch_mult)))
    elif any(".qkv." in name for name in theirs):
        converted = rename_back(theirs, ours, dict)
    else:
        converted = rename_back(theirs, ours, to_official)
    for name, tensor in converted.items():
        if not tensor.isfinite().all():
            raise ValueError(f"{name} holds values that are not finite")
    return converted
