"""The client of relayed calls: what it sends on which connection, what it makes of answers, and which failure is which."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest

from sluicegate.http_client import trust
from sluicegate.http_client.errors import InvalidRequestError, NoAnswerError, NotSentError, TooSlowError
from sluicegate.http_client.proxies import choose_proxies
from sluicegate.http_client.streaming import StreamingClient
from support.certificates import self_signed, server_context
from support.connect_proxy import ConnectProxy
from support.harness import WAIT_S

OK = b"HTTP/1.1 200 OK\r\n"
WHOLE = OK + b"content-length: 2\r\n\r\nab"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n2;x=y\r\nbc\r\n1\r\nd\r\n0\r\na-trailer: x\r\n\r\n"
LARGE = 64 << 20


class Server:
    """Answers each request on a connection with the next of its answers, given as pieces; closes after the last."""

    def __init__(self, *answers: list[bytes], reads_bodies: bool = True) -> None:
        self.answers, self.reads_bodies = list(answers), reads_bodies
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.connections = self.written = 0
        self.has_answered, self.is_closed = asyncio.Event(), asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while self.answers:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                if self.reads_bodies:
                    self.bodies.append(await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r")[0])))
                for data in self.answers.pop(0):
                    writer.write(data)
                    await writer.drain()
                    self.written += len(data)
                    await asyncio.sleep(0)
                self.has_answered.set()
                if not self.reads_bodies:
                    await reader.read()
        writer.close()
        self.is_closed.set()


@contextlib.asynccontextmanager
async def listening(server: Server, tls=None, **options):
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls)
    client = StreamingClient(**options)
    try:
        yield client, listener.sockets[0].getsockname()[1]
    finally:
        await client.close()
        listener.close()


async def asked(client, port, body=b"{}", *headers, scheme="http", host="127.0.0.1", read_s=WAIT_S, **more):
    fields = [(b"Host", b"x"), *headers]
    return await client.send(
        "POST", (scheme, host, port), b"/v1?a=%20", fields, body, connect_timeout_s=WAIT_S, read_timeout_s=read_s, **more
    )


async def read(answer) -> list[bytes]:
    try:
        return [chunk async for chunk in answer.chunks]
    finally:
        await answer.close()


def test_requests_follow_each_other_on_a_connection_and_stay_as_they_are():
    async def run():
        server = Server([WHOLE], [CHUNKED], [WHOLE])
        async with listening(server) as (client, port):
            bodies = [b"".join(await read(await asked(client, port, body, (b"X-Case", b"a b")))) for body in (b"{}", b"", b"{1}")]
        return server, bodies

    server, bodies = asyncio.run(run())
    assert (server.connections, server.bodies, bodies) == (1, [b"{}", b"", b"{1}"], [b"ab", b"abcd", b"ab"])
    assert server.heads[0] == b"POST /v1?a=%20 HTTP/1.1\r\nHost: x\r\nX-Case: a b\r\ncontent-length: 2\r\n\r\n"


ENDINGS = {
    "it says that it closes": [OK + b"connection: close\r\ncontent-length: 2\r\n\r\nab"],
    "it is of HTTP/1.0": [b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nab"],
    "more than the answer has come": [WHOLE + b"HTTP/1.1 200 OK\r\n"],
    "more than the answer comes": [WHOLE, b"", b"", b"HTTP/1.1 200 OK\r\n"],
}


@pytest.mark.parametrize("case", ENDINGS)
def test_a_connection_is_not_used_again_where(case):
    async def run():
        server = Server(ENDINGS[case], [WHOLE])
        async with listening(server) as (client, port):
            first = b"".join(await read(await asked(client, port)))
            await server.has_answered.wait()
            second = b"".join(await read(await asked(client, port)))
        return server.connections, first, second

    assert asyncio.run(run()) == (2, b"ab", b"ab")


def test_a_connection_is_not_used_again_after_an_answer_left_or_closed_by_its_server():
    async def run():
        server, other = Server([CHUNKED[:-20]], [WHOLE]), Server([WHOLE])
        async with listening(server) as (client, port):
            await (await asked(client, port)).close()
            assert b"".join(await read(await asked(client, port))) == b"ab"
            assert server.connections == 2
            await server.is_closed.wait()
            server.answers = [[WHOLE]]
            assert b"".join(await read(await asked(client, port))) == b"ab"
            assert server.connections == 3
        async with listening(other) as (client, port):
            answer = await asked(client, port)
            await read(answer)
            # Closing once more does not offer the connection twice.
            await answer.close()
            assert sum(map(len, client._free.values())) <= 1

    asyncio.run(run())


def test_what_arrives_together_stays_together_and_cuts_change_nothing():
    async def run(pieces):
        async with listening(Server(pieces)) as (client, port):
            return await read(await asked(client, port))

    assert asyncio.run(run([CHUNKED])) == [b"abcd"]
    assert b"".join(asyncio.run(run([CHUNKED[i : i + 1] for i in range(len(CHUNKED))]))) == b"abcd"
    assert asyncio.run(run([b"HTTP/1.1 103 Early Hints\r\na: b\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + WHOLE])) == [b"ab"]
    assert asyncio.run(run([OK + b"\r\nuntil the end"])) == [b"until the end"]


FAILURES = {
    "nothing": [b""],
    "a part of a head": [b"HTTP/1.1 200 OK\r\ncontent-"],
    "no HTTP": [b"garbage\r\n\r\n"],
    "another protocol": [b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"],
    "a head without end": [OK + b"a: " + b"b" * 200_000],
    "two lengths": [OK + b"content-length: 1\r\ncontent-length: 2\r\n\r\nab"],
    "a length and chunks": [OK + b"content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"],
    "chunks and a length": [OK + b"Transfer-Encoding: chunked\r\nContent-Length: 900\r\n\r\n2\r\nab\r\n0\r\n\r\n"],
    "chunks of HTTP/1.0": [b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"],
    "too short": [OK + b"content-length: 3\r\n\r\nab"],
    "a stream that breaks off": [CHUNKED[:-6]],
}


@pytest.mark.parametrize("case", FAILURES)
def test_an_answer_that_is_none_or_not_whole_is_told_from_one_that_was_not_asked_for(case):
    async def run():
        async with listening(Server(FAILURES[case])) as (client, port):
            return await read(await asked(client, port))

    with pytest.raises(NoAnswerError) as failed:
        asyncio.run(run())
    assert not isinstance(failed.value, TooSlowError)
    assert "127.0.0.1" not in str(failed.value)


def test_silence_is_too_slow_before_an_answer_and_within_it():
    async def run(pieces):
        async with listening(Server(pieces, reads_bodies=False)) as (client, port):
            return await read(await asked(client, port, read_s=0.05))

    for pieces in ([b""], [CHUNKED[:-20]]):
        with pytest.raises(TooSlowError, match="it took too long"):
            asyncio.run(run(pieces))


def test_a_large_request_may_be_answered_before_it_is_read():
    async def run():
        async with listening(Server([b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n"], reads_bodies=False)) as (
            client,
            port,
        ):
            return (await asked(client, port, bytes(LARGE))).status

    assert asyncio.run(run()) == 413


def test_a_connection_on_which_a_request_was_never_read_is_not_used_again():
    """What is still to leave would be sent before the next request, or never."""

    async def run():
        server = Server([b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n"], reads_bodies=False)
        async with listening(server) as (client, port):
            await read(await asked(client, port, bytes(LARGE)))
            return sum(map(len, client._free.values()))

    assert asyncio.run(run()) == 0


def test_a_server_waits_for_a_client_that_does_not_read():
    async def run():
        server = Server([OK + b"content-length: %d\r\n\r\n" % LARGE, *[bytes(1 << 20)] * (LARGE >> 20)])
        async with listening(server) as (client, port):
            answer = await asked(client, port)
            await asyncio.sleep(0.1)
            before = server.written
            return before, sum(map(len, await read(answer)))

    before, got = asyncio.run(run())
    assert before < LARGE
    assert got == LARGE


def test_what_could_not_be_sent_is_said_without_an_address():
    async def run(port, sent, **more):
        client = StreamingClient()
        await asked(client, port, on_sent=lambda: sent.append(True), **more)

    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        for host in ("127.0.0.1", "localhost"):
            sent: list[bool] = []
            with pytest.raises(NotSentError, match=r"^Connection refused$"):
                asyncio.run(run(closed.getsockname()[1], sent, host=host))
            assert sent == []
    with pytest.raises(NotSentError, match=r"Name or service not known|failure in name resolution|nodename nor servname"):
        asyncio.run(run(1, [], host="no-such-host.invalid"))


@pytest.mark.parametrize("factory", [None, asyncio.eager_task_factory])
def test_a_name_is_reached_at_whichever_of_its_addresses_answers(factory):
    """``localhost`` is ::1 too, where nothing listens; mitmproxy's loop starts tasks eagerly."""

    async def run():
        asyncio.get_running_loop().set_task_factory(factory)
        async with listening(Server([WHOLE])) as (client, port):
            return await read(await asked(client, port, host="localhost"))

    assert asyncio.run(run()) == [b"ab"]


