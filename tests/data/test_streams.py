"""Long rows of items are worked on in order, a few at a time."""

import threading

import pytest

from ddpm.data import streams
from ddpm.data.streams import ordered, reported


def test_results_come_in_order_whichever_is_ready_first():
    first_may_go = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            first_may_go.wait(600)
        if item == 1:
            first_may_go.set()
        return item

    assert list(ordered(work, range(50), 2)) == list(range(50))


@pytest.mark.parametrize("threads", [1, 3])
def test_only_a_few_items_are_held(threads):
    taken = []

    def items():
        for item in range(100):
            taken.append(item)
            yield item

    for done, item in enumerate(ordered(lambda item: item, items(), threads), 1):
        assert item == done - 1
        assert len(taken) <= done + 2 * threads


def test_an_error_comes_out_where_its_result_would():
    results = ordered(lambda item: 1 // (3 - item), range(10), 2)
    assert [next(results) for _ in range(3)] == [0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_progress_is_said(monkeypatch):
    monkeypatch.setattr(streams, "SAY_EVERY", 0.0)
    lines = []
    assert list(reported([[1, 2], [3]], 4, "read", lines.append, len)) == [[1, 2], [3]]
    assert lines[0].startswith("read 2/4 images")
    assert lines[1].startswith("read 3/4 images")
