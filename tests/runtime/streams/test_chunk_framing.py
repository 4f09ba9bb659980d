"""Chunks read together are what h11 reads one by one, wherever the bytes are cut and whatever they are."""

from __future__ import annotations

import itertools

import h11
import pytest
from h11._readers import ChunkedReader, ContentLengthReader
from h11._receivebuffer import ReceiveBuffer
from hypothesis import given
from hypothesis import strategies as st

from runtime.streams import chunk_framing
from runtime.streams.chunk_framing import lacking, read_only_chunk, read_pieces, stock_reader
from runtime.trailers import without_trailers

BODY = b"5\r\nfirst\r\n1B\r\nthe second one, \r\n in lines\r\n1\r\n\r\r\n2\r\n\r\n\r\n003\r\nend\r\n0\r\n\r\n"
PAYLOAD = b"firstthe second one, \r\n in lines\r\r\nend"

ODD = {
    "an extension": b"3;a=b\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    "a space": b"3 \r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    "many zeros": b"0000000003\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    "trailers": b"3\r\nabc\r\n0\r\nx-a: b\r\n\r\n",
    "another last chunk": b"3\r\nabc\r\n000\r\n\r\n",
    "a sign": b"3\r\nabc\r\n+3\r\nabc\r\n0\r\n\r\n",
    "a prefix": b"3\r\nabc\r\n0x3\r\nabc\r\n0\r\n\r\n",
    "an underscore": b"3\r\nabc\r\n1_0\r\nabcabcabcabcabca\r\n0\r\n\r\n",
    "no number": b"3\r\nabc\r\nxyz\r\n\r\n",
    "no size": b"3\r\nabc\r\n\r\nabc\r\n",
    "too long a chunk": b"3\r\nabcd\r\n0\r\n\r\n",
    "too short a chunk": b"3\r\nab\r\n3\r\nabc\r\n0\r\n\r\n",
    "bare line feeds": b"3\nabc\n0\n\n",
    "a half line end": b"3\r\nabc\rx3\r\nabc\r\n",
    "too large a number": b"3\r\nabc\r\n123456789abcdef012345\r\nabc",
}


def read(cuts: list[bytes], joined: bool) -> tuple[bytes, bytes, str | None]:
    """Return the payload of a body, its payload as framed for the client, and how its reading ended: the error, or ``end``."""
    reader, rest = ChunkedReader(), ReceiveBuffer()
    payload, framed = b"", b""
    for cut in cuts:
        rest += cut
        if joined and (only := read_only_chunk(reader, bytes(rest))) is not None:
            payload, framed = payload + only, framed + bytes(rest)
            rest.maybe_extract_at_most(len(rest))
            continue
        if joined and (found := read_pieces(reader, bytes(rest))) is not None:
            assert found.payload
            assert 0 < found.end <= len(rest)
            rest.maybe_extract_at_most(found.end)
            payload, framed = payload + found.payload, framed + found.framed
        while True:
            try:
                event = reader(rest)
            except h11.ProtocolError as e:
                return payload, framed, str(e)
            if event is None:
                break
            if isinstance(event, h11.EndOfMessage):
                return payload, framed, f"end {len(event.headers)} {bytes(rest)!r}"
            payload += event.data
            framed += b"%x\r\n%b\r\n" % (len(event.data), event.data)
    return payload, framed, None


def unframed(framed: bytes) -> bytes:
    """Return what a client reads."""
    payload, _, ended = read([framed, b"0\r\n\r\n"], joined=False)
    assert ended == "end 0 b''"
    return payload


def check(cuts: list[bytes]) -> None:
    """Check that reading chunks together comes to what h11 alone comes to, and that a client can read what it gets."""
    payload, _, ended = read(cuts, joined=False)
    assert (found := read(cuts, joined=True))[::2] == (payload, ended)
    assert unframed(found[1]) == payload


@pytest.mark.parametrize("body", [BODY, *ODD.values()], ids=["plain", *ODD])
def test_it_reads_the_same_wherever_a_body_is_cut_once_or_twice(body):
    whole = read([body], joined=False)
    for first in range(len(body) + 1):
        for second in range(first, len(body) + 1):
            check([body[:first], body[first:second], body[second:]])
    check([body[i : i + 1] for i in range(len(body))])
    assert read([body], joined=True)[::2] == whole[::2]


