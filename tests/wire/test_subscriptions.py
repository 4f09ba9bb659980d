"""Subscription logins: they reach their own provider untouched, cost us nothing, and show up nowhere."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest

from sluicegate.values import exact_dollars, usd
from support.command import sluicegate
from support.fake_provider import FakeProvider, Peer, Seen, message, plain, sse, streamed
from support.harness import OPUS, PROVIDER_KEY, Gateway, Reply, ask, eventually, policy_text

pytestmark = pytest.mark.wire

LOGIN = "sk-ant-oat01-a-developers-own-login-0123456789"
BEARER = {"authorization": f"Bearer {LOGIN}"}
HAIKU = "claude-haiku-5-5"
SPENT = "Bearer sk-ant-oat01-a-login-whose-week-is-over"
MONTH = {"max_limit": 50, "reset_duration": "1M"}
BOTH = [{"provider": "openai"}, {"provider": "anthropic", "allowed_models": [HAIKU], "weight": 0.01}]


def strict(peer: Peer, seen: Seen) -> None:
    """Answer a login with what it is for, and everything else as a provider that knows no such key."""
    if seen.header("authorization") not in (f"Bearer {LOGIN}", SPENT) or seen.header("x-api-key"):
        plain(b'{"type":"error","error":{"type":"authentication_error","message":"no login"}}', 401)(peer, seen)
    elif seen.header("authorization") == SPENT:
        limit = b'{"type":"error","error":{"type":"rate_limit_error","message":"the week is over"}}'
        plain(limit, 429, "anthropic-ratelimit-unified-status: rejected", "retry-after: 9000")(peer, seen)
    elif seen.target.startswith("/api/"):
        plain(b'{"account": {"email": "dev@example.com"}}')(peer, seen)
    elif b"cut off" in seen.body:
        peer.head(200, "content-type: text/event-stream", "transfer-encoding: chunked")
        peer.chunk(sse()[0])
        peer.reset()
    else:
        answer = streamed if b'"stream": true' in seen.body else plain
        answer(None, *() if answer is streamed else (200, "anthropic-ratelimit-unified-status: allowed"))(peer, seen)


@dataclass
class Site:
    gw: Gateway
    anthropic: FakeProvider
    openai: FakeProvider

    def call(self, key: str, body: bytes | None = None, login: str | None = BEARER["authorization"], **more: Any) -> Reply:
        """Make a call with a virtual key in the proxy URL, and a login inside."""
        headers = {"authorization": login} if login else {}
        return self.gw.proxied(body, key=None, user=key, **headers, **more)

    def record(self, session: str) -> dict[str, Any]:
        """Return the one call of a session, once it is on record."""
        (row,) = eventually(lambda: self.gw.rows(f"SELECT * FROM calls WHERE session_id = '{session}'"))
        return row


SESSION = "x_claude_code_session_id"


def site_policy(anthropic: FakeProvider, openai: FakeProvider, rule: str = "pass") -> str:
    keys = [{"name": "key-1", "value": "env.PROVIDER_KEY"}]
    return policy_text(
        providers={
            "anthropic": {"base_url": anthropic.url, "keys": keys, "subscriptions": rule},
            "openai": {"base_url": openai.url, "keys": keys},
        },
        virtual_keys=[
            {"id": "vk-dev", "team_id": "team-engineering", "user_id": "alice", "budget": MONTH},
            {"id": "vk-broke", "budget": MONTH | {"max_limit": 0}},
            {"id": "vk-hard", "budget": MONTH | {"max_limit": 0.000001, "enforcement": "hard"}},
            {"id": "vk-once", "rate_limit": {"request_max_limit": 1, "request_reset_duration": "1h"}},
            {"id": "vk-tokens", "rate_limit": {"token_max_limit": 100, "token_reset_duration": "1h"}},
            {"id": "vk-haiku", "provider_configs": [{"provider": "anthropic", "allowed_models": [HAIKU]}]},
            {"id": "vk-both", "provider_configs": BOTH},
            {"id": "vk-away"},
            {"id": "vk-cheaper"},
        ],
        routes=[
            {"name": "away", "when": {"virtual_key": "vk-away"}, "targets": [{"provider": "openai", "model": "gpt-4.1"}]},
            {
                "name": "cheaper",
                "when": {"virtual_key": "vk-cheaper"},
                "targets": [{"provider": "anthropic", "model": HAIKU}, {"provider": "openai", "model": "gpt-4.1", "weight": 0}],
                "retry": {"attempts": 3},
            },
        ],
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("subscriptions")
    with contextlib.ExitStack() as stack:
        anthropic, openai = (stack.enter_context(FakeProvider(s)) for s in (strict, plain(b"{}")))
        options = ("-v", "--set", "flow_detail=4", "-w", str(folder / "flows"))
        gw = stack.enter_context(Gateway(folder, site_policy(anthropic, openai), *options))
        yield Site(gw, anthropic, openai)


@pytest.mark.parametrize("key", ["vk-dev", "vk-broke", "vk-hard"])
@pytest.mark.parametrize("stream", [True, False])
def test_a_login_goes_untouched_and_costs_no_money(site, key, stream):
    session, used = str(uuid4()), site.gw.usage()
    reply = site.call(key, ask(stream=stream), anthropic_beta="oauth-2025-04-20", **{SESSION: session})
    assert (reply.status, reply.body) == (200, b"".join(sse()) if stream else message())
    seen = site.anthropic.seen[-1]
    assert [v for n, v in seen.headers if n.lower() in ("authorization", "x-api-key")] == [f"Bearer {LOGIN}"]
    assert seen.header("anthropic-beta") == "oauth-2025-04-20"
    row = site.record(session)
    assert (row["virtual_key_id"], row["outcome"], row["cost_usd"], row["cost_nano"]) == (key, "completed", "0", 0)
    assert (row["shadow_usd"], row["shadow_nano"], row["output_tokens"]) == ("0.0014", 1_400_000, 50)
    assert [x["shadow_nano"] for x in site.gw.journal() if x["session_id"] == session] == [1_400_000]
    now = site.gw.usage()
    assert {k: (r["used_usd"], r["reserved_usd"]) for k, r in now.items()} == {
        k: (r["used_usd"], r["reserved_usd"]) for k, r in used.items()
    }


def test_what_an_answer_says_of_the_clients_own_account_reaches_the_client(site):
    assert site.call("vk-dev").headers["anthropic-ratelimit-unified-status"] == "allowed"
    reply = site.call("vk-dev", login=SPENT)
    assert (reply.status, reply.headers["anthropic-ratelimit-unified-status"], reply.message) == (
        429,
        "rejected",
        "the week is over",
    )


ENDINGS = {"cut off": (200, "failed"), "spent": (429, "failed"), "rejected": (401, "failed")}


@pytest.mark.parametrize("ending", ENDINGS)
def test_no_ending_costs_money(site, ending):
    session, used = str(uuid4()), site.gw.used("team/team-engineering")
    login = {"spent": SPENT, "rejected": "Bearer sk-ant-oat01-expired"}.get(ending, BEARER["authorization"])
    with contextlib.suppress(Exception):
        site.call("vk-dev", ask(ending, stream=True), login, **{SESSION: session})
    row = site.record(session)
    assert (row["status"], row["outcome"]) == ENDINGS[ending]
    assert (row["cost_nano"], row["shadow_nano"] > 0) == (0, ending == "cut off")
    assert site.gw.used("team/team-engineering") == used
    assert site.gw.usage()["team/team-engineering/usd"]["reserved_usd"] == "0"


def test_the_logs_keep_shadow_money_apart_and_let_nobody_correct_it(site):
    session = str(uuid4())
    site.call("vk-dev", **{SESSION: session})
    site.gw.proxied(key="vk-dev", **{SESSION: session})
    rows = eventually(lambda: len(found := site.gw.rows(f"SELECT * FROM calls WHERE session_id = '{session}'")) == 2 and found)
    asked = f"/api/logs?session={session}&subscription="
    own, other = (site.gw.admin(asked + which).json for which in ("true", "false"))
    assert ([r["id"] for r in own["logs"]], [r["id"] for r in other["logs"]]) == ([rows[0]["id"]], [rows[1]["id"]])
    assert (own["stats"]["total_cost"], own["stats"]["total_shadow_cost"]) == (0, 0.0014)
    assert other["stats"]["total_shadow_cost"] == 0
    admin = {"authorization": f"Bearer {site.gw.token}", "content-type": "application/json"}
    body = f'{{"call_id": "{rows[0]["id"]}", "cost": 1}}'.encode()
    refused = site.gw.request("POST", "/api/adjustments", body, admin)
    assert (refused.status, "its client's own subscription" in refused.message) == (409, True)
    usage = ("usage", "--policy", site.gw.policy, "--state-dir", site.gw.state)
    told = sluicegate(*usage, "--json")
    (mine,) = [k for k in json.loads(told.stdout)["subscriptions"]["virtual_keys"] if k["virtual_key_id"] == "vk-dev"]
    recorded = site.gw.rows(
        "SELECT sum(shadow_nano > 0) AS calls, sum(shadow_nano) AS nano FROM calls WHERE virtual_key_id = 'vk-dev'"
    )
    assert (mine["calls"], mine["shadow_usd"]) == (recorded[0]["calls"], usd(recorded[0]["nano"]))
    shown = sluicegate(*usage).stdout
    assert f"vk-dev  {exact_dollars(recorded[0]['nano'])}  {recorded[0]['calls']} calls" in shown
    assert "sluicegate_shadow_usd_total" in site.gw.admin("/metrics").body.decode()


def test_limits_of_requests_tokens_and_models_hold(site):
    assert site.call("vk-once").status == 200
    assert site.call("vk-once").reason == "request_limited"
    assert site.call("vk-tokens").status == 200
    assert site.call("vk-tokens").reason == "token_limited"
    sent = len(site.anthropic.seen)
    assert site.call("vk-haiku", ask(model=OPUS)).reason == "model_blocked"
    assert len(site.anthropic.seen) == sent
    assert site.call("vk-haiku", ask(model=HAIKU)).status == 200


def test_a_routed_call_stays_where_its_login_may_go(site):
    away = len(site.openai.seen)
    for _ in range(3):
        assert site.call("vk-both", ask(model=HAIKU)).status == 200
    assert site.call("vk-cheaper").status == 200
    assert (site.anthropic.seen[-1].header("authorization"), f'"model":"{HAIKU}"'.encode() in site.anthropic.seen[-1].body) == (
        f"Bearer {LOGIN}",
        True,
    )
    sent = len(site.anthropic.seen)
    assert site.call("vk-cheaper", login=SPENT).status == 429
    assert len(site.anthropic.seen) == sent + 1
    refused = site.call("vk-away")
    assert (refused.status, refused.reason) == (400, "blocked_by_policy")
    assert "would be answered by openai/gpt-4.1, where a Claude login cannot go" in refused.message
    assert len(site.openai.seen) == away


@pytest.mark.parametrize(
    ("method", "path", "login", "status"),
    [
        ("GET", "/api/oauth/profile", LOGIN, 200),
        ("GET", "/api/oauth/usage?at_wall=1", LOGIN, 200),
        ("GET", "/api/claude_code/settings", LOGIN, 200),
        ("GET", "/api/oauth/profile", None, 400),
        ("POST", "/api/oauth/claude_cli/create_api_key", LOGIN, 400),
        ("GET", "/api/oauth/organizations/o-1/admin_requests", LOGIN, 400),
        ("POST", "/v1/files", LOGIN, 400),
    ],
)
def test_only_listed_requests_go_with_a_login(site, method, path, login, status):
    sent = len(site.anthropic.seen)
    reply = proxied(site.gw, method, path, "vk-dev", login)
    assert reply.status == status
    assert [s.header("authorization") for s in site.anthropic.seen[sent:]] == ([f"Bearer {login}"] if status == 200 else [])


def proxied(gw: Gateway, method: str, path: str, key: str, login: str | None) -> Reply:
    """Send a request without a body through the proxy in absolute form, with the key in the proxy's credential."""
    headers = {"proxy-authorization": f"Bearer {key}", "host": "api.anthropic.com"}
    headers |= {"authorization": f"Bearer {login}"} if login else {}
    return gw.request(method, f"https://api.anthropic.com{path}", headers=headers)


