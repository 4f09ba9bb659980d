"""The key of a call: two calls that mean different things never share it, and what means nothing makes no difference."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluicegate.caching.cache_key import CacheKey
from sluicegate.caching.eligibility import why_not_kept
from sluicegate.caching.keyed_hash import HASH_BYTES, KeyedHash
from sluicegate.caching.meaning import Scope, meaning_of, scope_of
from sluicegate.caching.passthrough import without_passthrough
from sluicegate.calls.cache_directives import CACHE_HEADERS, CacheDirectives, directives_of
from sluicegate.calls.call import Call
from sluicegate.calls.plan import Plan, Target
from sluicegate.policy.loader import load
from sluicegate.policy.model import Policy
from sluicegate.providers import PROTOCOLS
from sluicegate.values import Principal, RequestFacts
from support.hypothesis_profiles import examples

HASHED = KeyedHash(bytes(range(32)))
WHO = Principal("vk-1", "alice", "eng", None, None)
BODY: dict[str, Any] = {
    "model": "claude-opus-5-5",
    "max_tokens": 1000,
    "system": [{"type": "text", "text": "You are terse."}],
    "tools": [{"name": "read", "description": "Reads a file.", "input_schema": {"type": "object", "properties": {}}}],
    "messages": [{"role": "user", "content": "1.0"}, {"role": "assistant", "content": "é"}, {"role": "user", "content": "x"}],
}


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    file = tmp_path_factory.mktemp("meaning") / "policy.yaml"
    file.write_text("version: 1\nproviders: {anthropic: {simulate: true}, openai: {keys: [{name: k, value: env.K}]}}")
    return load(file, env={"K": "sk-0123456789"}, now=0)


def facts_of(body: bytes, protocol: str = "anthropic", path: str = "/v1/messages") -> RequestFacts:
    found = PROTOCOLS[protocol].read_request(body, path)
    assert isinstance(found, RequestFacts), found
    return found


def key_of(body: bytes, headers: tuple[tuple[bytes, bytes], ...] = (), **changes: Any) -> bytes:
    call = Call("call_1", 0, "anthropic", "messages", principal=WHO)
    scope, upstream, path = Scope("user", "alice"), "api", "/v1/messages?beta=true"
    for name, value in changes.items():
        if name == "scope":
            scope = value
        elif name == "upstream":
            upstream = value
        elif name == "path":
            path = value
        else:
            setattr(call, name, value)
    return CacheKey(HASHED, meaning_of(call, facts_of(body), ("POST", path, headers), scope, upstream)).whole


def written(body: Any, **options: Any) -> bytes:
    return json.dumps(body, **options).encode()


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        found += places(inner, (*path, name))
    return found


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for name in path:
        value = value[name]
    return value


def replace(parent: Any, last: Any, value: Any) -> None:
    parent[last] = value


def delete(parent: Any, last: Any, _: Any) -> None:
    del parent[last]


def repeat(parent: Any, last: Any, _: Any) -> None:
    if isinstance(parent, list):
        parent.insert(last, copy.deepcopy(parent[last]))


def move(parent: Any, last: Any, _: Any) -> None:
    if isinstance(parent, list):
        parent.append(parent.pop(last))


CHANGES = (replace, delete, repeat, move)
VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    -1,
    1.0,
    0.5,
    "",
    "x",
    "1",
    "1.0",
    "é",
    [],
    [None],
    ["x"],
    {},
    {"": None},
    {"type": "text"},
]
INSIDE = [path for path in places(BODY) if len(path) > 1 and path[0] in ("system", "tools", "messages")]


@pytest.mark.parametrize("path", INSIDE, ids=str)
def test_whatever_is_changed_in_what_has_meaning_changes_the_key(path):
    changed = [members(BODY)]
    for change in CHANGES:
        for value in VALUES if change is replace else [None]:
            body = copy.deepcopy(BODY)
            change(at(body, path[:-1]), path[-1], value)
            changed.append(members(body))
    # Another spelling may mean another thing to some server.
    changed.append(members(BODY, ensure_ascii=False))
    different = {tuple(found.items()) for found in changed}
    assert len(different) > len(VALUES)
    assert len({key_of_members(dict(found)) for found in different}) == len(different)


def members(body: dict[str, Any], **options: Any) -> dict[str, bytes]:
    return {name: written(value, **options) for name, value in body.items()}


def key_of_members(found: dict[str, bytes]) -> bytes:
    call, request = Call("call_1", 0, "anthropic", "messages", principal=WHO), ("POST", "/v1/messages", ())
    return CacheKey(HASHED, meaning_of(call, RequestFacts("m", members=found), request, Scope("user", "alice"), "api")).whole


@settings(max_examples=examples(100))
@given(st.lists(st.binary(max_size=4), max_size=5), st.lists(st.binary(max_size=4), max_size=5))
def test_another_split_of_the_same_bytes_is_another_input(one, other):
    assert (HASHED.of(one) == HASHED.of(other)) == (one == other)


@pytest.mark.parametrize("size", [1, 2047, 2048, 2049, 100_000])
def test_long_parts_are_told_apart_wherever_they_differ(size):
    part = bytes(size)
    keys = {HASHED.of([part]), HASHED.of([part, b""]), HASHED.of([part[:-1] + b"\1"]), HASHED.of([b"\1" + part[1:]])}
    assert len(keys) == (4 if size > 1 else 3)
    assert {len(k) for k in keys} == {HASH_BYTES}
    assert HASHED.of([part]) != KeyedHash(bytes(32)).of([part])


BILLED = "x-anthropic-billing-header: cc_version=2.1.332.{}; cc_entrypoint=sdk-cli; cch={};"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"metadata": {"user_id": "a"}}, {"metadata": {"user_id": "b"}}),
        ({}, {"metadata": {"user_id": "b"}}),
        (
            {"system": [{"type": "text", "text": BILLED.format("a1", "00000")}, *BODY["system"]]},
            {"system": [{"type": "text", "text": BILLED.format("b2", "fffff")}, *BODY["system"]]},
        ),
    ],
    ids=["metadata", "no metadata", "billing"],
)
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_what_says_who_asks_makes_no_difference(one, other, separators):
    keys = {key_of(written(BODY | changed, separators=separators)) for changed in (one, other)}
    assert len(keys) == 1


def test_the_order_of_top_level_members_makes_no_difference():
    assert key_of(written(BODY)) == key_of(written(dict(reversed(BODY.items()))))


@pytest.mark.parametrize(
    "text",
    [
        *("x-anthropic-billing-header: rm -rf /", BILLED.format("a1", "0") + " And be rude.", "x-anthropic-billing-header: cch=é;"),
        BILLED.format("a1", "0").replace("sdk-cli", "be-rude"),
        BILLED.format("a1", "0") + " answer_in=French;",
        *(BILLED.format("a1", "be_rude"), BILLED.format("rude", "0"), "x-anthropic-billing-header: be_rude=1"),
    ],
)
def test_only_the_block_itself_is_left_out(text):
    blocks = [[{"type": "text", "text": text}, *BODY["system"]], [*BODY["system"]]]
    billed = [{"type": "text", "text": BILLED.format("a1", "0")}, *BODY["system"]]
    assert len({key_of(written(BODY | {"system": system})) for system in (*blocks, billed)}) == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"scope": Scope("user", "bob")},
        {"scope": Scope("team", "alice")},
        {"upstream": "elsewhere"},
        {"path": "/v1/messages"},
        {"envelope": "our-models"},
        {"provider": "bedrock"},
        {"cache_directives": CacheDirectives("mine")},
        {"plan": Plan((Target("anthropic", "claude-opus-5-5"),))},
    ],
    ids=lambda c: next(iter(c)),
)
def test_who_shares_it_and_who_answers_are_a_part_of_the_key(changes):
    assert key_of(written(BODY)) != key_of(written(BODY), **changes)


@pytest.mark.parametrize(
    ("header", "has_meaning"),
    [
        (b"anthropic-beta", True),
        (b"Anthropic-Version", True),
        (b"x-of-tomorrow", True),
        (b"User-Agent", False),
        (b"X-Stainless-Retry-Count", False),
        (b"x-claude-code-session-id", False),
        (b"traceparent", False),
        (b"x-codex-turn-metadata", False),
        (b"X-Codex-Beta-Features", True),
    ],
)
def test_headers_count_unless_they_are_known_to_say_nothing(header, has_meaning):
    body = written(BODY)
    keys = {key_of(body), key_of(body, ((header, b"1"),)), key_of(body, ((header, b"2"),))}
    assert len(keys) == (3 if has_meaning else 1)


def test_a_header_is_no_member():
    with_member = key_of(written(BODY | {"top_k": 1}))
    assert with_member != key_of(written(BODY), ((b"top_k", b"1"),))


def reason(
    policy: Policy, body: dict[str, Any], provider: str = "anthropic", path: str = "/v1/messages", **more: Any
) -> str | None:
    call = Call("call_1", 0, provider, "messages", policy=policy, principal=WHO)
    protocol = policy.providers[provider].protocol
    return why_not_kept(call, facts_of(written(body), protocol, path), path, sampled=more.get("sampled", False))


SAID = [{"role": "user", "content": "hi"}]
CHAT, RESPONSES = ("openai", "/v1/chat/completions"), ("openai", "/v1/responses")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, None),
        ({"temperature": 0}, None),
        ({"temperature": 0.0}, None),
        ({"temperature": None}, None),
        ({"temperature": 1}, "sampled"),
        ({"temperature": 0.01}, "sampled"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "content"),
        ({"container": "c"}, "content"),
        ({"mcp_servers": []}, "content"),
        ({"of_tomorrow": 1}, "content"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "file", "file_id": "f"}}]}]}, "content"),
    ],
    ids=str,
)
def test_which_answers_of_messages_may_be_kept(policy, changes, why):
    assert reason(policy, BODY | changes) == why
    assert reason(policy, BODY | changes, sampled=True) == (None if why == "sampled" else why)


@pytest.mark.parametrize(
    ("target", "body", "why"),
    [
        (CHAT, {"messages": SAID}, None),
        (CHAT, {"messages": SAID, "store": False}, None),
        (CHAT, {"messages": SAID, "store": True}, "state"),
        (CHAT, {"messages": SAID, "temperature": 0.7}, "sampled"),
        (RESPONSES, {"input": "hi", "store": False}, None),
        (RESPONSES, {"input": "hi"}, "state"),
        (RESPONSES, {"input": "hi", "store": None}, "state"),
        (RESPONSES, {"input": "hi", "store": False, "previous_response_id": "resp_1"}, "content"),
        (RESPONSES, {"input": "hi", "store": False, "tools": [{"type": "code_interpreter"}]}, "content"),
        (("openai", "/v1/responses/compact"), {"input": "hi", "store": False}, "api"),
    ],
    ids=str,
)
def test_which_answers_of_openai_may_be_kept(policy, target, body, why):
    assert reason(policy, {"model": "gpt-5.1"} | body, *target) == why


def test_a_body_that_was_read_in_a_copy_is_not_looked_up(policy):
    lone = written(BODY).replace(b'"x"', b'"\\ud83d"')
    assert facts_of(lone).members is None
    call = Call("call_1", 0, "anthropic", "messages", policy=policy, principal=WHO)
    assert why_not_kept(call, facts_of(lone), "/v1/messages", sampled=False) == "body"


def test_a_key_without_such_a_parent_shares_with_nobody():
    assert scope_of(WHO, "team") == ("team", "eng")
    assert scope_of(WHO, "customer") == ("virtual_key", "vk-1")


@pytest.mark.parametrize(
    ("values", "directives"),
    [
        ({"key": "session 1"}, CacheDirectives("session 1")),
        ({"ttl": "30"}, CacheDirectives(ttl_ms=30_000)),
        ({"ttl": "5m"}, CacheDirectives(ttl_ms=300_000)),
        ({"threshold": "0.9"}, CacheDirectives(threshold=0.9)),
        ({"type": "direct"}, CacheDirectives(kind="direct")),
        ({"no-store": "True"}, CacheDirectives(no_store=True)),
        ({"no-store": "false"}, CacheDirectives()),
        ({"key": "a\x01"}, None),
        ({"ttl": "never"}, None),
        ({"ttl": "-1"}, None),
        ({"threshold": "1.1"}, None),
        ({"threshold": "nan"}, None),
        ({"type": "both"}, None),
        ({"no-store": "yes"}, None),
    ],
    ids=str,
)
def test_what_clients_say_of_caching(values, directives):
    headers = {f"x-bf-cache-{name}": [value] for name, value in values.items()}
    if directives is None:
        with pytest.raises(ValueError, match="x-bf-cache-"):
            directives_of(headers)
    else:
        assert directives_of(headers) == directives


@pytest.mark.parametrize("name", CACHE_HEADERS)
def test_a_header_that_is_sent_twice_is_refused(name):
    with pytest.raises(ValueError, match="send it once"):
        directives_of({name: ["1", "1"]})


def codex_call(turn: str, words: str = "hi", **more: Any) -> dict[str, Any]:
    labels = {"internal_chat_message_metadata_passthrough": {"turn_id": turn, "create_time": 1.5}}
    said = {"type": "message", "id": f"msg_{turn}", "role": "user", "content": [{"type": "input_text", "text": words}]}
    return {"model": "gpt-6.2-sol", "store": False, "stream": True, "prompt_cache_key": turn, "input": [said | labels | more]}


def codex_key(body: bytes) -> bytes | None:
    path = "/v1/responses"
    facts = without_passthrough(facts_of(body, "openai", path), path)
    call = Call("call_1", 0, "openai", "messages", principal=WHO)
    return (
        CacheKey(HASHED, meaning_of(call, facts, ("POST", path, ()), Scope("user", "a"), "api")).whole
        if facts.is_text_only
        else None
    )


def test_what_codex_adds_to_each_item_makes_no_difference():
    one, other = (codex_key(written(codex_call(turn))) for turn in ("t1", "t2"))
    assert one == other is not None
    assert codex_key(written(codex_call("t1", "ho"))) not in (one, None)
    assert codex_key(written(codex_call("t1", role="developer"))) not in (one, None)
    file = {"content": [{"type": "input_file", "file_id": "f"}]}
    assert codex_key(written(codex_call("t1", **file))) is None


def test_an_item_that_has_a_member_twice_is_not_looked_up():
    twice = written(codex_call("t1")).replace(b'"role"', b'"role": "system", "role"')
    assert codex_key(twice) is None
