"""A strict Amazon Bedrock on loopback: it verifies every signature anew, and streams in frames with checksums of its own making."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from support.aws_signatures import SESSION_TOKEN, signature_problem
from support.fake_provider import Peer, Seen, message, sse

REGION = "eu-central-1"
BEARER = "bedrock-api-key-fake"

METHODS = ("invoke", "invoke-with-response-stream", "count-tokens")


def frame(headers: Mapping[str, str], payload: bytes) -> bytes:
    """Return one message of the event stream, written by its specification and by nothing of the gateway's."""
    parts = [
        struct.pack(f">B{len(n)}sBH{len(v.encode())}s", len(n), n.encode(), 7, len(v.encode()), v.encode())
        for n, v in headers.items()
    ]
    # A header that is not text, as services may add.
    parts.append(struct.pack(">B2sB", 2, b"ok", 0) + struct.pack(">B2sBq", 2, b"at", 8, 1_795_000_000_000))
    head = b"".join(parts)
    prelude = struct.pack(">II", 16 + len(head) + len(payload), len(head))
    whole = prelude + struct.pack(">I", zlib.crc32(prelude)) + head + payload
    return whole + struct.pack(">I", zlib.crc32(whole))


def chunk(data: bytes) -> bytes:
    """Return the frame of one event of the model, padded as Bedrock pads it."""
    payload = {"bytes": base64.b64encode(data).decode(), "p": "abcdefghijkl"[: len(data) % 12]}
    headers = {":event-type": "chunk", ":content-type": "application/json", ":message-type": "event"}
    return frame(headers, json.dumps(payload).encode())


def exception(kind: str, words: str) -> bytes:
    """Return the frame by which a stream fails."""
    headers = {":exception-type": kind, ":content-type": "application/json", ":message-type": "exception"}
    return frame(headers, json.dumps({"message": words}).encode())


def frames(events: list[bytes]) -> list[bytes]:
    """Return server-sent events of Anthropic's as Bedrock's frames; the last one has the invocation's metrics."""
    found = [json.loads(e.partition(b"data: ")[2]) for e in events]
    if found[-1]["type"] == "message_stop":
        found[-1]["amazon-bedrock-invocationMetrics"] = {"inputTokenCount": 100, "outputTokenCount": 50, "firstByteLatency": 4}
    return [chunk(json.dumps(value, separators=(",", ":")).encode()) for value in found]


def read_frames(data: bytes) -> Iterator[tuple[dict[str, str], bytes]]:
    """Yield headers and payload of each frame of a whole stream. Raises AssertionError for one that is not exact."""
    while data:
        length, headers_length, checksum = struct.unpack(">III", data[:12])
        assert zlib.crc32(data[:8]) == checksum
        assert len(data) >= length
        assert struct.unpack(">I", data[length - 4 : length])[0] == zlib.crc32(data[: length - 4])
        head, headers = data[12 : 12 + headers_length], {}
        while head:
            name, kind = head[1 : 1 + head[0]].decode(), head[1 + head[0]]
            if kind in (0, 8):
                head = head[head[0] + 2 + kind :]
                continue
            assert kind == 7
            at = head[0] + 4
            size = int.from_bytes(head[at - 2 : at])
            headers[name], head = head[at : at + size].decode(), head[at + size :]
        yield headers, data[12 + headers_length : length - 4]
        data = data[length:]


def read_events(data: bytes) -> list[dict[str, Any]]:
    """Return the events in a whole stream of frames; an exception as ``{"exception": ..., "message": ...}``."""
    events = []
    for headers, payload in read_frames(data):
        value = json.loads(payload)
        if headers[":message-type"] == "exception":
            events.append({"exception": headers[":exception-type"], **value})
        else:
            assert (headers[":event-type"], headers[":content-type"]) == ("chunk", "application/json")
            events.append(json.loads(base64.b64decode(value["bytes"], validate=True)))
    return events


class FakeBedrock:
    """What answers; ``complaints`` are what was wrong with the requests, which are then refused as AWS would."""

    def __init__(self, answer: Callable[[dict[str, Any]], list[bytes]] | None = None) -> None:
        """``answer`` returns the frames of a streamed answer to a body."""
        self.answer = answer or (lambda body: frames(sse()))
        self.complaints: list[str] = []
        self.asked: list[tuple[str, dict[str, Any]]] = []
        """Model ids and bodies of the calls that were accepted."""
        self.token: str | None = SESSION_TOKEN
        self.failures = 0
        """How many of the next calls are answered that the service is not available."""

    def problem(self, seen: Seen) -> str | None:
        """Return what is wrong with a request."""
        headers = {n.lower(): v for n, v in seen.headers}
        if len(headers) != len(seen.headers):
            return "a header twice"
        if foreign := [n for n in headers if n.startswith(("x-bf-", "x-sluicegate", "x-api-key", "proxy-"))]:
            return f"headers {foreign}"
        if headers.get("authorization") != f"Bearer {BEARER}":
            method = seen.lines[0].split(b" ")[0].decode()
            wrong = signature_problem(method, seen.target, headers, seen.body, REGION, self.token)
            if wrong is not None:
                return wrong
        parts = seen.target.split("/")
        if len(parts) != 4 or parts[1] != "model" or parts[3] not in METHODS:
            return f"path {seen.target}"
        body = json.loads(seen.body)
        if parts[3] == "count-tokens":
            body = json.loads(base64.b64decode(body["input"]["invokeModel"]["body"], validate=True))
        if body.get("anthropic_version") != "bedrock-2023-05-31":
            return "anthropic_version"
        if extra := {"model", "stream", "betas"} & body.keys():
            return f"extra inputs are not permitted: {extra}"
        self.asked.append((unquote(parts[2]), body))
        return None

    def __call__(self, peer: Peer, seen: Seen) -> None:
        """Answer one request."""
        if (wrong := self.problem(seen)) is not None:
            self.complaints.append(wrong)
            self.refuse(peer, 403, "AccessDeniedException", f"refused: {wrong}")
        elif self.failures:
            self.failures -= 1
            self.refuse(peer, 503, "ServiceUnavailableException", "The service is not available")
        elif seen.target.endswith("-stream"):
            peer.head(200, "content-type: application/vnd.amazon.eventstream", "transfer-encoding: chunked")
            for piece in self.answer(self.asked[-1][1]):
                peer.chunk(piece)
            peer.end()
        else:
            body = b'{"inputTokens":12}' if seen.target.endswith("count-tokens") else message()
            peer.head(200, "content-type: application/json", f"content-length: {len(body)}")
            peer.send(body)

    @staticmethod
    def refuse(peer: Peer, status: int, kind: str, words: str) -> None:
        """Answer with an error in AWS's form."""
        body = json.dumps({"message": words}).encode()
        peer.head(status, "content-type: application/json", f"x-amzn-errortype: {kind}", f"content-length: {len(body)}")
        peer.send(body)
