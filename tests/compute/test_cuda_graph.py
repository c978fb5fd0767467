"""A function as a CUDA graph, as far as a machine without a GPU can tell."""

from contextlib import nullcontext

import torch

from ddpm.compute.cuda_graph import CUDAGraphCallable


class Stream:
    def wait_stream(self, other):
        pass


class Graph:
    def replay(self):
        pass


def test_another_threads_calls_do_not_end_the_capture(monkeypatch):
    """A thread that pins memory calls CUDA at any moment, which an error mode for all threads would not survive."""
    asked = []
    for name, stand_in in {
        "Stream": Stream,
        "current_stream": Stream,
        "stream": lambda stream: nullcontext(),
        "CUDAGraph": Graph,
        "graph": lambda graph, **options: asked.append(options) or nullcontext(),
    }.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    given = torch.ones(2)
    CUDAGraphCallable(lambda x: x.add_(x), [given])
    assert asked == [{"capture_error_mode": "thread_local"}]
    assert given.tolist() == [1, 1], "captured with memory of its own"
