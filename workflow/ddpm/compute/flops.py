"""What a network costs, counted from its sizes alone: parameters, operations, memory.

The functions follow `unet.py` layer by layer. `torch.utils.flop_counter` would count the same from the network itself,
but what plans a run has no torch in its environment, and the counter takes ten seconds to load. The tests hold both
counts against each other.
"""

from dataclasses import dataclass
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
    """Of one image's forward pass: two per multiply-add of a convolution, a dense layer or an attention product."""
    kept: int = 0
    """Bytes that training keeps of one image until the gradient is computed, in float32."""

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.parameters + other.parameters, self.flops + other.flops, self.kept + other.kept)


def conv(c_in: int, c_out: int, kernel: int, size: int, kept_size: int | None = None) -> Cost:
    """A convolution with an output of `size` x `size` pixels. It keeps its input, of `kept_size` where that differs."""
    weights = kernel**2 * c_in * c_out
    kept = size if kept_size is None else kept_size
    return Cost(weights + c_out, 2 * weights * size**2, FLOAT * c_in * kept**2)


def dense(n_in: int, n_out: int) -> Cost:
    return conv(n_in, n_out, 1, 1)


def norm(channels: int, size: int, kept: int = 1) -> Cost:
    """Group normalisation, which keeps its input; with a swish behind it, which keeps its own too, `kept` is 2."""
    return Cost(2 * channels, 0, kept * FLOAT * channels * size**2)


def upsample(channels: int, size: int) -> Cost:
    """A doubling and a 3x3 convolution in one: sums of its weights, 4x4, meet each of the smaller image's pixels."""
    return Cost(9 * channels**2 + channels, 2 * 16 * channels**2 * size**2, FLOAT * channels * size**2)


def resnet_block(c_in: int, c_out: int, size: int, network: NetworkConfig) -> Cost:
    first = norm(c_in, size, kept=2) + conv(c_in, c_out, 3, size) + dense(4 * network.ch, c_out)
    second = norm(c_out, size, kept=2) + conv(c_out, c_out, 3, size)
    mask = Cost(kept=c_out * size**2 if network.dropout else 0)  # a byte per element
    # The first normalisation keeps the shortcut's input already.
    shortcut = Cost() if c_in == c_out else conv(c_in, c_out, 1, size, kept_size=0)
    return first + second + mask + shortcut


def attention_block(channels: int, size: int) -> Cost:
    positions = size**2
    # Kept are query, key and value; the first two once more, scaled; the softmax.
    products = Cost(0, 4 * positions**2 * channels, FLOAT * ((3 + 2) * channels * positions + positions**2))
    return norm(channels, size) + conv(channels, 3 * channels, 1, size) + products + conv(channels, channels, 1, size)


@cache
def network_cost(network: NetworkConfig) -> Cost:
    """Of the whole U-Net."""
    sizes = [network.image_size >> i for i in range(len(network.ch_mult))]
    levels = list(zip((network.ch * multiplier for multiplier in network.ch_mult), sizes, strict=True))
    c = network.ch
    layers = [dense(c, 4 * c), dense(4 * c, 4 * c), conv(network.channels, c, 3, sizes[0])]

    def add_block(c_in: int, c_out: int, size: int) -> None:
        layers.append(resnet_block(c_in, c_out, size, network))
        if size in network.attn_resolutions:
            layers.append(attention_block(c_out, size))

    skips = [c]
    for width, size in levels:
        for _ in range(network.num_res_blocks):
            add_block(c, width, size)
            skips.append(c := width)
        if size != sizes[-1]:
            layers.append(conv(c, c, 3, size // 2, kept_size=size + 1))
            skips.append(c)
    middle = resnet_block(c, c, sizes[-1], network)
    layers += [middle, attention_block(c, sizes[-1]), middle]
    for width, size in reversed(levels):
        for _ in range(network.num_res_blocks + 1):
            add_block(c + skips.pop(), width, size)
            c = width
        if size != sizes[0]:
            layers.append(upsample(c, size))
    layers += [norm(c, sizes[0], kept=2), conv(c, network.out_channels, 3, sizes[0])]
    return sum(layers, Cost())


def training_flops(network: NetworkConfig) -> int:
    """Of one image's forward and backward pass: the gradient takes twice what the output does."""
    return 3 * network_cost(network).flops


def training_state(network: NetworkConfig) -> int:
    """Bytes that training holds whatever the batch: the weights, their average, Adam's m and v, two gradients."""
    return 6 * FLOAT * network_cost(network).parameters
