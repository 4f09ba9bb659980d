"""A piece of an answer becomes the frame that h2 makes of it, and is counted off the same windows."""

from __future__ import annotations

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived
from mitmproxy.proxy.layers.http._http_h2 import BufferedH2Connection

from runtime.streams.http2_frames import data_frame, lacking, waiting_for_windows

HEAD = [(":status", "200")]
WINDOW = 100


def answering() -> tuple[H2Connection, BufferedH2Connection]:
    """Return a client that has asked, and the side that has begun to answer it; each stream of the client takes 100 bytes."""
    client = H2Connection(H2Configuration(header_encoding="utf-8"))
    server = BufferedH2Connection(H2Configuration(client_side=False, header_encoding=False))
    client.initiate_connection()
    client.update_settings({4: WINDOW})
    client.send_headers(1, [(":method", "POST"), (":scheme", "https"), (":authority", "x"), (":path", "/")], end_stream=True)
    server.initiate_connection()
    server.receive_data(client.data_to_send())
    server.send_headers(1, HEAD)
    client.receive_data(server.data_to_send())
    return client, server


def windows(server: BufferedH2Connection) -> tuple[int, int]:
    """Return what the connection and the stream may still send."""
    return server.outbound_flow_control_window, server.streams[1].outbound_flow_control_window


@pytest.mark.parametrize("size", [1, 9, WINDOW])
def test_a_piece_becomes_the_frame_that_h2_makes(size):
    client, ours = answering()
    _, theirs = answering()
    theirs.send_data(1, b"x" * size)
    frame = data_frame(ours, 1, b"x" * size)
    assert frame == theirs.data_to_send()
    assert windows(ours) == windows(theirs)
    assert [type(event).__name__ for event in client.receive_data(frame)] == ["DataReceived"]


def test_what_does_not_fit_is_left_to_h2_with_all_that_follows_it():
    _, server = answering()
    assert data_frame(server, 1, b"x" * (WINDOW + 1)) is None
    assert data_frame(server, 1, b"") is None
    before = windows(server)
    server.send_data(1, b"x" * (WINDOW + 1))
    # The rest waits, and nothing overtakes it, nor what has not been fetched yet.
    assert windows(server) == (before[0] - WINDOW, 0)
    assert data_frame(server, 1, b"y") is None
    server.data_to_send()
    server.streams[1].outbound_flow_control_window = WINDOW
    assert data_frame(server, 1, b"y") is None


def test_nothing_overtakes_what_h2_has_made_and_nobody_has_fetched():
    _, server = answering()
    server.send_data(1, b"x")
    assert data_frame(server, 1, b"y") is None
    server.data_to_send()
    assert data_frame(server, 1, b"y") is not None


def test_a_larger_frame_than_the_client_takes_is_left_to_h2():
    client, server = answering()
    client.update_settings({4: 1 << 20})
    server.receive_data(client.data_to_send())
    server.data_to_send()
    assert data_frame(server, 1, b"x" * (1 << 14)) is not None
    assert data_frame(server, 1, b"x" * ((1 << 14) + 1)) is None


@pytest.mark.parametrize("ending", ["ended", "reset", "unknown", "closed"])
def test_a_stream_that_has_ended_gets_nothing(ending):
    client, server = answering()
    if ending == "ended":
        server.end_stream(1)
    elif ending == "reset":
        client.reset_stream(1)
        server.receive_data(client.data_to_send())
    elif ending == "closed":
        server.close_connection()
    server.data_to_send()
    assert data_frame(server, 3 if ending == "unknown" else 1, b"x") is None


def test_this_h2_fits_and_another_would_be_noticed(monkeypatch):
    assert lacking() is None
    monkeypatch.setattr("runtime.streams.http2_frames.H2Stream", lambda *_: object())
    assert lacking() == "h2's object.outbound_flow_control_window"


@pytest.mark.parametrize("ends", [False, True])
def test_what_comes_while_a_client_has_taken_its_window_back_waits(monkeypatch, ends):
    monkeypatch.setattr(BufferedH2Connection, "send_data", waiting_for_windows(BufferedH2Connection.send_data))
    client, server = answering()
    before = client.receive_data(data_frame(server, 1, b"a" * 60) or b"")
    client.update_settings({4: 10})
    server.receive_data(client.data_to_send())
    client.receive_data(server.data_to_send())
    assert windows(server)[1] == -50
    if not ends:
        assert data_frame(server, 1, b"b" * 30) is None
        server.send_data(1, b"b" * 30)
        server.send_data(1, b"c" * 20_000)
    server.end_stream(1)
    assert server.data_to_send() == b""
    client.update_settings({4: 1 << 16})
    server.receive_data(client.data_to_send())
    events = [*before, *client.receive_data(server.data_to_send())]
    received = b"".join(event.data for event in events if isinstance(event, DataReceived))
    assert received == b"a" * 60 + (b"" if ends else b"b" * 30 + b"c" * 20_000)
    assert [type(event).__name__ for event in events][-1] == "StreamEnded"
