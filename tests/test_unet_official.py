"""The network equals a second independent one: `official_unet`, in TensorFlow's conventions.

The tensors' names and shapes are those of the converted official checkpoints, written out here by rule.
"""

import math

import numpy as np
import official_unet
import pytest
import torch
from official_weights import drawn, official_shapes
from torch import Tensor

from ddpm import unet
from ddpm.config.schema import NetworkConfig
from ddpm.training.convert.naming import to_official, to_ours

PUBLISHED = {  # the paper's networks, and their numbers of parameters
    "32x32": ({"image_size": 32, "ch": 128, "ch_mult": (1, 2, 2, 2)}, 35_746_307),
    "256x256": ({"image_size": 256, "ch": 128, "ch_mult": (1, 1, 2, 2, 4, 4)}, 113_673_219),
}
CASES = {
    "32x32, the published width": PUBLISHED["32x32"][0],
    "256x256's levels on 64x64, a quarter of the width": {
        **PUBLISHED["256x256"][0],
        **{"image_size": 64, "attn_resolutions": (4,), "ch": 32},
    },
    "32x32, a quarter of the width, learned variance": {**PUBLISHED["32x32"][0], "ch": 32, "out_channels": 6},
}
SMALL = CASES["32x32, a quarter of the width, learned variance"]

# Our embedding of t is float32 as the authors' is, the reference's float64: sines of angles of up to 999 are then off
# by up to 7e-5, which leaves 2e-6 and less of the largest output.
TOLERANCE = 1e-5


def network(**sizes) -> NetworkConfig:
    return NetworkConfig(**{"channels": 3, "out_channels": 3, "num_res_blocks": 2, "attn_resolutions": (16,), **sizes})


def to_tensorflow(official: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """The official weights in TensorFlow's layouts."""
    nin = (".q.weight", ".k.weight", ".v.weight", ".proj_out.weight", ".nin_shortcut.weight")
    arrays = {}
    for name, tensor in official.items():
        if name.endswith(nin):
            tensor = tensor[:, :, 0, 0].permute(1, 0)
        elif tensor.ndim == 4:
            tensor = tensor.permute(2, 3, 1, 0)
        elif tensor.ndim == 2:
            tensor = tensor.permute(1, 0)
        arrays[name] = np.ascontiguousarray(tensor.numpy())
    return arrays


@pytest.mark.parametrize("case", PUBLISHED)
def test_tensors_are_those_of_the_official_checkpoints(case):
    sizes, count = PUBLISHED[case]
    config = network(**sizes)
    with torch.device("meta"):
        official = to_official(unet.UNet(config).state_dict())
    shapes = official_shapes(config)
    assert {name: tuple(tensor.shape) for name, tensor in official.items()} == shapes
    assert sum(math.prod(shape) for shape in shapes.values()) == count


def test_weights_go_both_ways():
    config = network(**SMALL)
    official = drawn(config)
    model = unet.UNet(config).double()
    model.load_state_dict(to_ours(official, config))
    back = to_official(model.state_dict())
    assert back.keys() == official.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in official.items())


# --- The outputs. ---


def inputs(config: NetworkConfig) -> tuple[Tensor, Tensor]:
    """Two images at different times; of a large network, for the sake of time, one."""
    t = torch.tensor([999, 613] if config.ch <= 32 else [999])
    shape = len(t), config.channels, config.image_size, config.image_size
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64), t


def ours(config: NetworkConfig, official: dict[str, Tensor]) -> Tensor:
    model = unet.UNet(config).double().eval()
    model.load_state_dict(to_ours(official, config))
    with torch.no_grad():
        return model(*inputs(config))


def theirs(config: NetworkConfig, arrays: dict[str, np.ndarray]) -> Tensor:
    x, t = inputs(config)
    sizes = {"levels": len(config.ch_mult), "blocks": config.num_res_blocks, "attended": config.attn_resolutions}
    out = official_unet.official_unet(x.permute(0, 2, 3, 1).numpy(), t.numpy(), arrays, ch=config.ch, **sizes)
    return torch.from_numpy(out).permute(0, 3, 1, 2)


