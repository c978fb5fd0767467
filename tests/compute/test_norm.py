"""Group normalisation by channels, which the compiler is given, is group normalisation."""

import pytest
import torch

from ddpm.compute.norm import GroupNorm

LAST = torch.channels_last


def layer(channels: int, groups: int) -> GroupNorm:
    made = GroupNorm(channels, groups)
    with torch.no_grad():
        made.weight.uniform_(0.5, 1.5)
        made.bias.normal_()
    return made


@pytest.mark.fidelity
@pytest.mark.parametrize("order", [LAST, torch.contiguous_format], ids=["channels_last", "contiguous"])
@pytest.mark.parametrize("shape", [(3, 32, 32, 4, 5), (2, 24, 4, 6, 6), (2, 8, 1, 3, 2)])
def test_by_channels_it_is_group_norm(shape, order):
    """In float64, with images far from mean 0, and all gradients."""
    b, c, groups, height, width = shape
    torch.manual_seed(0)
    norm = layer(c, groups).double()
    x = 2 * torch.randn(b, c, height, width) + 5 * torch.randn(b, c, 1, 1) + 3
    x = x.double().contiguous(memory_format=order).requires_grad_()
    gradient = torch.randn_like(x)
    found, exact = (
        (y.detach(), *torch.autograd.grad(y, (x, norm.weight, norm.bias), gradient))
        for y in (norm.forward_channelwise(x), torch.nn.GroupNorm.forward(norm, x))
    )
    for ours, theirs in zip(found, exact, strict=True):
        assert (ours - theirs).norm() < 1e-13 * theirs.norm().clamp(min=theirs.numel() ** 0.5)


def test_a_compiled_layer_goes_by_channels(monkeypatch):
    norm, x = layer(16, 4), torch.randn(2, 16, 3, 3)
    eager, called, channelwise = norm(x), [], norm.forward_channelwise
    monkeypatch.setattr(norm, "forward_channelwise", lambda x: called.append(0) or channelwise(x))
    norm(x)
    assert not called
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    torch.testing.assert_close(norm(x), eager)
    assert called


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16))
@pytest.mark.parametrize("wrong", (float("nan"), float("inf")))
def test_what_is_not_finite_spoils_its_group_and_no_other(dtype, wrong):
    """So that a training which has left its range is seen."""
    x = torch.randn(2, 64, 8, 8).to(dtype).contiguous(memory_format=LAST)
    x[1, 5, 3, 3] = wrong
    y = layer(64, 16).to(dtype)(x)
    assert y[1, 4:8].isnan().all()
    y[1, 4:8] = 0
    assert y.isfinite().all()
