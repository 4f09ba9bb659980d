"""The printer: every call is printed or counted, and no call waits for whoever reads the output."""

from __future__ import annotations

import io
import json
import threading
import time

from sluicegate.console import printer
from sluicegate.console.printer import Printer
from support.ended_calls import CALL


class Unread(io.StringIO):
    """An output that nobody reads for now: the first write waits."""

    def __init__(self):
        super().__init__()
        self.reached, self.read = threading.Event(), threading.Event()

    def write(self, text):
        self.reached.set()
        assert self.read.wait(60)
        return super().write(text)


def on(stream, **settings):
    made = Printer(lambda: stream, lambda: 0)
    made.is_on = True
    for name, value in settings.items():
        setattr(made, name, value)
    return made


def test_calls_are_printed_in_order_and_whole_at_the_end():
    out = io.StringIO()
    made = on(out, format="json")
    for number in range(500):
        made.call(CALL | {"id": str(number)})
    made.close()
    assert [json.loads(line)["id"] for line in out.getvalue().splitlines()] == [str(n) for n in range(500)]
    made.call(CALL)
    assert len(out.getvalue().splitlines()) == 500


def test_nothing_is_printed_and_no_thread_runs_until_it_is_on():
    out, before = io.StringIO(), threading.active_count()
    made = Printer(lambda: out)
    made.call(CALL)
    assert threading.active_count() == before
    made.close()
    assert out.getvalue() == ""


def test_an_output_that_nobody_reads_delays_no_call_and_its_lost_lines_are_counted(monkeypatch):
    monkeypatch.setattr(printer, "MAX_WAITING", 50)
    out = Unread()
    made = on(out)
    made.call(CALL | {"id": "first"})
    assert out.reached.wait(60)
    for number in range(70):
        made.call(CALL | {"id": str(number)})
    out.read.set()
    made.close()
    lines = out.getvalue().splitlines()
    assert [line.rpartition("=")[2] for line in lines[:51]] == ["first", *map(str, range(50))]
    assert lines[51].startswith("1970-01-01T00:00:00.000Z warning The lines of 20 calls were not printed")


def test_a_closed_output_is_left_alone():
    out = io.StringIO()
    out.close()
    made = on(out)
    made.call(CALL)
    made.close()
    assert not made._waiting


def test_a_line_costs_less_than_fifteen_microseconds():
    """Of processor time, with the thread that writes it."""
    for format in ("text", "json"):
        out = io.StringIO()
        made = on(out, format=format)
        began = time.process_time()
        for _ in range(5_000):
            made.call(CALL)
        made.close()
        assert (time.process_time() - began) / 5_000 < 15e-6, format
        assert len(out.getvalue().splitlines()) == 5_000
