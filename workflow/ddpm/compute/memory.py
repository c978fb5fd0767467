"""What to do where a GPU's memory is full: fewer images at once."""

from collections.abc import Callable, Iterator
from functools import partial
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
            if (result := self.attempt(partial(make, first, stop), stop - first)) is not None:
                yield result
                first = stop

    def attempt(self, make: Callable[[], Result], images: int, what: str = "image") -> Result | None:
        """`make()`, of so many images at once; None where they do not fit: then `limit` is half as many, which is said.

        Raises:
            OutOfMemory: not even one fits; `what` it is of.
        """
        try:
            return make()
        except Exception as error:
            if not gpu_is_full(error):
                raise
            words = first_line(error)
            if images == 1:
                raise OutOfMemory(
                    f"not even one {what} fits into the GPU's memory ({words}). nvidia-smi shows whether other "
                    "programs hold some of it: wait for them, or run this on a GPU with more."
                ) from error
        import torch

        torch.cuda.empty_cache()  # out of the handler, which holds on to what has to be freed
        self.limit = -(-images // 2)
        how = f"; {self.key}: {self.limit} in the configuration would begin with that" if self.key else ""
        self.log(f"{images} images at once do not fit into the GPU's memory ({words}); from here on {self.limit}{how}")
        return None
