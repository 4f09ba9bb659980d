"""On the wire: what reads in two ways never reaches a provider, and what does reach it is what was judged."""

from __future__ import annotations

import contextlib
import json
import re
import time

import pytest

from support.fake_provider import FakeProvider, message, plain, sse
from support.harness import VK, Gateway, ask, eventually, policy_text, receive, receive_until_silence
from support.http2_client import statuses

pytestmark = pytest.mark.wire

BODY = ask()
JSON = json.loads(message())


@pytest.fixture(scope="module")
def edge(tmp_path_factory):
    """One gateway for all, whose provider is at a path of its host."""
    with FakeProvider() as fake:
        gw = Gateway(tmp_path_factory.mktemp("grammar"), policy_text(f"{fake.url}/team/a")).start()
        gw.fake = fake
        yield gw
        gw.stop()


@pytest.fixture
def script(edge):
    """Sets what the provider answers, until the test is over."""
    yield lambda new: setattr(edge.fake, "script", new)
    edge.fake.script = plain()


def written(line=b"POST /v1/messages HTTP/1.1", *fields, host=b"localhost", framing=None, body=BODY, close=True):
    """A model call, byte by byte."""
    head = [line, b"Host: " + host, b"x-api-key: " + VK.encode(), b"content-type: application/json"]
    head += [b"connection: close"] * close + list(fields) + [b"content-length: %d" % len(body) if framing is None else framing]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def outcomes(gw, session, count=1):
    """How the calls of a session ended, once there are so many."""

    def recorded():
        rows = [r["outcome"] for r in gw.rows() if r["session_id"] == session]
        return rows if len(rows) >= count else None

    return eventually(recorded)


def as_judged(seen, body=BODY):
    """Check that a request is written in the only way a strict server reads, and says what was sent."""
    assert re.fullmatch(rb"POST /team/a/v1/messages(\?[!-~]+)? HTTP/1\.[01]", seen.lines[0])
    names = [n.lower() for n, _ in seen.headers]
    assert sorted(set(names)) == sorted(names)
    assert all(re.fullmatch(rb"[A-Za-z0-9_-]+: [\t -~\x80-\xff]*", line) for line in seen.lines[1:])
    assert names.count("content-length") + names.count("transfer-encoding") == 1
    gone = {"connection", "keep-alive", "te", "trailer", "upgrade", "http2-settings", "expect", "forwarded", "x-original-url"}
    assert not gone & set(names)
    assert not [n for n in names if n.startswith(("proxy-", "x-forwarded-host"))]
    assert seen.body == body


def refused_or_as_judged(gw, data, send=None):
    """Send bytes that may be read in two ways; return the status, and check that the provider saw nothing else."""
    before = len(gw.fake.seen)
    answer = (send or gw.send_raw)(data)
    status = int(answer[9:12]) if answer.startswith(b"HTTP/1.1 ") else 0
    assert answer.count(b"HTTP/1.1 200") <= 1
    if status == 200:
        (seen,) = gw.fake.seen[before:]
        as_judged(seen)
    else:
        assert status in (0, 400, 404, 426, 431)
        assert gw.fake.seen[before:] == []
    return status


