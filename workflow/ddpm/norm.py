"""Group normalisation with what stands around it in the network: a shift before, swish and dropout behind.

On a processor all of it is one pass over wide images (norm.cpp), and its gradients another; torch's own functions, one
after the other, read and write them five times, and are slow where a group has few channels.
"""

import ctypes
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddpm.compiling import library

SOURCE = Path(__file__).with_name("norm.cpp")


def scramble_(x: Tensor) -> Tensor:
    """Hash every int32 of `x` in place (C. Wellons' lowbias32); products wrap around, shifts bring in zeros."""
    x.bitwise_xor_((x >> 16) & 0xFFFF).mul_(0x7FEB352D)
    x.bitwise_xor_((x >> 15) & 0x1FFFF).mul_(0x846CA68B - 2**32)
    return x.bitwise_xor_((x >> 16) & 0xFFFF)


class Dropout(nn.Module):
    """Dropout whose mask is a hash of the image's key, the layer and the element: no generator is carried along.

    An image's mask is the same in any batch and on any of several processes.
    """

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate
        self.layer = 0  # its place in the network

    @property
    def active(self) -> bool:
        return self.training and self.rate > 0

    @property
    def threshold(self) -> int:
        """Elements whose hash, from -2^31 to 2^31 - 1, is below are dropped."""
        return round(self.rate * 2**32) - 2**31

    def seeds(self, keys: Tensor) -> Tensor:
        """Of the images with these keys in this layer, [B] int32 each."""
        return scramble_(keys ^ (self.layer + 1 << 20))

    def forward(self, h: Tensor, keys: Tensor | None) -> Tensor:
        """h [B, C, H, W], keys [B] int32."""
        if not self.active:
            return h
        numbers = torch.arange(h[0].numel(), dtype=torch.int32, device=h.device).view(1, *h.shape[1:])
        if h.is_contiguous(memory_format=torch.channels_last):  # then the mask lies in memory as `h` does
            numbers = numbers.contiguous(memory_format=torch.channels_last)
        bits = scramble_(scramble_(numbers) ^ self.seeds(keys).view(-1, 1, 1, 1))
        return h * (bits >= self.threshold) / (1 - self.rate)


class Norm(nn.GroupNorm):
    """Group normalisation over space and channel groups; epsilon as in TensorFlow's contrib layers.

    `in_one_pass` asks for norm.cpp, for images on a processor in channels_last, in float32 or bf16. A compiled network
    has functions of torch into which its compiler can look.
    """

    in_one_pass = False

    def __init__(self, channels: int, groups: int):
        super().__init__(groups, channels, eps=1e-6)

    def forward(
        self,
        x: Tensor,
        swish: bool = False,
        shift: Tensor | None = None,
        dropout: Dropout | None = None,
        keys: Tensor | None = None,
    ) -> Tensor:
        """dropout(swish(norm(x + shift))): x [B, C, H, W], shift [B, C], keys [B] int32 as of `Dropout`."""
        if self.in_one_pass and not torch.compiler.is_compiling() and suits(x):
            return OnePass.apply(x, self.weight, self.bias, shift, self, swish, dropout, keys)
        x = x if shift is None else x + shift[:, :, None, None]
        h = self.by_channel(x) if torch.compiler.is_compiling() else super().forward(x)
        if swish:
            h = F.silu(h)
        return h if dropout is None else dropout(h, keys)

    def by_channel(self, x: Tensor) -> Tensor:
        """The same, in the weights' dtype, by the moments of every channel, from which those of a group follow.

        In channels_last a group's few channels lie apart, and a kernel that sums over all of them reads in pieces; this
        way the compiler makes one that reads rows, there and back.
        """
        in_groups = (len(x), self.num_groups, x.shape[1] // self.num_groups)
        moments = torch.var_mean(x.to(self.weight.dtype), (2, 3), correction=0)
        variances, means = (moment.view(in_groups) for moment in moments)
        mean = means.mean(2, keepdim=True)
        variance = (variances + (means - mean).square()).mean(2, keepdim=True)
        scale = self.weight.view(in_groups[1:]) * torch.rsqrt(variance + self.eps)
        offset = self.bias.view(in_groups[1:]) - mean * scale
        return x * scale.flatten(1)[:, :, None, None] + offset.flatten(1)[:, :, None, None]


def suits(x: Tensor) -> bool:
    """Whether norm.cpp takes these images."""
    in_order = x.is_contiguous(memory_format=torch.channels_last)
    return in_order and x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16)


def compiled() -> bool:
    """Whether norm.cpp can be used here; it is compiled if it has not been."""
    return library(SOURCE) is not None


class Call(ctypes.Structure):
    """norm.cpp's struct of that name."""

    _fields_ = (
        *((name, ctypes.c_long) for name in ("batch", "pixels", "channels", "groups")),
        *((name, ctypes.c_void_p) for name in ("shift", "weight", "bias")),
        *(("eps", ctypes.c_float), ("swish", ctypes.c_int), ("seeds", ctypes.c_void_p)),
        *(("threshold", ctypes.c_int32), ("scale", ctypes.c_float), ("threads", ctypes.c_int)),
    )


def run(way: str, x: Tensor, call: Call, *tensors: Tensor | None) -> None:
    """norm.cpp's function of that name for images like `x`."""
    function = getattr(library(SOURCE), f"{way}_{str(x.dtype).removeprefix('torch.')}")
    function(ctypes.byref(call), *(ctypes.c_void_p(address(tensor)) for tensor in (x, *tensors)))


def address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


class OnePass(torch.autograd.Function):
    """`Norm.forward` by norm.cpp. There are no second derivatives."""

    @staticmethod
    def forward(ctx, x, weight, bias, shift, norm: Norm, swish: bool, dropout: Dropout | None, keys) -> Tensor:
        active = dropout is not None and dropout.active
        shift = None if shift is None else shift.float().contiguous()
        ctx.save_for_backward(x, weight, bias, shift, seeds := dropout.seeds(keys) if active else None)
        ctx.norm, ctx.swish, ctx.dropout = norm, swish, dropout if active else None
        ctx.moments = torch.empty(2, len(x), norm.num_groups)  # means, and 1 / standard deviations
        y = torch.empty_like(x)
        run("forward", x, OnePass.call(ctx, x, weight, bias, shift, seeds), y, *ctx.moments)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, shift, seeds = ctx.saved_tensors
        gradient, by_x = gradient.contiguous(memory_format=torch.channels_last), torch.empty_like(x)
        by_weight, by_bias, by_shift = torch.empty(3, *x.shape[:2])  # of every image
        call = OnePass.call(ctx, x, weight, bias, shift, seeds)
        run("backward", x, call, gradient, *ctx.moments, by_x, by_weight, by_bias, by_shift)
        return by_x, by_weight.sum(0), by_bias.sum(0), None if shift is None else by_shift, None, None, None, None

    @staticmethod
    def call(ctx, x: Tensor, weight: Tensor, bias: Tensor, shift: Tensor | None, seeds: Tensor | None) -> Call:
        """Whose pointers are valid as long as the tensors are."""
        b, c, height, width = x.shape
        shape = (b, height * width, c, ctx.norm.num_groups)
        layer = (*map(address, (shift, weight, bias)), ctx.norm.eps, ctx.swish)
        mask = (address(seeds), ctx.dropout.threshold, 1 / (1 - ctx.dropout.rate)) if ctx.dropout else (None, 0, 1.0)
        return Call(*shape, *layer, *mask, torch.get_num_threads())
