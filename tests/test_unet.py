"""The network is the authors' (their numbers: Appendix B; their code: models/unet.py, nn.py)."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ddpm.compute.norm import Dropout
from ddpm.config.schema import NetworkConfig
from ddpm.unet import AttnBlock, Downsample, ResnetBlock, UNet, Upsample, timestep_embedding

CIFAR10 = {"image_size": 32, "channels": 3, "ch": 128, "ch_mult": (1, 2, 2, 2), "attn_resolutions": (16,)}
LARGE = {"image_size": 256, "channels": 3, "ch_mult": (1, 1, 2, 2, 4, 4), "attn_resolutions": (16,)}
TINY = {
    "image_size": 8, "channels": 1, "out_channels": 1, "ch": 8, "ch_mult": (1, 2), "num_res_blocks": 1,
    "attn_resolutions": (4,), "groups": 4,
}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "count"),
    [
        ({**CIFAR10, "out_channels": 3}, 35_746_307),
        ({**CIFAR10, "out_channels": 6}, 35_749_766),
        ({**LARGE, "ch": 128, "out_channels": 3}, 113_673_219),
        ({**LARGE, "ch": 192, "out_channels": 3}, 255_677_955),
    ],
)
def test_parameter_counts_are_the_papers(config, count):
    with torch.device("meta"):
        model = UNet(NetworkConfig(**config))
    assert sum(p.numel() for p in model.parameters()) == count


@pytest.mark.parametrize("image_size", [8, 16])
@pytest.mark.parametrize(("channels", "out_channels"), [(1, 1), (1, 2), (3, 6)])
@pytest.mark.parametrize("ch_mult", [(1,), (1, 2), (2, 1, 1)])
def test_any_size_and_channels(image_size, channels, out_channels, ch_mult):
    config = NetworkConfig(
        image_size=image_size, channels=channels, out_channels=out_channels, ch=8, ch_mult=ch_mult,
        num_res_blocks=1, attn_resolutions=(image_size,), groups=4,
    )  # fmt: skip
    out = UNet(config)(torch.randn(2, channels, image_size, image_size), torch.tensor([0, 999]))
    assert out.shape == (2, out_channels, image_size, image_size)


def test_timestep_embedding_is_sines_then_cosines():
    t, dim = 37, 8
    frequencies = [math.exp(-math.log(10000) * i / 3) for i in range(4)]
    expected = [math.sin(t * f) for f in frequencies] + [math.cos(t * f) for f in frequencies]
    torch.testing.assert_close(timestep_embedding(torch.tensor([t]), dim)[0], torch.tensor(expected))


def test_timestep_embedding_rounds_as_the_authors_does():
    """nn.py's operations, each rounded to float32; sines and cosines of libraries differ by one rounding."""
    t, dim = torch.arange(1000), 128
    exponents = np.arange(64, dtype=np.float32) * np.float32(-(math.log(10000) / 63))
    frequencies = np.exp(exponents.astype(np.float64)).astype(np.float32)
    angles = (np.arange(1000, dtype=np.float32)[:, None] * frequencies).astype(np.float64)
    expected = np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)
    assert np.abs(timestep_embedding(t, dim).numpy() - expected).max() < 1e-7


def test_normalisation_is_by_groups_with_the_authors_epsilon():
    norms = [m for m in UNet(NetworkConfig(**{**CIFAR10, "out_channels": 3, "ch": 32})).modules()
             if isinstance(m, torch.nn.GroupNorm)]  # fmt: skip
    assert norms
    assert {(m.num_groups, m.eps, m.affine) for m in norms} == {(32, 1e-6, True)}


def test_downsampling_pads_below_and_right_only():
    layer = Downsample(1)
    with torch.no_grad():
        layer.conv.weight.zero_()
        layer.conv.weight[0, 0, 0, 0] = 1  # picks the top left pixel of each window
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert layer(x).flatten().tolist() == [0.0, 2.0, 8.0, 10.0]


def test_upsampling_doubles_every_pixel():
    layer = Upsample(1)
    with torch.no_grad():
        layer.conv.weight.zero_()
        layer.conv.weight[0, 0, 1, 1] = 1  # the convolution then passes its input on
    x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    assert layer(x)[0, 0].tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]


def test_upsampling_is_a_doubling_and_then_a_convolution():
    """As one convolution, whose sums of weights stand for the equal neighbours."""
    layer, x = Upsample(3).double(), torch.randn(2, 3, 5, 4, dtype=torch.float64)
    with torch.no_grad():
        layer.conv.bias.normal_()
    doubled = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    weight, bias = layer.conv.weight, layer.conv.bias
    expected = F.conv2d(doubled, weight, bias, padding=1)
    torch.testing.assert_close(layer(x), expected)
    layer.fused = False
    torch.testing.assert_close(layer(x), expected)


def test_block_is_the_written_formula():
    config = NetworkConfig(**TINY)
    block = ResnetBlock(8, 16, config).eval()
    with torch.no_grad():
        for p in block.parameters():
            p.normal_(std=0.2)
    x, temb = torch.randn(3, 8, 8, 8), torch.randn(3, 32)

    def gn(x, layer):
        groups = x.reshape(3, 4, -1)
        mean, var = groups.mean(2, keepdim=True), groups.var(2, unbiased=False, keepdim=True)
        normed = ((groups - mean) / (var + 1e-6).sqrt()).reshape(x.shape)
        return normed * layer.weight[:, None, None] + layer.bias[:, None, None]

    def swish(x):
        return x * torch.sigmoid(x)

    h = F.conv2d(swish(gn(x, block.norm1)), block.conv1.weight, block.conv1.bias, padding=1)
    h = h + F.linear(swish(temb), block.temb_proj.weight, block.temb_proj.bias)[:, :, None, None]
    h = F.conv2d(swish(gn(h, block.norm2)), block.conv2.weight, block.conv2.bias, padding=1)
    expected = F.conv2d(x, block.nin_shortcut.weight, block.nin_shortcut.bias) + h
    torch.testing.assert_close(block(x, temb), expected, rtol=1e-4, atol=1e-5)