SMUGGLED = b"POST /v1/complete HTTP/1.1\r\nHost: x\r\ncontent-length: 2\r\n\r\n{}"
N, X = b"%d" % len(BODY), b"%x" % len(BODY)
CHUNKED = b"transfer-encoding: chunked"
CHUNKS = X + b"\r\n" + BODY + b"\r\n0\r\n\r\n"
HEADERS = [
    *(
        b"content-length: " + v
        for v in (b"+" + N, b"-1", b"0x10", b"1_0", b"0" + N, N + b"," + N, N + b" " + N, b"", b"\xb2", N + b"\x0b1")
    ),
    *(b"content-length: " + N + b"\r\ncontent-length: " + v for v in (N, b"0", b"")),
    *(
        b"content-length: %s\r\ntransfer-encoding: %s" % (N, v)
        for v in (b"chunked", b",chunked", b"\x0bchunked", b"xchunked", b"identity")
    ),
    *(
        b"transfer-encoding: " + v
        for v in (b"gzip, chunked", b"chunked, identity", b"chunked\r\ntransfer-encoding: chunked", b'"chunked"')
    ),
    *(
        n + b": " + N
        for n in (b"content-length ", b" content-length", b"content_length", b"content-length\x85", b"content-length\x00", b"")
    ),
    *(b"transfer-encoding" + n + b"chunked\r\ncontent-length: " + N for n in (b" : ", b"\t: ", b"\xa0: ", b"\r\n : ", b" ")),
    *(b"x: 1" + e + b"content-length: " + N for e in (b"\r", b"\n\r", b"\r\r\n", b"\r\n ", b"\x00\r\n", b"\n\n")),
    *(b"transfer-\r\nencoding: chunked\r\ncontent-length: " + N, b"content-length " + N, b"content-length\r\n: " + N),
]


@pytest.mark.parametrize("framing", HEADERS, ids=lambda f: repr(f)[:50])
def test_a_length_in_two_ways_is_refused_or_written_in_one(edge, framing):
    refused_or_as_judged(edge, written(framing=framing) + SMUGGLED)


SIZES = [
    b"0x" + X,
    b"+" + X,
    b"-" + X,
    b" " + X,
    b"\t" + X,
    X[:1] + b"_" + X[1:],
    X + b"\r;a",
    X + b"\n",
    X + b"G",
    b"",
    b"\xb2",
    b"f" * 17,
]
CHUNKINGS = [
    *(size + b"\r\n" + BODY + b"\r\n0\r\n\r\n" for size in SIZES),
    *(
        X + b"\r\n" + BODY + end
        for end in (b"0\r\n\r\n", b"\n0\r\n\r\n", b"XX0\r\n\r\n", b"\r\n0\n\n", b"\r\n\r\n0\r\n\r\n", b"\r\n0_0\r\n\r\n")
    ),
    *(X + ext + b"\r\n" + BODY + b"\r\n0\r\n\r\n" for ext in (b";a=b", b";a=\xff", b'; a="\r\n"', b" ;a")),
    *(
        X + b"\r\n" + BODY + b"\r\n0\r\n" + trailer + b"\r\n\r\n"
        for trailer in (b"content-length: 0", b"x-api-key: x", b"X:POST / HTTP/1.1")
    ),
]


@pytest.mark.parametrize("chunks", CHUNKINGS, ids=lambda c: repr(c.replace(BODY, b"BODY"))[:40])
def test_chunks_in_two_ways_are_refused_or_written_in_one(edge, chunks):
    def ended(data):
        seen = len(edge.fake.seen)
        with edge.raw() as conn:
            conn.sendall(data)
            # Some of these wait for more and are not answered. Of the others a call is under way, however slow the machine is.
            for _ in range(200):
                if answer := receive_until_silence(conn, 0.3):
                    return answer
                if len(edge.fake.seen) == seen and not edge.admin("/health").json["ledger"]["reservations"]:
                    return b""
        return b""

    refused_or_as_judged(edge, written(framing=CHUNKED, body=chunks) + SMUGGLED, ended)


@pytest.mark.parametrize("way", ["origin", "tunnel", "absolute"])
@pytest.mark.parametrize(
    "path",
    [
        *(
            b"/v1/../../../admin/keys",
            b"/v1/%2e%2e/%2e%2e/admin",
            b"/v1/..%2fadmin",
            b"/v1/..\\admin",
            b"/v1//messages",
            b"//v1/messages",
        ),
        *(
            b"/v1/messages%3Fbeta=true",
            b"/v1/messages;a",
            b"/v1/messages#a",
            b"/v1/%256dessages",
            b"/v1/messages/",
            b"/v1/mess\xc3\xa4ges",
        ),
        *(
            b"/v1/messages?_method=GET",
            b"/v1/messages?a=1&a=2",
            b"/v1/messages?$httpMethod=GET",
            b"/v1/messages?a;b",
            b"/v1/messages?%00",
        ),
    ],
)
def test_a_target_in_two_ways_never_leaves_the_base_path(edge, way, path):
    host = b"api.anthropic.com" if way != "origin" else b"localhost"
    target = b"http://api.anthropic.com" + path if way == "absolute" else path
    send = (lambda data: edge.send_inside(data)) if way == "tunnel" else None
    assert refused_or_as_judged(edge, written(b"POST %s HTTP/1.1" % target, host=host), send) in (400, 404)


