"""Normalisation, swish and dropout in one pass are torch's one after the other, and their gradients are, too."""

import itertools

import pytest
import torch
from torch.nn import functional as F

from ddpm import compiling, norm
from ddpm.norm import Dropout, Norm

CPU = torch.device("cpu")
LAST = torch.channels_last
# Batch, channels, groups, height and width: blocks that are full, or not; groups of 1 to 24 channels; one pixel.
SHAPES = [
    (2, 128, 32, 32, 32),
    (3, 256, 32, 8, 8),
    (2, 384, 32, 4, 6),
    (1, 24, 8, 5, 7),
    (2, 7, 7, 3, 3),
    (2, 48, 2, 1, 1),
]
WAYS = list(itertools.product((False, True), repeat=3))  # swish, shift, dropout


@pytest.fixture(scope="module", autouse=True)
def compiled(tmp_path_factory):
    """One library for all of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiling, "COMPILED", tmp_path_factory.mktemp("compiled"))
        compiling.library.cache_clear()
        if not norm.compiled():
            pytest.skip("there is no C++ compiler: apt-get install g++")
        yield
    compiling.library.cache_clear()


def layer(channels: int, groups: int) -> Norm:
    made = Norm(channels, groups)
    with torch.no_grad():
        made.weight.uniform_(0.5, 1.5)
        made.bias.normal_()
    made.in_one_pass = True
    return made


def results(of: Norm, x, swish, shift, dropout, keys, gradient) -> list[torch.Tensor]:
    """The output, and the gradients of x, weight, bias and shift."""
    inputs = [t.detach().clone().requires_grad_() for t in (x, *([] if shift is None else [shift]))]
    of.zero_grad()
    y = of(inputs[0], swish, inputs[1] if shift is not None else None, dropout, keys)
    y.backward(gradient)
    return [y.detach(), *(t.grad.clone() for t in (inputs[0], of.weight, of.bias, *inputs[1:]))]


def case(shape, shift: bool, dropout: bool, dtype=torch.float32):
    torch.manual_seed(0)
    b, c, groups, height, width = shape
    x = (2 * torch.randn(b, c, height, width) + torch.randn(b, c, 1, 1)).to(dtype).contiguous(memory_format=LAST)
    mask = Dropout(0.3).train()
    mask.layer = 5
    keys = torch.randint(2**31, (b,), dtype=torch.int32)
    gradient = torch.randn(x.shape).to(dtype).contiguous(memory_format=LAST)
    return (
        layer(c, groups),
        x,
        torch.randn(b, c).to(dtype) if shift else None,
        mask if dropout else None,
        keys,
        gradient,
    )


def error(found: torch.Tensor, exact: torch.Tensor) -> float:
    """Of a number, beside what the numbers are, or beside 1 where they are smaller."""
    assert found.shape == exact.shape
    return ((found.double() - exact).norm() / exact.norm().clamp(min=exact.numel() ** 0.5)).item()


@pytest.mark.fidelity
@pytest.mark.parametrize("swish, shift, dropout", WAYS)
@pytest.mark.parametrize("shape", SHAPES)
def test_one_pass_is_torchs_functions_and_their_gradients(shape, swish, shift, dropout):
    of, x, moved, mask, keys, gradient = case(shape, shift, dropout)
    exact = results(
        of.double(), x.double(), swish, None if moved is None else moved.double(), mask, keys, gradient.double()
    )
    found = results(of.float(), x, swish, moved, mask, keys, gradient)
    assert found[0].is_contiguous(memory_format=LAST) and found[1].is_contiguous(memory_format=LAST)
    for ours, theirs in zip(found, exact, strict=True):
        if shape[-1] > 1:
            assert error(ours, theirs) < 3e-6
        else:  # of few numbers, the gradients of x and shift nearly cancel
            torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_bf16_is_rounded_once(shape):
    of, x, shift, mask, keys, gradient = case(shape, True, True, torch.bfloat16)
    exact = results(of.double(), x.double(), True, shift.double(), mask, keys, gradient.double())
    found = results(of.float(), x, True, shift, mask, keys, gradient)
    assert [t.dtype for t in found] == [torch.bfloat16] * 2 + [torch.float32] * 2 + [torch.bfloat16]
    nearest = exact[0].bfloat16()
    assert (found[0] == nearest).float().mean() > 0.999, "but for ties"
    torch.testing.assert_close(found[0], nearest, rtol=2**-7, atol=1e-6)
    if shape[-1] > 1:
        for ours, theirs in zip(found[1:], exact[1:], strict=True):
            assert error(ours, theirs) < 2**-8


def test_gradients_may_come_in_any_order_of_memory():
    of, x, shift, mask, keys, gradient = case(SHAPES[1], True, True)
    expected = results(of, x, True, shift, mask, keys, gradient)
    part = torch.cat([gradient, gradient], 1)[:, : gradient.shape[1]]
    for given in (gradient.contiguous(), part):
        found = results(of, x, True, shift, mask, keys, given)
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))


@pytest.mark.parametrize("rate", (0.1, 0.5, 0.9))
def test_the_mask_is_that_of_dropout_alone(rate):
    of, x, *_, keys, _ = case((3, 64, 32, 16, 16), False, False)
    mask = Dropout(rate).train()
    mask.layer = 21
    ones = mask(torch.ones_like(x), keys)
    assert torch.equal(of(x, True, None, mask, keys) != 0, ones != 0)
    torch.testing.assert_close(of(x, True, None, mask, keys), of(x, True) * ones)
    assert torch.equal(of(x, True, None, mask.eval(), keys), of(x, True)), "in training only"


def test_a_mean_far_from_zero_costs_no_digits():
    x = (1000 + torch.randn(2, 32, 64, 64)).contiguous(memory_format=LAST)
    of = layer(32, 8)
    exact = F.group_norm(x.double(), 8, of.weight.double(), of.bias.double(), 1e-6)
    assert error(of(x), exact) < 2e-4  # float32 has 1000 +- 3e-5
    same = torch.ones_like(x)  # without a variance, what is left of rounding is multiplied by 1000
    torch.testing.assert_close(of(same), of.bias[:, None, None].expand(x.shape), rtol=0, atol=1e-3)


def of_zeros(z: torch.Tensor, dtype: torch.dtype, swish: bool) -> torch.Tensor:
    """What follows the norm, for exactly these numbers [N]: the bias of black images."""
    of = layer(len(z), 1)
    with torch.no_grad():
        of.bias.copy_(z)
    return of(torch.zeros(1, len(z), 1, 1, dtype=dtype), swish).detach().flatten()


def test_swish_is_exact_from_one_end_to_the_other():
    z = torch.cat([torch.linspace(-200, 200, 100_003), torch.tensor([0.0, 1e-30, -1e-30, 3e38, -1e3])])
    found, exact = of_zeros(z, torch.float32, True).double(), F.silu(z.double())
    torch.testing.assert_close(found, exact, rtol=1e-6, atol=1e-35)


def test_bf16_is_the_nearest_with_ties_to_even():
    ties = torch.arange(1, 2**16, 2, dtype=torch.int32) << 15  # of all positive numbers, infinity, and NaN
    largest_nan = torch.tensor([2**31 - 1], dtype=torch.int32)
    z = torch.cat([ties, ties ^ -(2**31), ties + 1, ties - 1, largest_nan]).view(torch.float32)
    found, nearest = of_zeros(z, torch.bfloat16, False), z.bfloat16()
    assert torch.equal(found.isnan(), nearest.isnan())
    assert torch.equal(found.nan_to_num(7), nearest.nan_to_num(7))


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16))
@pytest.mark.parametrize("wrong", (float("nan"), float("inf")))
def test_what_is_not_finite_spoils_its_group_and_no_other(dtype, wrong):
    """So that a training which has left its range is seen."""
    x = torch.randn(2, 64, 8, 8).to(dtype).contiguous(memory_format=LAST)
    x[1, 5, 3, 3] = wrong
    y = layer(64, 16)(x, True)
    assert y[1, 4:8].isnan().all()
    y[1, 4:8] = 0
    assert y.isfinite().all()


def test_the_number_of_threads_changes_no_bit():
    given = case(SHAPES[0], True, True)
    of, x, shift, mask, keys, gradient = given
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(results(of, x, True, shift, mask, keys, gradient)[:2])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(ours, first) for other in found[1:] for ours, first in zip(other, found[0], strict=True))


def test_what_the_library_does_not_take_is_torchs(monkeypatch):
    of, x, *_ = case(SHAPES[1], False, False)
    monkeypatch.setattr(norm, "run", lambda *what: pytest.fail("it is asked"))
    for other in (x.contiguous(), x.double().contiguous(memory_format=LAST), x.half()):
        of.to(other.dtype)(other, True)
    of.float().in_one_pass = False
    of(x, True)
    of.in_one_pass = True
    with pytest.raises(pytest.fail.Exception, match="it is asked"):
        of(x, True)


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """No library yet, and a folder for it."""
    monkeypatch.setattr(compiling, "COMPILED", tmp_path / "compiled")
    compiling.library.cache_clear()
    yield tmp_path
    compiling.library.cache_clear()


def test_without_a_compiler_there_is_a_warning_and_torch(empty, monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(empty))
    with pytest.warns(UserWarning, match=r"norm.cpp is not compiled, which would be faster: no g\+\+ or clang\+\+"):
        assert not norm.compiled()


def test_a_compiler_that_fails_is_quoted(empty, monkeypatch):
    script = empty / "c++"
    script.write_text('#!/bin/sh\n[ "$1" = --version ] && exit\necho "no such option: $1" >&2\nexit 1\n')
    script.chmod(0o755)
    monkeypatch.setenv("CXX", str(script))
    with pytest.warns(UserWarning, match=r"norm.cpp is not compiled, .*: no such option: -std=c\+\+17"):
        assert not norm.compiled()
    assert not list((empty / "compiled").glob("*"))


def test_it_is_compiled_once_for_a_processor(empty, monkeypatch):
    calls, run = [], compiling.subprocess.run
    monkeypatch.setattr(compiling.subprocess, "run", lambda what, **how: calls.append(what) or run(what, **how))
    for times in (1, 1, 2):
        if times == 2:
            monkeypatch.setattr(compiling, "instructions", lambda: {"those of another machine on the disk"})
        compiling.library.cache_clear()
        assert norm.compiled()
        assert len([what for what in calls if "-shared" in what]) == times
    assert len(list((empty / "compiled").glob("norm-*.so"))) == 2


@pytest.mark.parametrize("order", [LAST, torch.contiguous_format])
@pytest.mark.parametrize("shape", [(3, 32, 32, 4, 5), (2, 24, 4, 6, 6), (2, 8, 1, 3, 2)])
def test_by_channel_is_group_norm(shape, order):
    """In float64, with images far from mean 0, and all gradients."""
    b, c, groups, height, width = shape
    torch.manual_seed(0)
    of = layer(c, groups).double()
    x = (
        (2 * torch.randn(b, c, height, width) + 5 * torch.randn(b, c, 1, 1) + 3)
        .double()
        .contiguous(memory_format=order)
    )
    x.requires_grad_()
    gradient = torch.randn_like(x)
    found, exact = (
        (y.detach(), *torch.autograd.grad(y, (x, of.weight, of.bias), gradient))
        for y in (of.by_channel(x), torch.nn.GroupNorm.forward(of, x))
    )
    assert max(map(error, found, exact)) < 1e-13


def test_a_compiled_layer_goes_by_channels(monkeypatch):
    of, x, shift, dropout, keys, gradient = case((2, 16, 4, 3, 3), shift=True, dropout=True)
    of.in_one_pass = False
    eager = results(of, x, True, shift, dropout, keys, gradient)
    called = []
    by_channel = of.by_channel
    monkeypatch.setattr(of, "by_channel", lambda x: called.append(0) or by_channel(x))
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    compiled = results(of, x, True, shift, dropout, keys, gradient)
    assert called and max(map(error, compiled, eager)) < 1e-6