def test_attention_is_softmax_of_scaled_products_over_all_positions():
    block = AttnBlock(8, NetworkConfig(**TINY)).double()
    with torch.no_grad():
        block.proj_out.weight.normal_()
    x = torch.randn(2, 8, 4, 4, dtype=torch.float64)
    q, k, v = block.qkv(block.norm(x)).flatten(2).chunk(3, dim=1)
    weights = torch.softmax(torch.einsum("bci,bcj->bij", q, k) * 8**-0.5, dim=2)
    h = torch.einsum("bij,bcj->bci", weights, v).reshape(x.shape)
    torch.testing.assert_close(block(x), x + block.proj_out(h))


def test_attention_stands_behind_every_block_of_its_resolution_and_in_the_middle():
    model = UNet(NetworkConfig(**{**CIFAR10, "out_channels": 3, "ch": 32}))
    where = [name for name, m in model.named_modules() if isinstance(m, AttnBlock)]
    assert where == [
        "down.1.attn.0",
        "down.1.attn.1",
        "mid.attn_1",
        "up.1.attn.0",
        "up.1.attn.1",
        "up.1.attn.2",
    ]


def test_initial_weights_have_the_stated_spread():
    torch.manual_seed(0)
    model = UNet(NetworkConfig(**{**CIFAR10, "out_channels": 3}))
    nearly_zero = ("conv2.weight", "proj_out.weight", "conv_out.weight")
    for name, p in model.named_parameters():
        if name.endswith("bias"):
            assert not p.any(), name
        elif p.ndim > 1:
            chunks = p.chunk(3) if "qkv" in name else [p]
            for chunk in chunks:
                fan_out, fan_in = chunk.shape[0] * chunk[0, 0].numel(), chunk.shape[1] * chunk[0, 0].numel()
                scale = 1e-10 if name.endswith(nearly_zero) else 1.0
                limit = math.sqrt(3 * scale / ((fan_in + fan_out) / 2))
                assert 0.98 * limit < chunk.abs().max().item() <= limit * (1 + 1e-6), name
                # The variance of U(-a, a) is a^2 / 3; six standard errors of its estimate.
                tolerance = 6 * math.sqrt(0.8 / chunk.numel())
                assert chunk.var().item() == pytest.approx(limit**2 / 3, rel=tolerance), name


def test_dropout_is_active_in_training_only():
    model = UNet(NetworkConfig(**{**TINY, "dropout": 0.5}))
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(std=0.2)
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([1, 2])
    model.train()
    assert not torch.equal(model(x, t), model(x, t))
    model.eval()
    assert torch.equal(model(x, t), model(x, t))


def test_dropout_stands_before_the_second_convolution():
    block = ResnetBlock(8, 8, NetworkConfig(**{**TINY, "dropout": 0.5})).train()
    with torch.no_grad():
        for p in block.parameters():
            p.normal_(std=0.2)
    x, temb, seeds = torch.randn(3, 8, 8, 8), torch.randn(3, 32), torch.tensor([5, 6, 7], dtype=torch.int32)
    h = block.conv1(F.silu(block.norm1(x))) + block.temb_proj(F.silu(temb))[:, :, None, None]
    dropped = block.dropout(F.silu(block.norm2(h)), seeds)
    assert 0.3 < (dropped == 0).float().mean() < 0.7
    torch.testing.assert_close(block(x, temb, seeds), x + block.conv2(dropped))


def test_dropout_masks_are_named_by_image_layer_and_element():
    layer, other = Dropout(0.1).train(), Dropout(0.1).train()
    other.layer = 1
    seeds = torch.arange(40, dtype=torch.int32)
    x = torch.ones(40, 8, 16, 16)
    kept = layer(x, seeds) != 0
    # The share that is dropped, with five standard errors: overall, by image, and by element.
    count = kept.numel()
    assert abs(1 - kept.float().mean().item() - 0.1) < 5 * math.sqrt(0.09 / count)
    assert ((1 - kept.flatten(1).float().mean(1) - 0.1).abs() < 5 * math.sqrt(0.09 * 40 / count)).all()
    torch.testing.assert_close(layer(x, seeds)[kept], torch.full((int(kept.sum()),), 1 / 0.9))
    # No two images, layers or neighbouring elements share a mask: what both drop is a hundredth.
    flat = ~kept.flatten(1)
    for one, two in (
        (flat[:-1], flat[1:]),
        (flat, other(x, seeds).flatten(1) == 0),
        (flat[:, :-1], flat[:, 1:]),
        (flat[:, :-16], flat[:, 16:]),
        (flat[:, :-256], flat[:, 256:]),
    ):
        assert (one & two).float().mean().item() == pytest.approx(0.01, abs=5 * math.sqrt(0.0099 / one.numel()))
    # An image's mask is its own in any batch.
    assert torch.equal(layer(x[7:9], seeds[7:9]), layer(x, seeds)[7:9])
