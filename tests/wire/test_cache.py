"""The exact cache on a real gateway: which calls share an answer, what a hit says, and what ends it at once."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import sys
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import brotli
import orjson
import pytest

from support import http2_client
from support.api import Api
from support.clock import Clock
from support.fake_provider import FakeProvider, Peer, Seen, event, usage
from support.harness import WAIT_S, Gateway, ask, eventually, policy_text

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

pytestmark = pytest.mark.wire

VK, BOB, OTHER = "vk-alice-1", "vk-bob", "vk-alice-2"

EXACT = {"enabled": True}


class Provider:
    """Answers each request with an id and a text of its own."""

    def __init__(self) -> None:
        self.count = 0
        self.gate: threading.Event | None = None
        self.status = 200
        self.stop = "end_turn"
        self.is_cut = False
        self.end: threading.Event | None = None
        """What a stream waits for once all its events have been sent."""
        self.encoding = ""
        self.more: list[dict[str, Any]] = []

    def __call__(self, peer: Peer, seen: Seen) -> None:
        self.count += 1
        number = self.count
        if self.gate is not None:
            assert self.gate.wait(WAIT_S)
        body = orjson.loads(seen.body)
        if self.status != 200:
            peer.head(self.status, "content-length: 2", "content-type: application/json")
            peer.send(b"{}")
            return
        fields = {"id": f"msg_01{number:022d}", "type": "message", "role": "assistant", "model": body["model"]}
        spent = usage(input_tokens=100, output_tokens=50)
        if not body.get("stream"):
            content = [{"type": "text", "text": f"answer {number}"}, *self.more]
            whole = encoded(self.encoding, orjson.dumps({**fields, "content": content, "stop_reason": self.stop, "usage": spent}))
            peer.head(
                *(
                    200,
                    "content-type: application/json",
                    f"content-length: {len(whole)}",
                    "request-id: req_first",
                    "anthropic-x: 1",
                ),
                *self.told(),
            )
            peer.send(whole)
            return
        peer.head(200, "content-type: text/event-stream", "transfer-encoding: chunked", *self.told())
        pieces = [
            event("message_start", message={**fields, "content": [], "usage": spent}),
            event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
            event("content_block_delta", index=0, delta={"type": "text_delta", "text": f"answer {number}"}),
            event("content_block_stop", index=0),
            event("message_delta", delta={"stop_reason": self.stop}, usage=spent),
            event("message_stop"),
        ]
        body = encoded(self.encoding, b"".join(pieces[: -1 if self.is_cut else None]))
        for start in range(0, len(body), 200):
            peer.chunk(body[start : start + 200])
        if self.end is not None:
            assert self.end.wait(WAIT_S)
        peer.end()

    def told(self) -> list[str]:
        return [f"content-encoding: {self.encoding}"] if self.encoding else []


def encoded(encoding: str, body: bytes) -> bytes:
    for name in encoding.split(", ") if encoding else ():
        body = {"gzip": gzip.compress, "br": brotli.compress, "zstd": zstd.compress, "identity": bytes}[name](body)
    return body


class Site(NamedTuple):
    gw: Gateway
    api: Api
    upstream: FakeProvider
    provider: Provider
    url: str
    clock: Clock


def policy(url: str, **exact: Any) -> str:
    return policy_text(
        url,
        cache={"exact": EXACT | exact},
        users=[{"id": "alice", "team_id": "team-engineering"}, {"id": "bob", "team_id": "team-engineering"}],
        virtual_keys=[
            {"id": VK, "user_id": "alice", "rate_limit": {"request_max_limit": 10_000, "request_reset_duration": "1d"}},
            {"id": OTHER, "user_id": "alice"},
            {"id": "vk-poor", "budget": {"max_limit": 0.000001, "reset_duration": "1M"}},
            {"id": BOB, "user_id": "bob", "provider_configs": [{"provider": "anthropic", "allowed_models": ["claude-*"]}]},
        ],
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with contextlib.ExitStack() as stack:
        provider = Provider()
        upstream = stack.enter_context(FakeProvider(provider))
        folder = tmp_path_factory.mktemp("cache")
        clock = Clock(folder)
        gw = stack.enter_context(Gateway(folder, policy(upstream.url), scripts=clock.scripts, imported=True))
        yield Site(gw, Api(gw), upstream, provider, upstream.url, clock)


@pytest.fixture
def site(made: Site) -> Iterator[Site]:
    yield made
    made.provider.gate, made.provider.status, made.provider.stop, made.provider.is_cut = None, 200, "end_turn", False
    made.provider.encoding, made.provider.more, made.provider.end = "", [], None
    govern(made)


def govern(site: Site, **exact: Any) -> None:
    """Put a policy in force, and wait until it is."""
    text = policy(site.url, **exact)
    if site.gw.policy.read_text() == text:
        return
    before = site.gw.admin("/health").json["policy"]["revision"]
    site.gw.govern(text)
    eventually(lambda: site.gw.admin("/health").json["policy"]["revision"] != before)


def text_of(reply: Any) -> str:
    if reply.headers["content-type"].startswith("text/event-stream"):
        data = [json.loads(line[6:]) for line in reply.body.decode().splitlines() if line.startswith("data: ")]
        return "".join(d["delta"].get("text", "") for d in data if d["type"] == "content_block_delta")
    return reply.json["content"][0]["text"]


def said(site: Site, words: str, key: str = VK, headers: dict[str, str] | None = None, **fields: Any) -> tuple[str, str]:
    """Return what the cache did and the answer's text."""
    reply = site.gw.post(ask(words, **fields), key, **(headers or {}))
    assert reply.status == 200, reply.body
    return reply.headers.get("x-sluicegate-cache", ""), text_of(reply)


