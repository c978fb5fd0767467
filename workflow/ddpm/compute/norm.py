"""Group normalisation and dropout as the network uses them."""

import torch
from torch import Tensor, nn


def hash_int32_(x: Tensor) -> Tensor:
    """Hash every int32 of `x` in place (C. Wellons' lowbias32); products wrap around, shifts bring in zeros."""
    x.bitwise_xor_((x >> 16) & 0xFFFF).mul_(0x7FEB352D)
    x.bitwise_xor_((x >> 15) & 0x1FFFF).mul_(0x846CA68B - 2**32)
    return x.bitwise_xor_((x >> 16) & 0xFFFF)


class Dropout(nn.Module):
    """Dropout whose mask is a hash of the image's seed, the layer and the element: no generator is carried along.

    An image's mask is the same in any batch and on any of several processes.
    """

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate
        self.layer = 0  # its place in the network

    def forward(self, h: Tensor, dropout_seeds: Tensor | None) -> Tensor:
        """h [B, C, H, W], dropout_seeds [B] int32, one for each image."""
        if not self.training or self.rate == 0:
            return h
        elements = torch.arange(h[0].numel(), dtype=torch.int32, device=h.device).view(1, *h.shape[1:])
        if h.is_contiguous(memory_format=torch.channels_last):  # then the mask lies in memory as `h` does
            elements = elements.contiguous(memory_format=torch.channels_last)
        layer_seeds = hash_int32_(dropout_seeds ^ (self.layer + 1 << 20))
        bits = hash_int32_(hash_int32_(elements) ^ layer_seeds.view(-1, 1, 1, 1))
        threshold = round(self.rate * 2**32) - 2**31  # hashes are from -2^31 to 2^31 - 1; those below are dropped
        return h * (bits >= threshold) / (1 - self.rate)


class GroupNorm(nn.GroupNorm):
    """Group normalisation over space and channel groups; epsilon as in TensorFlow's contrib layers."""

    def __init__(self, channels: int, groups: int):
        super().__init__(groups, channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, C, H, W] -> the same shape."""
        return self.forward_channelwise(x) if torch.compiler.is_compiling() else super().forward(x)

    def forward_channelwise(self, x: Tensor) -> Tensor:
        """The same, in the weights' dtype, by the moments of every channel, from which those of a group follow.

        In channels_last a group's few channels lie apart, and a kernel that sums over all of them reads in pieces; this
        way the compiler makes one that reads rows, forward and backward.
        """
        in_groups = (len(x), self.num_groups, x.shape[1] // self.num_groups)
        moments = torch.var_mean(x.to(self.weight.dtype), (2, 3), correction=0)
        variances, means = (moment.view(in_groups) for moment in moments)
        mean = means.mean(2, keepdim=True)
        variance = (variances + (means - mean).square()).mean(2, keepdim=True)
        scale = self.weight.view(in_groups[1:]) * torch.rsqrt(variance + self.eps)
        offset = self.bias.view(in_groups[1:]) - mean * scale
        return x * scale.flatten(1)[:, :, None, None] + offset.flatten(1)[:, :, None, None]
