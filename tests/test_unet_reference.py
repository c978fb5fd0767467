"""The network equals an independent one: diffusers' UNet2DModel in the published models' configuration.

The names below are also those of the converted official checkpoints (ours, with q, k and v apart) and of the
diffusers folders that hold the released weights.
"""

import re

import diffusers
import pytest
import torch
from torch import Tensor

from ddpm.config import NetworkConfig
from ddpm.unet import UNet

# Our parts and diffusers', in the order in which they are replaced.
RENAMED = [
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


def to_diffusers(weights: dict[str, Tensor], levels: int) -> dict[str, Tensor]:
    """Our weights under diffusers' names and in its shapes."""
    converted = {}
    for name, tensor in weights.items():
        name = re.sub(r"^up\.(\d+)", lambda m: f"up_blocks.{levels - 1 - int(m[1])}", name)
        for pattern, replacement in RENAMED:
            name = re.sub(pattern, replacement, name)
        if ".attentions." in name and tensor.ndim == 4:
            tensor = tensor[:, :, 0, 0]  # a convolution of size 1 is a dense layer there
        if ".qkv." in name:
            for letter, third in zip("qkv", tensor.chunk(3), strict=True):
                converted[name.replace("qkv", f"to_{letter}")] = third
        else:
            converted[name] = tensor
    return converted


def from_diffusers(weights: dict[str, Tensor], like: dict[str, Tensor], levels: int) -> dict[str, Tensor]:
    """The way back: each of our tensors is put together from the pieces that `to_diffusers` makes of it."""
    back = {}
    for name, tensor in like.items():
        pieces = [weights[key] for key in to_diffusers({name: tensor}, levels)]
        back[name] = torch.cat(pieces).reshape(tensor.shape)
    return back


def published(image_size: int, widths: tuple[int, ...], attended: set[int], blocks: int, **changes):
    """UNet2DModel with the settings of google/ddpm-cifar10-32 and google/ddpm-*-256."""
    kinds = ["Attn" if image_size >> i in attended else "" for i in range(len(widths))]
    settings = {
        "sample_size": image_size, "in_channels": 3, "out_channels": 3, "layers_per_block": blocks,
        "block_out_channels": widths, "downsample_padding": 0, "freq_shift": 1, "flip_sin_to_cos": False,
        "norm_eps": 1e-6, "norm_num_groups": 32, "attention_head_dim": None, "center_input_sample": False,
        "mid_block_scale_factor": 1, "time_embedding_type": "positional", "act_fn": "silu",
        "down_block_types": tuple(f"{kind}DownBlock2D" for kind in kinds),
        "up_block_types": tuple(f"{kind}UpBlock2D" for kind in reversed(kinds)),
    }  # fmt: skip
    return diffusers.UNet2DModel(**{**settings, **changes})


CASES = {
    "32x32, the published width": (32, 128, (1, 2, 2, 2)),
    "256x256, a quarter of the width": (256, 32, (1, 1, 2, 2, 4, 4)),
}


def pair(case: str, **changes) -> tuple[UNet, torch.nn.Module, int]:
    """Our network and diffusers', in float64; every weight of ours is drawn anew, so that none is near zero."""
    size, ch, multipliers = CASES[case]
    torch.manual_seed(0)
    config = NetworkConfig(
        image_size=size, channels=3, out_channels=3, ch=ch, ch_mult=multipliers, attn_resolutions=(16,)
    )
    ours = UNet(config).double().eval()
    with torch.no_grad():
        for p in ours.parameters():
            p.normal_(std=0.05)
    return (
        ours,
        published(size, tuple(ch * m for m in multipliers), {16}, 2, **changes).double().eval(),
        len(multipliers),
    )


def outputs(ours: UNet, theirs: torch.nn.Module) -> tuple[Tensor, Tensor]:
    size = ours.config.image_size
    x, t = torch.randn(1, 3, size, size, dtype=torch.float64), torch.tensor([613])
    with torch.no_grad():
        return ours(x, t), theirs(x, t).sample


@pytest.mark.parametrize("case", CASES)
def test_outputs_are_those_of_diffusers(case):
    ours, theirs, levels = pair(case)
    theirs.load_state_dict(to_diffusers(ours.state_dict(), levels))
    mine, other = outputs(ours, theirs)
    # The embedding of t is float32 on both sides.
    torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-5 * other.abs().max().item())


def test_weights_come_back_from_diffusers():
    ours, theirs, levels = pair("32x32, the published width")
    before = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    with torch.no_grad():
        for p in theirs.parameters():
            p.normal_(std=0.05)
    ours.load_state_dict(from_diffusers(theirs.state_dict(), before, levels))
    mine, other = outputs(ours, theirs)
    torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-5 * other.abs().max().item())


@pytest.mark.parametrize(
    "deviation",
    [
        {"downsample_padding": 1},
        {"freq_shift": 0},
        {"flip_sin_to_cos": True},
        {"norm_eps": 1e-3},
        {"norm_num_groups": 16},
    ],
    ids=str,
)
def test_the_comparison_notices_what_deviating_ports_do(deviation):
    ours, theirs, levels = pair("32x32, the published width", **deviation)
    theirs.load_state_dict(to_diffusers(ours.state_dict(), levels))
    mine, other = outputs(ours, theirs)
    assert (mine - other).abs().max() > 1e-4 * other.abs().max()
