"""The server on loopback: what it answers to whom, how an answer is framed, and how an exchange ends."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from sluicegate.network.loopback.connection import MAX_HEAD_BYTES
from sluicegate.network.loopback.ticket_server import TICKET_HEADER, TicketServer
from support.harness import WAIT_S

LARGE = 64 << 20


def start(status: int = 200, *headers: tuple[bytes, bytes]) -> dict[str, object]:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def piece(body: bytes, more: bool = False) -> dict[str, object]:
    return {"type": "http.response.body", "body": body, "more_body": more}


async def says(messages, scope, receive, send):
    """An application that answers with the messages its ticket stands for; an exception among them is raised."""
    assert await receive() == {"type": "http.request", "body": b"", "more_body": False}
    for message in messages:
        if isinstance(message, Exception):
            raise message
        await send(message)


@contextlib.asynccontextmanager
async def serving(answer=says):
    server = TicketServer(answer)
    await asyncio.gather(server.start(), server.start())
    try:
        yield server
    finally:
        server.stop()


def asking(server, waiting, method=b"GET", version=b"1.1", *more: bytes, body: bytes = b"") -> bytes:
    ticket = server.issue_ticket(waiting).encode()
    lines = [method + b" / HTTP/" + version, TICKET_HEADER.encode() + b": " + ticket, *more]
    return b"\r\n".join([*lines, b"content-length: %d" % len(body), b"", b""]) + body


async def sent(server, data: bytes) -> bytes:
    """What comes back until the server closes, for which the last request asks."""
    reader, writer = await asyncio.open_connection(*server.address)
    writer.write(data)
    try:
        return await asyncio.wait_for(reader.read(), WAIT_S)
    finally:
        writer.close()


CLOSE = b"connection: close"
OK, LENGTH = b"HTTP/1.1 200 OK\r\n", (b"content-length", b"2")
FRAMED = {
    "a length of its own": ([start(200, LENGTH), piece(b"ab")], b"GET", OK + b"content-length: 2\r\nconnection: close\r\n\r\nab"),
    "one piece": ([start(), piece(b"ab")], b"GET", OK + b"connection: close\r\ncontent-length: 2\r\n\r\nab"),
    "pieces": (
        [start(), piece(b"ab", more=True), piece(b"", more=True), piece(b"c", more=True), piece(b"")],
        b"GET",
        OK + b"connection: close\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
    ),
    "no body": ([start(204), piece(b"")], b"GET", b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n"),
    "not modified": ([start(304), piece(b"")], b"GET", b"HTTP/1.1 304 Not Modified\r\nconnection: close\r\n\r\n"),
    "HEAD": ([start(200, LENGTH), piece(b"ab")], b"HEAD", OK + b"content-length: 2\r\nconnection: close\r\n\r\n"),
    "HEAD of a stream": ([start(), piece(b"ab", more=True), piece(b"")], b"HEAD", OK + b"connection: close\r\n\r\n"),
    "a status without words": (
        [start(529), piece(b"")],
        b"GET",
        b"HTTP/1.1 529 \r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
    ),
}


@pytest.mark.parametrize("case", FRAMED)
def test_an_answer_is_framed_as_its_parts_allow(case):
    messages, method, expected = FRAMED[case]

    async def run():
        async with serving() as server:
            return await sent(server, asking(server, messages, method, b"1.1", CLOSE))

    assert asyncio.run(run()) == expected


def test_http_1_0_gets_no_chunks():
    async def run():
        async with serving() as server:
            stream = [start(), piece(b"ab", more=True), piece(b"c")]
            return await sent(server, asking(server, stream, b"GET", b"1.0"))

    assert asyncio.run(run()) == b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabc"


def test_a_connection_serves_one_request_after_another_and_bodies_are_passed_over():
    """Cut anywhere; the second request comes while the first is answered."""

    async def run(size):
        async with serving() as server:
            whole = asking(server, [start(), piece(b"1")], body=b"GET / HTTP/1.1\r\n\r\n" * 3)
            whole += asking(server, [start(), piece(b"2")], b"POST", b"1.1", CLOSE, body=b"x")
            reader, writer = await asyncio.open_connection(*server.address)
            for at in range(0, len(whole), size):
                writer.write(whole[at : at + size])
                await asyncio.sleep(0)
            return await asyncio.wait_for(reader.read(), WAIT_S)

    first, second = OK + b"content-length: 1\r\n\r\n1", OK + b"connection: close\r\ncontent-length: 1\r\n\r\n2"
    for size in (1, 7, 100, 10_000):
        assert asyncio.run(run(size)) == first + second


STRANGE = {
    "no HTTP": b"garbage\r\n\r\n",
    "HTTP/2": b"GET / HTTP/2.0\r\n\r\n",
    "a target with a space": b"GET /a b HTTP/1.1\r\n\r\n",
    "a target of other letters": b"GET /\xc3\xa9 HTTP/1.1\r\n\r\n",
    "a folded header": b"GET / HTTP/1.1\r\na: b\r\n c\r\n\r\n",
    "a header without a colon": b"GET / HTTP/1.1\r\nab\r\n\r\n",
    "a header with a space in its name": b"GET / HTTP/1.1\r\na : b\r\n\r\n",
    "a lone line feed": b"GET / HTTP/1.1\r\na: b\nc: d\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
    "a length that is none": b"POST / HTTP/1.1\r\ncontent-length: +1\r\n\r\n",
    "chunks": b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "a head without end": b"GET / HTTP/1.1\r\na: " + b"b" * MAX_HEAD_BYTES,
}


@pytest.mark.parametrize("case", STRANGE)
def test_what_the_gateways_port_would_not_send_is_refused(case):
    async def run():
        async with serving() as server:
            return await sent(server, STRANGE[case])

    assert asyncio.run(run()).startswith(b"HTTP/1.1 400 ")


def test_only_a_ticket_is_answered_and_only_once():
    async def run():
        async with serving() as server:
            whole = asking(server, [start(), piece(b"secret")], b"GET", b"1.1", CLOSE)
            ticket = server.issue_ticket([start(), piece(b"secret")])
            twice = f"GET / HTTP/1.1\r\n{TICKET_HEADER}: {ticket}\r\n{TICKET_HEADER}: {ticket}\r\n\r\n".encode()
            revoked = asking(server, [start(), piece(b"secret")])
            server.revoke_ticket(revoked.split(b": ")[1].split(b"\r")[0].decode())
            asked = (b"GET / HTTP/1.1\r\n\r\n", whole, whole, twice, revoked)
            return [await sent(server, data) for data in asked]

    without, first, again, twice, revoked = asyncio.run(run())
    assert first.endswith(b"secret")
    for refused in (without, again, twice, revoked):
        assert refused.startswith(b"HTTP/1.1 403 ")
        assert b"internal to the gateway" in refused
        assert b"secret" not in refused


def test_the_head_of_a_stream_does_not_wait_for_its_first_piece():
    async def run():
        may_go_on = asyncio.Event()

        async def answer(_, scope, receive, send):
            await send(start())
            await may_go_on.wait()
            await send(piece(b"late"))

        async with serving(answer) as server:
            reader, writer = await asyncio.open_connection(*server.address)
            writer.write(asking(server, ["a call"], b"GET", b"1.1", CLOSE))
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), WAIT_S)
            may_go_on.set()
            return head, await asyncio.wait_for(reader.read(), WAIT_S)

    head, rest = asyncio.run(run())
    assert head.endswith(b"transfer-encoding: chunked\r\n\r\n")
    assert rest == b"4\r\nlate\r\n0\r\n\r\n"


LENGTHS = {
    "too long": [start(200, LENGTH), piece(b"abHTTP/1.1 200 OK\r\n\r\n")],
    "too long in pieces": [start(200, LENGTH), piece(b"ab", more=True), piece(b"HTTP/1.1 200 OK\r\n\r\n")],
    "too short": [start(200, LENGTH), piece(b"a")],
    "too short in pieces": [start(200, LENGTH), piece(b"a", more=True), piece(b"")],
    "two lengths": [start(200, LENGTH, (b"Content-Length", b"22")), piece(b"ab")],
    "a length that is none": [start(200, (b"content-length", b"+2")), piece(b"ab")],
    "a length and chunks": [start(200, LENGTH, (b"transfer-encoding", b"chunked")), piece(b"ab")],
}


@pytest.mark.parametrize("case", LENGTHS)
def test_an_answer_of_another_length_than_it_says_is_the_last_on_its_connection(case):
    """Else its rest would be taken for the next answer, or the next answer for its rest."""

    async def run():
        async with serving() as server:
            return await sent(server, asking(server, LENGTHS[case]) + asking(server, [start(), piece(b"next")]))

    got = asyncio.run(run())
    assert b"next" not in got
    assert got.count(b"HTTP/1.1") <= 1


def test_an_application_that_fails_gives_no_whole_answer():
    async def run(*messages):
        async with serving() as server:
            return await sent(server, asking(server, list(messages)))

    assert asyncio.run(run(RuntimeError("before"))).startswith(b"HTTP/1.1 500 ")
    begun = asyncio.run(run(start(), piece(b"ab", more=True), RuntimeError("within")))
    assert begun.endswith(b"2\r\nab\r\n")
    assert b"injected" not in asyncio.run(run(start(200, (b"a", b"b\r\nc: injected")), piece(b"")))


def test_an_application_is_told_that_its_client_has_left():
    async def run():
        told = asyncio.Event()

        async def answer(_, scope, receive, send):
            await receive()
            assert await receive() == {"type": "http.disconnect"}
            await send(start())
            await send(piece(b"to nobody"))
            told.set()

        async with serving(answer) as server:
            _, writer = await asyncio.open_connection(*server.address)
            writer.write(asking(server, ["a call"]))
            await writer.drain()
            writer.close()
            await asyncio.wait_for(told.wait(), WAIT_S)

    asyncio.run(run())


def test_an_application_waits_for_a_client_that_does_not_read():
    async def run():
        written = 0
        is_waiting = asyncio.Event()

        async def answer(_, scope, receive, send):
            nonlocal written
            await send(start())
            asyncio.get_running_loop().call_later(0.05, is_waiting.set)
            while written < LARGE:
                await send(piece(bytes(1 << 20), more=True))
                written += 1 << 20
            await send(piece(b""))

        async with serving(answer) as server:
            reader, writer = await asyncio.open_connection(*server.address)
            writer.write(asking(server, ["a call"], b"GET", b"1.0"))
            await asyncio.wait_for(is_waiting.wait(), WAIT_S)
            before = written
            got = 0
            while data := await asyncio.wait_for(reader.read(1 << 20), WAIT_S):
                got += len(data)
            writer.close()
        return before, got

    before, got = asyncio.run(run())
    assert before < LARGE
    assert got > LARGE


def test_stopping_cuts_off_what_is_under_way():
    async def run():
        async def answer(_, scope, receive, send):
            await send(start())
            await send(piece(b"ab", more=True))
            await receive()
            await receive()

        async with serving(answer) as server:
            reader, writer = await asyncio.open_connection(*server.address)
            writer.write(asking(server, ["a call"]))
            await asyncio.wait_for(reader.readuntil(b"ab\r\n"), WAIT_S)
            server.stop()
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(), WAIT_S) == b""
            writer.close()
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(*server.address)

    asyncio.run(run())