ELSEWHERE = {
    # The key in the request itself: the call goes with our key, as any call with that key.
    "beside x-api-key": (lambda s, h: s.gw.proxied(key="vk-dev", user="vk-dev", **BEARER, **h), "anthropic", 401),
    "base URL": (lambda s, h: s.gw.post(key="vk-dev", **BEARER, **h), "anthropic", 401),
    "base URL with a proxy's credential": (
        lambda s, h: s.gw.post(key=None, proxy_authorization="Bearer vk-dev", **BEARER, **h),
        "anthropic",
        401,
    ),
    "another provider": (
        lambda s, h: s.call("vk-dev", host="api.openai.com", path="/v1/chat/completions", body=ask(model="gpt-4.1"), **h),
        "openai",
        200,
    ),
}


@pytest.mark.parametrize("way", ELSEWHERE)
def test_a_login_goes_nowhere_else(site, way):
    send, provider, status = ELSEWHERE[way]
    session = str(uuid4())
    assert send(site, {SESSION: session}).status == status
    seen = getattr(site, provider).seen[-1]
    assert LOGIN not in seen.head.decode()
    assert PROVIDER_KEY in seen.head.decode()
    assert site.record(session)["shadow_nano"] is None


def test_a_login_alone_names_nobody(site):
    reply = site.gw.proxied(key=None, **BEARER)
    assert (reply.status, reply.reason) == (401, "virtual_key_required")
    assert "where it works beside the login" in reply.message


