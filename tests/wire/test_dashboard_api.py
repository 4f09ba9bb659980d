"""What the dashboard is served from, on a real gateway: its files, its sessions, and what it asks for."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import signal
import threading
import time

import pytest

from sluicegate.calls.record import DETAIL_COLUMNS
from sluicegate.dashboard_sessions import FREE_ATTEMPTS
from sluicegate.web.routes.events import MAX_STREAMS_PER_CALLER
from support.api import DANA, POLICY, VERA, Api, error
from support.fake_provider import streamed
from support.harness import ADDONS, PROVIDER_KEY, VK, Gateway, ask, eventually, policy_text, receive

pytestmark = pytest.mark.wire

JSON = {"content-type": "application/json"}
BROWSER = {"user-agent": "Mozilla/5.0", "accept": "text/html,*/*"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One gateway for what does not change what others look at."""
    with Gateway(tmp_path_factory.mktemp("shared"), POLICY) as gw:
        yield gw


class Page:
    """A signed-in page of the dashboard."""

    def __init__(self, gw, token, **headers):
        self.gw = gw
        sent = JSON | {"host": "127.0.0.1"} | headers
        reply = gw.request("POST", "/api/session/login", b'{"token":"%s"}' % token.encode(), sent)
        assert reply.status == 200, reply.body
        self.who, self.set_cookie = reply.json, reply.headers["set-cookie"]
        self.place = self.who.pop("place")
        assert self.who.pop("message") == "Login successful"
        self.cookie = self.set_cookie.partition(";")[0]

    def __call__(self, method, path, body=None, **headers):
        sent = {"cookie": f"theme=dark; {self.cookie}", "host": "127.0.0.1"}
        if method != "GET":
            sent |= JSON | {"origin": "http://127.0.0.1", "sec-fetch-site": "same-origin"}
            body = b"" if body is None else body
        sent |= {k.replace("_", "-"): v for k, v in headers.items()}
        return self.gw.request(method, self.place + path, body, {k: v for k, v in sent.items() if v is not None})


def attributes_of(page):
    """What its cookie says besides the id."""
    return {p.strip() for p in page.set_cookie.split(";")[1:]}


# -- files ------------------------------------------------------------------------------------------------------------


def test_the_page_and_its_files_are_served_with_their_types_and_may_reach_nobody_else(shared):
    page = shared.request("GET", "/", headers=BROWSER)
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    for path, kind in (("/static/app.js", "text/javascript; charset=utf-8"), ("/static/style.css", "text/css; charset=utf-8")):
        reply = shared.request("GET", path)
        assert (reply.status, reply.headers["content-type"]) == (200, kind)
        assert len(reply.body) == int(reply.headers["content-length"])
        for said in (page, reply):
            policy = dict(p.split(" ", 1) for p in said.headers["content-security-policy"].split("; "))
            assert policy["default-src"] == policy["style-src"] == policy["connect-src"] == policy["form-action"] == "'self'"
            assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
            assert "unsafe" not in said.headers["content-security-policy"]
            assert said.headers["x-content-type-options"] == "nosniff"
            assert said.headers["cache-control"] == "no-cache"


