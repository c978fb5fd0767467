"""Winograd's convolutions are torch's but for rounding, and used only where they are asked for and gain."""

import pytest
import torch
from torch.nn import functional as F

from ddpm import winograd
from ddpm.computing import frozen, placed, saves_products
from ddpm.config import NetworkConfig
from ddpm.precision import ASKED, Precision
from ddpm.unet import UNet
from ddpm.winograd import Conv3x3, Convolution, convolve, transformed

CPU = torch.device("cpu")
WIDE = NetworkConfig(
    channels=3,
    out_channels=3,
    image_size=32,
    ch=128,
    ch_mult=[1, 1],
    num_res_blocks=1,
    attn_resolutions=[],
    dropout=0,
    groups=32,
)


def tensors(batch: int, c_in: int, c_out: int, height: int, width: int) -> tuple[torch.Tensor, ...]:
    """x, weight, bias and the output's gradient, in channels_last."""
    draws = torch.Generator().manual_seed(0)
    shapes = ((batch, c_in, height, width), (c_out, c_in, 3, 3), (c_out,), (batch, c_out, height, width))
    found = [torch.randn(shape, generator=draws) for shape in shapes]
    return tuple(t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t for t in found)


def error(found: torch.Tensor, exact: torch.Tensor) -> float:
    return ((found - exact).norm() / exact.norm()).item()


# Images that fill one group, several, and a part of one; one that is not square; uneven numbers of channels.
SHAPES = [(1, 3, 5, 16, 16), (5, 7, 4, 32, 32), (9, 16, 8, 16, 16), (2, 6, 10, 16, 24), (1, 4, 4, 64, 48)]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_convolution_and_its_gradients_are_torchs(shape):
    x, weight, bias, gradient = tensors(*shape)
    inputs = [t.requires_grad_() for t in (x, weight, bias)]
    doubles = [t.detach().double().requires_grad_() for t in inputs]
    exact = F.conv2d(*doubles, padding=1)
    found = Convolution.apply(*inputs)
    assert error(found, exact) < 1e-5
    assert found.is_contiguous(memory_format=torch.channels_last)
    exact.backward(gradient.double())
    found.backward(gradient)
    for ours, theirs in zip(inputs, doubles, strict=True):
        assert error(ours.grad, theirs.grad) < 1e-5


def test_any_order_of_memory_will_do():
    x, weight, bias, _ = (t.contiguous() for t in tensors(3, 4, 6, 16, 16))
    assert error(convolve(x, transformed(weight), bias), F.conv2d(x, weight, bias, padding=1)) < 1e-5


@pytest.mark.parametrize(
    ("height", "width", "used"), [(16, 16, True), (20, 32, True), (12, 32, False), (18, 18, False)]
)
def test_a_layer_uses_it_where_the_image_is_large_enough_and_of_whole_tiles(height, width, used, monkeypatch):
    x, weight, bias, _ = tensors(2, 4, 6, height, width)
    layer = Conv3x3(4, 6, 3, padding=1)
    layer.weight.data, layer.bias.data = weight, bias
    exact = F.conv2d(x, weight, bias, padding=1)
    assert torch.equal(layer(x), exact), "nobody asked for it"
    layer.minimal = True
    assert torch.equal(layer(x), exact) != used
    assert error(layer(x), exact) < 1e-5
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert torch.equal(layer(x), exact)


def test_networks_use_it_on_a_cpu_in_float32_if_they_are_wide(monkeypatch):
    narrow = WIDE.model_copy(update={"ch": 64})
    assert saves_products(WIDE, CPU, Precision.FP32)
    assert not saves_products(WIDE, CPU, Precision.BF16)
    assert not saves_products(WIDE, torch.device("cuda"), Precision.FP32)
    assert not saves_products(narrow, CPU, Precision.FP32)
    for network, precision, minimal in ((WIDE, "fp32", True), (WIDE, "bf16", False), (narrow, "fp32", False)):
        monkeypatch.setenv(ASKED, precision)
        model = placed(UNet(network), CPU)
        layers = [layer for layer in model.modules() if isinstance(layer, Conv3x3)]
        assert len(layers) == 2 * 8, "both of every residual block"
        assert {layer.minimal for layer in layers} == {minimal}


def test_a_network_is_the_same_with_it_and_its_frozen_weights_are_transformed_once(monkeypatch):
    monkeypatch.setenv(ASKED, "fp32")
    torch.manual_seed(0)
    model = UNet(WIDE)
    for parameter in model.parameters():  # else most branches are nearly 0
        parameter.data += 0.02 * torch.randn_like(parameter)
    x, t = torch.randn(3, 3, 32, 32), torch.tensor([0, 500, 999])
    model.eval()
    exact = model(x, t)
    with_it = placed(model, CPU)(x, t)
    assert 0 < error(with_it, exact) < 1e-5
    count = []
    monkeypatch.setattr(winograd, "transformed", lambda weight: count.append(weight) or transformed(weight))
    for _ in range(2):
        assert error(frozen(model)(x, t), exact) < 1e-5
    assert len(count) == len({id(weight) for weight in count}) == 2 * 8


def test_frozen_weights_that_change_are_transformed_again():
    layer, x = Conv3x3(4, 8, 3, padding=1).requires_grad_(False), torch.randn(1, 4, 16, 16)
    layer.minimal = True
    layer(x)
    layer.load_state_dict({"weight": torch.randn(8, 4, 3, 3), "bias": torch.zeros(8)})
    assert error(layer(x), F.conv2d(x, layer.weight, layer.bias, padding=1)) < 1e-5
