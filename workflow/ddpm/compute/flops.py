"""What a network costs, counted from its sizes alone: parameters, operations, memory.

The functions follow `unet.py` layer by layer; the tests hold them against the network itself.
"""

from dataclasses import dataclass, replace
from functools import cache

from ddpm.config.schema import NetworkConfig

FLOAT = 4  # bytes
# 5.71 billion multiply-adds for an image of 299x299 pixels, as torchvision counts them for its Inception v3.
INCEPTION_FLOPS = 2 * 5.71e9


@dataclass(frozen=True)
class Cost:
    """Of one layer or of several."""

    parameters: int = 0
    flops: int = 0
    """Of one image's way through: two per multiply-add of a convolution, a dense layer or an attention product."""
    kept: int = 0
    """Bytes that training keeps of one image until the gradient is computed, in float32."""

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.parameters + other.parameters, self.flops + other.flops, self.kept + other.kept)


def conv(c_in: int, c_out: int, kernel: int, size: int, kept_size: int | None = None) -> Cost:
    """A convolution with an output of `size` x `size` pixels, which keeps its input."""
    weights = kernel**2 * c_in * c_out
    return Cost(weights + c_out, 2 * weights * size**2, FLOAT * c_in * (kept_size or size) ** 2)


def upsampling(channels: int, size: int) -> Cost:
    """A doubling and a 3x3 convolution in one: sums of its weights, 4x4, meet each of the smaller image's pixels."""
    layer = conv(channels, channels, 3, size)
    return replace(layer, flops=2 * 4**2 * channels**2 * size**2)


def dense(n_in: int, n_out: int) -> Cost:
    return Cost(n_in * n_out + n_out, 2 * n_in * n_out, FLOAT * n_in)


def norm(channels: int, size: int) -> Cost:
    """Group normalisation, which keeps its input."""
    return Cost(2 * channels, 0, FLOAT * channels * size**2)


def norm_swish(channels: int, size: int) -> Cost:
    """Both keep their inputs."""
    return norm(channels, size) + Cost(kept=FLOAT * channels * size**2)


def resnet_block(c_in: int, c_out: int, size: int, network: NetworkConfig) -> Cost:
    first = norm_swish(c_in, size) + conv(c_in, c_out, 3, size)
    second = norm_swish(c_out, size) + conv(c_out, c_out, 3, size)
    mask = Cost(kept=c_out * size**2 if network.dropout else 0)  # a byte per element
    # The shortcut's input is kept already, by the first normalisation.
    shortcut = Cost() if c_in == c_out else replace(conv(c_in, c_out, 1, size), kept=0)
    return first + dense(4 * network.ch, c_out) + second + mask + shortcut


def attention_block(channels: int, size: int) -> Cost:
    positions = size**2
    products = Cost(
        flops=2 * 2 * positions**2 * channels,
        # Query, key and value; the first two once more, scaled; the softmax.
        kept=FLOAT * ((3 + 2) * channels * positions + positions**2),
    )
    return norm(channels, size) + conv(channels, 3 * channels, 1, size) + products + conv(channels, channels, 1, size)


@cache
def network_cost(network: NetworkConfig) -> Cost:
    """Of the whole U-Net."""
    widths = [network.ch * multiplier for multiplier in network.ch_mult]
    sizes = [network.image_size >> i for i in range(len(widths))]

    def level(size: int, channels: list[tuple[int, int]]) -> Cost:
        attend = size in network.attn_resolutions
        blocks = [resnet_block(c_in, c_out, size, network) for c_in, c_out in channels]
        return sum(blocks + [attention_block(c_out, size) for _, c_out in channels if attend], Cost())

    c = network.ch
    total = dense(c, 4 * c) + dense(4 * c, 4 * c) + conv(network.channels, c, 3, sizes[0])
    skips = [c]
    for width, size in zip(widths, sizes, strict=True):
        total += level(size, [(c if j == 0 else width, width) for j in range(network.num_res_blocks)])
        c = width
        skips += [c] * network.num_res_blocks
        if size != sizes[-1]:
            total += conv(c, c, 3, size // 2, kept_size=size + 1)
            skips.append(c)
    total += (
        resnet_block(c, c, sizes[-1], network) + attention_block(c, sizes[-1]) + resnet_block(c, c, sizes[-1], network)
    )
    for width, size in reversed(list(zip(widths, sizes, strict=True))):
        channels = []
        for _ in range(network.num_res_blocks + 1):
            channels.append((c + skips.pop(), width))
            c = width
        total += level(size, channels)
        if size != sizes[0]:
            total += upsampling(c, size)
    return total + norm_swish(c, sizes[0]) + conv(c, network.out_channels, 3, sizes[0])


def training_flops(network: NetworkConfig) -> int:
    """Of one image's way there and back: the gradient takes twice what the output does."""
    return 3 * network_cost(network).flops


def training_state(network: NetworkConfig) -> int:
    """Bytes that training holds whatever the batch: the weights, their average, Adam's m and v, two gradients."""
    return 6 * FLOAT * network_cost(network).parameters