def test_a_refused_login_is_told_so_and_shows_up_nowhere(site):
    """Last of all: the policy is changed, and then everything that the gateway has kept and printed is searched."""
    sent = len(site.anthropic.seen)
    site.gw.policy.write_text(site_policy(site.anthropic, site.openai, "refuse"))
    reply = eventually(lambda: (r := site.call("vk-dev")).status == 400 and r)
    assert (reply.reason, reply.headers["x-should-retry"]) == ("blocked_by_policy", "false")
    assert "this gateway passes none on" in reply.message
    assert {s.header("authorization") for s in site.anthropic.seen[sent:]} <= {f"Bearer {LOGIN}"}
    assert proxied(site.gw, "GET", "/api/oauth/profile", "vk-dev", LOGIN).status == 400
    pages = [
        site.gw.admin(p).body for p in ("/metrics", "/health", "/api/logs?limit=500", "/api/config", "/api/usage", "/api/live")
    ]
    site.gw.stop()
    kept = {p.name: p.read_bytes() for p in site.gw.folder.rglob("*") if p.is_file()}
    assert len(kept["flows"]) > 10_000
    places = {**kept, "the log": "\n".join(site.gw.output).encode(), "pages": b"\n".join(pages)}
    assert len(places["the log"]) > 10_000
    assert [name for name, content in places.items() if LOGIN.encode() in content or b"week-is-over" in content] == []
