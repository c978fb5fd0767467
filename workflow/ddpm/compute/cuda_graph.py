"""The kernels of a step as one CUDA graph: the CPU would start them one by one slower than the GPU computes them."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


class CUDAGraphCallable:
    """A function of tensors on a GPU, captured once and replayed with other numbers in the same memory.

    Args:
        function: reads and writes the same memory at each call, waits for nothing, and draws no random numbers.
        inputs: tensors like those of all later calls.

    Raises:
        RuntimeError: the GPU's memory is too small for the function; one that needs less can be captured then.
    """

    def __init__(self, function: Callable[..., Tensor], inputs: Sequence[Tensor]):
        self.static_inputs = [tensor.clone() for tensor in inputs]
        warmup = torch.cuda.Stream()  # what the first call allocates, as workspaces, must not be part of the graph
        warmup.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(warmup):
            function(*self.static_inputs)
        torch.cuda.current_stream().wait_stream(warmup)
        self.graph = torch.cuda.CUDAGraph()
        # A thread that pins the next images' memory may be at work: its calls do not end the capture of this one's.
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
            self.static_output = function(*self.static_inputs)

    def __call__(self, *inputs: Tensor) -> Tensor:
        """`function(*inputs)`; the next call overwrites what it returns."""
        for static, tensor in zip(self.static_inputs, inputs, strict=True):
            static.copy_(tensor)
        self.graph.replay()
        return self.static_output
