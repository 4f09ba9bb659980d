"""Floods of HTTP/2 frames end the connection they come on, while others are answered; many frames of real calls do not."""

from __future__ import annotations

import contextlib
from itertools import repeat

import pytest
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, DataReceived, PingAckReceived, StreamEnded
from h2.exceptions import StreamClosedError
from h2.settings import SettingCodes

from runtime.resources.frame_limits import FRAMES_PER_EVENT, MAX_FRAMES
from support import http2_client
from support.fake_provider import FakeProvider, sse, streamed
from support.harness import Gateway, ask, policy_text
from support.processor import process_s

pytestmark = pytest.mark.wire


@pytest.fixture(scope="module")
def upstream():
    with FakeProvider() as started:
        yield started


@pytest.fixture(scope="module")
def edge(tmp_path_factory, upstream):
    """One gateway for all of these."""
    with Gateway(tmp_path_factory.mktemp("frames"), policy_text(upstream.url)) as gw:
        yield gw


@pytest.fixture(scope="module")
def edge_in_parts(tmp_path_factory, upstream):
    """A gateway that sends on each part of an answer as a part; others join those that were read together."""
    with Gateway(tmp_path_factory.mktemp("parts"), policy_text(upstream.url), "--set", "fast_streams=false") as gw:
        yield gw


def frame(kind, stream=0, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, 0]) + stream.to_bytes(4, "big") + payload


MOST_CPU_S = 0.8
"""Seconds of processor time a flood may take; sixty thousand frames took from half a second to six."""

FLOODS = {
    "unknown": frame(0xEE),
    "empty data": frame(0, 1),
    "ping": frame(6, 0, bytes(8)),
    "priority": frame(2, 3, bytes([0, 0, 0, 1, 9])),
    "settings": frame(4),
    "window": frame(8, 0, bytes([0, 0, 0, 1])),
}


def ended(gw, tls, *sent):
    """Whether the gateway ends a connection on which this is sent; whatever it answers before that is passed over."""
    with tls:
        try:
            for data in sent:
                tls.sendall(data)
            assert gw.request("GET", "/health").status == 200
            while tls.recv(65536):
                pass
        except TimeoutError:
            return False
        except OSError:
            # It was ended while we were still sending.
            assert gw.request("GET", "/health").status == 200
    return True


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
def test_a_flood_of_frames_ends_its_connection_and_delays_nobody(edge, flood):
    tls, h2 = http2_client.connect(edge)
    h2.send_headers(1, http2_client.request_headers())
    before = process_s(edge.process.pid)
    assert ended(edge, tls, h2.data_to_send(), *repeat(flood * 1000, 60))
    assert process_s(edge.process.pid) - before < MOST_CPU_S


def test_a_flood_of_calls_that_are_reset_ends_its_connection_and_delays_nobody(edge):
    tls, h2 = http2_client.connect(edge)
    for number in range(1, 6001, 2):
        h2.send_headers(number, http2_client.request_headers(key="sk-nobody"), end_stream=True)
        h2.reset_stream(number)
    before = process_s(edge.process.pid)
    assert ended(edge, tls, h2.data_to_send())
    assert process_s(edge.process.pid) - before < MOST_CPU_S


def test_the_client_is_told_and_the_log_counts(edge):
    tls, h2 = http2_client.connect(edge)
    with tls:
        tls.sendall(h2.data_to_send())
        told = None
        while told is None:
            # Few at a time, and all are answered before the next: what is not read would turn the end into a reset.
            tls.sendall(FLOODS["ping"] * 100)
            acknowledged = 0
            while acknowledged < 100 and told is None:
                for event in h2.receive_data(tls.recv(65536)):
                    acknowledged += isinstance(event, PingAckReceived)
                    told = event if isinstance(event, ConnectionTerminated) else told
        assert tls.recv(65536) == b""
    assert told.error_code == ErrorCodes.ENHANCE_YOUR_CALM
    edge.wait_for("An HTTP/2 connection was ended because its client sent more frames than its calls need")


@pytest.mark.parametrize("acknowledges", ["each part", "half a window"])
def test_a_long_stream_of_small_parts_is_read_to_its_end(edge_in_parts, upstream, acknowledges):
    """The first client has large windows, as Codex has, and measures with a ping at each part; the second what RFC 9113 says.

    On a loaded machine the first may get the whole answer before it acknowledges anything, and then send all its frames at
    once: so there are as many parts as the most credit that a connection can earn allows for.
    """
    first, start, piece, *rest = sse()
    pieces = MAX_FRAMES // FRAMES_PER_EVENT - 10
    upstream.script = streamed([first, start, *[piece] * pieces, *rest])
    tls, h2 = http2_client.connect(edge_in_parts)
    if acknowledges == "each part":
        h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 2 << 20})
        h2.increment_flow_control_window(5 << 20)
    h2.send_headers(1, http2_client.request_headers())
    h2.send_data(1, ask(stream=True), end_stream=True)
    answer, parts, is_over = b"", 0, False
    with tls:
        while not is_over:
            tls.sendall(h2.data_to_send())
            received = tls.recv(65536)
            assert received, f"ended after {parts} parts"
            for event in h2.receive_data(received):
                if isinstance(event, DataReceived) and event.data:
                    parts += 1
                    answer += event.data
                    if acknowledges == "each part":
                        h2.increment_flow_control_window(len(event.data))
                        with contextlib.suppress(StreamClosedError):
                            # Where the end has come in the same read, nobody waits for a window of the stream.
                            h2.increment_flow_control_window(len(event.data), 1)
                        h2.ping(bytes(8))
                    else:
                        h2.acknowledge_received_data(len(event.data), 1)
                is_over = is_over or isinstance(event, StreamEnded)
    assert parts > 1000
    assert answer.count(piece) == pieces
    assert answer.endswith(rest[-1])


def test_many_calls_side_by_side_are_answered(edge, upstream):
    upstream.script = streamed()
    count = http2_client.many(edge, 120, 100)
    assert count["200"] + count["left"] == 120
