"""Answers read from a copy: the same events, bytes and usage wherever their bytes are split."""

from __future__ import annotations

import gzip
import itertools
import zlib
from collections.abc import Iterable
from functools import cache
from typing import Any

import brotli
import orjson
from backports import zstd
from hypothesis import strategies as st

from proving.fuzzing.environment import Environment
from proving.fuzzing.target import target
from sluicegate.calls.call import Call
from sluicegate.calls.record import record_of
from sluicegate.pricing.prices import Prices
from sluicegate.providers import PROTOCOLS
from sluicegate.providers.answers.content_encoding import ContentDecoder
from sluicegate.providers.answers.sse import SseParser
from sluicegate.values import Usage
from support.fake_provider import event, sse, usage
from support.harness import OPUS

NUMBERS = [
    b"0",
    b"7",
    b"-1",
    b"1.5",
    b"1e3",
    b"null",
    b'"5"',
    b"true",
    b"[]",
    b"{}",
    b"9" * 12,
    b"9" * 25,
    b"9" * 5000,
    str((1 << 40) - 1).encode(),
]
COUNTS = [
    b"input_tokens",
    b"output_tokens",
    b"cache_read_input_tokens",
    b"cache_creation_input_tokens",
    b"web_search_requests",
    b"speed",
    b"x",
]
LINE_ENDS = [b"\n", b"\n", b"\r\n", b"\r", b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r", b"\r\n\r"]
FRAGMENTS = [
    *(
        b"data:",
        b"data: ",
        b"data",
        b"data : ",
        b"event: message_start",
        b"event:message_delta",
        b"event: error",
        b"event",
        b"id: 1",
        b"retry: 5",
        b": hm",
    ),
    *(
        b"\xef\xbb\xbf",
        b"\xef\xbb",
        b"\xff",
        b"\x00",
        b"\xe2\x80\xa8",
        b"\x0b",
        b"\x0c",
        b"\x1c",
        b"\x85",
        b" ",
        b"[DONE]",
        b"event: content_block_delta",
    ),
    *(
        b"data: " + b"[" * 900 + b"]" * 900,
        b"data: " + b"[" * 20_000,
        b'data: {"a":' * 30,
        b'data: {"type":"message_start","message":[]}',
        b"data: 5",
    ),
    *(
        b'data: {"type":"message_delta","usage":7}',
        b'data: {"type":5}',
        b'data: "\\ud83d"',
        b'data: {"type":"error","error":[]}',
        b"data: {",
    ),
    *(
        b'data: {"usageMetadata":{"promptTokenCount":"x"},"candidates":[5]}',
        b'data: {"response":{"usage":{"input_tokens":-3}}}',
        b'data: {"usage":{}}',
    ),
]


@st.composite
def usages(draw: st.DrawFn) -> bytes:
    """Return a usage object that may be absurd."""
    fields = draw(st.lists(st.tuples(st.sampled_from(COUNTS), st.sampled_from(NUMBERS)), max_size=4))
    inner = b",".join(b'"%s":%s' % f for f in fields)
    extra = draw(
        st.sampled_from([b"", b"", b',"iterations":[{%s},{"model":5,%s},3]' % (inner, inner), b',"server_tool_use":{%s}' % inner])
    )
    split = draw(
        st.sampled_from(
            [
                b"",
                b',"cache_creation":{"ephemeral_5m_input_tokens":3,"ephemeral_1h_input_tokens":%s}'
                % draw(st.sampled_from(NUMBERS)),
            ]
        )
    )
    return b"{" + (inner + extra + split).lstrip(b",") + b"}"


@st.composite
def events(draw: st.DrawFn) -> bytes:
    """Return a line, or an event, or something like one."""
    match draw(st.sampled_from(["fragment", "fragment", "event", "usage", "binary"])):
        case "event":
            return draw(
                st.sampled_from(
                    [*sse("Grüße \u2028", first=usage(input_tokens=7)), event("ping"), event("error", error={"type": "x"})]
                )
            )
        case "usage":
            counts = draw(usages())
            kind, shape = draw(
                st.sampled_from(
                    [
                        (b"message_start", b'{"type":"message_start","message":{"model":"claude-opus-5-5","usage":%s}}'),
                        (b"message_delta", b'{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":%s}'),
                        (b"response.completed", b'{"response":{"model":"gpt-5","usage":%s}}'),
                        (b"", b'{"usageMetadata":%s,"candidates":[{"finishReason":"STOP"}]}'),
                        (b"", b'{"usage":%s}'),
                    ]
                )
            )
            return (b"event: " + kind + b"\n" if kind else b"") + b"data: " + shape % counts + b"\n\n"
        case "binary":
            return draw(st.binary(max_size=12))
    return draw(st.sampled_from(FRAGMENTS)) + draw(st.sampled_from(LINE_ENDS))


bodies = st.lists(events(), max_size=8).map(b"".join)
cuts = st.lists(st.integers(0, 1 << 16), max_size=12)


def cut(data: bytes, at: Iterable[int]) -> list[bytes]:
    """Return data in chunks; a cut beyond its end is moved into it."""
    edges = sorted({0, len(data), *(a % (len(data) + 1) for a in at)})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def parsed(pieces: Iterable[bytes]) -> list[tuple[str, bytes]]:
    """Return the events of a stream."""
    parser = SseParser()
    found = [e for piece in pieces for e in parser.feed(piece)]
    return found + parser.flush()


@target(
    "SSE",
    "the same events and usage for every cut; nothing a provider says raises or overflows",
    st.tuples(bodies, cuts),
    quick=20,
)
def every_cut(_: Environment, example: tuple[bytes, list[int]]) -> int:
    data, at = example
    whole = parsed([data])
    assert parsed(cut(data, at)) == whole, f"cut at {at} it reads otherwise"
    short = data[:1500]
    of_short = parsed([short])
    ways = [[short[:i], short[i:]] for i in range(len(short) + 1)] + [[short[i : i + 1] for i in range(len(short))]]
    for way in ways:
        assert parsed(way) == of_short, f"cut into {[len(p) for p in way][:40]} bytes it reads {parsed(way)}, whole {of_short}"
    for name, adapter in PROTOCOLS.items():
        for reader in (adapter.usage_reader(), adapter.usage_reader()):
            for kind, content in whole:
                reader.feed_event(kind, content)
            reader.read_json(data)
            recordable(name, reader.usage)
            data = b"".join(content for _, content in whole)
    return len(ways) + 1


@cache
def prices() -> Prices:
    """Return what calls cost."""
    return Prices.load()


def recordable(provider: str, used: Usage | None) -> None:
    """Check that any usage can be priced, charged and recorded. Raises AssertionError."""
    if used is None:
        return
    cost = prices().cost(used, OPUS, 1_790_000_000_000)
    call = Call("call_x", 0, provider, "messages", usage=used, cost_nano=cost or 0)
    record = record_of(call, 0)
    orjson.dumps(record)
    for name, value in record.items():
        assert not isinstance(value, int) or 0 <= value < 1 << 62, f"{name} would be {value}, which no database holds"


def raw_deflate(data: bytes) -> bytes:
    """Deflate without the zlib wrapper, as some servers send it."""
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def zipped(data: bytes) -> bytes:
    """Return gzipped data that does not depend on the time."""
    return gzip.compress(data, mtime=0)


PACKERS: dict[str, list[Any]] = {
    "gzip": [zipped, lambda d: zipped(d[:9]) + zipped(d[9:])],
    "deflate": [zlib.compress, raw_deflate],
    "br": [brotli.compress],
    "zstd": [zstd.compress, lambda d: zstd.compress(d[:9]) + zstd.compress(d[9:])],
    "gzip, br": [lambda d: brotli.compress(zipped(d))],
    "": [bytes],
}


@target(
    "content encodings",
    "undone to the same bytes for every cut; garbage is reported as unreadable",
    st.tuples(bodies, cuts, st.sampled_from(sorted(PACKERS)), st.integers(0, 1), st.booleans()),
    quick=30,
)
def encodings(_: Environment, example: tuple[bytes, list[int], str, int, bool]) -> int:
    data, at, encoding, which, hurt = example
    packers = PACKERS[encoding]
    packed: bytes = packers[which % len(packers)](data)
    if hurt:
        packed = packed[: len(packed) // 2] + b"\x00\xff" + packed[len(packed) // 2 :]
    ways = [[packed], cut(packed, at), [packed[i : i + 1] for i in range(len(packed))]]
    found = []
    for way in ways:
        decoder = ContentDecoder(encoding)
        plain = b"".join(decoder.feed(piece) for piece in way)
        found.append((plain, True) if decoder.readable else (b"", False))
        assert hurt or found[-1] == (data, True), (
            f"cut into {[len(p) for p in way][:40]} bytes, {len(plain)} of {len(data)} come out"
        )
    assert found[0][1] == found[1][1] == found[2][1], "readable in one cut, not in another"
    return len(ways)
