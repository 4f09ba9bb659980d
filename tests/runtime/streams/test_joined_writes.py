"""What one event sends on one connection leaves by one write, in the order in which it was sent."""

from __future__ import annotations

import pytest
from mitmproxy.connection import Server
from mitmproxy.proxy import commands

from runtime.streams.joined_writes import MAX_JOINED_BYTES, join

ONE, OTHER = Server(address=("one", 1)), Server(address=("other", 2))


def seen(handled):
    """Return what is left of commands once they are joined."""
    return [(c.connection, c.data) if isinstance(c, commands.SendData) else c for c in join(iter(handled))]


def sends(*parts):
    return [commands.SendData(connection, data) for connection, data in parts]


def test_what_goes_to_one_connection_is_sent_together():
    assert seen(sends((ONE, b"head"), (ONE, b"body"), (ONE, b"end"))) == [(ONE, b"headbodyend")]


def test_what_goes_to_several_connections_keeps_its_order():
    sent = sends((ONE, b"1"), (ONE, b"2"), (OTHER, b"3"), (ONE, b"4"))
    assert seen(sent) == [(ONE, b"12"), (OTHER, b"3"), (ONE, b"4")]


def test_whatever_else_is_to_be_done_waits_for_what_was_sent_before_it():
    close = commands.CloseConnection(ONE)
    assert seen([*sends((ONE, b"1"), (ONE, b"2")), close, *sends((OTHER, b"3"))]) == [(ONE, b"12"), close, (OTHER, b"3")]


def test_lines_of_the_log_do_not_part_what_is_sent():
    line = commands.Log("Streaming")
    assert seen([*sends((ONE, b"1")), line, *sends((ONE, b"2"))]) == [line, (ONE, b"12")]


def test_much_is_not_copied():
    body = b"x" * MAX_JOINED_BYTES
    assert seen(sends((ONE, b"head"), (ONE, body), (ONE, b"end"))) == [(ONE, b"head"), (ONE, body), (ONE, b"end")]


def test_what_was_sent_before_an_error_is_sent():
    def handled():
        yield commands.SendData(ONE, b"1")
        raise ValueError("no")

    found = join(handled())
    assert next(found).data == b"1"
    with pytest.raises(ValueError, match="no"):
        next(found)
