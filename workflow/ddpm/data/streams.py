"""Long rows of items, worked on in threads and never held whole."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

SAY_EVERY = 5.0  # seconds


def ordered(work: Callable, items: Iterable, threads: int) -> Iterator:
    """`work(item)` of every item, in order. Of the items, only a few more than `threads` are held at a time.

    Pillow and NumPy release the interpreter's lock, so that threads suffice for images.
    """
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def reported(items: Iterable, total: int, what: str, log: Callable[[str], None], count: Callable = lambda item: 1):
    """The items, with a line of progress to `log` every few seconds. `count` says how many images an item holds."""
    began = said = time.monotonic()
    done = 0
    for item in items:
        yield item
        done += count(item)
        now = time.monotonic()
        if now - said > SAY_EVERY:
            said, rate = now, done / (now - began)
            log(f"{what} {done:,}/{total:,} images {rate:.0f} images/s {(total - done) / rate:.0f} s left")