@pytest.mark.parametrize(
    ("line", "fields", "said"),
    [
        (
            b"GET /v1beta/models/gemini-2.5-pro:generateContent HTTP/1.1",
            [b"X-HTTP-Method-Override: POST"],
            b"x-http-method-override",
        ),
        (b"GET /v1/models HTTP/1.1", [b"x_http_method: POST"], b"x_http_method"),
        (b"GET /v1/models HTTP/1.1", [], b"a GET has no body"),
        (b"post /v1/messages HTTP/1.1", [], b"its method"),
        (b"POST /v1/messages HTTP/1.1", [b"content-type: application/json"], b"'content-type' twice"),
        (b"POST /v1/messages HTTP/1.1", [b"connection: content-length"], b"names 'content-length'"),
        (b"POST /v1/messages HTTP/1.1", [b"upgrade: TLS/1.0"], b"Upgrades"),
        (b"POST /v1/messages HTTP/1.1", [b"upgrade: h2c, h2"], b"Upgrades"),
        (b"POST http://api.anthropic.com/v1/messages HTTP/1.1", [], b"another host"),
    ],
)
def test_the_answer_says_what_is_wrong(edge, line, fields, said):
    answer = edge.send_inside(written(line, *fields))
    assert answer[9:12] in (b"400", b"426")
    assert said in answer
    assert b"\r\nx-should-retry: false\r\n" in answer


@pytest.mark.parametrize("offer", [[b"h2c"], [b"H2C"], [b"h2c", b"h2c"], [b"h2c, H2c"]])
@pytest.mark.parametrize("settings", [b"", b"AAMAAABkAARAAAAAAAIAAAAA"])
def test_an_offer_of_http_2_is_not_sent_on(edge, offer, settings):
    fields = [b"Upgrade: " + v for v in offer] + [b"Connection: Upgrade, HTTP2-Settings", b"HTTP2-Settings: " + settings]
    assert refused_or_as_judged(edge, written(b"POST /v1/messages HTTP/1.1", *fields)) == 200


def test_headers_for_one_connection_and_claims_of_another_target_are_not_sent_on(edge):
    fields = [b"Connection: x-private, keep-alive", b"X-Private: 1", b"Keep-Alive: timeout=5", b"TE: trailers", b"Trailer: x-a"]
    fields += [
        b"Proxy-Connection: keep-alive",
        b"X-Forwarded-Host: evil.test",
        b"X-Original-URL: /admin",
        b"Forwarded: host=evil.test",
    ]
    fields += [b"Expect: 100-continue", b"X-Kept: 1"]
    edge.send_raw(written(b"POST /v1/messages?beta=true HTTP/1.1", *fields))
    as_judged(edge.fake.seen[-1])
    assert edge.fake.seen[-1].header("x-private") is None
    assert edge.fake.seen[-1].header("x-kept") == "1"
    assert edge.fake.seen[-1].target == "/team/a/v1/messages?beta=true"


@pytest.mark.parametrize(
    ("close", "version", "stays"), [(True, b"HTTP/1.1", False), (False, b"HTTP/1.1", True), (False, b"HTTP/1.0", False)]
)
def test_a_connection_ends_where_the_client_asked_for_that(edge, close, version, stays):
    with edge.raw() as conn:
        conn.sendall(written(b"POST /v1/messages " + version, close=close))
        assert receive(conn, b"}}").endswith(b"}}")
        conn.settimeout(0.5 if stays else 60)
        try:
            assert (conn.recv(1) == b"") is not stays
        except TimeoutError:
            assert stays
            conn.sendall(written(close=True))
            assert receive(conn).startswith(b"HTTP/1.1 200 ")


