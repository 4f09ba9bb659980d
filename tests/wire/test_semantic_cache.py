"""The semantic cache on a real gateway: explored first, then used; never across users, other code, or calls that may act."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import orjson
import pytest

from sluicegate.values import nano_of
from support.api import Api
from support.fake_provider import FakeProvider, Peer, Seen, usage
from support.harness import WAIT_S, Gateway, ask, eventually, policy_text

pytestmark = pytest.mark.wire

VK, BOB = "vk-alice", "vk-bob"

CODE = "\n```python\ndef add(a, b):\n    return a - b\n```"

SEMANTIC = {"enabled": True, "error_bound": 0.9}
"""With this bound a few comparisons are enough."""


class Provider:
    """Answers by what is asked about, and counts the calls."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, peer: Peer, seen: Seen) -> None:
        self.count += 1
        body = orjson.loads(seen.body)
        text = "subtract nothing: write a + b" if "a - b" in seen.body.decode() else "something else"
        whole = orjson.dumps(
            {
                **{"id": f"msg_01{self.count:022d}", "type": "message", "role": "assistant", "model": body["model"]},
                **{"content": [{"type": "text", "text": text}], "stop_reason": "end_turn"},
                "usage": usage(input_tokens=100, output_tokens=50),
            }
        )
        peer.head(200, "content-type: application/json", f"content-length: {len(whole)}")
        peer.send(whole)


class Site(NamedTuple):
    gw: Gateway
    provider: Provider
    url: str


def policy(url: str, **cache: Any) -> str:
    return policy_text(
        url,
        cache=cache,
        users=[{"id": "alice"}, {"id": "bob"}],
        virtual_keys=[{"id": VK, "user_id": "alice"}, {"id": BOB, "user_id": "bob"}],
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with contextlib.ExitStack() as stack:
        provider = Provider()
        upstream = stack.enter_context(FakeProvider(provider))
        gw = stack.enter_context(Gateway(tmp_path_factory.mktemp("semantic"), policy(upstream.url, semantic=SEMANTIC)))
        yield Site(gw, provider, upstream.url)


def asked(site: Site, words: str, key: str = VK, headers: dict[str, str] | None = None, **fields: Any) -> tuple[str, float | None]:
    """Return what the cache did, and how similar the question was whose answer came; None for its own."""
    reply = site.gw.post(ask(words, **fields), key, **(headers or {}))
    assert reply.status == 200, reply.body
    similarity = reply.headers.get("x-sluicegate-cache-similarity")
    return reply.headers.get("x-sluicegate-cache", ""), float(similarity) if similarity else None


_PADDING = itertools.count(1)


def again(words: str) -> str:
    """Return the same question as a text that was not sent before: white space at the end is not compared."""
    return words + " " * next(_PADDING)


def learn(site: Site, words: str, key: str = VK) -> tuple[str, float | None]:
    """Ask again and again, as the first call loads the model and the next ones are compared, until an answer is given."""
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        found = asked(site, again(words), key)
        if found[0] == "hit":
            return found
        assert found == ("miss", None)
    pytest.fail("no answer was ever given")


def test_a_question_in_other_words_is_explored_and_then_answered_and_nothing_else_is(site):
    assert asked(site, "fix this bug" + CODE) == ("miss", None)
    before = site.provider.count
    kind, similarity = learn(site, "debug this code" + CODE)
    assert kind == "hit"
    assert similarity is not None
    assert 0.95 <= similarity <= 1
    assert site.provider.count > before, "the first candidates were compared with the provider's own answers"
    row = eventually(lambda: (site.gw.rows("SELECT * FROM calls WHERE cache = 'hit' ORDER BY rowid DESC LIMIT 1") or [None])[0])
    assert (row["cost_nano"], row["outcome"]) == (0, "completed")
    assert row["saved_nano"] > 0
    state = Api(site.gw).ok("GET", "/api/cache")["semantic"]
    assert (state["enabled"], state["hits"]) == (True, 1)
    assert state["questions"] >= 1
    assert state["misses"] == site.provider.count
    assert 1 <= state["compared"] < state["misses"]
    assert (state["disagreed"], state["false_hit_rate"]) == (0, 0)
    assert nano_of(state["saved_usd"]) == row["saved_nano"]

    never: list[tuple[str, str, dict[str, str] | None, dict[str, Any]]] = [
        ("debug this code" + CODE.replace("-", "+"), VK, None, {}),
        ("fix this bug" + CODE.replace("add", "sub"), VK, None, {}),
        ("explain this code" + CODE, VK, None, {}),
        ("debug this code" + CODE, BOB, None, {}),
        ("debug this code" + CODE, VK, None, {"system": "Answer in French."}),
        ("debug this code" + CODE, VK, None, {"model": "claude-haiku-5-5"}),
        ("debug this code" + CODE, VK, {"x-bf-cache-type": "direct"}, {}),
        ("debug this code" + CODE, VK, {"x-bf-cache-key": "mine"}, {}),
    ]
    for words, key, headers, fields in never:
        assert asked(site, again(words), key, headers, **fields) == ("miss", None), (words, key, headers, fields)
    tool = {"name": "Bash", "input_schema": {"type": "object"}}
    assert asked(site, again("debug this code" + CODE), tools=[tool]) == ("bypass", None), "its answer may act"

    # Turning it off ends it at once.
    site.gw.govern(policy(site.url, semantic={"enabled": False}, exact={"enabled": True}))
    eventually(lambda: asked(site, again("debug this code" + CODE)) == ("miss", None) or None)
    assert asked(site, again("fix this bug" + CODE)) == ("miss", None)
