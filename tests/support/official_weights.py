"""The tensors of the converted official checkpoints: names and shapes, written out by rule, and random ones."""

import torch
from torch import Tensor

from ddpm.config.schema import NetworkConfig


def official_shapes(config: NetworkConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape (in PyTorch's layout) of every tensor of a converted official checkpoint."""
    shapes = {}

    def add(name, *weight):
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = weight, weight[:1]

    def add_block(name, c_in, c_out):
        add(f"{name}.norm1", c_in)
        add(f"{name}.conv1", c_out, c_in, 3, 3)
        add(f"{name}.temb_proj", c_out, 4 * config.ch)
        add(f"{name}.norm2", c_out)
        add(f"{name}.conv2", c_out, c_out, 3, 3)
        if c_in != c_out:
            add(f"{name}.nin_shortcut", c_out, c_in, 1, 1)

    def add_attention(name, c):
        add(f"{name}.norm", c)
        for layer in ("q", "k", "v", "proj_out"):
            add(f"{name}.{layer}", c, c, 1, 1)

    ch, blocks = config.ch, config.num_res_blocks
    widths = [ch * multiplier for multiplier in config.ch_mult]
    top = len(widths) - 1
    attended = [config.image_size // 2**i in config.attn_resolutions for i in range(len(widths))]

    add("temb.dense.0", 4 * ch, ch)
    add("temb.dense.1", 4 * ch, 4 * ch)
    add("conv_in", ch, config.channels, 3, 3)
    for i, width in enumerate(widths):
        below = widths[i - 1] if i > 0 else ch  # the channels that come from the level before
        for j in range(blocks):
            add_block(f"down.{i}.block.{j}", width if j else below, width)
            if attended[i]:
                add_attention(f"down.{i}.attn.{j}", width)
        if i < top:
            add(f"down.{i}.downsample.conv", width, width, 3, 3)
        # The way up takes this level's blocks, last first, and what came from the level before; the first block's
        # other input comes from the level above.
        above = widths[i + 1] if i < top else width
        for j in range(blocks + 1):
            add_block(f"up.{i}.block.{j}", (width if j else above) + (width if j < blocks else below), width)
            if attended[i]:
                add_attention(f"up.{i}.attn.{j}", width)
        if i > 0:
            add(f"up.{i}.upsample.conv", width, width, 3, 3)
    add_block("mid.block_1", widths[-1], widths[-1])
    add_attention("mid.attn_1", widths[-1])
    add_block("mid.block_2", widths[-1], widths[-1])
    add("norm_out", widths[0])
    add("conv_out", config.out_channels, widths[0], 3, 3)
    return shapes


def drawn(config: NetworkConfig) -> dict[str, Tensor]:
    """Random official weights: no tensor near zero, and every branch of an effect on the output.

    The scales of the normalisations lie around 1: around 0, swish would be linear and attention uniform.
    """
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for name, shape in official_shapes(config).items():
        weights[name] = torch.randn(shape, generator=generator, dtype=torch.float64) * 0.05
        if "norm" in name and name.endswith(".weight"):
            weights[name] += 1
    return weights