# -- an upstream that would leave HTTP ------------------------------------------------------------------------------------


@pytest.mark.parametrize("over", ["HTTP/1.1", "HTTP/2"])
@pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"x"])
def test_an_upstream_that_switches_protocols_ends_the_call(edge, script, over, protocol):
    """What followed used to be relayed, unjudged, in both directions."""
    later = []

    def switch(peer, _):
        peer.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + protocol + b"\r\n\r\nRAW-FROM-PROVIDER")
        with contextlib.suppress(OSError):
            later.append(receive(peer.conn, b"RAW"))

    script(switch)
    session = b"switched-" + protocol + over[5:6].encode()
    if over == "HTTP/2":
        assert statuses(edge, BODY, fields=((b"x-claude-code-session-id", session),)) == 502
    else:
        fields = [b"Upgrade: h2c", b"x-claude-code-session-id: " + session]
        answer = edge.send_raw(written(b"POST /v1/messages HTTP/1.1", *fields, close=False) + b"RAW-FROM-CLIENT")
        assert answer.startswith(b"HTTP/1.1 502 ")
        assert b"RAW" not in answer
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["message"].startswith(
            "The provider's answer cannot be passed on: "
        )
    assert outcomes(edge, session.decode()) == ["failed"]
    assert eventually(lambda: later) == [b""]


@pytest.mark.parametrize("over", ["port", "tunnel"])
def test_http_2_without_tls_is_not_spoken(edge, over):
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    before = edge.fake.connections
    answer = edge.send_raw(preface) if over == "port" else edge.send_inside(preface)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")
    assert edge.fake.connections == before


EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n"


@pytest.mark.parametrize(
    "early",
    [
        EARLY,
        EARLY * 3,
        b"HTTP/1.1 102 Processing\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + EARLY,
        b"HTTP/1.1 199 \r\nx: 1\r\n\r\n",
    ],
    ids=lambda e: repr(e[:20]),
)
@pytest.mark.parametrize("pieces", [1, 3])
def test_an_answer_that_follows_early_hints_is_passed_on(edge, script, early, pieces):
    """The hints were taken for the answer: the client waited for ever, and the record said completed."""

    def hinting(peer, seen):
        size = len(early) // pieces + 1
        for at in range(0, len(early), size):
            peer.send(early[at : at + size])
            time.sleep(0.02 if pieces > 1 else 0)
        plain()(peer, seen)

    script(hinting)
    session = f"hints-{len(early)}-{pieces}"
    with edge.raw() as conn:
        for _ in range(2):
            conn.sendall(written(b"POST /v1/messages HTTP/1.1", b"x-claude-code-session-id: " + session.encode(), close=False))
            answer = receive(conn, b"}}")
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert json.loads(answer.partition(b"\r\n\r\n")[2]) == JSON
    assert outcomes(edge, session, 2) == ["completed"] * 2


def test_an_upstream_of_hints_alone_is_an_honest_failure(edge, script):
    def hinting(peer, _):
        peer.send(EARLY)
        peer.conn.close()

    script(hinting)
    answer = edge.send_raw(written(b"POST /v1/messages HTTP/1.1", b"x-claude-code-session-id: hints-alone"))
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert outcomes(edge, "hints-alone") == ["failed"]


