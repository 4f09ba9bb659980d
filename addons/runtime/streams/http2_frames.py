"""HTTP/2 frames: a piece of an answer becomes a DATA frame at once, where h2 takes some fifty steps to make the same one.

h2 remains the one that knows its connection: what is sent is counted off its windows, and whenever a piece does not fit into
them, or anything waits before it, the piece is h2's to send.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from h2.config import H2Configuration
from h2.connection import ConnectionState, H2Connection
from h2.stream import H2Stream, StreamState
from mitmproxy.proxy.layers.http._http_h2 import SendH2Data

from runtime.streams.used_names import missing_name

_frame_head = struct.Struct(">BHBBI").pack
"""Makes the head of a frame: its length in two parts, its type, its flags and the number of its stream (RFC 9113, 4.1)."""

_MAY_SEND = (StreamState.HALF_CLOSED_REMOTE, StreamState.OPEN)
_IS_OPEN = (ConnectionState.SERVER_OPEN, ConnectionState.CLIENT_OPEN)


def data_frame(connection: Any, number: int, payload: bytes) -> bytes | None:
    """Return a piece as a frame of the stream with this number, and count it off the windows; None where h2 has to send it.

    ``connection`` is mitmproxy's ``BufferedH2Connection``. The head of the stream's answer must have been sent.
    """
    size, stream = len(payload), connection.streams.get(number)
    if (
        stream is None
        or not 0 < size <= connection.outbound_flow_control_window
        or size > stream.outbound_flow_control_window
        or size > connection.max_outbound_frame_size
        or number in connection.stream_buffers
        or connection._data_to_send
        or stream.state_machine.state not in _MAY_SEND
        or connection.state_machine.state not in _IS_OPEN
    ):
        return None
    connection.outbound_flow_control_window -= size
    stream.outbound_flow_control_window -= size
    return _frame_head(size >> 16, size & 0xFFFF, 0, 0, number) + payload


def waiting_for_windows(stock: Callable[..., None]) -> Callable[..., None]:
    """Return mitmproxy's ``send_data`` of its ``BufferedH2Connection``, made to wait while a window is below zero.

    A peer that takes less than it said at first makes it so (RFC 9113, 6.9.2). mitmproxy would count such a window from the
    data's end, and h2 raise in the middle of an event: a part would be missing from an answer that looks whole.
    """

    def send_data(self: Any, stream_id: int, data: bytes, end_stream: bool = False, pad_length: None = None) -> None:
        is_one_frame = len(data) <= self.max_outbound_frame_size
        if is_one_frame and not self.stream_buffers.get(stream_id) and self.local_flow_control_window(stream_id) < 0:
            self.stream_buffers[stream_id].append(SendH2Data(data, end_stream))
        else:
            stock(self, stream_id, data, end_stream, pad_length)

    return send_data


def lacking() -> str | None:
    """Return which name of h2's that is used here is missing; None if they are all there."""
    config = H2Configuration(client_side=False)
    missing = missing_name(
        [
            (
                H2Connection(config),
                ("outbound_flow_control_window", "max_outbound_frame_size", "streams", "state_machine", "_data_to_send"),
            ),
            (H2Stream(1, config, 1, 1), ("outbound_flow_control_window", "state_machine")),
        ]
    )
    return None if missing is None else f"h2's {missing}"
