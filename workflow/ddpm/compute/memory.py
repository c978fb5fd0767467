"""What to do where a GPU's memory is full: fewer images at once."""

from collections.abc import Callable, Iterator
from typing import TypeVar

from ddpm.config.errors import ExitCode, UserError
from ddpm.jobs.failures import first_line, gpu_is_full

Result = TypeVar("Result")


class OutOfMemory(UserError):
    """Not even one image fits."""

    code = ExitCode.MEMORY


class BatchSplitter:
    """Splits ranges of images in two where they do not fit into the GPU's memory, and goes on with smaller ones.

    Args:
        key: of the configuration, for the log: how many images are tried first; None where no key says it.
    """

    def __init__(self, key: str | None, log=print):
        self.key, self.log = key, log
        self.limit: int | None = None  # images that are tried at once; None: as many as are asked for

    def each(self, make: Callable[[int, int], Result], first: int, last: int) -> Iterator[Result]:
        """`make(first, last)`, or the results of several such calls that together cover the range, in order.

        Raises:
            OutOfMemory: not even one image fits.
        """
        while first < last:
            stop = min(last, first + (self.limit or last - first))
            try:
                result = make(first, stop)
            except Exception as error:
                if not gpu_is_full(error):
                    raise
                result, words = None, first_line(error)
                if stop - first == 1:
                    raise OutOfMemory(too_small("image", words)) from error
            if result is None:  # out of the handler, which holds on to what has to be freed
                self.limit = halved(stop - first, words, self.key, self.log)
                continue
            yield result
            first = stop


def halved(tried: int, words: str, key: str | None, log) -> int:
    """How many images to try next where `tried` did not fit, which is said; what the failed try held is freed.

    Call it outside of the error's handler, which holds on to what has to be freed.
    """
    import torch

    torch.cuda.empty_cache()
    most = -(-tried // 2)
    how = f"; {key}: {most} in the configuration would begin with that" if key else ""
    log(f"{tried} images at once do not fit into the GPU's memory ({words}); from here on {most}{how}")
    return most


def too_small(what: str, words: str) -> str:
    """What to say where not even one fits."""
    return (
        f"not even one {what} fits into the GPU's memory ({words}). nvidia-smi shows whether other programs hold some "
        "of it: wait for them, or run this on a GPU with more."
    )
