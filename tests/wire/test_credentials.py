"""Keys planted wherever a request has room: they name the caller where they may, and show up nowhere afterwards."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import quote

import pytest

from sluicegate.providers.account_headers import REQUEST_NAMES
from support.fake_provider import FakeProvider, Peer, Script, Seen, message, plain, sse
from support.harness import PROVIDER, PROVIDER_KEY, Gateway, ask, eventually, policy_text, receive

pytestmark = pytest.mark.wire

SECRET, REVOKED, OPERATOR = "sk-sg-Planted_0123456789-abcdefghij", "sk-sg-Planted_revoked-0123456789", "op-Planted-token-0123456789"
OTHER, EXPIRED, DELETED = "sk-sg-Planted_other-0123456789", "sk-sg-Planted_expired-0123456789", "sk-sg-Planted_deleted-0123456789"
OF_DISABLED, DELETED_DEMO = "sk-sg-Planted_of-disabled-0123456789", "vk-demo-of-a-leaver"


def hashed(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def basic(user: str, password: str = "x") -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def spellings(secret: str) -> list[str]:
    """The secret as it could be printed: itself, percent-encoded, and in base64 at each of the three offsets."""
    encoded = [base64.b64encode(b"\0" * i + secret.encode()).decode()[4 if i else 0 :] for i in range(3)]
    return [secret, "".join(f"%{ord(c):02x}" for c in secret), *(e[: len(secret)] for e in encoded)]


@dataclass
class Site:
    """A gateway that shows and saves all it can, one server for each provider and one for another host, and what clients got."""

    gw: Gateway
    servers: dict[str, FakeProvider]
    answers: list[bytes] = field(default_factory=list)

    def send(self, target: str, *headers: str, body: bytes | None = None, method: str = "POST") -> bytes:
        """Send a request as it is written, and return its answer."""
        body = ask() if body is None else body
        host = () if any(h.lower().startswith("host:") for h in headers) else ("Host: 127.0.0.1",)
        head = [f"{method} {target} HTTP/1.1", *host, *headers, f"Content-Length: {len(body)}", "Connection: close", "", ""]
        answer = self.gw.send_raw("\r\n".join(head).encode() + body)
        self.answers.append(answer)
        return answer

    def connect(self, line: str, *headers: str, inside: bytes = b"") -> bytes:
        """Open a tunnel and send a request inside it; return the answer to it, or to the CONNECT if it was refused."""
        with self.gw.raw() as conn:
            conn.settimeout(60)
            conn.sendall("\r\n".join([f"CONNECT {line} HTTP/1.1", "Host: a", *headers, "", ""]).encode())
            answer = receive(conn, b"\r\n\r\n")
            if b" 200 " in answer.partition(b"\r\n")[0] and inside:
                context = ssl.create_default_context(cafile=str(self.gw.ca))
                with contextlib.suppress(OSError), context.wrap_socket(conn, server_hostname=PROVIDER) as tls:
                    tls.sendall(inside)
                    answer = receive(tls)
        self.answers.append(answer)
        return answer

    def seen(self) -> bytes:
        """Return the heads of all requests that servers have received."""
        return b"\n".join(s.head for server in self.servers.values() for s in server.seen)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("planted")
    with contextlib.ExitStack() as stack:
        names = ("anthropic", "openai", "gemini", "elsewhere")
        servers = {name: stack.enter_context(FakeProvider(plain(message()))) for name in names}
        keys = [{"name": "key-1", "value": "env.PROVIDER_KEY"}]
        policy = policy_text(
            providers={name: {"base_url": servers[name].url, "keys": keys} for name in names[:3]},
            virtual_keys=[
                {"id": "vk-planted", "value_hash": hashed(SECRET)},
                {"id": "vk-other", "value_hash": hashed(OTHER)},
                {"id": "vk-revoked", "value_hash": hashed(REVOKED), "is_active": False},
                {"id": "vk-expired", "value_hash": hashed(EXPIRED), "expires_at": "2026-01-01T00:00:00Z"},
                {"id": "vk-of-disabled", "value_hash": hashed(OF_DISABLED), "user_id": "leaver"},
                {"id": "vk-deleted", "value_hash": hashed(DELETED)},
                {"id": DELETED_DEMO},
            ],
            users=[{"id": "leaver", "is_active": False}],
            operators=[{"id": "olga", "role": "viewer", "token_hash": hashed(OPERATOR)}],
            egress={"allow": ["127.0.0.1"]},
            **{level: [] for level in ("teams", "customers")},
        )
        options = ("-v", "--set", "flow_detail=4", "-w", str(folder / "flows"))
        gw = stack.enter_context(Gateway(folder, policy, *options))
        admin = {"authorization": f"Bearer {gw.token}"}
        for key in ("vk-deleted", DELETED_DEMO):
            assert gw.request("DELETE", f"/api/governance/virtual-keys/{key}", headers=admin).status == 200
        yield Site(gw, servers)


MESSAGES, GEMINI = "/v1/messages", "/v1beta/models/gemini-2.5-pro:generateContent"
TEXT = json.dumps({"contents": [{"parts": [{"text": "hi"}]}]}).encode()

PLACES = {
    "x-bf-vk": f"x-bf-vk: {SECRET}",
    "bearer": f"Authorization: Bearer {SECRET}",
    "basic": f"Authorization: {basic(SECRET)}",
    "basic password": f"Authorization: {basic('x', SECRET)}",
    "x-api-key": f"x-api-key: {SECRET}",
    "api-key": f"api-key: {SECRET}",
    "x-goog-api-key": f"x-goog-api-key: {SECRET}",
    "subprotocol": f"Sec-WebSocket-Protocol: realtime, openai-insecure-api-key.{SECRET}",
    "proxy": f"Proxy-Authorization: {basic(SECRET)}",
    "folded": f"x-api-key: unknown, {SECRET}",
    "repeated": f"x-api-key: unknown\r\nx-api-key: {SECRET}",
    "percent-encoded": f"x-api-key: {quote(SECRET.replace('_', '%5f'))}",
}


@pytest.mark.parametrize("place", PLACES)
def test_a_key_names_its_caller_from_each_place(site, place):
    assert b" 200 " in site.send(MESSAGES, PLACES[place]).partition(b"\r\n")[0]


@pytest.mark.parametrize("name", ["key", "api_key", "access_token", "%6bey"])
def test_a_key_in_the_query_is_enough_and_never_goes_on(site, name):
    server = site.servers["gemini"]
    answer = site.send(f"/genai{GEMINI}?alt=json&{name}={SECRET}&x=%20+a%2Fb", body=TEXT)
    assert b" 200 " in answer.partition(b"\r\n")[0]
    assert server.seen[-1].target == f"{GEMINI}?alt=json&x=%20+a%2Fb"
    assert server.seen[-1].header("x-goog-api-key") == PROVIDER_KEY


def test_the_query_alone_in_a_tunnel_to_gemini(site):
    host = "generativelanguage.googleapis.com"
    request = f"POST {GEMINI}?key={SECRET} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(TEXT)}\r\nConnection: close\r\n\r\n"
    assert b" 200 " in site.connect(f"{host}:443", inside=request.encode() + TEXT).partition(b"\r\n")[0]
    assert site.servers["gemini"].seen[-1].target == GEMINI


CALLERS = {"x-bf-vk": f"x-bf-vk: {SECRET}", "proxy": f"Proxy-Authorization: {basic(SECRET)}"}
SECOND = {
    "bearer": "Authorization: Bearer {}",
    "x-api-key": "x-api-key: {}",
    "list": "x-api-key: unknown, {}",
    "x-goog-api-key": "x-goog-api-key: {}",
    "query": "",
    "proxy": "Proxy-Authorization: {}",
}
DEAD = {
    "disabled": (REVOKED, "Virtual key 'vk-revoked' is inactive"),
    "expired": (EXPIRED, "Virtual key 'vk-expired' has expired"),
    "of a disabled user": (OF_DISABLED, "the user 'leaver' is disabled"),
    "deleted": (DELETED, "was deleted or replaced"),
    "deleted demo": (DELETED_DEMO, "was deleted or replaced"),
}


@pytest.mark.parametrize("dead", DEAD)
def test_a_dead_key_is_refused_in_every_place_beside_anybodys_live_key(site, dead):
    value, says = DEAD[dead]
    before = site.gw.admin("/api/logs?outcome=completed&limit=1").json["pagination"]["total_count"]
    for place, form in SECOND.items():
        for caller, live in CALLERS.items():
            if caller == place or (place == "list" and dead == "deleted demo"):
                continue
            header = form.format(basic(value) if place == "proxy" else value)
            answer = site.send(MESSAGES + (f"?key={value}" if place == "query" else ""), live, *filter(None, [header]))
            assert b"x-sluicegate-reason: virtual_key_blocked" in answer, (place, caller)
            assert says in answer.decode(), (place, caller)
    assert site.gw.admin("/api/logs?outcome=completed&limit=1").json["pagination"]["total_count"] == before


@pytest.mark.parametrize("dead", DEAD)
def test_a_dead_key_is_refused_on_either_side_of_a_tunnel(site, dead):
    value, says = DEAD[dead]
    for outer, inner in ((SECRET, value), (value, SECRET)):
        request = f"POST {MESSAGES} HTTP/1.1\r\nHost: {PROVIDER}\r\nx-api-key: {inner}\r\nContent-Length: {len(ask())}\r\nConnection: close\r\n\r\n"
        answer = site.connect(f"{PROVIDER}:443", f"Proxy-Authorization: {basic(outer)}", inside=request.encode() + ask()).decode()
        assert says in answer


@pytest.mark.parametrize("own", ["sk-ant-api03-a-real-key-of-the-clients-own", "dummy", "sk-sg-never-a-key-of-ours-0123456789"])
def test_what_was_never_a_virtual_key_is_ignored_and_goes_no_further(site, own):
    for header in (f"Authorization: Bearer {own}", f"x-api-key: {own}", f"x-goog-api-key: {own}"):
        assert b" 200 " in site.send(MESSAGES, header, f"Proxy-Authorization: {basic(SECRET)}").partition(b"\r\n")[0]
    assert own.encode() not in site.seen()


def test_of_two_keys_in_force_the_first_place_names_the_caller_and_one_place_names_one(site):
    answer = site.send(MESSAGES, f"x-api-key: {OTHER}", f"Proxy-Authorization: {basic(SECRET)}")
    assert b" 200 " in answer.partition(b"\r\n")[0]
    eventually(lambda: site.gw.admin("/api/logs?limit=1").json["logs"][0]["virtual_key_id"] == "vk-other")
    for twice in (f"x-api-key: {OTHER}, {SECRET}", f"x-api-key: {OTHER}\r\nx-api-key: {SECRET}"):
        answer = site.send(MESSAGES, twice)
        assert b"Several virtual keys were sent in x-api-key" in answer


OAUTH = "Authorization: Bearer sk-ant-oat01-planted-login-0123456789"
CODEX, GEMINI_CLI = "User-Agent: codex_exec/0.171.0", "User-Agent: GeminiCLI/0.61.0/gemini-2.5-pro (linux; x64)"


@pytest.mark.parametrize(
    ("target", "headers", "says"),
    [
        (MESSAGES, ("User-Agent: claude-cli/2.1.332", OAUTH), "A Claude login was sent"),
        (MESSAGES, (f"Proxy-Authorization: {basic('wrong')}",), "The key in the proxy URL is not a known virtual key"),
        ("/v1/responses", (CODEX,), "set CODEX_API_KEY"),
        ("/v1/chat/completions", ("Authorization: Bearer wrong",), "set OPENAI_API_KEY"),
        (f"/genai{GEMINI}?key=wrong", (GEMINI_CLI,), "set GEMINI_API_KEY"),
    ],
)
def test_an_unknown_caller_is_told_what_to_do(site, target, headers, says):
    assert says in site.send(target, *headers).decode()


def test_a_wrong_key_at_the_connect_is_named_inside(site):
    request = f"POST {MESSAGES} HTTP/1.1\r\nHost: {PROVIDER}\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}".encode()
    answer = site.connect(f"{PROVIDER}:443", f"Proxy-Authorization: {basic('wrong')}", inside=request)
    assert b"The key in the proxy URL is not a known virtual key" in answer
    answer = site.connect(f"{PROVIDER}:443", inside=request.replace(b"Host:", OAUTH.encode() + b"\r\nHost:"))
    assert b"A Claude login was sent" in answer
    login = (
        request.replace(b"Host:", OAUTH.encode() + b"\r\nHost:").replace(b"2\r\nC", b"%d\r\nC" % len(ask())).replace(b"{}", ask())
    )
    answer = site.connect(f"{PROVIDER}:443", f"Proxy-Authorization: {basic(SECRET)}", inside=login)
    assert b"this gateway passes none on" in answer


ACCOUNT = {
    "anthropic-ratelimit-tokens-remaining": "9",
    "Anthropic-RateLimit-Unified-Status": "rejected",
    "anthropic-priority-input-tokens-limit": "9",
    "anthropic-fast-output-tokens-reset": "9",
    "anthropic-organization-id": "org",
    "x-ratelimit-remaining-requests": "9",
    "openai-organization": "org",
    "openai-project": "proj",
    "x-codex-primary-used-percent": "9",
}
KEPT = {"retry-after": "7", "retry-after-ms": "7000", "request-id": "req_1", "x-should-retry": "true", "openai-processing-ms": "5"}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [200, 429])
def test_what_an_answer_says_about_the_account_stays_here(site, stream, status):
    server = site.servers["anthropic"]
    server.script = answering(status, stream)
    answer = site.send(MESSAGES, f"x-api-key: {SECRET}", body=ask(stream=stream)).lower()
    server.script = plain(message())
    assert b" %d " % status in answer.partition(b"\r\n")[0]
    assert [name for name in ACCOUNT if name.lower().encode() in answer] == []
    assert [name for name, value in KEPT.items() if f"\r\n{name}: {value}\r\n".encode() not in answer] == []


@pytest.mark.parametrize(
    ("path", "key"),
    [(MESSAGES, "x-api-key"), ("/openai/v1/chat/completions", "authorization")],
)
def test_no_caller_chooses_the_account_that_is_billed(site, path, key):
    server = site.servers["openai" if "openai" in path else "anthropic"]
    sent = ["OpenAI-Organization: org-2", "openai-project: proj-2", "openai_project: proj-2", "anthropic-workspace-id: wrk-2"]
    sent += ["X-Goog-User-Project: other", "x-hf-bill-to: other", "x-request-id: 7"]
    site.send(path, f"{key}: {'Bearer ' if key == 'authorization' else ''}{SECRET}", *sent)
    received = {name.lower().replace("_", "-"): value for name, value in server.seen[-1].headers}
    assert received.keys().isdisjoint(REQUEST_NAMES)
    assert received["x-request-id"] == "7"


def answering(status: int, stream: bool) -> Script:
    """Return a script that answers with the account's headers, and repeats them as trailers of a stream."""
    lines = [f"{name}: {value}" for name, value in (ACCOUNT | KEPT).items()]

    def run(peer: Peer, _: Seen) -> None:
        if not stream:
            body = message() if status == 200 else b'{"type":"error","error":{"type":"rate_limit_error","message":"wait"}}'
            peer.head(status, "content-type: application/json", *lines, f"content-length: {len(body)}")
            peer.send(body)
            return
        peer.head(status, "content-type: text/event-stream", *lines, "transfer-encoding: chunked", "trailer: x-ratelimit-reset")
        for piece in sse():
            peer.chunk(piece)
        peer.send(b"0\r\n" + "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n")

    return run


