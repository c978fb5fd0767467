"""The network equals an independent one: diffusers' UNet2DModel in the published models' configuration."""

import pytest
import torch
from official_weights import drawn
from torch import Tensor

from ddpm.config.schema import NetworkConfig
from ddpm.training.convert.naming import to_diffusers, to_ours
from ddpm.unet import UNet


def published(image_size: int, widths: tuple[int, ...], attended: set[int], blocks: int, **changes):
    """UNet2DModel with the settings of google/ddpm-cifar10-32 and google/ddpm-*-256."""
    import diffusers  # three CPU seconds

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
SMALL = "32x32, a quarter of the width"


def pair(case: str, **changes) -> tuple[UNet, torch.nn.Module, int]:
    """Our network and diffusers', in float64; ours has random weights, none of them near zero."""
    size, ch, multipliers = (32, 32, (1, 2, 2, 2)) if case == SMALL else CASES[case]
    torch.manual_seed(0)
    config = NetworkConfig(
        image_size=size, channels=3, out_channels=3, ch=ch, ch_mult=multipliers, attn_resolutions=(16,)
    )
    ours = UNet(config).double().eval()
    ours.load_state_dict(to_ours(drawn(config), config))
    return (
        ours,
        published(size, tuple(ch * m for m in multipliers), {16}, 2, **changes).double().eval(),
        len(multipliers),
    )


def outputs(ours: UNet, theirs: torch.nn.Module) -> tuple[Tensor, Tensor]:
    size = min(ours.config.image_size, 64)  # with all levels of 256x256 in a sixteenth of the time
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
    ours, theirs, _ = pair(SMALL)
    with torch.no_grad():
        for p in theirs.parameters():
            p.add_(torch.randn_like(p) * 0.05)
    ours.load_state_dict(to_ours(theirs.state_dict(), ours.config))
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
)
def test_the_comparison_notices_what_deviating_ports_do(deviation):
    ours, theirs, levels = pair(SMALL, **deviation)
    theirs.load_state_dict(to_diffusers(ours.state_dict(), levels))
    mine, other = outputs(ours, theirs)
    assert (mine - other).abs().max() > 1e-4 * other.abs().max()
