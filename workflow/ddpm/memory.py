"""Where the tensors of a CPU lie: memory that the process keeps from one step to the next."""

import ctypes

# Of glibc's malloc.h, with its largest value for the second one on every 64-bit machine.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
LARGEST_BLOCK = 32 * 2**20  # bytes; larger ones are given back to the system each for itself, in any case
KEPT = 2**30  # bytes that are free at the end of the heap


def keep_freed_memory() -> None:
    """Have the C library keep freed memory for the next tensor.

    Every step of a network allocates and frees the same activations. As malloc is set, it gives their pages back to the
    system in between, which has to find and to clear each one again: a quarter of the CPU time of the demo's sampling.
    No more memory is taken at the most; no number changes. C libraries other than glibc are left as they are.
    """
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(TRIM_THRESHOLD, KEPT)
        mallopt(MMAP_THRESHOLD, LARGEST_BLOCK)