def test_wrong_tokens_are_slowed_and_right_ones_are_not(site):
    gw = site.gw
    wrong = [
        {"authorization": "Bearer wrong"},
        {"authorization": basic("admin", "wrong")},
        {"x-bf-vk": "wrong"},
        {"x-api-key": "wrong"},
        {"x-goog-api-key": "wrong"},
    ]
    answers = [
        gw.request("GET", path, headers=wrong[i % 5]) for i, path in enumerate(["/api/usage", "/metrics", "/api/config"] * 5)
    ]
    assert {a.status for a in answers[:5]} == {401}
    assert {a.status for a in answers[6:]} <= {401, 429}
    slowed = [a for a in answers if a.status == 429]
    assert len(slowed) >= 5
    assert all(int(a.headers["retry-after"]) >= 1 for a in slowed)
    assert gw.admin("/api/usage").status == 200
    assert gw.request("GET", "/api/usage", headers={"x-bf-vk": SECRET}).status == 200
    assert gw.request("GET", "/api/usage").status == 401
    # A busy machine may let a wait pass between two attempts; each is twice as long as the one before.
    login = ("POST", "/api/session/login", b'{"token":"wrong"}', {"content-type": "application/json"})
    assert eventually(lambda: gw.request(*login).status == 429)
    assert gw.post(key=SECRET).status == 200


