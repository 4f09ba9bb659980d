"""Other hosts: what a tunnel's first bytes may say, which addresses are reached, and what a refused client is told."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import ssl
import threading
import time

import pytest

from support.fake_provider import FakeProvider
from support.harness import VK, Gateway, eventually, policy_text, receive

pytestmark = pytest.mark.wire

CREDENTIAL = "Proxy-Authorization: Basic " + base64.b64encode(f"{VK}:x".encode()).decode()


class Echo:
    """A server of no provider that sends back what it gets, and remembers it."""

    def __init__(self) -> None:
        self.received = b""
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                conn, _ = self.server.accept()
                threading.Thread(target=self.echo, args=(conn,), daemon=True).start()

    def echo(self, conn: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := conn.recv(65536):
                self.received += data
                conn.sendall(data)


@pytest.fixture(scope="module")
def echo():
    server = Echo()
    yield server
    server.server.close()


@pytest.fixture(scope="module")
def edge(tmp_path_factory, echo):
    """One gateway whose policy lists this machine's addresses, so that only being a provider's or our own refuses them."""
    listed = ["127.0.0.1", "localhost", "::1", "0.0.0.0", "127.0.0.2", socket.gethostname().lower()]
    with FakeProvider() as fake:
        text = policy_text(fake.url, egress={"allow": listed, "deny": ["*.denied.test"]})
        gw = Gateway(tmp_path_factory.mktemp("edge"), text).start()
        gw.fake = fake
        yield gw
        gw.stop()


@contextlib.contextmanager
def tunnel(gw, target, *headers):
    """Open a CONNECT and yield its connection."""
    with gw.raw() as conn:
        lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}", *headers, "", ""]
        conn.sendall("\r\n".join(lines).encode())
        answer = receive(conn, b"\r\n\r\n")
        assert b" 200 " in answer, answer
        yield conn


def connect(gw, target, *headers):
    return gw.send_raw("\r\n".join([f"CONNECT {target} HTTP/1.1", f"Host: {target}", *headers, "", ""]).encode(), b"\r\n\r\n")


def ask_inside(gw, conn, server_name, request, end=b"}}"):
    """Make TLS on an open CONNECT, trusting the gateway's certificates, and return the answer to a request."""
    context = ssl.create_default_context(cafile=str(gw.ca))
    context.check_hostname = server_name is not None
    with context.wrap_socket(conn, server_hostname=server_name) as tls:
        tls.sendall(request)
        return receive(tls, end)


GET = b"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer vk-dev-alice\r\n\r\n"


# -- spellings of addresses -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.1", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]"],
)
def test_every_spelling_of_a_providers_address_is_governed(edge, host):
    """By CONNECT and by absolute URI: never an unread tunnel, and with the provider's own key only."""
    before, port = len(edge.fake.seen), edge.fake.port
    request = GET.replace(b"Host: x", f"Host: {host}:{port}".encode())
    with tunnel(edge, f"{host}:{port}") as conn:
        conn.sendall(request)
        assert b" 200 " in receive(conn, b"}}").split(b"\r\n")[0]
    with edge.raw() as conn:
        conn.sendall(request.replace(b"GET /", f"GET http://{host}:{port}/".encode()))
        assert b" 200 " in receive(conn, b"}}").split(b"\r\n")[0]
    assert len(edge.fake.seen) == before + 2
    assert all(VK not in seen.head.decode() for seen in edge.fake.seen[before:])


OWN = [
    "127.0.0.1",
    "127.1",
    "0.0.0.0",
    "0",
    "[::]",
    "[::1]",
    "127.0.0.2",
    "[::ffff:127.0.0.1]",
    "localhost",
    "localhost.",
    "HOSTNAME",
]