def test_a_copy_is_used_only_as_long_as_it_is_the_file(shared):
    first = shared.request("GET", "/static/app.js")
    again = shared.request("GET", "/static/app.js", headers={"if-none-match": f'"other", W/{first.headers["etag"]}'})
    assert (again.status, again.body, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert shared.request("GET", "/static/app.js", headers={"if-none-match": '"other"'}).status == 200


@pytest.mark.parametrize(
    "name",
    [
        *(
            "../app.py",
            "..%2fapp.py",
            "%2e%2e/app.py",
            "x/../../app.py",
            "..\\app.py",
            "..%5capp.py",
            "/etc/passwd",
            "%2fetc%2fpasswd",
        ),
        *("app.js%00", "app.js/", "", ".", "..", "APP.JS", "%ff", "views"),
    ],
)
def test_no_name_leads_out_of_the_folder(shared, name):
    reply = shared.request("GET", f"/static/{name}")
    assert (reply.status, reply.json["error"]["type"]) == (404, "not_found")


def test_a_terminal_is_told_where_to_look(shared):
    assert b"/api/openapi.json" in shared.request("GET", "/").body
    assert shared.request("POST", "/", b"{}", JSON).status in (401, 405)
    assert shared.request("POST", "/static/app.js", b"{}", JSON).status in (401, 405)


@pytest.mark.parametrize("path", ["/", "/health", "/ready", "/setup", "/ca.pem", "/metrics", "/static/app.js"])
def test_a_wrong_method_on_an_open_path_is_not_a_matter_of_credentials(shared, path):
    reply = shared.request("OPTIONS", path)
    assert (reply.status, reply.json["error"]["type"], reply.headers["allow"]) == (405, "method_not_allowed", "GET")
    assert shared.request("OPTIONS", "/api/usage").status == 401


# -- sessions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("token", "who"),
    [
        (None, {"role": "admin", "name": "admin", "virtual_key_id": None, "read_only": None}),
        (DANA, {"role": "admin", "name": "dana", "virtual_key_id": None, "read_only": None}),
        (VERA, {"role": "viewer", "name": "vera", "virtual_key_id": None, "read_only": None}),
        (VK, {"role": "developer", "name": VK, "virtual_key_id": VK, "read_only": None}),
    ],
)
def test_whoever_signs_in_is_who_the_token_says(shared, token, who):
    page = Page(shared, token or shared.token)
    assert page.who == who
    assert page("GET", "/api/session").json == who
    attributes = {"HttpOnly", "SameSite=Strict"}
    assert attributes_of(page) == attributes | {f"Path={page.place}/"}
    behind = Page(shared, VK, origin="https://127.0.0.1")
    assert attributes_of(behind) == attributes | {f"Path={behind.place}/", "Secure"}
    # By its name a browser knows that only a server with TLS may set it.
    assert [p.set_cookie.partition("=")[0] for p in (page, behind)] == [
        "sluicegate_session",
        "__Secure-sluicegate_session",
    ]
    assert page("GET", "/api/governance/teams").status == (403 if who["role"] == "developer" else 200)
    usage = page("GET", "/api/usage").json["usage"]
    assert {r["kind"] for r in usage} == ({"virtual_key", "team", "customer"})
    wanted = 200 if who["role"] == "admin" else 403
    assert page("PUT", "/api/governance/users/alice", b'{"name": "Alice"}').status == wanted
    assert page("POST", "/api/session/logout").headers["set-cookie"].endswith(f"Path={page.place}/; Max-Age=0")
    assert page("GET", "/api/session").status == 401


def test_a_cookie_is_believed_only_from_our_own_page(shared):
    page = Page(shared, DANA)
    write = ("PUT", "/api/governance/users/alice", b'{"name": "Alice"}')
    assert page(*write).status == 200
    assert page(*write, sec_fetch_site=None).status == 200
    assert page(*write, origin=None).status == 200
    assert page(*write, origin=None, sec_fetch_site=None).status == 401
    assert page(*write, origin=None, sec_fetch_site="none").status == 401
    for headers in (
        {"origin": "http://127.0.0.1:1"},
        {"origin": "null"},
        {"origin": "http://evil.test"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "cross-site"},
    ):
        assert page(*write, **headers).status == 403
        assert page("PUT", "/api/features", b'{"exact_cache": {"enabled": true}}', **headers).status == 403
        assert page("GET", "/api/session", **headers).status == 401
    assert page("GET", "/api/session").status == 200
    assert page("GET", "/api/session", sec_fetch_site="none").status == 200
    assert page("GET", "/api/session", sec_fetch_site="same-origin").status == 200


def test_a_place_is_for_the_api_alone_and_opens_nothing_by_itself(shared):
    page = Page(shared, DANA)
    assert page.place != Page(shared, DANA).place
    assert page("GET", "/api/usage").status == 200
    for path in (
        f"{page.place}/api/usage",
        f"{page.place}/api/session",
        f"{page.place}/api/nothing",
        f"{page.place}/health",
        f"{page.place}/v1/messages",
        f"{page.place}{page.place}/api/usage",
        f"{page.place}/../api/usage",
        "/at/short/api/usage",
    ):
        assert shared.request("GET", path).status in (401, 404), path
    with shared.raw() as conn:
        conn.sendall(f"GET {page.place}/api/events HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {page.cookie}\r\n\r\n".encode())
        assert receive(conn, b"retry: 2000").startswith(b"HTTP/1.1 200")