def test_whole_chunks_are_framed_by_their_own_bytes():
    payload, framed, ended = read([BODY], joined=True)
    assert (payload, framed, ended) == (PAYLOAD, BODY.removesuffix(b"0\r\n\r\n"), "end 0 b''")
    reader = ChunkedReader()
    found = read_pieces(reader, BODY)
    assert found == (PAYLOAD, BODY.removesuffix(b"0\r\n\r\n"), len(BODY) - 5)


@given(chunks=st.lists(st.binary(min_size=1, max_size=40), max_size=8), cut=st.integers(1, 50))
def test_any_chunks_come_out_whole(chunks, cut):
    body = b"".join(b"%X\r\n%b\r\n" % (len(c), c) for c in chunks) + b"0\r\n\r\n"
    check([body[i : i + cut] for i in range(0, len(body), cut)])
    assert read([body], joined=True)[0] == b"".join(chunks)


@given(data=st.binary(max_size=60), cut=st.integers(1, 60))
def test_any_bytes_are_read_as_h11_reads_them(data, cut):
    check([data[i : i + cut] for i in range(0, len(data), cut)])


@given(st.lists(st.sampled_from([b"3\r\n", b"0\r\n", b"abc", b"\r\n", b"\r", b"\n", b"1", b";x", b"a"]), max_size=14))
def test_any_mixture_of_their_parts_is_read_as_h11_reads_it(parts):
    check(parts)
    check([b"".join(parts)])


def state(reader: ChunkedReader) -> tuple[int, bytes]:
    return reader._bytes_in_chunk, bytes(reader._bytes_to_discard)


@given(
    chunks=st.lists(
        st.sampled_from([b"3\r\nabc\r\n", b"B\r\nhello\r\nyou!\r\n", b"2\r\n\r\n\r\n", b"1\r\n0\r\n", b"2\r\nno", b"0\r\n\r\n"])
    ),
    cuts=st.sets(st.integers(1, 60), max_size=2),
)
def test_sizes_that_are_remembered_change_nothing(chunks, cuts):
    body = b"".join(chunks)
    at = sorted({0, len(body), *(c for c in cuts if c < len(body))})
    first, again = ChunkedReader(), ChunkedReader()
    for data in (body[a:b] for a, b in itertools.pairwise(at)):
        chunk_framing._sizes.clear()
        found = read_pieces(first, data)
        chunk_framing._sizes.update({b"3": 3, b"B": 11, b"2": 2, b"1": 1})
        assert read_pieces(again, data) == found
        assert state(again) == state(first)


def test_the_sizes_of_a_burst_are_all_known_the_second_time(monkeypatch):
    body = b"".join(b"%x\r\n%b\r\n" % (n, b"x" * n) for n in range(1, 60)) + b"0\r\n\r\n"
    whole = read_pieces(ChunkedReader(), body)
    monkeypatch.setattr(chunk_framing, "_remember", None)
    assert read_pieces(ChunkedReader(), body[:-5]) == (*whole[:2], len(body) - 5)


def test_few_sizes_are_remembered(monkeypatch):
    monkeypatch.setattr(chunk_framing, "_sizes", {})
    monkeypatch.setattr(chunk_framing, "MAX_SIZES", 3)
    for n in range(1, 10):
        read_pieces(ChunkedReader(), b"%x\r\n%b\r\n" % (n, b"x" * n))
        assert 0 < len(chunk_framing._sizes) <= 3


def test_one_whole_chunk_is_read_in_any_plain_spelling():
    for line in (b"3", b"03", b"00000003", b"3"):
        assert read_only_chunk(ChunkedReader(), line + b"\r\nabc\r\n") == b"abc"
    for line in (b"", b"0", b"2", b"4", b" 3", b"3 ", b"+3", b"0x3", b"3;a", b"000000003", b"3\n"):
        assert read_only_chunk(ChunkedReader(), line + b"\r\nabc\r\n") is None
    reader = ChunkedReader()
    assert read_pieces(reader, b"5\r\nab") is not None
    assert read_only_chunk(reader, b"3\r\nabc\r\n") is None


def test_only_chunks_are_read():
    assert read_pieces(ContentLengthReader(5), b"3\r\nabc\r\n") is None


def test_the_reader_is_found_behind_what_drops_trailers():
    made = without_trailers(lambda size: ChunkedReader() if size is None else ContentLengthReader(size))
    assert type(stock_reader(made(None))) is ChunkedReader
    assert type(stock_reader(made(3))) is ContentLengthReader


def test_this_h11_fits_and_another_would_be_noticed(monkeypatch):
    assert lacking() is None
    monkeypatch.setattr(ContentLengthReader, "__init__", lambda self, length: None)
    assert lacking() == "h11's ContentLengthReader._remaining"