def test_tls_is_verified_straight_and_through_a_proxy(tmp_path):
    context, authority = server_context(tmp_path)

    async def run(host="localhost", ca_file=str(authority)):
        server = Server([WHOLE], [WHOLE])
        async with listening(server, tls=context, ca_file=ca_file) as (client, port):
            proxy = ConnectProxy({"localhost": port}, "gate:way")
            wanted = proxy.wanted
            try:
                found = []
                for authorization in (None, wanted, "Basic d3Jvbmc6d3Jvbmc="):
                    through = (f"http://127.0.0.1:{proxy.port}", authorization)
                    choose_proxies(None if authorization is None else lambda *_, through=through: through)
                    try:
                        found += await read(await asked(client, port, scheme="https", host=host))
                    except NotSentError as e:
                        found.append(str(e))
                return found, [name.rpartition(":")[0] for name in proxy.asked]
            finally:
                choose_proxies(None)
                proxy.close()

    assert asyncio.run(run()) == ([b"ab", b"ab", "the proxy refused: 407 Proxy Authentication Required"], ["localhost"])
    (direct, *_), asked_for = asyncio.run(run(ca_file=None))
    assert direct.startswith("its certificate is not trusted")
    assert asked_for == ["localhost"]
    (direct, *_), _ = asyncio.run(run(host="127.0.0.1"))
    assert direct.startswith("its certificate is not trusted")


