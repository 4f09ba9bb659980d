"""A client's HTTP/2 frames are counted, however they arrive; floods end the connection, and what clients send never does."""

from __future__ import annotations

from itertools import pairwise

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from hypothesis import given
from hypothesis import strategies as st

from runtime.resources.frame_limits import FRAMES_AT_ONCE, FRAMES_PER_S, MAX_FRAMES, FrameCredit

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Clock:
    """A time that stands still until it is moved."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def credit(clock):
    """The credit of a connection that has begun."""
    made = FrameCredit(clock)
    assert made.admits(PREFACE)
    return made


def frame(kind, payload=b"", stream=0):
    return len(payload).to_bytes(3, "big") + bytes([kind, 0]) + stream.to_bytes(4, "big") + payload


UPDATE = frame(8, b"\0\0\0\x40", 1)
HEADERS = frame(1, b"\x82", 1)

FLOODS = {
    "unknown": frame(0xEE),
    "empty data": frame(0, b"", 1),
    "data of a byte": frame(0, b"x", 1),
    "headers": HEADERS,
    "headers, reset": HEADERS + frame(3, bytes(4), 1),
    "priority": frame(2, bytes(5), 1),
    "settings": frame(4),
    "settings, long": frame(4, bytes(6 * 2000)),
    "ping": frame(6, bytes(8)),
    "window": UPDATE,
    "continuation": frame(9, b"", 1),
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
def test_a_flood_is_not_admitted(credit, flood):
    assert not credit.admits(flood * (FRAMES_AT_ONCE * 21 // 20))


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
def test_a_flood_that_goes_on_is_not_admitted_however_slow(clock, credit, flood):
    """Twice as many as are admitted each second."""
    ended = False
    for _ in range(40):
        clock.now_s += 0.25
        ended = ended or not credit.admits(flood * (FRAMES_PER_S // 2))
    assert ended


def test_a_little_of_everything_is_admitted(credit):
    assert credit.admits(b"".join(FLOODS[n] for n in FLOODS if n != "settings, long") * 30)


def test_credit_grows_with_time_and_not_beyond_its_start(clock, credit):
    assert credit.admits(UPDATE * FRAMES_AT_ONCE)
    assert credit.left == 0
    clock.now_s += 1
    assert credit.admits(UPDATE * FRAMES_PER_S)
    # Many short moments are worth as much as a long one.
    for _ in range(1000):
        clock.now_s += 1 / 1024
        assert credit.admits(b"")
    assert credit.admits(UPDATE * (FRAMES_PER_S * 1000 // 1024))
    clock.now_s += 3600
    assert not credit.admits(UPDATE * (FRAMES_AT_ONCE + 1))


def test_a_long_body_brings_its_credit(credit):
    assert all(credit.admits(frame(0, bytes(64), 1) * 1000) for _ in range(100))
    assert credit.admits(frame(0, bytes(16384), 1) * 1000)
    assert not credit.admits(frame(0, bytes(60), 1) * 1000 * (MAX_FRAMES // 50))


def test_an_answer_brings_what_acknowledges_it(credit):
    """A client may acknowledge each part of a stream, on the stream and on the connection, and measure with a ping."""
    for _ in range(20_000):
        credit.earn(40)
        assert credit.admits(UPDATE + UPDATE + frame(6, bytes(8)))
    for _ in range(5000):
        credit.earn(131_072)
        # In frames of 16 KB, of which a client may acknowledge each four.
        assert credit.admits(UPDATE * 2 * 32)


def test_an_answer_brings_no_more_than_may_be_outstanding(credit):
    for _ in range(20_000):
        credit.earn(40)
    assert not credit.admits(UPDATE * (MAX_FRAMES + 1))


def test_two_hundred_calls_at_once_are_admitted(credit):
    """What a client sends for them, from its first byte on."""
    client = H2Connection(H2Configuration(header_encoding="utf-8"))
    client.initiate_connection()
    client.remote_settings.max_concurrent_streams = 1000
    client.remote_settings.acknowledge()
    for number in range(1, 401, 2):
        client.send_headers(number, [(":method", "POST"), (":scheme", "https"), (":authority", "a"), (":path", "/v1/messages")])
        client.send_data(number, bytes(300), end_stream=True)
    data = client.data_to_send()
    assert FrameCredit(Clock()).admits(data)
    assert credit.admits(data[len(PREFACE) :])


FRAMES = st.lists(st.tuples(st.integers(0, 255), st.integers(0, 200)), max_size=60)


@given(frames=FRAMES, repeat=st.integers(1, 60), cuts=st.lists(st.integers(0, 4000), max_size=20), all_bytes=st.booleans())
def test_however_the_bytes_are_cut_the_count_is_the_same(frames, repeat, cuts, all_bytes):
    data = PREFACE + b"".join(frame(kind, bytes([255]) * size) for kind, size in frames) * repeat
    whole, cut = FrameCredit(Clock()), FrameCredit(Clock())
    edges = range(len(data) + 1) if all_bytes and len(data) < 20_000 else sorted({0, len(data), *(c % len(data) for c in cuts)})
    assert whole.admits(data) == all(cut.admits(data[a:b]) for a, b in pairwise(edges))
    assert whole.left == cut.left


@given(kinds=st.lists(st.integers(0, 255), max_size=300))
def test_each_frame_costs_something(kinds):
    credit = FrameCredit(Clock())
    credit.admits(PREFACE)
    for kind in kinds:
        before = credit.left
        credit.admits(frame(kind))
        assert credit.left <= before - 64
