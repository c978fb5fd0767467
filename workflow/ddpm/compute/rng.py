"""Randomness is named, not carried.

Every random number is a function of (seed, purpose, index, ...) alone, so that a resumed run equals an
uninterrupted one, and image i is the same whatever the batch size or the number of files.
"""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # computing a seed needs no torch
    import torch
    from torch import Tensor

# Consecutive items whose numbers come from one generator: one per item is too slow on a GPU.
BLOCK = 16


def seed_of(*name: object) -> int:
    """The 63-bit seed of the draw that `name` names, as in (0, "x_T", 7)."""
    digest = hashlib.sha256("/".join(map(str, name)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(*name: object, device: "torch.device | str" = "cpu") -> "torch.Generator":
    """A new generator with the seed of what `name` names."""
    import torch

    return torch.Generator(device).manual_seed(seed_of(*name))


def normal(
    *name: object, start: int, stop: int, shape: Sequence[int], device: "torch.device | str" = "cpu"
) -> "Tensor":
    """Standard normal numbers of the items start .. stop-1, [stop - start, *shape] float32.

    Item i is row i % BLOCK of block i // BLOCK, whichever range is asked for.
    """
    import torch

    first = start // BLOCK
    blocks = [
        torch.randn(BLOCK, *shape, generator=generator(*name, block, device=device), device=device)
        for block in range(first, -(-stop // BLOCK))
    ]
    offset = first * BLOCK
    return torch.cat(blocks)[start - offset : stop - offset]