HEADERS = (
    *("User-Agent", "Referer", "Origin", "Accept", "Cookie", "Set-Cookie", "X-Whatever", "anthropic-beta", "anthropic-version"),
    *("x-claude-code-session-id", "x-claude-code-agent-id", "session-id", "x-bf-user-id", "x-sluicegate-x", "originator", "Host"),
    *("x-client-request-id", "traceparent", "Proxy-Connection", "Forwarded", "X-Forwarded-Authorization", "Content-Type", "From"),
    *("idempotency-key", "x-http-method-override", "Upgrade", "Expect", "TE", "If-None-Match", "Range", "Via", "Content-Language"),
)
FORMS = ("{}", "Bearer {}", "a, {};b={}", 'x="{}"', "https://u:{}@h/p?q={}#{}", '{{"a":["{}"]}}')


def test_planted_keys_show_up_nowhere(site):
    """Everything below is sent, whatever becomes of it; then all that is left of it is searched."""
    gw, good = site.gw, f"x-api-key: {SECRET}"
    secrets = {"a virtual key": SECRET, "a revoked key": REVOKED, "the admin token": gw.token, "an operator's token": OPERATOR}
    for secret in (*secrets.values(), PROVIDER_KEY):
        for i, name in enumerate(HEADERS if secret == SECRET else HEADERS[:4]):
            site.send(MESSAGES, good, f"{name}: {FORMS[i % len(FORMS)].replace('{}', secret)}")
        for form in (quote(quote(secret.replace("-", "%2d"))), basic(secret, ""), basic("u", secret)):
            site.send(MESSAGES, good, f"X-Whatever: {form}")
            site.send(f"{MESSAGES}?a={quote(form)}&beta=true", good)
        site.send(MESSAGES, good, f"{secret}: 1")
        for target in (
            f"{MESSAGES}?{secret}",
            f"{MESSAGES}?a=1&x={secret}&b",
            f"/v1/models/{secret}",
            f"/{secret}?{secret}",
            f"/v1/{secret}/x",
        ):
            site.send(target, good, method="GET", body=b"")
            site.send(f"http://{PROVIDER}{target}", good, method="GET", body=b"")
            site.send(f"{site.servers['elsewhere'].url}{target}", f"Cookie: a={secret}", f"X-A: {secret}", method="GET", body=b"")
        site.send(MESSAGES, good, method=secret)
        site.send(MESSAGES, good, body=ask(model=secret))
        site.send(MESSAGES, good, body=ask(model=f"claude/{secret}"))
        site.send(f"/genai/v1beta/models/{secret}:generateContent", good, body=TEXT)
        for target in ("/api/usage", "/health", "/metrics", "/api/nothing"):
            site.send(
                f"{target}?access_token={secret}&x={secret}", f"X-Whatever: {secret}", f"api-key: {secret}", method="GET", body=b""
            )
        site.send(f"/api/{secret}", method="GET", body=b"")
        for line in (f"{PROVIDER}:443", "127.0.0.1:1", "denied.invalid:443"):
            credentials = (f"Proxy-Authorization: {basic(secret)}", f"Proxy-Authorization: Bearer {secret}", f"X-A: {secret}")
            site.connect(
                line,
                *credentials,
                f"Cookie: {secret}",
                inside=b"GET /%s HTTP/1.1\r\n%s: 1\r\nConnection: close\r\n\r\n" % ((secret.encode(),) * 2),
            )
            site.connect(f"{secret}@{line}", f"{secret}: 1")
            site.connect(f"u:{secret}@{line}")
        site.connect(f"{secret}.invalid:443")
        site.send(f"http://{secret}:x@{PROVIDER}{MESSAGES}", good)
        site.send(f"http://{secret}.invalid/", method="GET", body=b"")
        gw.send_raw(
            f"POST {MESSAGES} HTTP/1.1\r\nHost: a\r\nx-api-key: {secret}\r\nX-Broken {secret}\r\n\r\n".encode(), b"\r\n\r\n"
        )
        gw.send_raw(f"{secret}\r\n\r\n".encode(), b"\r\n\r\n")
        with gw.raw() as conn:
            conn.sendall(
                f"POST {MESSAGES}?key={secret} HTTP/1.1\r\nHost: a\r\nx-api-key: {secret}\r\nContent-Length: 9\r\n\r\n".encode()
            )
    shown = [
        gw.admin(path).body for path in ("/metrics", "/health", "/api/logs?limit=500", "/api/config", "/api/usage", "/api/live")
    ]
    gw.stop()
    kept = {p: p.read_bytes() for p in gw.folder.rglob("*") if p.is_file() and p.name not in ("admin-token", "policy.yaml")}
    places = {
        "upstream": site.seen(),
        "the log": "\n".join(gw.output).encode(),
        "answers": b"\n".join(site.answers),
        "pages": b"\n".join(shown),
        **{str(path.relative_to(gw.folder)): content for path, content in kept.items()},
    }
    assert len(places["flows"]) > 10_000
    assert len(places["the log"]) > 10_000
    found = {
        (what, place)
        for what, secret in secrets.items()
        for place, content in places.items()
        if any(spelling.encode().lower() in content.lower() for spelling in spellings(secret))
    }
    assert found == set()
    upstream = places["upstream"]
    assert PROVIDER_KEY not in "".join(v.decode("latin-1") for k, v in places.items() if k != "upstream")
    requests = [s for name, server in site.servers.items() for s in server.seen if name != "elsewhere"]
    assert upstream.count(PROVIDER_KEY.encode()) == len(requests) > 50