@pytest.mark.parametrize("stream", [False, True])
def test_the_same_call_gets_the_same_answer_under_an_id_of_its_own(site, stream):
    words, before = f"same {stream}", site.provider.count
    first, second = (site.gw.post(ask(words, stream=stream), VK) for _ in range(2))
    assert site.provider.count == before + 1
    assert [r.headers["x-sluicegate-cache"] for r in (first, second)] == ["miss", "hit"]
    old = f"msg_01{before + 1:022d}".encode()
    assert old in first.body
    assert old not in second.body
    assert text_of(first) == text_of(second)
    new = second.body[first.body.index(old) :][: len(old)]
    assert new.startswith(b"msg_01")
    assert second.body == first.body.replace(old, new)
    assert first.headers["content-type"] == second.headers["content-type"]
    assert second.headers["request-id"].startswith("req_")
    assert second.headers["request-id"] != "req_first"
    assert "anthropic-x" not in second.headers


@pytest.mark.parametrize("stream", [False, True])
def test_a_kept_answer_is_given_in_the_form_that_is_asked_for(site, stream):
    words, before = f"either form {stream}", site.provider.count
    kept, other, same = (site.gw.post(ask(words, stream=form), VK) for form in (stream, not stream, stream))
    assert site.provider.count == before + 1
    assert [reply.headers["x-sluicegate-cache"] for reply in (kept, other, same)] == ["miss", "hit", "hit"]
    assert kept.headers["content-type"] == same.headers["content-type"]
    assert other.headers["content-type"] == ("application/json" if stream else "text/event-stream; charset=utf-8")
    assert f"answer {site.provider.count}" in other.body.decode()
    assert ("message_stop" in other.body.decode()) == (not stream)
    assert len({match for reply in (kept, other, same) for match in re.findall(rb'"id": ?"(msg_[^"]+)"', reply.body)}) == 3


def test_an_answer_that_would_lose_something_in_another_form_is_asked_for_again(site):
    site.provider.more = [{"type": "of_tomorrow", "data": "x"}]
    found = [said(site, "one form", stream=stream)[0] for stream in (False, False, True)]
    assert found == ["miss", "hit", "miss"]