def difference(a: Tensor, b: Tensor) -> float:
    """The largest difference, relative to the largest output."""
    assert a.shape == b.shape
    return ((a - b).abs().max() / b.abs().max()).item()


@pytest.mark.parametrize("case", CASES)
def test_outputs_are_those_of_the_official_network(case, monkeypatch):
    config = network(**CASES[case])
    weights = drawn(config)
    expected = theirs(config, to_tensorflow(weights))
    assert difference(ours(config, weights), expected) < TOLERANCE
    # With the same embedding of t, nothing but the rounding of float64 is left.
    monkeypatch.setattr(
        unet, "timestep_embedding", lambda t, dim: torch.from_numpy(official_unet.time_embedding(t.numpy(), dim))
    )
    assert difference(ours(config, weights), expected) < 1e-12


def test_the_official_network_reads_every_tensor():
    read = set()

    class CUDAGraphCallable(dict):
        def __getitem__(self, name):
            read.add(name)
            return super().__getitem__(name)

    config = network(**SMALL)
    theirs(config, CUDAGraphCallable(to_tensorflow(drawn(config))))
    assert read == official_shapes(config).keys()


# --- What deviating ports do: replacements for parts of `official_unet`. ---


def cosines_first(t, dim, sines_first=official_unet.time_embedding):
    return np.roll(sines_first(t, dim), dim // 2, axis=1)


def interleaved(t, dim):
    angles = t[:, None] * official_unet.frequencies(dim // 2)
    return np.stack([np.sin(angles), np.cos(angles)], axis=2).reshape(len(t), dim)


def swish_after_the_mlp(t, W, ch, mlp=official_unet.time_mlp):
    return official_unet.swish(mlp(t, W, ch))


def swish_before_the_norm(x, W, norm, convolution):
    return official_unet.conv(official_unet.group_norm(official_unet.swish(x), W, norm), W, convolution)


def norm_after_the_convolution(x, W, norm, convolution, before=official_unet.norm_swish_conv):
    """Where the numbers of channels allow it."""
    if W[f"{norm}.bias"].shape != W[f"{convolution}.bias"].shape:
        return before(x, W, norm, convolution)
    return official_unet.swish(official_unet.group_norm(official_unet.conv(x, W, convolution), W, norm))


def shortcut_of_the_normalised(x, W, name, shortcut=official_unet.shortcut):
    return shortcut(official_unet.group_norm(x, W, f"{name}.norm1"), W, name)


DEVIATIONS = {
    "symmetric padding": ("same_padding", lambda n, k, s: (k // 2, k // 2)),
    "cosines first": ("time_embedding", cosines_first),
    "sines and cosines interleaved": ("time_embedding", interleaved),
    "exponent i / half": ("frequencies", lambda half: 10000.0 ** (-np.arange(half) / half)),
    "swish after the time MLP": ("time_mlp", swish_after_the_mlp),
    "epsilon 1e-5": ("EPSILON", 1e-5),
    "16 groups": ("GROUPS", 16),
    "swish before the norm": ("norm_swish_conv", swish_before_the_norm),
    "norm after the convolution": ("norm_swish_conv", norm_after_the_convolution),
    "shortcut of the normalised input": ("shortcut", shortcut_of_the_normalised),
    "attention scaled by C^-1/4": ("attention_scale", lambda c: c**-0.25),
    "attention not scaled": ("attention_scale", lambda c: 1.0),
    "skip before the way up": ("join", lambda h, skip: np.concatenate([skip, h], axis=3)),
}


@pytest.fixture(scope="module")
def small():
    """A small network, its weights as TensorFlow has them, and the output of ours."""
    config = network(**{**SMALL, "image_size": 16, "attn_resolutions": (8,)})
    weights = drawn(config)
    return config, to_tensorflow(weights), ours(config, weights)


@pytest.mark.parametrize("deviation", DEVIATIONS)
def test_the_comparison_notices_what_deviating_ports_do(deviation, small, monkeypatch):
    config, arrays, output = small
    monkeypatch.setattr(official_unet, *DEVIATIONS[deviation])
    assert difference(output, theirs(config, arrays)) > TOLERANCE