def test_a_cookie_that_another_server_has_set_does_not_take_the_place_of_ours(shared):
    """A browser sends the one with the longest path first, and nobody else knows ours."""
    dana, vera = Page(shared, DANA), Page(shared, VERA)
    assert dana("GET", "/api/session", cookie=f"{dana.cookie}; {vera.cookie}").json["name"] == "dana"


def test_a_session_is_one_at_its_own_place_alone_so_that_nobody_can_plant_his(shared):
    dana, vera = Page(shared, DANA), Page(shared, VERA)
    for place in ("", vera.place):
        assert shared.request("GET", f"{place}/api/session", headers={"cookie": dana.cookie}).status == 401
        assert shared.request("POST", f"{place}/api/session/logout", b"", JSON | {"cookie": dana.cookie}).status == 200
    assert dana("GET", "/api/session").json["name"] == "dana"


def test_a_session_ends_with_what_it_stands_for(gateway):
    gw = gateway(POLICY)
    api = Api(gw)
    value = api.ok("POST", "virtual-keys", {"id": "vk-bob"})["virtual_key"]["value"]
    bob, dana = Page(gw, value), Page(gw, DANA)
    api.ok("PUT", "virtual-keys/vk-bob", {"is_active": False})
    assert bob("GET", "/api/usage").status == 401
    api.ok("PUT", "virtual-keys/vk-bob", {"is_active": True})
    assert bob("GET", "/api/usage").status == 200
    api.ok("POST", "virtual-keys/vk-bob/rotate", {})
    assert bob("GET", "/api/usage").status == 401
    assert dana("GET", "/api/usage").status == 200
    gw.govern("\n".join(x for x in gw.policy.read_text().splitlines() if "dana" not in x))
    api.ok("PUT", "users/alice", {"name": "Alice"})
    assert dana("GET", "/api/usage").status == 401


def test_wrong_tokens_are_counted_and_cost_time(gateway):
    gw = gateway(POLICY)
    for _ in range(FREE_ATTEMPTS):
        reply = gw.request("POST", "/api/session/login", b'{"token":"wrong"}', JSON)
        assert (reply.status, error(reply)["field"], "set-cookie" in reply.headers) == (401, "token", False)
    tried, wait_s = FREE_ATTEMPTS, 1
    while (reply := gw.request("POST", "/api/session/login", b'{"token":"wrong"}', JSON)).status == 401:
        # A busy machine may let the first waits pass between two attempts. Each is twice as long as the one before.
        tried, wait_s = tried + 1, 2 * wait_s
    assert (reply.status, error(reply)["type"]) == (429, "too_many_attempts")
    assert 1 <= int(reply.headers["retry-after"]) <= wait_s
    right = gw.request("POST", "/api/session/login", b'{"token":"%s"}' % gw.token.encode(), JSON)
    assert (right.status, "set-cookie" in right.headers) == (200, True), "somebody else's guesses keep nobody out"
    gw.stop()
    (counted,) = gw.rows("SELECT source, reason, sum(count) AS count FROM refusals GROUP BY source, reason")
    assert counted == {"source": "127.0.0.1", "reason": "unauthorized", "count": tried}


@pytest.mark.parametrize(
    "body", [b"{}", b'{"token": ""}', b'{"token": 1}', b'{"tokn": "x"}', b"x", b'["x"]', b'{"token":"x","token":"y"}']
)
def test_what_is_no_login_is_refused(shared, body):
    assert shared.request("POST", "/api/session/login", body, JSON).status == 400


def test_scripts_of_a_page_are_not_told_to_ask_for_a_password(shared):
    fetch = shared.request("GET", "/api/session", headers={"user-agent": "Mozilla/5.0", "accept": "*/*"})
    assert fetch.headers["www-authenticate"] == 'Bearer realm="sluicegate"'
    assert shared.request("GET", "/api/session", headers=BROWSER).headers["www-authenticate"].startswith("Basic")
    basic = base64.b64encode(f"admin:{shared.token}".encode()).decode()
    assert shared.request("GET", "/api/session", headers={"authorization": f"Basic {basic}"}).status == 200


