"""3x3 convolutions with a quarter of the products, for processors: Winograd's minimal filtering F(4x4, 3x3).

A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks" (2015), Section 4:

    Y = A^T [(G g G^T) * (B^T d B)] A

computes 4x4 numbers of the output, Y, from 6x6 of the input, d, by 36 products with the transformed kernel g instead of
144. With many channels, each of the 36 is a product of matrices.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STEP, READ = 4, 6  # rows and columns of a tile: of the output, and of the input
SMALLEST = 16  # the side of an image from which it is faster; below, the weights are most of the work
GROUP = 128  # tiles at a time, so that what lies between the steps stays in the processor's cache


def both_ways(rows: list[list[float]]) -> Tensor:
    """The matrix that a 1-d transform makes of a tile's rows and columns, when the tile is one long vector."""
    matrix = torch.tensor(rows, dtype=torch.float64)
    return torch.kron(matrix, matrix).float()


# B^T, G and A^T of the paper, for the points 0, 1, -1, 2, -2 and infinity.
INPUT = both_ways(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
WEIGHT = both_ways(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ]
)
OUTPUT = both_ways([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])


def tiles(images: Tensor, side: int) -> Tensor:
    """A view of all squares of `side` x `side`, STEP apart: [B, H, W, C] -> [side, side, B, rows, columns, C]."""
    return images.unfold(1, side, STEP).unfold(2, side, STEP).permute(4, 5, 0, 1, 2, 3)


def groups(images: Tensor, height: int, width: int) -> tuple[Tensor, ...]:
    """As many images [B, ...] at a time as make about GROUP tiles."""
    return images.split(max(1, GROUP * STEP**2 // (height * width)))


def to_products(matrix: Tensor, squares: Tensor) -> Tensor:
    """Transform squares [side, side, B, rows, columns, C] to what is multiplied: [36, B rows columns, C]."""
    return (matrix @ squares.reshape(matrix.shape[1], -1)).view(READ**2, -1, squares.shape[-1])


def padded(x: Tensor) -> Tensor:
    """[B, C, H, W] -> [B, H + 2, W + 2, C], with a border of zeros."""
    return F.pad(x, (1, 1, 1, 1)).permute(0, 2, 3, 1)


def transformed(weight: Tensor) -> Tensor:
    """[C_out, C_in, 3, 3] -> [36, C_in, C_out]."""
    c_out, c_in = weight.shape[:2]
    return (WEIGHT @ weight.permute(2, 3, 1, 0).reshape(9, -1)).view(READ**2, c_in, c_out)


def convolve(x: Tensor, weights: Tensor, bias: Tensor | None) -> Tensor:
    """F.conv2d(x, weight, bias, padding=1) but for rounding, which is about three times as large.

    Args:
        x: [B, C_in, H, W], float32 on the CPU, best in channels_last; H and W are multiples of STEP.
        weights: `transformed(weight)`.

    Returns:
        [B, C_out, H, W] in channels_last.
    """
    b, _, height, width = x.shape
    y = x.new_empty(b, height, width, weights.shape[2])
    for part, out in zip(groups(x, height, width), groups(y, height, width), strict=True):
        products = to_products(INPUT, tiles(padded(part), READ)) @ weights
        target = tiles(out, STEP)
        result = (OUTPUT @ products.view(READ**2, -1)).view(target.shape)
        torch.add(result, 0 if bias is None else bias, out=target)
    return y.permute(0, 3, 1, 2)


def weight_gradient(x: Tensor, gradient: Tensor) -> Tensor:
    """Of the sum of `gradient` [B, C_out, H, W] times the output, by the weights: [C_out, C_in, 3, 3]."""
    (_, c_in, height, width), c_out = x.shape, gradient.shape[1]
    total = x.new_zeros(READ**2, c_in, c_out)
    for part, wanted in zip(groups(x, height, width), groups(gradient, height, width), strict=True):
        read, made = tiles(padded(part), READ), tiles(wanted.permute(0, 2, 3, 1), STEP)
        total.baddbmm_(to_products(INPUT, read).transpose(1, 2), to_products(OUTPUT.T, made))
    return (WEIGHT.T @ total.view(READ**2, -1)).view(3, 3, c_in, c_out).permute(3, 2, 0, 1)


class Convolution(torch.autograd.Function):
    """`convolve` and its gradients, which are such convolutions, too. There are no second derivatives."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return convolve(x, transformed(weight), bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        by_x = convolve(gradient, transformed(weight.flip(2, 3).transpose(0, 1)), None)
        return by_x, weight_gradient(x, gradient), gradient.sum((0, 2, 3))


class Conv3x3(nn.Conv2d):
    """A 3x3 convolution with SAME padding; `minimal` asks for Winograd's where the image is large enough to gain.

    A compiled network has torch's own, into which the compiler can look.
    """

    minimal = False
    kept: tuple[int, Tensor] | None = None
    """The version of the weights, once they are frozen, and what they are transformed to."""

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        suits = min(height, width) >= SMALLEST and height % STEP == width % STEP == 0
        if not self.minimal or not suits or torch.compiler.is_compiling():
            return super().forward(x)
        if self.weight.requires_grad:
            return Convolution.apply(x, self.weight, self.bias)
        if self.kept is None or self.kept[0] != self.weight._version:
            self.kept = self.weight._version, transformed(self.weight)
        return convolve(x, self.kept[1], self.bias)
