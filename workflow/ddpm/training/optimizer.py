"""Appendix B: Adam, gradient clipping, warm-up and the EMA of the weights, on one vector behind all parameters."""

import torch
from torch import Tensor, nn
from torch.optim.adam import adam


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


def clip_by_global_norm_(gradient: Tensor, max_norm: float) -> Tensor:
    """Scale `gradient` in place so that its norm is at most `max_norm`; returns the norm before, a 0-d tensor."""
    norm = gradient.norm()
    gradient.mul_(max_norm / norm.clamp(min=max_norm))
    return norm


def warmup_rate(step: int, learning_rate: float, warmup: int) -> float:
    """The rate of update `step` (from 0): it rises linearly from 0, so the first update changes nothing."""
    return learning_rate * min(step / warmup, 1.0) if warmup else learning_rate


class Adam:
    """Adam as TensorFlow computes it: epsilon is added before the bias of v is corrected ("epsilon hat").

    Kingma and Ba, Algorithm 1 and the remark below it; the constants are the authors' "standard values".
    """

    beta1, beta2, epsilon = 0.9, 0.999, 1e-8

    def __init__(self, values: Tensor):
        self.m = torch.zeros_like(values)
        self.v = torch.zeros_like(values)
        # torch corrects both biases by this number of updates, and puts epsilon behind that of v. At infinity it
        # corrects nothing, so that all of it can be in the rate.
        self.updates = torch.full((), torch.inf, device=values.device)

    def update_(self, values: Tensor, gradient: Tensor, step: int, learning_rate: float) -> None:
        """Update number `step` (from 0) of `values`, in place."""
        count = step + 1
        adam(
            [values],
            [gradient],
            [self.m],
            [self.v],
            [],
            [self.updates],
            fused=True,  # one pass over memory
            lr=learning_rate * (1 - self.beta2**count) ** 0.5 / (1 - self.beta1**count),
            beta1=self.beta1,
            beta2=self.beta2,
            eps=self.epsilon,
            weight_decay=0.0,
            amsgrad=False,
            maximize=False,
        )


def update_ema_(ema: Tensor, values: Tensor, step: int, decay: float) -> None:
    """ema <- decay ema + (1 - decay) values, in place; after update 0 it is the values.

    A constant decay, neither warmed up nor debiased, as in the authors' code.
    """
    ema.lerp_(values, 1 - decay if step else 1.0)
