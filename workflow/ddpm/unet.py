"""The network: the U-Net of the authors' released code (`models/unet.py`, `nn.py`).

A PixelCNN++ / Wide-ResNet backbone with group normalisation, a sinusoidal embedding of the time step added in
every residual block, and single-head self-attention at chosen resolutions (paper, Section 4 and Appendix B).
Sub-modules carry the names of the converted official checkpoints, so that weights map one to one.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddpm.compute.norm import Dropout, GroupNorm
from ddpm.config.enums import Precision
from ddpm.config.schema import NetworkConfig

# The authors write 0 for the last convolution of a branch, and their initialiser replaces it by 1e-10 (nn.py).
NEARLY_ZERO = 1e-10


def variance_scaling_(weight: Tensor, scale: float = 1.0) -> None:
    """Fill `weight` from U(-a, a), a^2 = 3 scale / ((fan_in + fan_out) / 2): TensorFlow's fan_avg, uniform."""
    nn.init.xavier_uniform_(weight, gain=math.sqrt(scale))


def conv(in_channels: int, out_channels: int, kernel: int, scale: float = 1.0, **kwargs: Any) -> nn.Conv2d:
    """A convolution (by default with SAME padding) with the authors' initial weights."""
    kwargs.setdefault("padding", kernel // 2)
    layer = nn.Conv2d(in_channels, out_channels, kernel, **kwargs)
    variance_scaling_(layer.weight, scale)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def dense(in_features: int, out_features: int) -> nn.Linear:
    """A fully connected layer with the authors' initial weights."""
    layer = nn.Linear(in_features, out_features)
    variance_scaling_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def timestep_embedding(t: Tensor, dim: int) -> Tensor:
    """Sinusoidal embedding of the 0-based time step, [B] -> [B, dim] float32 (Transformer positions, nn.py).

    The first half holds sin(t f_i), the second cos(t f_i), with f_i = 10000^(-i / (dim/2 - 1)). The operations are the
    authors' in their order, in float32: another order rounds most entries otherwise, by up to 6e-5 for large t.
    """
    half = dim // 2
    indices = torch.arange(half, dtype=torch.float32, device=t.device)
    angles = t.float()[:, None] * torch.exp(indices * -(math.log(10000) / (half - 1)))[None, :]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class TimestepMLP(nn.Module):
    """The embedding of t and two dense layers, swish between them, none after: [B] -> [B, 4 ch]."""

    def __init__(self, ch: int):
        super().__init__()
        self.ch = ch
        self.dense = nn.ModuleList([dense(ch, 4 * ch), dense(4 * ch, 4 * ch)])

    def forward(self, t: Tensor) -> Tensor:
        embedding = timestep_embedding(t, self.ch).to(self.dense[0].weight.dtype)  # type: ignore[arg-type]
        return self.dense[1](F.silu(self.dense[0](embedding)))


class ResnetBlock(nn.Module):
    """GN-swish-conv, + time, GN-swish-dropout-conv(nearly 0), + shortcut of the raw input."""

    def __init__(self, in_channels: int, out_channels: int, config: NetworkConfig):
        super().__init__()
        self.norm1 = GroupNorm(in_channels, config.groups)
        self.conv1 = conv(in_channels, out_channels, 3)
        self.temb_proj = dense(4 * config.ch, out_channels)
        self.norm2 = GroupNorm(out_channels, config.groups)
        self.dropout = Dropout(config.dropout)
        self.conv2 = conv(out_channels, out_channels, 3, NEARLY_ZERO)
        self.nin_shortcut = nn.Identity() if in_channels == out_channels else conv(in_channels, out_channels, 1)

    def forward(self, x: Tensor, temb: Tensor, dropout_seeds: Tensor | None = None) -> Tensor:
        """x [B, C_in, H, W], temb [B, 4 ch], dropout_seeds [B] int32 -> [B, C_out, H, W]."""
        h = self.conv1(F.silu(self.norm1(x)))
        h = h + self.temb_proj(F.silu(temb))[:, :, None, None]
        h = self.conv2(self.dropout(F.silu(self.norm2(h)), dropout_seeds))
        return self.nin_shortcut(x) + h


class AttnBlock(nn.Module):
    """Single-head self-attention over all H x W positions, softmax(q k / sqrt(C)) v, with a residual."""

    def __init__(self, channels: int, config: NetworkConfig):
        super().__init__()
        self.norm = GroupNorm(channels, config.groups)
        # Query, key and value in one product; each third is initialised as the layer of its own that it is.
        self.qkv = conv(channels, 3 * channels, 1)
        for third in self.qkv.weight.data.chunk(3):
            variance_scaling_(third)
        self.proj_out = conv(channels, channels, 1, scale=NEARLY_ZERO)

    def forward(self, x: Tensor) -> Tensor:
        b, c, height, width = x.shape
        in_order = x.is_contiguous(memory_format=torch.channels_last)
        order = torch.channels_last if in_order else torch.contiguous_format
        qkv = self.qkv(self.norm(x)).permute(0, 2, 3, 1).reshape(b, 1, height * width, 3 * c)
        q, k, v = qkv.chunk(3, dim=3)  # [B, 1 head, HW, C] each
        h = F.scaled_dot_product_attention(q, k, v)
        h = h.reshape(b, height, width, c).permute(0, 3, 1, 2).contiguous(memory_format=order)
        return x + self.proj_out(h)


class Downsample(nn.Module):
    """Convolution of stride 2 with TensorFlow's SAME padding: nothing left and above, one right and below."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = conv(channels, channels, 3, stride=2, padding=0)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Nearest-neighbour doubling, then a convolution.

    Of the nine numbers that a 3x3 kernel meets in a doubled image, only four differ. Both steps together are a
    transposed convolution of stride 2 with the sums of every 2x2 weights, which needs 4/9 of the products. Where
    `fused` is not set, they are two steps.
    """

    fused = True

    def __init__(self, channels: int):
        super().__init__()
        self.conv = conv(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        if not self.fused:
            return self.conv(F.interpolate(x, scale_factor=2.0))
        weight = self.conv.weight.flip(2, 3)
        sums = F.avg_pool2d(weight, 2, stride=1, padding=1, divisor_override=1)  # [C_out, C_in, 4, 4]
        return F.conv_transpose2d(x, sums.transpose(0, 1), self.conv.bias, stride=2, padding=1)


class Level(nn.Module):
    """What one resolution holds: residual blocks, an attention block behind each where the config asks for it."""

    def __init__(self, config: NetworkConfig, resolution: int, channels: list[tuple[int, int]]):
        super().__init__()
        self.block = nn.ModuleList(ResnetBlock(c_in, c_out, config) for c_in, c_out in channels)
        attend = resolution in config.attn_resolutions
        self.attn = nn.ModuleList(AttnBlock(c_out, config) if attend else nn.Identity() for _, c_out in channels)


class Middle(nn.Module):
    """Residual block, attention, residual block at the lowest resolution."""

    def __init__(self, channels: int, config: NetworkConfig):
        super().__init__()
        self.block_1 = ResnetBlock(channels, channels, config)
        self.attn_1 = AttnBlock(channels, config)
        self.block_2 = ResnetBlock(channels, channels, config)

    def forward(self, h: Tensor, temb: Tensor, dropout_seeds: Tensor | None) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(h, temb, dropout_seeds)), temb, dropout_seeds)


