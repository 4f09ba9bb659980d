"""Lines that recur are counted."""

from __future__ import annotations

import logging

import pytest

from runtime.console.repeated_lines import MAX_LINES, SHOWN, RepeatedLines


@pytest.fixture
def log():
    """A log, the lines printed of it, the filter, and a clock to be set."""
    now = [0.0]
    lines = RepeatedLines(lambda: now[0])
    printed: list[str] = []

    class Printer(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            printed.append(record.getMessage())

    printer = Printer()
    printer.addFilter(lines)
    logger = logging.getLogger("test-repeated-lines")
    logger.setLevel(logging.DEBUG)
    logger.addHandler(printer)
    yield logger, printed, lines, now
    logger.removeHandler(printer)


def test_a_line_that_recurs_is_counted_and_the_count_is_printed(log):
    logger, printed, lines, now = log
    for _ in range(1000):
        logger.error("no descriptor is left")
    logger.error("something else")
    assert printed == ["no descriptor is left"] * SHOWN + ["something else"]
    now[0] = 9
    lines.log_counts()
    assert len(printed) == SHOWN + 1
    now[0] = 10
    lines.log_counts()
    assert printed[-1] == f"no descriptor is left (repeated {1000 - SHOWN} times in 10 s)"
    lines.log_counts()
    assert len(printed) == SHOWN + 2
    logger.error("no descriptor is left")
    assert printed[-1] == "no descriptor is left"


def test_what_is_no_warning_is_always_printed_and_errors_differ_by_what_was_raised(log):
    logger, printed, lines, _ = log
    for number in range(10):
        logger.info("a call")
        try:
            raise ValueError(number % 2)
        except ValueError:
            logger.exception("failed")
    assert printed.count("a call") == 10
    assert printed.count("failed") == 2 * SHOWN
    for number in range(MAX_LINES + 10):
        logger.warning("line %d", number)
    assert len(lines.seen) == MAX_LINES
    assert f"line {MAX_LINES + 9}" in printed
