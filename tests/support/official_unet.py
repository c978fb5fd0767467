"""The authors' network a second time: a plain function in TensorFlow's conventions, in NumPy and float64.

Written from the description of `models/unet.py` and `nn.py`; it shares nothing with `ddpm.unet`. Images are
[B, H, W, C]. `W` maps the names of the converted official checkpoints to arrays in TensorFlow's layouts: kernels
of convolutions [height, width, in, out], those of 1x1 ("nin") and dense layers [in, out]. Each rule on which ports
differ is a function or constant of its own, so that a test can replace it.
"""

import numpy as np

GROUPS = 32
EPSILON = 1e-6


def swish(x):
    return x * (1 / (1 + np.exp(-x)))


def dense(x, W, name):
    """A matrix product over the last axis: a dense layer, or a 1x1 convolution."""
    return x @ W[f"{name}.weight"] + W[f"{name}.bias"]


def same_padding(n, k, s):
    """Zeros before and after an axis of n pixels, for a kernel of k and stride s: `padding="SAME"`."""
    total = max((-(-n // s) - 1) * s + k - n, 0)
    return total // 2, total - total // 2


def conv(x, W, name, stride=1):
    """The sum over the kernel's places of the image shifted there times the matrix of that place."""
    kernel = W[f"{name}.weight"]
    sides = [same_padding(x.shape[axis], kernel.shape[axis - 1], stride) for axis in (1, 2)]
    height, width = (-(-n // stride) for n in x.shape[1:3])
    x = np.pad(x, [(0, 0), *sides, (0, 0)])
    out = W[f"{name}.bias"]
    for i, j in np.ndindex(kernel.shape[:2]):
        shifted = x[:, i : i + stride * height : stride, j : j + stride * width : stride]
        out = out + (shifted.reshape(-1, x.shape[3]) @ kernel[i, j]).reshape(len(x), height, width, -1)
    return out


def group_norm(x, W, name):
    b, h, w, c = x.shape
    grouped = x.reshape(b, h, w, GROUPS, c // GROUPS)
    mean, variance = (f(grouped, axis=(1, 2, 4), keepdims=True) for f in (np.mean, np.var))
    normed = ((grouped - mean) / np.sqrt(variance + EPSILON)).reshape(x.shape)
    return normed * W[f"{name}.weight"] + W[f"{name}.bias"]


def frequencies(half):
    return 10000.0 ** (-np.arange(half) / (half - 1))


def time_embedding(t, dim):
    """[B] -> [B, dim]. The authors compute it in float32, this reference in float64."""
    angles = t[:, None] * frequencies(dim // 2)
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


def time_mlp(t, W, ch):
    return dense(swish(dense(time_embedding(t, ch), W, "temb.dense.0")), W, "temb.dense.1")


def norm_swish_conv(x, W, norm, convolution):
    return conv(swish(group_norm(x, W, norm)), W, convolution)


def shortcut(x, W, name):
    """The raw input; through a 1x1 convolution where the number of channels changes."""
    return x if x.shape[3] == len(W[f"{name}.conv2.bias"]) else dense(x, W, f"{name}.nin_shortcut")


def resnet_block(x, temb, W, name):
    h = norm_swish_conv(x, W, f"{name}.norm1", f"{name}.conv1")
    h = h + dense(swish(temb), W, f"{name}.temb_proj")[:, None, None, :]
    h = norm_swish_conv(h, W, f"{name}.norm2", f"{name}.conv2")
    return shortcut(x, W, name) + h


def attention_scale(c):
    return c**-0.5


def attention_block(x, W, name):
    h = group_norm(x, W, f"{name}.norm")
    q, k, v = (dense(h, W, f"{name}.{letter}") for letter in "qkv")
    w = np.einsum("bhwc,bHWc->bhwHW", q, k) * attention_scale(x.shape[3])
    w = np.exp(w - w.max(axis=(3, 4), keepdims=True))
    w = w / w.sum(axis=(3, 4), keepdims=True)
    return x + dense(np.einsum("bhwHW,bHWc->bhwc", w, v), W, f"{name}.proj_out")


def upsample(x):
    rows, columns = (np.arange(2 * n) // 2 for n in x.shape[1:3])
    return x[:, rows][:, :, columns]


def join(h, skip):
    return np.concatenate([h, skip], axis=3)


def official_unet(x, t, W, *, ch, levels, blocks, attended):
    """x [B, H, W, C], t [B] in 0 .. T-1 -> the output [B, H, W, C or 2 C]; `attended` holds image heights."""
    temb = time_mlp(t, W, ch)
    skips = [conv(x, W, "conv_in")]
    for i in range(levels):
        for j in range(blocks):
            h = resnet_block(skips[-1], temb, W, f"down.{i}.block.{j}")
            if h.shape[1] in attended:
                h = attention_block(h, W, f"down.{i}.attn.{j}")
            skips.append(h)
        if i < levels - 1:
            skips.append(conv(skips[-1], W, f"down.{i}.downsample.conv", stride=2))

    h = resnet_block(skips[-1], temb, W, "mid.block_1")
    h = attention_block(h, W, "mid.attn_1")
    h = resnet_block(h, temb, W, "mid.block_2")

    for i in reversed(range(levels)):
        for j in range(blocks + 1):
            h = resnet_block(join(h, skips.pop()), temb, W, f"up.{i}.block.{j}")
            if h.shape[1] in attended:
                h = attention_block(h, W, f"up.{i}.attn.{j}")
        if i > 0:
            h = conv(upsample(h), W, f"up.{i}.upsample.conv")
    assert not skips
    return norm_swish_conv(h, W, "norm_out", "conv_out")