class UNet(nn.Module):
    """eps_theta(x_t, t), or whatever the parameterisation makes of the output.

    The numbers of channels, levels and blocks are those of `config`; `config.out_channels` is C, or 2 C where
    the variance is learned. Weights are drawn from torch's global generator.
    """

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.config = config
        self.precision = Precision.FP32
        widths = [config.ch * multiplier for multiplier in config.ch_mult]
        resolutions = [config.image_size >> i for i in range(len(widths))]
        last = len(widths) - 1

        self.temb = TimestepMLP(config.ch)
        self.conv_in = conv(config.channels, config.ch, 3)
        skips = [config.ch]  # the channels of every tensor that the way up will take
        c = config.ch
        self.down = nn.ModuleList()
        for i, width in enumerate(widths):
            plan = [(c if j == 0 else width, width) for j in range(config.num_res_blocks)]
            level = Level(config, resolutions[i], plan)
            c = width
            skips += [c] * config.num_res_blocks
            if i != last:
                level.downsample = Downsample(c)
                skips.append(c)
            self.down.append(level)

        self.mid = Middle(c, config)

        self.up = nn.ModuleList()
        for i in reversed(range(len(widths))):
            plan = []
            for _ in range(config.num_res_blocks + 1):
                plan.append((c + skips.pop(), widths[i]))
                c = widths[i]
            level = Level(config, resolutions[i], plan)
            if i != 0:
                level.upsample = Upsample(c)
            self.up.insert(0, level)

        self.norm_out = GroupNorm(c, config.groups)
        self.conv_out = conv(c, config.out_channels, 3, scale=NEARLY_ZERO)
        for i, layer in enumerate(module for module in self.modules() if isinstance(module, Dropout)):
            layer.layer = i

    def forward(self, x: Tensor, t: Tensor, dropout_seeds: Tensor | None = None) -> Tensor:
        """x [B, C, H, W] float in about [-1, 1], t [B] int64 in 0 .. T-1 -> [B, C or 2C, H, W].

        dropout_seeds [B] int32 name the dropout masks in training; without them, torch's global generator draws some.
        """
        if dropout_seeds is None and self.training:
            dropout_seeds = torch.randint(2**31, (len(x),), dtype=torch.int32, device=x.device)
        temb = self.temb(t)
        h = self.conv_in(x)
        if self.precision is Precision.BF16:
            with torch.autocast(x.device.type, torch.bfloat16):
                h = self.inner(h.bfloat16(), temb, dropout_seeds).to(x.dtype)
        else:
            h = self.inner(h, temb, dropout_seeds)
        return self.conv_out(F.silu(self.norm_out(h)))

    def inner(self, h: Tensor, temb: Tensor, dropout_seeds: Tensor | None) -> Tensor:
        """All levels, down and up again: [B, ch, H, W] -> [B, ch, H, W]."""
        skips = [h]
        for level in self.down:
            for block, attn in zip(level.block, level.attn, strict=True):  # type: ignore[arg-type]
                h = attn(block(h, temb, dropout_seeds))
                skips.append(h)
            if hasattr(level, "downsample"):
                h = level.downsample(h)  # type: ignore[operator]
                skips.append(h)
        h = self.mid(h, temb, dropout_seeds)
        for level in reversed(self.up):
            for block, attn in zip(level.block, level.attn, strict=True):  # type: ignore[arg-type]
                h = attn(block(torch.cat([h, skips.pop()], dim=1), temb, dropout_seeds))
            if hasattr(level, "upsample"):
                h = level.upsample(h)  # type: ignore[operator]
        return h

    def inner_layers(self) -> Iterator[nn.Conv2d | nn.Linear]:
        """The convolutions and dense layers of `inner` but for those whose weights are summed up before use."""
        summed = {module.conv for module in self.modules() if isinstance(module, Upsample) and module.fused}
        for levels in (self.down, self.mid, self.up):
            layers = (layer for layer in levels.modules() if isinstance(layer, nn.Conv2d | nn.Linear))
            yield from (layer for layer in layers if layer not in summed)
