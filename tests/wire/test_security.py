"""The edge: what is governed, what may pass, who may ask, and that no secret is ever written down."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import socket
import ssl
import threading
from pathlib import Path

import pytest

from sluicegate.credentials import PLACES
from support.fake_provider import FakeProvider, plain
from support.harness import ADDONS, PROVIDER_KEY, SERVE, VK, Gateway, ask, eventually, policy_text, receive

pytestmark = pytest.mark.wire


@pytest.fixture(scope="module")
def edge(tmp_path_factory):
    """One gateway and provider for the tests that change neither."""
    with FakeProvider() as fake:
        gw = Gateway(tmp_path_factory.mktemp("edge"), policy_text(fake.url, egress={"deny": ["*.denied.test"]})).start()
        gw.fake = fake
        yield gw
        gw.stop()


def connect(gw, target, *headers):
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}", *headers, "", ""]
    return gw.send_raw("\r\n".join(lines).encode(), b"\r\n\r\n")


def inside(gw, target, sni, request):
    """A request through CONNECT and TLS with any target, SNI and bytes."""
    context = ssl.create_default_context(cafile=str(gw.ca))
    with gw.raw() as conn:
        conn.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        assert b" 200 " in receive(conn, b"\r\n\r\n")
        with context.wrap_socket(conn, server_hostname=sni) as tls:
            tls.sendall(request)
            return receive(tls, None if b"close" in request else b"}}")


GET = b"GET /v1/models HTTP/1.1\r\nHost: %s\r\nx-api-key: vk-dev-alice\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    "target", ["api.anthropic.com:443", "API.Anthropic.COM:443", "api.anthropic.com.:443", "api.anthropic.com:8443"]
)
def test_a_governed_connect_is_opened_and_sent_to_the_base_url_whatever_it_says_inside(edge, target):
    before = len(edge.fake.seen)
    for host in (b"api.anthropic.com", b"evil.test", b"127.0.0.1:1"):
        assert b" 200 " in inside(edge, target, "api.anthropic.com", GET % host)
    assert len(edge.fake.seen) == before + 3
    assert edge.fake.seen[-1].header("host") == f"127.0.0.1:{edge.fake.port}"
    assert edge.fake.seen[-1].header("x-api-key") == PROVIDER_KEY


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_absolute_form_to_a_governed_host_is_governed(edge, scheme):
    line = f"GET {scheme}://api.anthropic.com/v1/models HTTP/1.1\r\nHost: api.anthropic.com\r\nConnection: close\r\n"
    assert b" 401 " in edge.send_raw(line.encode() + b"\r\n")
    assert b" 200 " in edge.send_raw(line.encode() + b"x-api-key: vk-dev-alice\r\n\r\n")


def test_a_governed_name_on_another_target_is_refused(edge):
    before = edge.fake.connections
    assert b"blocked_by_policy" in edge.send_raw(
        b"GET /v1/models HTTP/1.1\r\nHost: api.anthropic.com\r\nx-api-key: vk-dev-alice\r\nConnection: close\r\n\r\n"
    )
    assert b"blocked_by_policy" in edge.send_raw(
        b"GET http://example.test/v1 HTTP/1.1\r\nHost: api.anthropic.com\r\nConnection: close\r\n\r\n"
    )
    assert b"blocked_by_policy" in inside(edge, "example.test:443", "api.anthropic.com", GET % b"api.anthropic.com")
    assert edge.fake.connections == before


def test_raw_bytes_and_tunnels_in_tunnels_never_reach_a_provider(edge):
    before = edge.fake.connections
    with edge.raw() as conn:
        conn.sendall(b"CONNECT api.anthropic.com:443 HTTP/1.1\r\nHost: a\r\n\r\n")
        receive(conn, b"\r\n\r\n")
        conn.sendall(b"\x00\x01\x02SSH-2.0-raw bytes that are no HTTP\r\n\r\n")
        answer = receive(conn)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400")
    answer = inside(
        edge,
        "api.anthropic.com:443",
        "api.anthropic.com",
        b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n",
    )
    assert b" 200 " not in answer
    assert edge.fake.connections == before


@pytest.mark.parametrize("key", [VK, "vk-nobody", None])
@pytest.mark.parametrize("offer", ["websocket", "WebSocket", "h2c, websocket"])
def test_an_attempt_at_websocket_is_answered_426_and_counted_but_is_no_call(edge, key, offer):
    def counted() -> int:
        return int(re.search(r"sluicegate_declined_websockets_total (\d+)", edge.admin("/metrics").body.decode())[1])

    count, before, session = counted(), len(edge.fake.seen), f"after-{offer[:3]}-{key}"
    headers = {"Upgrade": offer, "Connection": "Upgrade"} | ({"authorization": f"Bearer {key}"} if key else {})
    reply = edge.request("GET", "/v1/responses", headers=headers)
    assert (reply.status, reply.reason, counted(), len(edge.fake.seen)) == (426, "unsupported", count + 1, before)
    # Records are written in their order: once a later call is on record, the attempt would be.
    edge.post(b"{", session_id=session)
    assert eventually(lambda: session in (rows := {r["session_id"]: r for r in edge.rows()}) and rows)
    assert not [r for r in edge.rows() if r["status"] == 426]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'{"model":1}', b'{"model":"a","model":"b"}', b'{"model":"a","stream":1}', b"\xff\xfe", b'{"model":null}'],
)
def test_a_body_that_cannot_be_governed_is_refused(edge, body):
    before = len(edge.fake.seen)
    reply = edge.post(body)
    assert (reply.status, reply.reason, reply.headers["x-should-retry"]) == (400, "invalid_request", "false")
    assert len(edge.fake.seen) == before


@pytest.mark.parametrize(
    "path",
    [
        "//v1/messages",
        "/v1/./messages",
        "/v1/%6dessages",
        "/v1/messages/",
        "/V1/Messages",
        "/v1/messages/count_tokens/..",
        "/v1/complete",
    ],
)
def test_no_twisted_path_is_free(edge, path):
    reply = edge.send_raw(
        f"POST http://api.anthropic.com{path} HTTP/1.1\r\nHost: x\r\nx-api-key: {VK}\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}".encode()
    )
    assert b"x-sluicegate-reason: unsupported" in reply or b"x-sluicegate-reason: invalid_request" in reply


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "BREW"])
def test_no_method_makes_a_model_call_free(edge, method):
    reply = edge.request(method, "/v1/messages", b"{}", {"x-api-key": VK, "x-http-method-override": "POST"})
    assert reply.reason in ("unsupported", "invalid_request")


def test_batches_are_refused_because_they_would_escape_budgets(edge):
    assert edge.post(b'{"requests":[]}', path="/v1/messages/batches").reason == "unsupported"


CREDENTIALS = [place for place in PLACES if place not in ("query", "sec-websocket-protocol")]
"""Headers whose whole value is a credential."""


@pytest.mark.parametrize("place", CREDENTIALS)
def test_a_key_is_found_in_each_place_and_every_place_is_stripped(edge, place):
    values = {name: f"unknown-{name}" for name in CREDENTIALS}
    values["authorization"] = "Bearer unknown-bearer"
    values["proxy-authorization"] = "Basic " + base64.b64encode(b"unknown:unknown").decode()
    values[place] = {
        "authorization": f"Bearer {VK}",
        "proxy-authorization": "Basic " + base64.b64encode(f"{VK}:".encode()).decode(),
    }.get(place, VK)
    reply = edge.request("GET", "/v1/models", headers=values)
    assert reply.status == 200
    sent = edge.fake.seen[-1].head.decode()
    assert VK not in sent
    assert "unknown" not in sent
    assert sent.lower().count(PROVIDER_KEY) == 1


def test_no_key_an_unknown_key_and_strangers_are_counted_not_recorded(edge):
    assert (edge.post(key=None).reason, edge.post(key="nope").reason) == ("virtual_key_required", "virtual_key_not_found")
    (counted,) = eventually(lambda: edge.rows("SELECT * FROM refusals WHERE reason = 'virtual_key_not_found' LIMIT 1"))
    assert (counted["source"], counted["count"] >= 1) == ("127.0.0.1", True)
    assert not [r for r in edge.rows() if r["reason"] in ("virtual_key_required", "virtual_key_not_found")]
    metrics = edge.admin("/metrics").body.decode()
    assert re.search(r'sluicegate_refusals_total\{reason="virtual_key_not_found"\} [1-9]', metrics)


@pytest.mark.parametrize(
    "target",
    [
        "169.254.169.254:80",
        "127.0.0.1:22",
        "10.0.0.1:443",
        "[::1]:443",
        "[::ffff:127.0.0.1]:443",
        "0.0.0.0:80",
        "100.64.0.1:443",
        "2130706433:80",
        "0x7f.1:80",
    ],
)
def test_private_and_own_addresses_are_never_reached(edge, target):
    """Refused at the CONNECT where the address is plain, at the dial where it hides behind a name."""
    with edge.raw() as conn:
        conn.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        answer = receive(conn, b"\r\n\r\n")
        if b" 200 " in answer:
            conn.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert receive(conn) == b""
        else:
            assert re.match(rb"HTTP/1.1 4\d\d ", answer)


def test_a_name_that_resolves_to_this_machine_is_refused_at_the_dial(edge):
    answer = edge.send_raw(
        f"GET http://localhost:{edge.fake.port}/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    )
    assert b"Blocked by policy: localhost has an address that agents may not reach" in answer
    assert b"x-sluicegate-reason: blocked_by_policy" in answer


def test_administration_is_unreachable_through_the_proxy(edge):
    for line in (f"GET http://127.0.0.1:{edge.port}/health", f"GET http://localhost:{edge.port}/metrics"):
        answer = edge.send_raw(
            f"{line} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {edge.token}\r\nConnection: close\r\n\r\n".encode()
        )
        assert b'"status"' not in answer
        assert b"sluicegate_calls" not in answer
        assert b" 200 " not in answer.split(b"\r\n")[0]
    assert b" 200 " not in connect(edge, f"127.0.0.1:{edge.port}").split(b"\r\n")[0]


def test_host_and_origin_are_checked_even_with_the_token(edge):
    bearer = {"authorization": f"Bearer {edge.token}"}
    assert edge.request("GET", "/metrics", headers=bearer | {"Host": "rebound.test"}).status == 421
    # By an address of ours only where it is the one that was dialled; loopback is always ours.
    for address, status in (("10.1.2.3", 421), ("[fd00::5]", 421), ("0.0.0.0", 421), ("127.9.8.7", 200)):
        assert edge.request("GET", "/metrics", headers=bearer | {"Host": f"{address}:8080"}).status == status, address
    assert (
        edge.request(
            "POST", "/api/usage", b"{}", bearer | {"content-type": "application/json", "Origin": "http://evil.test"}
        ).status
        == 403
    )
    assert edge.request("POST", "/api/usage", b"a=b", bearer | {"content-type": "application/x-www-form-urlencoded"}).status == 415
    rotate = f"/api/governance/virtual-keys/{VK}/expire?dry_run=true"
    assert edge.request("POST", rotate, None, bearer).status == 200, "without a body a write needs no type"
    for forged in ({"Origin": "http://evil.test"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        assert edge.request("POST", rotate, None, bearer | forged).status == 403
    assert edge.request("POST", rotate, b"", bearer | {"content-type": "text/plain"}).status == 415
    assert edge.request("POST", rotate, b"x", bearer).status == 415
    compressed = bearer | {"content-type": "application/json", "content-encoding": "gzip"}
    assert edge.request("POST", rotate, gzip.compress(b"{}"), compressed).status == 415
    basic = {"authorization": "Basic " + base64.b64encode(f"admin:{edge.token}".encode()).decode()}
    assert edge.request("GET", "/api/usage", headers=basic).status == 200


def test_only_telemetry_may_come_compressed_and_in_another_form_than_json(edge):
    protobuf = {"content-type": "application/x-protobuf"}
    sent = {"x-api-key": VK, **protobuf}
    packed = {"content-encoding": "gzip"}
    for signal in ("metrics", "logs", "traces"):
        answer = edge.request("POST", f"/v1/{signal}", gzip.compress(b""), sent | packed)
        assert (answer.status, answer.body, answer.headers["content-type"]) == (200, b"", "application/x-protobuf")
    as_json = sent | {"content-type": "application/json"}
    assert edge.request("POST", "/v1/logs?x=1", gzip.compress(b"{}"), as_json | packed).json == {}
    assert edge.request("POST", "/v1/logs", b"x", sent | {"content-type": "text/plain"}).status == 415
    assert edge.request("POST", "/v1/logs", b"", sent | {"Origin": "http://evil.test"}).status == 403
    assert edge.request("POST", "/v1/logs", b"", sent | {"Host": "rebound.test"}).status == 421
    assert edge.request("POST", "/v1/logs", b"", protobuf).status == 401
    assert edge.request("POST", "/v1/logs", bytes(1 << 20 | 1), sent).status == 413
    assert edge.request("POST", "/v1/logs", bytes(1 << 17), protobuf).status == 413
    rotate = f"/api/governance/virtual-keys/{VK}/expire?dry_run=true"
    assert edge.request("POST", rotate, b"", {"authorization": f"Bearer {edge.token}", **protobuf}).status == 415
    # Through the proxy it is no path of ours: what clients send to their makers' hosts stays a request to those.
    line = f"POST http://127.0.0.1:{edge.port}/v1/logs HTTP/1.1\r\nHost: x\r\nx-api-key: {VK}\r\nContent-Length: 0\r\n"
    assert b" 200 " not in edge.send_raw(f"{line}Connection: close\r\n\r\n".encode()).split(b"\r\n")[0]


@pytest.mark.parametrize("host", ["10.244.0.5:8080", "[fd00::5]:8080", "rebound.test"])
def test_probes_are_answered_under_any_host_and_told_no_more_than_strangers(edge, host):
    sent = {"authorization": f"Bearer {edge.token}", "x-bf-vk": VK, "Host": host}
    health = edge.request("GET", "/health?verbose=1", headers=sent)
    assert (health.status, health.json) == (200, {"status": "ok", "same-user": "cooperative"})
    assert edge.request("HEAD", "/health", headers=sent).status == 200
    assert edge.request("GET", "/ready", headers=sent).json == {"ready": True}
    assert edge.request("GET", "/ca.pem", headers=sent).body.startswith(b"-----BEGIN CERTIFICATE-----")
    assert f"http://{host}/ca.pem" in edge.request("GET", "/setup", headers=sent).body.decode()
    for path in ("/", "/metrics", "/api/health", "/api/config", "/static/app.js"):
        assert edge.request("GET", path, headers=sent).status == 421, path
    assert edge.request("POST", "/health", b"{}", sent | {"content-type": "application/json"}).status == 421
    assert "policy" in edge.admin("/health").json


def test_denied_hosts_are_refused_and_recorded(edge):
    assert connect(edge, "files.denied.test:443").startswith(b"HTTP/1.1 403")
    assert eventually(lambda: edge.rows("SELECT * FROM connections WHERE host = 'files.denied.test' AND outcome = 'denied'"))


def test_a_plain_request_to_an_allowed_host_passes_without_our_credentials_and_is_recorded(gateway, provider):
    gw = gateway(policy_text(egress={"default": "deny", "allow": ["127.0.0.1"]}))
    line = (
        f"GET {provider.url}/x HTTP/1.1\r\nHost: a\r\nProxy-Authorization: Basic {base64.b64encode(f'{VK}:'.encode()).decode()}\r\n"
    )
    answer = gw.send_raw((line + f"x-api-key: {VK}\r\nAuthorization: Bearer its-own\r\nConnection: close\r\n\r\n").encode())
    assert answer.startswith(b"HTTP/1.1 200")
    sent = provider.seen[0]
    assert (sent.header("authorization"), sent.header("proxy-authorization"), sent.header("x-api-key")) == (
        "Bearer its-own",
        None,
        None,
    )
    gw.stop()
    (row,) = gw.rows("SELECT * FROM connections")
    assert (row["host"], row["port"], row["virtual_key_id"], row["outcome"]) == ("127.0.0.1", provider.port, VK, "completed")
    assert row["response_bytes"] > 100


def test_beyond_loopback_needs_permission_and_a_key_with_a_secret(gateway):
    """127.0.0.1 is loopback even to a gateway on every interface; a demo key edited in later is refused elsewhere."""
    key = {"id": "vk-real", "value_hash": "sha256:" + hashlib.sha256(b"real").hexdigest()}
    listens_openly = {"server": {"allow_plaintext": True}}
    gw = gateway(policy_text(virtual_keys=[key], **listens_openly), "--listen-host", "0.0.0.0")
    assert gw.post(key="real").status == 200
    closed = gateway(policy_text(virtual_keys=[key, {"id": "vk-demo"}], **listens_openly), "--listen-host", "0.0.0.0", start=False)
    assert closed.exit_code() == 1
    assert any("demo keys (vk-demo)" in x for x in closed.output)


def test_a_blocked_key_opens_no_tunnel(gateway):
    gw = gateway(policy_text(virtual_keys=[{"id": "vk-off", "is_active": False}]))
    proxy = "Proxy-Authorization: Basic " + base64.b64encode(b"vk-off:").decode()
    assert b"virtual_key_blocked" in connect(gw, "example.org:443", proxy)
    line = f"GET http://example.org/ HTTP/1.1\r\nHost: example.org\r\n{proxy}\r\nConnection: close\r\n\r\n"
    assert b"vk-off' is inactive" in gw.send_raw(line.encode())
    assert b"vk-off' is inactive" in inside(
        gw, "api.anthropic.com:443", "api.anthropic.com", GET.replace(VK.encode(), b"vk-off") % b"x"
    )


def test_tunnels_are_not_decrypted_and_are_counted(gateway):
    """An allowed loopback server with a certificate of its own: the client sees that one, the record only the bytes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def serve():
            conn, _ = server.accept()
            got = receive(conn, b"ping")
            conn.sendall(b"\x16raw-pong" + got)
            conn.close()

        threading.Thread(target=serve, daemon=True).start()
        gw = gateway(policy_text(egress={"default": "deny", "allow": ["127.0.0.1"]}))
        with gw.raw() as conn:
            conn.sendall(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert b" 200 " in receive(conn, b"\r\n\r\n")
            conn.sendall(b"\x00\x01 no protocol at all ping")
            assert receive(conn) == b"\x16raw-pong\x00\x01 no protocol at all ping"
        assert connect(gw, "example.org:443").startswith(b"HTTP/1.1 403")
        gw.stop()
        rows = [r for r in gw.rows("SELECT * FROM connections") if r["outcome"] == "completed"]
        assert [(r["host"], r["port"], r["request_bytes"], r["response_bytes"]) for r in rows] == [("127.0.0.1", port, 26, 35)]


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("stream_large_bodies=1m", "sends large requests upstream"),
        ("log_format=text --set log_format=json", "log_format is given 2 times ('text', 'json')"),
        ("grace_period=soon", "option grace_period: not an integer: soon"),
        ("log_connections=maybe", 'option log_connections: boolean must be "true", "false"'),
        ("tls_cert", "Option is required: tls_cert"),
        ("polcy=strict.yaml", "there is no option polcy; did you mean policy?"),
        ("ssl_insecure=true", "no longer be verified"),
        ("validate_inbound_headers=false", "request smuggling"),
        ("ignore_hosts=anthropic", "api.anthropic.com, which is governed"),
        ("tcp_hosts=.*", "which is governed"),
        ("allow_hosts=example", "allow_hosts is not supported"),
        ("map_remote=/a/b", "redirects"),
        ("map_local=|a|/tmp", "answers requests"),
        ("modify_headers=/x/y", "changes what"),
        ("modify_body=/x/y", "changes what"),
        ("mode=reverse:http://127.0.0.1:1", "only regular"),
        ("listen_host=0.0.0.0", "allow_plaintext: true"),
        ("mode=regular@0.0.0.0:0", "allow_plaintext: true"),
    ],
)
def test_options_that_would_break_a_promise_end_the_start_with_the_reason(gateway, option, says):
    gw = gateway(None, "--set", *option.split(), start=False)
    assert gw.exit_code() == 1
    (line,) = [x for x in gw.output if x.startswith("sluicegate: ")]
    assert says in line