def test_calls_at_once_share_an_answer_whatever_form_they_ask_for(site):
    site.provider.gate = threading.Event()
    before, found = site.provider.count, []
    threads = [threading.Thread(target=lambda n=n: found.append(said(site, "forms at once", stream=n % 2 == 0))) for n in range(4)]
    for thread in threads:
        thread.start()
    eventually(lambda: site.api("GET", "/api/cache").json["waiting"] == 3)
    site.provider.gate.set()
    for thread in threads:
        thread.join(WAIT_S)
    assert site.provider.count == before + 1
    assert sorted(state for state, _ in found) == ["hit", "hit", "hit", "miss"]
    assert len({text for _, text in found}) == 1


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "gzip, zstd", "identity"])
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_came_compressed_is_kept_and_given_plain(site, stream, encoding):
    site.provider.encoding, before = encoding, site.provider.count
    words, wanted = f"compressed {stream} {encoding}", {"accept-encoding": "gzip, deflate, br, zstd"}
    first, second = (site.gw.post(ask(words, stream=stream), VK, **wanted) for _ in range(2))
    assert site.provider.count == before + 1
    assert [r.headers["x-sluicegate-cache"] for r in (first, second)] == ["miss", "hit"]
    assert (first.headers["content-encoding"], second.headers.get("content-encoding")) == (encoding, None)
    assert text_of(second) == f"answer {before + 1}"
    assert second.headers["content-length"] == str(len(second.body))
    assert second.headers["x-sluicegate-cost-usd"] == "0"


@pytest.mark.parametrize("stream", [False, True])
def test_a_hit_is_on_record_without_cost_and_counts_as_a_request(site, stream):
    used, session = requests_of(site), f"ses-{stream}"
    for _ in range(2):
        said(site, f"on record {stream}", headers={"x-claude-code-session-id": session}, stream=stream)
    rows = f"SELECT * FROM calls WHERE session_id = '{session}' ORDER BY rowid"
    miss, hit = eventually(lambda: found if len(found := site.gw.rows(rows)) == 2 else None)
    assert (miss["cache"], hit["cache"]) == ("miss", "hit")
    assert (hit["cost_nano"], hit["input_tokens"], hit["output_tokens"], hit["outcome"], hit["status"]) == (
        0,
        0,
        0,
        "completed",
        200,
    )
    assert hit["saved_nano"] == miss["cost_nano"] > 0
    assert (miss["saved_nano"], hit["saved_usd"]) == (None, miss["cost_usd"])
    assert requests_of(site) == used + 2
    stats = site.api("GET", f"/api/logs/stats?session={session}").json
    assert (stats["cache_hits"], stats["cache_misses"], stats["cache_hit_rate"]) == (1, 1, 50.0)
    assert stats["total_saved"] == pytest.approx(float(hit["saved_usd"]))
    assert [c["cache"] for c in site.api("GET", f"/api/logs?session={session}&cache=hit").json["logs"]] == ["hit"]


def requests_of(site: Site) -> int:
    return int(site.gw.usage()[f"virtual_key/{VK}/requests"]["used"])


@pytest.mark.parametrize(
    ("changes", "key", "headers"),
    [
        ({"metadata": {"user_id": "u2"}}, OTHER, {"user-agent": "another/2", "x-stainless-retry-count": "1"}),
    ],
)
def test_what_has_no_meaning_makes_no_difference(site, changes, key, headers):
    words = "no meaning"
    assert said(site, words, metadata={"user_id": "u1"})[0] == "miss"
    assert said(site, words, key, headers, **changes)[0] == "hit"


@pytest.mark.parametrize(
    ("fields", "key", "headers"),
    [
        ({"max_tokens": 1023}, VK, {}),
        ({"temperature": 0}, VK, {}),
        ({}, BOB, {}),
        ({}, VK, {"anthropic-beta": "context-1m-2025-08-07"}),
        ({}, VK, {"x-bf-cache-key": "mine"}),
        ({"model": "claude-haiku-5-5"}, VK, {}),
    ],
    ids=str,
)
def test_what_differs_is_asked_again(site, fields, key, headers):
    assert said(site, "differs", VK)[0] in ("miss", "hit")
    assert said(site, "differs", key, headers, **fields)[0] == "miss"


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 0.5},
        {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        {"container": "container_1"},
    ],
    ids=str,
)
def test_what_is_not_kept_is_asked_each_time(site, fields):
    before = site.provider.count
    assert [said(site, "not kept", **fields)[0] for _ in range(2)] == ["bypass"] * 2
    assert site.provider.count == before + 2