@pytest.mark.parametrize("verbosity", [("-v", "--flow-detail", "4"), ("-w", "flows")])
def test_no_cookie_and_no_token_is_written_down(gateway, verbosity):
    gw = gateway(POLICY, *verbosity)
    page = Page(gw, DANA)
    assert page("GET", "/api/usage").status == 200
    gw.request("POST", "/api/session/login", b'{"token":"another-secret"}', JSON)
    gw.stop()
    written = "\n".join(gw.output) + "".join(f.read_bytes().decode("latin-1") for f in gw.folder.rglob("*") if f.is_file())
    session_id = page.cookie.partition("=")[2]
    assert "/api/session/login" in written
    for secret in (session_id, DANA, "another-secret", page.place):
        assert secret not in written


# -- health -----------------------------------------------------------------------------------------------------------


def test_health_in_full_tells_the_chain_in_order_with_its_time_and_no_secret(gateway, provider):
    gw, began = gateway(policy_text(provider.url)), time.monotonic()
    assert gw.post().status == 200
    gw.calls(1)
    found = gw.admin("/api/health").json
    names = [a["addon"] for a in found["chain"]]
    ours = ["admin", "identity", "egress", "meter", "access", "ratelimit", "budget", "keys", "audit", "live", "failsafe"]
    assert [n for n in names if n in ours] == ours
    by_name = {a["addon"]: a for a in found["chain"]}
    (reserve,) = (h for h in by_name["budget"]["hooks"] if h["hook"] == "request")
    assert reserve["calls"] >= 1
    # Units are told apart: no hook takes longer than all that has been asked here.
    assert 0 < reserve["seconds"] < time.monotonic() - began
    assert 0 < by_name["budget"]["us_per_call"] < (time.monotonic() - began) * 1e6
    assert (found["status"], found["draining"], found["options_refused"]) == ("ok", False, [])
    assert found["ledger"]["counters"] == 4
    assert found["ledger"]["bytes"] > 0
    assert found["audit"] == {"mode": "required", "error": None, "lag_ms": 0, "backlog": 0}
    assert found["providers"]["anthropic"]["keys"] == [
        {"name": "key-1", "source": "env.PROVIDER_KEY", "usable": True, "set_aside_until": None}
    ]
    assert {e["what"]: e["how"] for e in found["enforcement"]}["way"] == "cooperative"
    assert PROVIDER_KEY not in str(found)
    assert gw.request("GET", "/api/health", headers={"x-api-key": VK}).status == 403
    gw.govern("version: 1\nvirtual_kays: []\n")
    broken = eventually(lambda: (f := gw.admin("/api/health").json)["policy"]["error"] and f)
    assert (broken["status"], broken["policy"]["error"]["line"], broken["policy"]["reload_errors"]) == ("degraded", 2, 1)


MEDDLER = """
import contextlib
from mitmproxy import ctx, exceptions
class Meddler:
    def request(self, flow):
        with contextlib.suppress(exceptions.OptionsError):
            ctx.options.update(map_remote=["|//api.anthropic.com|//evil.test"])
addons = [Meddler()]
"""


def test_an_option_that_somebody_tried_to_set_is_told(gateway, tmp_path):
    script = tmp_path / "meddler.py"
    script.write_text(MEDDLER)
    gw = gateway(None, scripts=[script, ADDONS / "gateway.py"], imported=True)
    gw.request("GET", "/setup")
    (refused,) = gw.admin("/api/health").json["options_refused"]
    assert refused["option"] == "map_remote"
    assert "redirects requests after they were judged" in refused["why"]


# -- events -----------------------------------------------------------------------------------------------------------