@pytest.mark.parametrize(
    ("written", "command", "says"),
    [
        ("grace_period: soon", None, "config.yaml: Expected <class 'int'> for grace_period"),
        ("tls_cert:", None, "config.yaml: Expected <class 'str'> for tls_cert"),
        pytest.param("- policy", SERVE, "config.yaml cannot be read: ", id="serve"),
        ("polcy: strict.yaml", None, "config.yaml: there is no option polcy; did you mean policy?"),
    ],
)
def test_a_mistake_in_mitmproxys_own_file_ends_the_start(gateway, tmp_path, written, command, says):
    (tmp_path / "config.yaml").write_text(written)
    gw = gateway(None, "--set", f"confdir={tmp_path}", start=False, command=command)
    assert gw.exit_code() == 1
    (line,) = gw.output if command else [x for x in gw.output if x.startswith("sluicegate: ")]
    assert says in line


REFUSING = """
from mitmproxy import exceptions

{load}

def configure(updated):
    if "policy" in updated and {refuses}:
        raise exceptions.OptionsError("not with me")
"""


@pytest.mark.parametrize(
    ("load", "refuses", "says"),
    [
        ("", True, "not with me"),
        ("def load(loader): loader.add_option('theirs', int, 1, '')", False, "option theirs: not an integer: much"),
    ],
)
def test_a_script_before_the_gateway_cannot_have_it_left_out(gateway, tmp_path, load, refuses, says):
    (other := tmp_path / "other.py").write_text(REFUSING.format(load=load, refuses=refuses))
    options = ["--set", "theirs=much"] if load else []
    gw = gateway(None, *options, start=False, scripts=[other, ADDONS / "gateway.py"])
    assert gw.exit_code() == 1
    (line,) = [x for x in gw.output if x.startswith("sluicegate: ")]
    assert says in line