@pytest.mark.parametrize(
    ("how", "stream"),
    [({"stop": "max_tokens"}, False), ({"stop": "refusal"}, True), ({"stop": "pause_turn"}, False), ({"is_cut": True}, True)],
    ids=str,
)
def test_an_answer_that_ended_badly_is_not_kept(site, how, stream):
    for name, value in how.items():
        setattr(site.provider, name, value)
    before = site.provider.count
    for _ in range(2):
        site.gw.post(ask(f"badly {how}", stream=stream), VK)
    assert site.provider.count == before + 2


@pytest.mark.parametrize("is_cut", [False, True])
def test_of_a_client_that_leaves_the_answer_is_kept_if_it_had_come_to_its_end(site, is_cut):
    """OpenAI's SDK closes its connection at the last event, before the provider has ended the answer."""
    site.provider.end, site.provider.is_cut = threading.Event(), is_cut
    body, session = ask(f"read to its end {is_cut}", stream=True), f"ses-end-{is_cut}"
    with site.gw.raw() as leaving:
        head = f"POST /v1/messages HTTP/1.1\r\nhost: 127.0.0.1:{site.gw.port}\r\nx-api-key: {VK}\r\nx-claude-code-session-id: {session}\r\n"
        leaving.sendall(f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
        seen = b""
        while (b"end_turn" if is_cut else b"message_stop") not in seen or not seen.endswith(b"\n\n\r\n"):
            seen += leaving.recv(65536)
    eventually(lambda: site.gw.rows(f"SELECT * FROM calls WHERE session_id = '{session}' AND outcome = 'cancelled'"))
    site.provider.end.set()
    site.provider.is_cut = False
    assert said(site, f"read to its end {is_cut}", stream=True)[0] == ("miss" if is_cut else "hit")


def test_an_error_is_not_kept(site):
    site.provider.status = 500
    assert site.gw.post(ask("error"), VK).status == 500
    site.provider.status = 200
    assert said(site, "error")[0] == "miss"


def test_identical_calls_under_way_share_one(site):
    site.provider.gate, before = threading.Event(), site.provider.count
    found: list[tuple[str, str]] = []
    threads = [threading.Thread(target=lambda: found.append(said(site, "at once", stream=True))) for _ in range(20)]
    for thread in threads:
        thread.start()
    eventually(lambda: site.api("GET", "/api/cache").json["waiting"] == 19)
    site.provider.gate.set()
    for thread in threads:
        thread.join(WAIT_S)
    assert site.provider.count == before + 1
    assert sorted(f[0] for f in found) == ["hit"] * 19 + ["miss"]
    assert len({f[1] for f in found}) == 1


def test_calls_that_differ_in_the_middle_of_a_long_text_alone_have_answers_of_their_own(site):
    """Their short keys are the same: which is which is known by the hash of all."""
    site.provider.gate, before = threading.Event(), site.provider.count
    long, found = "x" * 5000, {}
    words = {letter: f"alike {long}{letter}{long}" for letter in "ab"}
    asked = [*words.values()] * 2
    threads = [threading.Thread(target=lambda n=n: found.update({n: said(site, asked[n])})) for n in range(len(asked))]
    for thread in threads:
        thread.start()
    eventually(lambda: site.api("GET", "/api/cache").json["waiting"] == 2)
    site.provider.gate.set()
    for thread in threads:
        thread.join(WAIT_S)
    assert site.provider.count == before + 2
    assert sorted(state for state, _ in found.values()) == ["hit", "hit", "miss", "miss"]
    assert found[0][1] == found[2][1] != found[1][1] == found[3][1]
    assert [said(site, words[letter]) for letter in "ab"] == [("hit", found[n][1]) for n in range(2)]


def test_the_next_one_asks_where_the_first_has_left(site):
    site.provider.gate, before = threading.Event(), site.provider.count
    with site.gw.raw() as leaving:
        body = ask("left")
        head = f"POST /v1/messages HTTP/1.1\r\nhost: 127.0.0.1:{site.gw.port}\r\nx-api-key: {VK}\r\n"
        leaving.sendall(f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
        eventually(lambda: site.provider.count == before + 1)
        found: list[tuple[str, str]] = []
        threads = [threading.Thread(target=lambda: found.append(said(site, "left"))) for _ in range(3)]
        for thread in threads:
            thread.start()
        eventually(lambda: site.api("GET", "/api/cache").json["waiting"] == 3)
    eventually(lambda: site.provider.count == before + 2)
    site.provider.gate.set()
    for thread in threads:
        thread.join(WAIT_S)
    assert site.provider.count == before + 2
    assert sorted(f[0] for f in found) == ["hit", "hit", "miss"]


def test_changes_of_the_policy_hold_at_once(site):
    assert [said(site, "policy")[0] for _ in range(2)] == ["miss", "hit"]
    assert said(site, "policy", BOB)[0] == "miss"
    govern(site, scope="team")
    assert [said(site, "policy", key)[0] for key in (VK, BOB)] == ["miss", "hit"]
    govern(site, enabled=False)
    assert said(site, "policy")[0] == ""
    govern(site, scope="team")
    assert said(site, "policy", BOB)[0] == "hit"


LATER: dict[str, tuple[dict[str, Any], int]] = {
    "another model": ({"provider_configs": [{"provider": "anthropic", "allowed_models": ["claude-haiku-*"]}]}, 403),
    "disabled": ({"is_active": False}, 401),
    "expired": ({"expires_at": "2020-01-01T00:00:00Z"}, 401),
    "moved team": ({"team_id": "team-other"}, 200),
}
"""What a key that shared an answer may become, and the status of its next call."""


@pytest.mark.parametrize("change", LATER)
def test_what_a_key_may_no_longer_have_it_gets_from_no_cache(site, change):
    govern(site, scope="team")
    assert [said(site, f"lost: {change}", key)[0] for key in (VK, BOB)] == ["miss", "hit"]
    fields, status = LATER[change]
    written = json.loads(site.gw.policy.read_text())
    (key,) = (key for key in written["virtual_keys"] if key["id"] == BOB)
    key.update(fields)
    if change == "moved team":
        written["teams"].append({"id": "team-other"})
        next(user for user in written["users"] if user["id"] == "bob")["team_id"] = "team-other"
    revision = site.gw.admin("/health").json["policy"]["revision"]
    site.gw.govern(json.dumps(written))
    eventually(lambda: site.gw.admin("/health").json["policy"]["revision"] != revision)
    reply = site.gw.post(ask(f"lost: {change}"), BOB)
    assert (reply.status, reply.headers.get("x-sluicegate-cache")) == (status, "miss" if status == 200 else None), reply.body


WHILE_WAITING: dict[str, tuple[dict[str, Any], tuple[int, str | None, str | None]]] = {
    "another model": (
        {"provider_configs": [{"provider": "anthropic", "allowed_models": ["claude-haiku-*"]}]},
        (403, "model_blocked", None),
    ),
    "disabled": ({"is_active": False}, (401, "virtual_key_blocked", None)),
    "gone": ({"id": "vk-other-bob"}, (401, "virtual_key_not_found", None)),
    "moved team": ({"team_id": "team-other"}, (200, None, "miss")),
    "renamed": ({"name": "Bob's"}, (200, None, "hit")),
}
"""What becomes of a key while its call waits for another's answer: its answer's status, reason and ``x-sluicegate-cache``."""


@pytest.mark.parametrize("change", WHILE_WAITING)
def test_a_call_that_waits_is_judged_by_the_policy_that_came_meanwhile(site, change):
    govern(site, scope="team")
    site.provider.gate, before = threading.Event(), site.provider.count
    found: dict[str, Any] = {}
    threads = []
    for key in (VK, BOB):
        threads.append(threading.Thread(target=lambda key=key: found.update({key: site.gw.post(ask(f"waits: {change}"), key)})))
        threads[-1].start()
        eventually(lambda: site.provider.count == before + 1)
    eventually(lambda: site.api("GET", "/api/cache").json["waiting"] == 1)
    fields, (status, reason, cache) = WHILE_WAITING[change]
    written = json.loads(site.gw.policy.read_text())
    next(key for key in written["virtual_keys"] if key["id"] == BOB).update(fields)
    if change == "moved team":
        written["teams"].append({"id": "team-other"})
        next(user for user in written["users"] if user["id"] == "bob")["team_id"] = "team-other"
    revision = site.gw.admin("/health").json["policy"]["revision"]
    site.gw.govern(json.dumps(written))
    eventually(lambda: site.gw.admin("/health").json["policy"]["revision"] != revision)
    site.provider.gate.set()
    for thread in threads:
        thread.join(WAIT_S)
    reply = found[BOB]
    assert (reply.status, reply.reason, reply.headers.get("x-sluicegate-cache")) == (status, reason, cache), reply.body
    assert site.provider.count == before + 1 + (cache == "miss")


def test_a_hit_over_http2_is_an_answer_like_any_other(site):
    found = [http2_client.post(site.gw, ask("over h2"), key=VK) for _ in range(2)]
    assert [(reply.status, reply.headers.get("x-sluicegate-cache")) for reply in found] == [(200, "miss"), (200, "hit")]
    assert text_of(found[0]) == text_of(found[1])
    assert said(site, "over h2") == ("hit", text_of(found[0]))


def test_clients_may_ask_for_less(site):
    assert said(site, "less", headers={"x-bf-cache-no-store": "true"})[0] == "miss"
    assert [said(site, "less")[0] for _ in range(2)] == ["miss", "hit"]
    assert said(site, "less", headers={"x-bf-cache-ttl": "0"})[0] == "miss"
    assert said(site, "less", headers={"x-bf-cache-type": "semantic"})[0] == "bypass"
    refused = site.gw.post(ask("less"), VK, **{"x-bf-cache-ttl": "soon"})
    assert (refused.status, refused.reason) == (400, "invalid_request")
    assert not any(name.lower().startswith("x-bf-") for seen in site.upstream.seen for name, _ in seen.headers)


def test_a_call_that_wants_no_older_answer_takes_none_that_was_under_way(site):
    site.provider.gate, before = threading.Event(), site.provider.count
    found: dict[str, tuple[str, str]] = {}
    asks = {"first": {}, "waits": {}, "fresh": {"x-bf-cache-ttl": "0"}, "waits in vain": {"x-bf-cache-ttl": "1"}}
    threads = []
    for n, (name, headers) in enumerate(asks.items()):
        say = threading.Thread(target=lambda name=name, headers=headers: found.update({name: said(site, "own", headers=headers)}))
        say.start()
        threads.append(say)
        eventually(lambda n=n: (site.api("GET", "/api/cache").json["waiting"], site.provider.count - before) == WAITING[n])
    site.clock.advance(site.gw, 2)
    site.provider.gate.set()
    for thread in threads:
        thread.join(WAIT_S)
    assert [name for name, (state, _) in found.items() if state == "hit"] == ["waits"]
    assert found["first"][1] == found["waits"][1]
    assert len({answer for _, answer in found.values()}) == 3


WAITING = [(0, 1), (1, 1), (1, 2), (2, 2)]
"""Calls that wait for another's answer, and those that have asked the provider, after each of those."""


def test_a_call_that_asked_nobody_is_no_miss(site):
    before = site.api.ok("GET", "/api/cache")
    poor = "vk-poor"
    assert site.gw.post(ask("poor"), poor).headers["x-sluicegate-cache"] == "miss"
    refused = site.gw.post(ask("poorer"), poor)
    assert (refused.status, refused.headers.get("x-sluicegate-cache")) == (402, None)
    row = eventually(lambda: site.gw.rows(f"SELECT cache FROM calls WHERE virtual_key_id = '{poor}' AND outcome = 'denied'"))
    assert row == [{"cache": None}]
    after = site.api.ok("GET", "/api/cache")
    assert after["misses"] == before["misses"] + 1


def test_answers_outlive_the_gateway(site):
    assert said(site, "outlive", stream=True)[0] == "miss"
    site.gw.stop()
    site.gw.start()
    assert said(site, "outlive", stream=True)[0] == "hit"


def test_what_is_kept_is_listed_and_cleared_by_rest_and_by_command(site):
    from sluicegate.cli.main import app
    from support.command import CliRunner

    place = ["--gateway", site.gw.url, "--state-dir", str(site.gw.state)]

    def command(*words: str) -> dict[str, Any]:
        done = CliRunner().invoke(app, ["cache", *words, *place, "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.output)

    for key in (VK, BOB):
        said(site, "listed", key, max_tokens=77)
    said(site, "listed", VK, max_tokens=77, model="claude-haiku-5-5")
    eventually(lambda: len(site.api.ok("GET", "/api/cache/entries?user=alice&limit=2")["entries"]) == 2)
    newest = site.api.ok("GET", "/api/cache/entries?limit=1")
    assert (newest["entries"][0]["model"], newest["entries"][0]["scope"]) == ("claude-haiku-5-5", "user/alice")
    older = site.api.ok("GET", f"/api/cache/entries?limit=1&before={newest['next_before']}")["entries"][0]
    assert (older["user_id"], older["virtual_key_id"], "body" in older) == ("bob", BOB, False)
    before = command("stats")
    assert before["enabled"] is True
    assert before["entries"] >= 3
    assert command("clear", "--model", "claude-haiku-5-5", "--user", "alice")["cleared"] >= 1
    assert command("clear", "--scope", "user/bob", "--key", BOB)["cleared"] >= 1
    assert [e["scope"] for e in command("entries", "--limit", "1000")["entries"]].count("user/bob") == 0
    assert said(site, "listed", VK, max_tokens=77)[0] == "hit"
    assert said(site, "listed", BOB, max_tokens=77)[0] == "miss"
    text = CliRunner().invoke(app, ["cache", "entries", "--scope", "user/bob", *place]).output
    assert "claude-opus-5-5" in text
    shown = CliRunner().invoke(app, ["cache", "stats", *place]).output
    assert "exact cache: on" in shown
    assert "semantic:    off, 0 of the hits" in shown
    kept = site.api.ok("GET", "/api/cache")["entries"]
    assert command("clear", "--dry-run") == {"message": f"Would delete {kept} cached answers", "cleared": kept}
    assert site.api.ok("GET", "/api/cache")["entries"] == kept > 0
    assert "cached answers" in CliRunner().invoke(app, ["cache", "clear", *place]).output
    assert site.api.ok("GET", "/api/cache")["entries"] == 0
    audited = site.api.ok("GET", "/api/audit?action=clear_cache")["entries"]
    assert [e["after"].get("scope_id") for e in audited[:3]] == [None, "bob", None]
    assert site.api("GET", "/api/cache/entries?scope=everyone").status == 400
    assert said(site, "listed", VK, max_tokens=77)[0] == "miss"
    site.gw.stop()
    # Without a gateway the commands read the state folder themselves.
    place = ["--policy", str(site.gw.policy), "--state-dir", str(site.gw.state)]
    assert command("stats")["entries"] == 1
    assert command("clear", "--dry-run")["cleared"] == command("clear")["cleared"] == 1
    site.gw.start()


def test_an_erased_users_answers_are_gone(site):
    assert said(site, "erased", BOB)[0] == "miss"
    assert said(site, "erased", VK)[0] == "miss"
    eventually(lambda: site.api.ok("GET", "/api/cache/entries?user=bob")["entries"])
    site.api.ok("POST", "users/bob/erase")
    assert site.api.ok("GET", "/api/cache/entries?user=bob")["entries"] == []
    assert said(site, "erased", VK)[0] == "hit"
    assert site.gw.post(ask("erased"), BOB).status == 401