def test_a_stream_that_follows_early_hints_is_passed_on(edge, script):
    def hinting(peer, _):
        peer.send(EARLY + b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for piece in sse():
            peer.chunk(piece)
        peer.end()

    script(hinting)
    reply = edge.post(ask(stream=True))
    assert (reply.status, reply.body) == (200, b"".join(sse()))


# -- the gateway's own address, named in full -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "LOCALHOST."])
def test_a_call_to_the_gateways_own_address_in_full_is_the_same_call(edge, name):
    """So do clients whose proxy and base URL are both the gateway."""
    host = f"{name}:{edge.port}".encode()
    line = b"POST http://%s/anthropic/v1/messages?beta=true HTTP/1.1" % host
    assert refused_or_as_judged(edge, written(line, host=host)) == 200
    before = edge.fake.connections
    for path in (b"/health", b"/metrics", b"/api/usage", b"/setup", b"/", b"/v2/x"):
        head = [b"GET http://" + host + path + b" HTTP/1.1", b"Host: " + host, b"Authorization: Bearer " + edge.token.encode()]
        answer = edge.send_raw(b"\r\n".join([*head, b"Connection: close", b"", b""]))
        assert answer.startswith(b"HTTP/1.1 404 ")
        assert b'"status"' not in answer
    assert edge.fake.connections == before


# -- HTTP/2 ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "odd",
    [
        *({"method": m} for m in (b"post", b"TRACE", b"CONNECT", b"PRI")),
        *(
            {"path": p}
            for p in (
                b"/v1/../admin",
                b"/v1/messages%2f",
                b"/v1/messages#x",
                b"/v1/messages/",
                b"//v1/messages",
                b"",
                b"/v1/messages?_method=GET",
            )
        ),
        *({"authority": a} for a in (b"user@api.anthropic.com", b"a b", b"api.anthropic.com:99999")),
        {"scheme": b"ftp"},
        {"protocol": b"websocket"},
        *(
            {"fields": (field,)}
            for field in (
                *((b"host", b"evil.test"), (b"connection", b"x-a"), (b"keep-alive", b"1"), (b"upgrade", b"h2c"), (b"te", b"gzip")),
                *(
                    (b"transfer-encoding", b"chunked"),
                    (b"content-length", b"3"),
                    (b"content-length", b"+3"),
                    (b"X-Upper", b"1"),
                    (b"x a", b"1"),
                ),
                *((b"x-a", b"1\r\nx-b: 2"), (b"x-a", b"1\x00"), (b"", b"1"), (b":path", b"/v1/models"), (b"x:a", b"1")),
                *(
                    (b"x-http-method-override", b"GET"),
                    (b"content_length", b"3"),
                    (b"proxy-connection", b"close"),
                    (b"expect", b"x"),
                ),
            )
        ),
    ],
    ids=repr,
)
def test_http_2_in_two_ways_is_refused(edge, odd):
    before = len(edge.fake.seen)
    assert statuses(edge, BODY, **odd) in (400, None)
    assert edge.fake.seen[before:] == []


def test_http_2_arrives_as_judged(edge):
    fields = ((b"te", b"trailers"), (b"host", b"api.anthropic.com"), (b"x-forwarded-host", b"evil.test"), (b"x-a", b"1"))
    assert statuses(edge, BODY, fields=fields) == 200
    as_judged(edge.fake.seen[-1])


@pytest.mark.parametrize("method", [b"GET", b"DELETE", b"HEAD"])
def test_a_body_of_http_2_belongs_to_a_method_that_has_one(edge, method):
    before = len(edge.fake.seen)
    assert statuses(edge, SMUGGLED, method=method, path=b"/v1/models") == 400
    assert statuses(edge, b"", method=b"GET", path=b"/v1/models") == 200
    assert [s.body for s in edge.fake.seen[before:]] == [b""]


@pytest.mark.parametrize(
    ("path", "key"), [("/v1/models", ""), ("/v1/models", VK), ("/v1/nothing", VK), ("/health", ""), ("/api/teams", "")]
)
def test_what_follows_the_answer_to_a_head_is_the_next_answer(edge, path, key):
    """A body after such an answer would be read as an answer to the client's next request."""
    asked = f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\nx-api-key: {key}\r\n\r\n"
    data = edge.send_raw(f"{asked}GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    head, _, rest = data.partition(b"\r\n\r\n")
    assert b"content-length: 0" not in head.lower()
    assert rest.startswith(b"HTTP/1.1 200 ")
    assert b"sluicegate" in rest.partition(b"\r\n\r\n")[2] or b'"status"' in rest
