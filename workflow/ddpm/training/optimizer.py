"""Adam, gradient clipping and the weight average, written on one vector behind all parameters."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

BLOCK = 2**16  # numbers


def channels_last(tensor: Tensor) -> bool:
    return tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last)


class FlatParameters:
    """The parameters of `model` and their gradients as two vectors; the model's own tensors become views of them.

    In the vectors, a parameter's numbers stand as they did in memory.
    """

    def __init__(self, model: nn.Module):
        named = list(model.named_parameters())
        self.names = [name for name, _ in named]
        in_order = [p.detach().permute(0, 2, 3, 1) if channels_last(p) else p.detach() for _, p in named]
        self.shapes = [values.shape for values in in_order]
        self.channels_last = [channels_last(parameter) for _, parameter in named]
        self.values = torch.cat([values.flatten() for values in in_order])
        self.gradient = torch.zeros_like(self.values)
        views = zip(self.split(self.values).values(), self.split(self.gradient).values(), strict=True)
        for (_, parameter), (value, gradient) in zip(named, views, strict=True):
            parameter.data = value
            parameter.grad = gradient

    def split(self, vector: Tensor) -> dict[str, Tensor]:
        """Views of `vector` by the names and in the shapes of the parameters."""
        pieces = vector.split([shape.numel() for shape in self.shapes])
        named = zip(self.names, pieces, self.shapes, self.channels_last, strict=True)
        return {
            name: piece.view(shape).permute(0, 3, 1, 2) if last else piece.view(shape)
            for name, piece, shape, last in named
        }


def in_blocks(*vectors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Pieces of vectors of one length, which a CPU's cache holds through all that is done to them; a GPU needs none."""
    size = BLOCK if vectors[0].device.type == "cpu" else len(vectors[0])
    return zip(*(vector.split(size) for vector in vectors), strict=True)


def clip_by_global_norm_(gradient: Tensor, largest: float) -> Tensor:
    """Scale `gradient` in place so that its norm is at most `largest`; returns the norm before, a 0-d tensor."""
    norm = gradient.norm()
    gradient.mul_(largest / norm.clamp(min=largest))
    return norm


def warmup_rate(step: int, learning_rate: float, warmup: int) -> float:
    """The rate of update `step` (from 0): it rises linearly from 0, so the first update changes nothing."""
    return learning_rate * min(step / warmup, 1.0) if warmup else learning_rate


class Adam:
    """Adam as TensorFlow computes it: epsilon is added before the bias of v is corrected ("epsilon hat").

    Kingma and Ba, Algorithm 1 and the remark below it; the constants are the authors' "standard values".
    """

    beta1, beta2, epsilon = 0.9, 0.999, 1e-8

    def __init__(self, size: Tensor):
        self.m = torch.zeros_like(size)
        self.v = torch.zeros_like(size)

    def update_(self, values: Tensor, gradient: Tensor, step: int, learning_rate: float) -> None:
        """Update number `step` (from 0) of `values`, in place."""
        count = step + 1
        rate = learning_rate * (1 - self.beta2**count) ** 0.5 / (1 - self.beta1**count)
        for m, v, value, g in in_blocks(self.m, self.v, values, gradient):
            m.mul_(self.beta1).add_(g, alpha=1 - self.beta1)
            v.mul_(self.beta2).addcmul_(g, g, value=1 - self.beta2)
            value.addcdiv_(m, v.sqrt().add_(self.epsilon), value=-rate)


def update_average_(average: Tensor, values: Tensor, step: int, decay: float) -> None:
    """average <- decay average + (1 - decay) values, in place; after update 0 the average is the values.

    A constant decay, neither warmed up nor debiased, as in the authors' code.
    """
    for mean, value in in_blocks(average, values):
        if step == 0:
            mean.copy_(value)
        else:
            mean.mul_(decay).add_(value, alpha=1 - decay)
