"""A client that makes many calls at once on one HTTP/2 connection."""

from __future__ import annotations

import socket
import ssl
from collections import Counter

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset

from support.harness import PROVIDER, VK, Gateway, ask


def many(gw: Gateway, calls: int, at_once: int) -> Counter[str]:
    """How many calls ended with which status; each fifth stream is left while its answer comes."""
    raw = socket.create_connection(("127.0.0.1", gw.port), timeout=20)
    raw.sendall(f"CONNECT {PROVIDER}:443 HTTP/1.1\r\nHost: {PROVIDER}:443\r\n\r\n".encode())
    assert b" 200 " in raw.recv(4096)
    trust = ssl.create_default_context(cafile=str(gw.ca))
    trust.set_alpn_protocols(["h2"])
    road = trust.wrap_socket(raw, server_hostname=PROVIDER)
    talk = H2Connection(H2Configuration(header_encoding="utf-8"))
    talk.initiate_connection()
    head = {":method": "POST", ":scheme": "https", ":authority": PROVIDER, ":path": "/v1/messages", "x-api-key": VK}
    ended: Counter[str] = Counter()
    status: dict[int, str] = {}
    live: set[int] = set()
    begun = 0
    while begun < calls or live:
        while begun < calls and len(live) < at_once:
            stream = talk.get_next_available_stream_id()
            talk.send_headers(stream, list(head.items()))
            talk.send_data(stream, ask(), end_stream=True)
            live.add(stream)
            begun += 1
        road.sendall(talk.data_to_send())
        for event in talk.receive_data(road.recv(65536)):
            match event:
                case ResponseReceived():
                    status[event.stream_id] = dict(event.headers)[":status"]
                    if event.stream_id % 10 == 1 and event.stream_id in live:
                        talk.reset_stream(event.stream_id)
                        live.discard(event.stream_id)
                        ended["left"] += 1
                case DataReceived() if event.stream_id in live:
                    talk.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                case StreamEnded() | StreamReset() if event.stream_id in live:
                    ended[status.get(event.stream_id, "reset")] += 1
                    live.discard(event.stream_id)
    road.close()
    return ended