def test_a_server_without_tls_gets_nothing():
    got: list[bytes] = []

    async def answer(reader, writer):
        got.append(await reader.read(5))
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async def run():
        listener = await asyncio.start_server(answer, "127.0.0.1", 0)
        client = StreamingClient()
        with pytest.raises(NotSentError):
            await asked(client, listener.sockets[0].getsockname()[1], scheme="https")
        listener.close()

    asyncio.run(run())
    (hello,) = got
    assert hello.startswith(b"\x16\x03")  # a handshake of TLS, and not our request


def test_what_comes_before_tls_is_not_read_as_an_answer(tmp_path):
    """Whoever stands between could send it, and leave the handshake that follows to the server."""
    context, authority = server_context(tmp_path)
    forged = OK + b"content-length: 6\r\n\r\nforged"

    async def answer(reader, writer):
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            writer.write(forged)
            await writer.start_tls(context)
            await reader.readuntil(b"\r\n\r\n")
            writer.write(WHOLE)
        writer.close()

    async def run():
        listener = await asyncio.start_server(answer, "127.0.0.1", 0)
        client = StreamingClient(str(authority))
        try:
            return await read(await asked(client, listener.sockets[0].getsockname()[1], scheme="https", host="localhost"))
        except NotSentError as e:
            return str(e)
        finally:
            await client.close()
            listener.close()

    got = asyncio.run(run())
    assert b"forged" not in b"".join(got) if isinstance(got, list) else got


def test_a_connection_made_with_other_authorities_is_not_used_again(tmp_path, monkeypatch):
    context, authority = server_context(tmp_path)

    async def run():
        server = Server([WHOLE], [WHOLE], [WHOLE])
        async with listening(server, tls=context, ca_file=str(authority)) as (client, port):
            for extra in (None, None, self_signed("company.test")[0].decode()):
                monkeypatch.setattr(trust, "_extra_authorities", extra)
                await read(await asked(client, port, scheme="https", host="localhost"))
            return server.connections

    assert asyncio.run(run()) == 2


@pytest.mark.parametrize("field", [(b"a", b"b\r\nc: d"), (b"a", b"b\x0bc"), (b"a", b"b "), (b"a b", b"c"), (b"", b"c")])
def test_what_is_no_request_is_not_sent(field):
    """The server is not at fault, and is not asked: not even a connection is made."""

    async def run():
        server, sent = Server([WHOLE]), []
        async with listening(server) as (client, port):
            with pytest.raises(InvalidRequestError):
                await asked(client, port, b"{}", field, on_sent=lambda: sent.append(True))
            return server.connections, sent

    assert asyncio.run(run()) == (0, [])
