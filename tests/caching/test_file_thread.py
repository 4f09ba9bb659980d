"""The thread of the file of kept answers: what it is handed is done in order, and nothing that fails ends it."""

from __future__ import annotations

import logging
import threading
from functools import partial

import pytest

from sluicegate.caching.file_thread import FileThread


def test_work_is_done_in_order_by_one_thread_and_what_is_left_before_it_ends(caplog):
    thread, done, names, gate = FileThread("one"), list[int](), set[str](), threading.Event()

    def work(number: int) -> int:
        done.append(number)
        names.add(threading.current_thread().name)
        if number == 3:
            raise ValueError("spoilt")
        return number

    thread.hand(gate.wait)
    for number in range(4):
        thread.hand(partial(work, number))
    result, failed, given_up = (thread.submit(partial(work, number)) for number in (4, 3, 5))
    assert given_up.cancel()
    gate.set()
    with caplog.at_level(logging.ERROR, "sluicegate"):
        assert result.result() == 4
        with pytest.raises(ValueError, match="spoilt"):
            failed.result()
        thread.hand(partial(work, 6))
        thread.close()
    assert done == [0, 1, 2, 3, 4, 3, 6]
    assert names == {"one"}
    assert [record.message for record in caplog.records] == ["Work on kept answers failed"]