def test_a_port_in_use_ends_the_start(gateway):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        gw = gateway(None, "--listen-port", str(taken.getsockname()[1]), start=False)
        assert gw.exit_code() == 1
    assert any("in use" in x for x in gw.output)


def test_a_bad_policy_ends_the_start_with_every_problem_on_a_line(gateway):
    gw = gateway("version: 1\nprovders: {}\nteams: [{id: a b}]\n", start=False)
    assert gw.exit_code() == 1
    said = [x for x in gw.output if x.startswith("sluicegate: ")]
    assert len(said) == 2
    assert all(f"{gw.policy}:" in x for x in said)


@pytest.mark.parametrize("verbosity", [["-v", "--flow-detail", "4"], ["-w", "flows"]])
def test_no_secret_is_ever_written_down(gateway, provider, verbosity):
    """Every way a call can end, with secrets of their own in every place; then everything that was written is searched."""
    secret, stranger = "sk-sg-the-virtual-key", "sk-stranger-credential"
    key = [
        {
            "id": "vk-hashed",
            "value_hash": "sha256:" + hashlib.sha256(secret.encode()).hexdigest(),
            "budget": {"max_limit": 1, "reset_duration": "1d"},
        }
    ]
    # Only a process of its own has a command line.
    gw = gateway(policy_text(provider.url, virtual_keys=key), *verbosity, forked=verbosity[0] != "-v")
    spread = {"x-bf-vk": secret, "authorization": f"Bearer {stranger}", "cookie": "c=1", "anthropic-version": "2023-06-01"}
    replies = [
        gw.post(key=secret),
        gw.proxied(key=stranger, user=secret),
        gw.post(key=stranger),
        gw.request("GET", "/v1/models", headers=spread),
    ]
    for path in ("/favicon.ico", "/api/hello", "/health"):
        replies.append(gw.request("GET", path, headers={"x-api-key": secret, "authorization": f"Bearer {stranger}"}))
    replies.append(gw.request("GET", "/v1/models", headers={"x-api-key": secret, "Host": "api.anthropic.com"}))
    line = f"GET http://127.0.0.1:{provider.port + 1}/ HTTP/1.1\r\nHost: x\r\nx-api-key: {secret}\r\nConnection: close\r\n\r\n"
    replies.append(gw.send_raw(line.encode()))
    provider.script = lambda peer, _: peer.reset()
    replies.append(gw.post(key=secret))
    sent = len(provider.seen)
    with gw.raw() as conn:
        provider.script = lambda peer, _: receive(peer.conn)
        body = ask()
        conn.sendall(
            f"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nx-api-key: {secret}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        eventually(lambda: len(provider.seen) == sent + 1)
    provider.script = plain()
    for broken in (
        f"GET / HTTP/1.1\r\nx-api-key: {secret}\r\nA: ",
        f"x-api-key: {secret}\r\n\r\n",
        f"GET / HTTP/1.1\r\n{secret}\r\n\r\n",
    ):
        with gw.raw() as conn:
            conn.sendall(broken.encode())
            conn.shutdown(socket.SHUT_WR)
            receive(conn)
    replies += [gw.admin("/metrics"), gw.admin("/health"), gw.admin("/api/usage"), gw.request("GET", "/setup")]
    process = Path(f"/proc/{gw.process.pid}/cmdline").read_bytes().decode()
    token = gw.token
    gw.stop()
    written = {"output": "\n".join(gw.output), "process": process, "replies": str(replies)}
    for file in gw.folder.rglob("*"):
        if file.is_file() and file.name not in ("policy.yaml", "admin-token"):
            written[file.name] = file.read_bytes().decode("latin-1")
    assert len(gw.rows()) >= 4
    for forbidden in (secret, stranger, PROVIDER_KEY, token):
        for packed in (forbidden, base64.b64encode(f"{forbidden}:".encode()).decode()):
            assert [where for where, text in written.items() if packed in text] == []
    assert oct((gw.state / "admin-token").stat().st_mode & 0o777) == "0o600"
    assert oct(gw.state.stat().st_mode & 0o777) == "0o700"
    assert all(f.stat().st_mode & 0o077 == 0 for f in gw.state.iterdir())
    assert json.dumps(gw.journal()).count("vk-hashed") >= 3
