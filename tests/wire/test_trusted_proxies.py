"""Behind proxies: whose address is on record, who is believed, and that this machine is no longer trusted by itself."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import socket
import ssl
import struct

import pytest
from cryptography import x509

from runtime.resources.idle_connections import MAX_HEAD_S
from support.certificates import self_signed
from support.clock import Clock
from support.fake_provider import FakeProvider, plain
from support.harness import WAIT_S, Gateway, ask, eventually, policy_text, receive

pytestmark = pytest.mark.wire

HOST, SECRET, DEMO = "gateway.test", "sk-sg-behind-a-proxy-0123456789", "vk-demo"
TRUSTED, STRANGER = "127.0.0.1", "127.0.0.2"
"""Two addresses of this machine; the policy trusts the first one as a proxy."""

V1 = b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\r\n"
V2 = (
    b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0f" + bytes([192, 0, 2, 7, 10, 0, 0, 1]) + struct.pack("!HH", 4711, 443) + b"\x04\x00\x00"
)
CERTIFICATE = self_signed(HOST, (x509.SubjectAlternativeName([x509.DNSName(HOST)]), False))


class Behind:
    """A gateway that trusts one address, and a provider behind it."""

    def __init__(self, folder):
        self.provider = FakeProvider(plain())
        digest = f"sha256:{hashlib.sha256(SECRET.encode()).hexdigest()}"
        policy = policy_text(
            self.provider.url,
            virtual_keys=[{"id": "vk-one", "value_hash": digest, "team_id": "team-engineering"}, {"id": DEMO}],
            server={"hosts": [HOST], "trusted_proxies": [TRUSTED]},
            egress={"allow": ["127.0.0.1"]},
        )
        for name, content in zip(("cert.pem", "key.pem"), CERTIFICATE, strict=True):
            (folder / name).write_bytes(content)
        options = ("--set", f"tls_cert={folder}/cert.pem", "--set", f"tls_key={folder}/key.pem")
        self.clock = Clock(folder)
        self.gateway = Gateway(folder, policy, *options, scripts=self.clock.scripts).start()
        self.count = 0

    def connect(self, source=TRUSTED):
        return socket.create_connection(("127.0.0.1", self.gateway.port), WAIT_S, source_address=(source, 0))

    def send(self, *parts, source=TRUSTED, then_wait_s=0):
        """Return what comes back for these bytes, each part sent when the last one has been taken from the kernel.

        ``then_wait_s`` are seconds by the gateway's clock, for bytes that may be the beginning of a request.
        """
        with self.connect(source) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for part in parts:
                connection.sendall(part)
                eventually(self.gateway.has_read_all)
            if then_wait_s:
                self.clock.advance(self.gateway, then_wait_s)
            return receive(connection)

    def call(self, *headers, key=SECRET):
        lines = [f"Host: {HOST}", f"x-api-key: {key}", "content-type: application/json", f"content-length: {len(ask())}", *headers]
        return ("POST /v1/messages HTTP/1.1\r\n" + "\r\n".join([*lines, "connection: close"]) + "\r\n\r\n").encode() + ask()

    def recorded(self):
        """Return the address of the one call that has been made since the last look."""
        self.count += 1
        return self.gateway.calls(self.count)[-1]["client_address"]


@pytest.fixture(scope="module")
def behind(tmp_path_factory):
    made = Behind(tmp_path_factory.mktemp("behind"))
    yield made
    made.gateway.discard()
    made.provider.close()


@pytest.mark.parametrize(
    ("before", "headers", "source", "wanted"),
    [
        (b"", [], TRUSTED, TRUSTED),
        (b"", ["X-Forwarded-For: 192.0.2.7"], TRUSTED, "192.0.2.7"),
        (b"", ["X-Forwarded-For: 198.51.100.1, 192.0.2.7"], TRUSTED, "192.0.2.7"),
        (b"", ["X-Forwarded-For: 198.51.100.1", "x-forwarded-for: 192.0.2.7"], TRUSTED, "192.0.2.7"),
        (b"", ["X-Forwarded-For: 192.0.2.7, nobody"], TRUSTED, TRUSTED),
        (b"", ["X-Forwarded-For: 192.0.2.7"], STRANGER, STRANGER),
        (V1, [], TRUSTED, "192.0.2.7"),
        (V2, [], TRUSTED, "192.0.2.7"),
        # Who is named in a header is not a proxy, and only claims to have come for somebody else.
        (V1, ["X-Forwarded-For: 198.51.100.1"], TRUSTED, "192.0.2.7"),
        (b"PROXY TCP4 127.0.0.1 10.0.0.1 1 2\r\n", ["X-Forwarded-For: 192.0.2.7"], TRUSTED, "192.0.2.7"),
        (b"PROXY UNKNOWN\r\n", [], TRUSTED, TRUSTED),
    ],
)
def test_the_address_on_record_is_what_trusted_proxies_say(behind, before, headers, source, wanted):
    claims = [
        "Forwarded: for=10.0.0.1",
        "X-Real-IP: 10.0.0.1",
        "X_Forwarded_For: 10.0.0.1",
        "Via: 1.1 proxy",
        "X-Forwarded-Proto: https",
    ]
    answer = behind.send(before + behind.call(*headers, *claims), source=source)
    assert answer.startswith(b"HTTP/1.1 200"), answer
    assert behind.recorded() == wanted
    seen = {name.lower() for name, _ in behind.provider.seen[-1].headers}
    assert not {n for n in seen if "forwarded" in n or n in ("x-real-ip", "via")}


@pytest.mark.parametrize("cuts", [(1, 3), (5, 6), (len(V1) - 1, len(V1)), (len(V1), len(V1) + 1)])
def test_a_header_in_pieces_is_one_header(behind, cuts):
    whole = V1 + behind.call()
    first, second = cuts
    assert behind.send(whole[:first], whole[first:second], whole[second:]).startswith(b"HTTP/1.1 200")
    assert behind.recorded() == "192.0.2.7"


def test_requests_of_several_clients_on_one_connection_are_told_apart(behind):
    connection = http.client.HTTPConnection("127.0.0.1", behind.gateway.port, WAIT_S)
    for address in ("192.0.2.1", "192.0.2.2", None):
        headers = {"x-api-key": SECRET, "content-type": "application/json"} | ({"X-Forwarded-For": address} if address else {})
        connection.request("POST", "/v1/messages", ask(), headers)
        assert connection.getresponse().read()
        assert behind.recorded() == (address or TRUSTED)
    connection.close()


def test_tls_and_the_proxy_inside_it_follow_a_header(behind):
    """As from a load balancer that passes bytes on: its header, TLS with us, CONNECT, TLS with the provider."""
    with behind.connect() as bare:
        bare.sendall(V2)
        outer = ssl.create_default_context(cadata=CERTIFICATE[0].decode()).wrap_socket(bare, server_hostname=HOST)
        outer.sendall(b"CONNECT api.anthropic.com:443 HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 198.51.100.1\r\n\r\n")
        assert receive(outer, b"\r\n\r\n").startswith(b"HTTP/1.1 200")
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        inner = ssl.create_default_context(cafile=str(behind.gateway.ca)).wrap_bio(
            incoming, outgoing, server_hostname="api.anthropic.com"
        )
        answer = b""

        def pump(step):
            while True:
                try:
                    return step()
                except ssl.SSLWantReadError:
                    outer.sendall(outgoing.read())
                    incoming.write(outer.recv(65536))

        pump(inner.do_handshake)
        inner.write(behind.call("X-Forwarded-For: 203.0.113.1").replace(HOST.encode(), b"api.anthropic.com"))
        answer = pump(lambda: inner.read(65536))
        assert answer.startswith(b"HTTP/1.1 200")
    assert behind.recorded() == "192.0.2.7"


@pytest.mark.parametrize(
    "before",
    [
        b"PROXY TCP4 localhost 10.0.0.1 1 2\r\n",
        b"PROXY /v1/messages HTTP/1.1\r\n",
        b"PROXY UNKNOWN" + b" " * 120,
        V2.replace(b"\x21\x11", b"\x31\x11"),
        V2[:14] + b"\xff\xff" + V2[16:],
    ],
)
def test_a_header_that_is_none_ends_the_connection(behind, before):
    asked = len(behind.provider.seen)
    assert behind.send(before + behind.call()) == b""
    assert len(behind.provider.seen) == asked


@pytest.mark.parametrize(
    ("before", "source"), [(V1, STRANGER), (V2, STRANGER), (V1 + V1, TRUSTED), (V2 + V1, TRUSTED), (V1 + V2, TRUSTED)]
)
def test_a_header_from_anybody_else_is_no_request(behind, before, source):
    asked = len(behind.provider.seen)
    answer = behind.send(before + behind.call(), source=source, then_wait_s=int(MAX_HEAD_S) + 1)
    assert b" 200 " not in answer
    assert len(behind.provider.seen) == asked


def test_this_machine_is_asked_for_credentials_too(behind):
    refused = behind.send(behind.call(key=DEMO))
    assert refused.startswith(b"HTTP/1.1 401")
    assert b"has no secret value, and this gateway asks everyone for one" in refused
    behind.count += 1
    connect = "CONNECT 127.0.0.1:9 HTTP/1.1\r\nHost: x\r\n"
    asked = behind.send(f"{connect}Connection: close\r\n\r\n".encode())
    assert asked.startswith(b"HTTP/1.1 407")
    assert b"proxy-authenticate: basic" in asked.lower()
    for path in ("/api/session", "/api/logs"):
        assert behind.gateway.request("GET", path, headers={"x-bf-vk": DEMO}).status == 401
        assert behind.gateway.request("GET", path, headers={"x-bf-vk": SECRET}).status == 200
    for path in ("/health", "/ready", "/ca.pem", "/setup"):
        assert behind.gateway.request("GET", path).status == 200


def test_setup_names_the_scheme_that_a_trusted_proxys_client_spoke(behind):
    at = f"{HOST}:{behind.gateway.port}"

    def setup(source):
        request = f"GET /setup HTTP/1.1\r\nHost: {at}\r\nX-Forwarded-Proto: https\r\nConnection: close\r\n\r\n"
        return behind.send(request.encode(), source=source)

    assert f"ANTHROPIC_BASE_URL=https://{at}\n".encode() in setup(TRUSTED)
    assert f"ANTHROPIC_BASE_URL=http://{at}\n".encode() in setup(STRANGER)


def test_connections_to_other_hosts_have_their_clients_address(behind):
    key = base64.b64encode(f"{SECRET}:x".encode()).decode()
    with FakeProvider(plain()) as other:
        line = f"GET {other.url}/x HTTP/1.1\r\nHost: 127.0.0.1:{other.port}\r\nProxy-Authorization: Basic {key}\r\n"
        answer = behind.send(V1 + line.encode() + b"Connection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200"), answer
    of_completed = "SELECT source FROM connections WHERE outcome = 'completed'"
    assert eventually(lambda: [r["source"] for r in behind.gateway.rows(of_completed)] == ["192.0.2.7"])
    assert "client_address" in json.dumps(behind.gateway.admin("/api/logs?limit=1").json)
