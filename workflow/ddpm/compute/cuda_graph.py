"""A step's kernels as one CUDA graph: a processor cannot start a thousand of them as fast as the GPU computes them."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


class CUDAGraphCallable:
    """A function of tensors on a GPU, recorded once and played again with other numbers in the same memory.

    Args:
        work: reads and writes the same memory at each call, waits for nothing, and draws no random numbers.
        inputs: tensors like those of all later calls.

    Raises:
        RuntimeError: the GPU's memory does not hold what the work needs; a smaller one can be recorded then.
    """

    def __init__(self, work: Callable[..., Tensor], inputs: Sequence[Tensor]):
        self.inputs = [tensor.clone() for tensor in inputs]
        beside = torch.cuda.Stream()  # what is made at the first call, as workspaces, is made before the recording
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            work(*self.inputs)
        torch.cuda.current_stream().wait_stream(beside)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.output = work(*self.inputs)

    def __call__(self, *inputs: Tensor) -> Tensor:
        """`work(*inputs)`; the next call overwrites what it returns."""
        for mine, given in zip(self.inputs, inputs, strict=True):
            mine.copy_(given)
        self.graph.replay()
        return self.output