@pytest.mark.parametrize("host", OWN)
def test_the_gateway_is_not_reached_through_itself(edge, host):
    """Not even where policy lists the address, by whatever name or address of this machine."""
    host = host.replace("HOSTNAME", socket.gethostname())
    answer = edge.send_raw(f"CONNECT {host}:{edge.port} HTTP/1.1\r\nHost: x\r\n\r\n".encode(), b"\r\n\r\n")
    if b" 200 " in answer:
        with tunnel(edge, f"{host}:{edge.port}") as conn:
            conn.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert receive(conn) == b""
    answer = edge.send_raw(f"GET http://{host}:{edge.port}/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert b'"status"' not in answer
    assert b" 200 " not in answer.split(b"\r\n")[0]


def test_a_name_at_a_providers_address_is_refused_even_if_listed(edge):
    """A tunnel would be unread, and a plain request would not be a call. A server may listen at every address of its machine."""
    before = edge.fake.connections
    for name in ("localhost", "0.0.0.0", "127.0.0.2", "[::]"):
        answer = connect(edge, f"{name}:{edge.fake.port}")
        if b" 200 " in answer:
            with tunnel(edge, f"{name}:{edge.fake.port}") as conn:
                conn.sendall(GET)
                assert receive(conn) == b""
    answer = edge.send_raw(f"GET http://localhost:{edge.fake.port}/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert b"localhost is at an address of 127.0.0.1, which is governed as a provider" in answer
    assert edge.fake.connections == before


@pytest.mark.parametrize("host", ["127.0.0.1.5", "08.1.1.1", "1.2.3.4.0x5", "256.1.1.1"])
def test_a_host_that_readers_read_in_two_ways_is_refused(edge, host):
    assert b" 403 " in connect(edge, f"{host}:443").split(b"\r\n")[0]


# -- a tunnel's first message -----------------------------------------------------------------------------------------


def client_hello(server_name="api.anthropic.com", **options):
    """Return the first bytes that OpenSSL sends for a server."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    for name, value in options.items():
        setattr(context, name, value)
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=server_name).do_handshake()
    return outgoing.read()


def fragmented(hello, size):
    """Return a ClientHello cut into records of this size."""
    body = hello[5:]
    pieces = [body[i : i + size] for i in range(0, len(body), size)]
    return b"".join(hello[:3] + len(piece).to_bytes(2) + piece for piece in pieces)


WHOLE = client_hello()
CUT = {f"cut after {n}": [WHOLE[:n], WHOLE[n:]] for n in (1, 2, 3, 4, 5, 6, 9, 100, len(WHOLE) - 1)} | {
    "whole": [WHOLE],
    "byte by byte": [WHOLE[i : i + 1] for i in range(60)] + [WHOLE[60:]],
    "records of 1 byte": [fragmented(WHOLE, 1)],
    "records of 50, cut": [fragmented(WHOLE, 50)[:3], fragmented(WHOLE, 50)[3:70], fragmented(WHOLE, 50)[70:]],
    "an alert first": [b"\x15\x03\x01\x00\x02\x01\x5a" + WHOLE],
    "an empty record first": [b"\x16\x03\x01\x00\x00" + WHOLE],
    "another version": [b"\x16\x99\x99" + WHOLE[3:]],
    "Host, cut": [b"POST /v1/messages HTTP/1.1\r\nHo", b"st: api.anthropic.com\r\n\r\n"],
    "Host, folded": [b"GET / HTTP/1.1\r\nX: y\r\nhost :", b"  API.Anthropic.com.:443\r\n", b"\r\n"],
    "a target with its host": [b"P", b"OST https://api.anthropic.com/v1/messages HTTP/1.1\r\nHost: other\r\n\r\n"],
}


@pytest.mark.parametrize("pieces", CUT.values(), ids=CUT)
def test_a_message_to_a_provider_in_anothers_tunnel_is_refused_however_it_is_cut(edge, echo, pieces):
    before = echo.received
    with tunnel(edge, f"127.0.0.1:{echo.port}") as conn:
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        conn.settimeout(3)
        for piece in pieces:
            conn.sendall(piece)
            time.sleep(0.005)
        with contextlib.suppress(OSError):
            # Our own ServerHello, our own answer, or the end; never the bytes that were sent.
            assert not conn.recv(65536).startswith(b"".join(pieces)[:20])
    assert echo.received == before


def test_a_message_that_is_never_complete_is_not_passed_on(edge, echo):
    """By size here; by time in the layer's own test."""
    before = echo.received
    with tunnel(edge, f"127.0.0.1:{echo.port}") as conn, contextlib.suppress(OSError):
        conn.sendall(b"\x16\x03\x01\x40\x00\x01\x03\xff\xff" + bytes(80_000))
        assert conn.recv(100) == b""
    assert echo.received == before


@pytest.mark.parametrize(
    "first",
    [
        b"\x00\x01 no protocol",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"GET / HTTP/1.1\r\nHost: other.test\r\n\r\n",
        client_hello("other.test"),
        client_hello(None),
    ],
    ids=["binary", "ssh", "http", "another server's TLS", "TLS without a name"],
)
def test_other_traffic_is_relayed_unread(edge, echo, first):
    with tunnel(edge, f"127.0.0.1:{echo.port}") as conn:
        for piece in (first[:2], first[2:]):
            conn.sendall(piece)
            time.sleep(0.01)
        got = b""
        while len(got) < len(first):
            got += conn.recv(65536)
        assert got == first


def test_a_tunnels_server_name_is_judged_like_its_target(edge, echo):
    """A denied host, and a model API, under another's name: decrypted, and told why."""
    for name, says in (
        ("files.denied.test", b"Policy does not let agents reach files.denied.test"),
        ("openrouter.ai", b"openrouter.ai is a model API"),
    ):
        with tunnel(edge, f"127.0.0.1:{echo.port}") as conn:
            assert says in ask_inside(edge, conn, name, GET)


def test_a_hidden_server_name_is_refused_unless_the_host_is_listed(edge, echo):
    hello = with_extension(client_hello("example.org"), 0xFE0D, b"\0" * 40)
    with tunnel(edge, "example.org:443") as conn:
        conn.sendall(hello)
        # Our own ServerHello: it is decrypted, and nothing has been dialled.
        assert conn.recv(10)[:1] == b"\x16"
    with tunnel(edge, f"127.0.0.1:{echo.port}") as conn:
        hello = with_extension(client_hello("other.test"), 0xFE0D, b"\0" * 40)
        conn.sendall(hello)
        assert conn.recv(10) == hello[:10]


def with_extension(hello, kind, content):
    """Return a ClientHello with one extension more, at its end."""
    body, at = hello[9:], 34
    at += 1 + body[at]
    at += 2 + int.from_bytes(body[at : at + 2])
    at += 1 + body[at]
    more = kind.to_bytes(2) + len(content).to_bytes(2) + content
    body = body[:at] + (int.from_bytes(body[at : at + 2]) + len(more)).to_bytes(2) + body[at + 2 :] + more
    message = b"\x01" + len(body).to_bytes(3) + body
    return hello[:3] + len(message).to_bytes(2) + message


# -- model APIs -------------------------------------------------------------------------------------------------------

MODEL_HOSTS = {
    "openrouter.ai": ("openai", "providers.openrouter.keys"),
    "dashscope.aliyuncs.com": ("openai", "providers.qwen: {base_url: https://dashscope.aliyuncs.com/compatible-mode, keys: ...}"),
    "chatgpt.com": ("openai", "set CODEX_API_KEY to yours"),
    "cloudcode-pa.googleapis.com": ("gemini", "set GEMINI_API_KEY to yours"),
    "us-central1-aiplatform.googleapis.com": ("vertex", "govern it with providers.vertex.keys"),
    "bedrock-runtime.eu-west-1.amazonaws.com": ("bedrock", "govern it with providers.bedrock.keys"),
}


@pytest.mark.parametrize("host", MODEL_HOSTS)
def test_a_model_api_is_refused_in_words_that_its_client_shows(edge, host):
    style, advice = MODEL_HOSTS[host]
    with tunnel(edge, f"{host}:443") as conn:
        end = b'"ValidationException"}' if style == "bedrock" else b"}}"
        head, _, body = ask_inside(edge, conn, host, GET, end).partition(b"\r\n\r\n")
    assert b" 400 " in head.split(b"\r\n")[0]
    assert b"x-should-retry: false" in head
    whole = json.loads(body)
    error = whole.get("error", whole)
    assert f"{host} is a model API" in error["message"]
    assert advice in error["message"]
    styles = {
        "openai": "code" in error and "status" not in error,
        "gemini": "status" in error and "type" not in whole,
        "vertex": "status" in error and whole.get("type") == "error",
        "anthropic": "status" not in error and whole.get("type") == "error",
        "bedrock": whole.get("__type") == "ValidationException",
    }
    assert [name for name, is_so in styles.items() if is_so] == [style]
    row = eventually(lambda: edge.rows(f"SELECT * FROM connections WHERE host = '{host}'"))[0]
    assert (row["outcome"], row["reason"], row["port"]) == ("denied", "blocked_by_policy", 443)


def test_a_model_api_is_refused_by_absolute_uri_and_its_websocket_declined(edge):
    answer = edge.send_raw(
        b"POST http://openrouter.ai/api/v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", b"}}"
    )
    assert b" 400 " in answer.split(b"\r\n")[0]
    assert b"openrouter.ai is a model API" in answer
    upgrade = GET.replace(b"Host: x", b"Host: x\r\nUpgrade: websocket\r\nConnection: Upgrade")
    with tunnel(edge, "chatgpt.com:443") as conn:
        assert b" 426 " in ask_inside(edge, conn, "chatgpt.com", upgrade).split(b"\r\n")[0]
    assert "Bearer" not in "\n".join(edge.output)


# -- clients ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def asking(tmp_path_factory, echo):
    """A gateway that asks for a key on this machine too, before a TLS server that git and curl can be led to."""
    text = policy_text(egress={"allow": ["127.0.0.1", "localhost"], "require_key": True})
    with Gateway(tmp_path_factory.mktemp("asking"), text) as gw:
        yield gw


def test_a_connect_may_be_repeated_with_a_credential_on_its_connection(asking, echo):
    target = f"127.0.0.1:{echo.port}"
    with asking.raw() as conn:
        for headers, status in (([], b" 407 "), (["Proxy-Authorization: Basic bm9ib2R5Og=="], b" 407 "), ([CREDENTIAL], b" 200 ")):
            conn.sendall("\r\n".join([f"CONNECT {target} HTTP/1.1", f"Host: {target}", *headers, "", ""]).encode())
            answer = receive(conn, b"\r\n\r\n")
            assert status in answer.split(b"\r\n")[0]
            length = int(
                dict(line.lower().split(b": ", 1) for line in answer.split(b"\r\n\r\n")[0].split(b"\r\n")[1:]).get(
                    b"content-length", b"0"
                )
            )
            body = answer.partition(b"\r\n\r\n")[2]
            while len(body) < length:
                body += conn.recv(length - len(body))
        conn.sendall(b"\x00hello")
        assert conn.recv(100) == b"\x00hello"
        conn.sendall(b"CONNECT b:1 HTTP/1.1\r\n\r\n")
        assert conn.recv(100) == b"CONNECT b:1 HTTP/1.1\r\n\r\n"
    rows = eventually(lambda: asking.rows("SELECT * FROM connections WHERE outcome = 'completed'"))
    assert (rows[-1]["virtual_key_id"], rows[-1]["port"]) == (VK, echo.port)


def test_a_base_url_that_leads_back_to_the_gateway_gets_no_calls(asking):
    """However it is spelled: a call would come back as another call, without end."""
    asking.govern(policy_text(f"http://127.1:{asking.port}"))
    assert eventually(lambda: b"leads back to this gateway" in asking.post(Host="localhost").body)
    routes = [{"name": "all", "targets": [{"provider": "anthropic"}]}]
    asking.govern(policy_text(f"http://127.1:{asking.port}", routes=routes))
    reply = eventually(lambda: r if "x-sluicegate-route" in (r := asking.post(Host="localhost")).headers else None)
    assert (reply.status, reply.reason) == (400, "blocked_by_policy")
    assert "leads back to this gateway" in reply.message