class Looking:
    """An open stream of events."""

    def __init__(self, gw, page=None, **headers):
        self.connection = http.client.HTTPConnection("127.0.0.1", gw.port, timeout=60)
        path = "/api/events"
        if page is not None:
            path, headers = page.place + path, headers | {"cookie": page.cookie}
        self.connection.request("GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()})
        self.reply = self.connection.getresponse()
        self.status, self.kind = self.reply.status, self.reply.headers["content-type"]
        if self.status == 200:
            assert self.line() == b"retry: 2000"
            assert self.line() == b""

    def line(self):
        return self.reply.readline().rstrip(b"\n")

    def event(self):
        """The next event; None where the stream ends."""
        lines = []
        while line := self.reply.readline():
            if line == b"\n" and lines:
                fields = dict(x.decode().rstrip().split(": ", 1) for x in lines)
                return fields["event"], json.loads(fields["data"])
            if line != b"\n" and not line.startswith(b":"):
                lines.append(line)
        return None

    def close(self):
        self.reply.close()
        self.connection.close()


def lookers(gw):
    return gw.admin("/api/health").json["lookers"]


TWO_KEYS = {"virtual_keys": [{"id": VK}, {"id": "vk-bob"}]}


def test_who_looks_hears_of_calls_as_they_happen_and_a_developer_of_their_own(gateway, provider):
    gw = gateway(policy_text(provider.url, **TWO_KEYS))
    go = threading.Event()
    usual = streamed()

    def held(peer, seen):
        go.wait(60)
        usual(peer, seen)

    everything, bob = Looking(gw, authorization=f"Bearer {gw.token}"), Looking(gw, x_api_key="vk-bob")
    assert everything.kind == "text/event-stream; charset=utf-8"
    provider.script = held
    asking = threading.Thread(target=lambda: gw.post(ask(stream=True)))
    asking.start()
    began, record = everything.event()
    assert (began, record["virtual_key_id"], record["outcome"], record["cost_usd"]) == ("began", VK, None, None)
    late = Looking(gw, x_api_key=VK)
    assert late.event() == (began, record)
    go.set()
    asking.join()
    ended, after = everything.event()
    assert (ended, after["id"], after["outcome"]) == ("ended", record["id"], "completed")
    assert after == {k: v for k, v in gw.calls(1)[0].items() if k not in DETAIL_COLUMNS}
    assert gw.post(key="vk-bob").status == 200
    heard = [bob.event(), bob.event()]
    assert [(what, r["virtual_key_id"]) for what, r in heard] == [("began", "vk-bob"), ("ended", "vk-bob")]
    for looking in (everything, bob, late):
        looking.close()
    eventually(lambda: lookers(gw) == 0)


def test_a_page_that_closes_is_let_go(shared):
    # Those of other tests may still be on their way out.
    eventually(lambda: lookers(shared) == 0)
    pages = [Looking(shared, Page(shared, DANA)) for _ in range(3)]
    eventually(lambda: lookers(shared) == 3)
    for page in pages:
        page.close()
    eventually(lambda: lookers(shared) == 0)


def test_a_stream_ends_with_the_right_to_it(gateway):
    gw = gateway(policy_text(**TWO_KEYS))
    looking, other = Looking(gw, Page(gw, VK)), Looking(gw, authorization=f"Bearer {gw.token}")
    Api(gw).ok("PUT", f"virtual-keys/{VK}", {"is_active": False})
    assert looking.event() is None
    gw.post(key="vk-bob")
    assert other.event()[0] == "began"


def test_one_caller_cannot_have_all_streams(shared):
    kept = [Looking(shared, x_api_key=VK) for _ in range(20)]
    assert Looking(shared, x_api_key=VK).status == 429
    other = Looking(shared, authorization=f"Bearer {VERA}")
    assert other.status == 200
    for looking in (*kept, other):
        looking.close()
    eventually(lambda: lookers(shared) == 0)
    again = Looking(shared, x_api_key=VK)
    assert again.status == 200
    again.close()


def test_a_stop_ends_streams_at_once(gateway):
    gw = gateway(POLICY)
    looking = Looking(gw, authorization=f"Bearer {gw.token}")
    gw.post()
    gw.process.send_signal(signal.SIGTERM)
    with contextlib.suppress(http.client.HTTPException, OSError):
        while looking.event():
            pass
    gw.exit_code()
    assert not any("waiting up to" in line for line in gw.output)


def test_streams_asked_for_at_the_same_moment_count_each_other(shared):
    gw = shared
    eventually(lambda: lookers(gw) == 0)
    head = f"GET /api/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {gw.token}\r\n\r\n".encode()
    with contextlib.ExitStack() as stack:
        conns = [stack.enter_context(gw.raw()) for _ in range(MAX_STREAMS_PER_CALLER + 15)]
        for conn in conns:
            conn.sendall(head)
        statuses = [receive(conn, b"\r\n\r\n")[9:12] for conn in conns]
    assert (statuses.count(b"200"), statuses.count(b"429")) == (MAX_STREAMS_PER_CALLER, 15)
    # Who has left makes room.
    eventually(lambda: _opened(gw, head))


def _opened(gw, head) -> bool:
    with gw.raw() as conn:
        conn.sendall(head)
        return receive(conn, b"\r\n\r\n")[9:12] == b"200"
