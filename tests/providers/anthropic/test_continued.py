"""Bodies that continue the last one on their connection: read in part, they say what they say read whole."""

from __future__ import annotations

import gc
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluicegate.providers.anthropic import continued
from sluicegate.providers.anthropic.continued import LAST_MESSAGES, read_continued
from sluicegate.providers.anthropic.request import read_request
from sluicegate.providers.requests import earlier
from sluicegate.providers.requests.earlier import EarlierBody, set_members_apart
from sluicegate.values import RequestFacts
from support.agent_prompts import Claude
from support.client_bodies import CLAUDE_CODE


def written(body: dict[str, Any]) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def conversation(turns: int = 8, **more: Any) -> dict[str, Any]:
    claude = Claude(1)
    for _ in range(turns):
        claude.turn()
    return claude.body() | more


def knowing(body: bytes) -> EarlierBody:
    """What is remembered of a body, which is not the first on its connection."""
    known = EarlierBody()
    read_continued(b'{"model":"claude-opus-5-5","messages":[]}'.ljust(earlier.MIN_BYTES), known)
    read_continued(body, known)
    assert known.parts
    return known


def says(read: RequestFacts | str) -> RequestFacts | str:
    return read if isinstance(read, str) else read._replace(members=None)


def require_same(body: bytes, known: EarlierBody) -> None:
    assert says(read_continued(body, known)) == says(read_request(body))


@pytest.fixture
def lengths(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lengths of the bodies that are read."""
    seen: list[int] = []

    def read(body: bytes, size: int | None = None) -> RequestFacts | str:
        seen.append(len(body))
        return read_request(body, size=size)

    monkeypatch.setattr(continued, "read_request", read)
    return seen


@pytest.mark.parametrize("messages_last", [False, True])
def test_of_a_conversation_little_is_read_again(lengths: list[int], messages_last: bool) -> None:
    claude, known, sizes = Claude(1), EarlierBody(), []
    for _ in range(24):
        claude.turn()
        # The call before is named in each, and the first block of the system prompt is another in each.
        body = claude.body() | {"diagnostics": {"previous_message_id": f"msg_{claude.count:020}"}}
        if messages_last:
            body["messages"] = body.pop("messages")
        sizes.append(len(written(body)))
        require_same(written(body), known)
    wholes = [size for size in lengths if size in sizes]
    assert len(wholes) <= 6
    # The system prompt is a fifth of them.
    assert sum(lengths) < 0.6 * sum(sizes)


def test_the_facts_that_change_are_those_of_the_body_that_was_read() -> None:
    known = knowing(written(conversation()))
    facts = read_continued(written(conversation(max_tokens=7, stream=False, model="claude-haiku-5-5", speed="fast")), known)
    assert isinstance(facts, RequestFacts)
    assert (facts.max_tokens, facts.stream, facts.model, facts.speed) == (7, False, "claude-haiku-5-5", "fast")
    require_same(written(conversation(messages=[{"role": "user", "content": "hi"}])), known)


@pytest.mark.parametrize(
    "last",
    [
        [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}],
        [{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "tool_reference", "tool_name": "Read"}]}],
        [{"type": "document", "source": {"type": "url", "url": "https://example.com"}}],
        [{"type": "unknown"}],
        [{"type": "text", "text": "\ud83d"}],
        [{"type": "text", "text": "schön 😀"}],
        "hi",
        None,
    ],
)
def test_a_message_of_any_kind_is_read_as_ever(last: Any) -> None:
    body = conversation()
    known = knowing(written(body))
    body["messages"] = [*body["messages"], {"role": "user", "content": last}]
    require_same(written(body), known)
    require_same(json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass"), known)


def test_tools_that_the_provider_describes_are_counted_in_each_call() -> None:
    body = conversation()
    body["tools"] = [*body["tools"], {"type": "bash_20250124", "name": "bash"}]
    known = EarlierBody()
    for _ in range(4):
        require_same(written(body), known)
    require_same(written(conversation()), known)
    require_same(written(body), known)


PIECES = [
    *(b'"', b"\\", b"{", b"}", b"[", b"]", b",", b" ", b"\n", b"]}", b"}]}", b'"}', b'"]', b"\xff", b"\xc3", b"\xef\xbb\xbf", b"\x00"),
    *(b'],"model":"claude-dear","messages":[', b'],"tools":[{"type":"web_search_20260318","name":"web_search"}],"x":["', b'"messages":[{'),
    *(b'"system":[]', b'"tools":[]', b',{"role":"user","content":"hi"}', b'"role":"user","content":[]},{', b'"model":"claude-dear",'),
    *(b'"Model":"claude-dear",', b'"m\\u006fdel":"claude-dear",', b'"x":{"messages":[],', b"", b"{}", b"null", b'"a":1,', b'{"a":"'),
]  # fmt: skip
"""What might lead a reader to think that it stands where it does not."""

BASE = written({k: v for k, v in CLAUDE_CODE.items() if k not in ("messages", "tools", "system")} | conversation(3))
PARTS = knowing(BASE).parts
SEAMS = sorted(
    {at + shift for p in PARTS for start in [p.at % len(BASE)] for at in (start, start + len(p.text)) for shift in (-1, 0, 1)}
)


@settings(max_examples=400, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(SEAMS) | st.integers(0, len(BASE)), st.integers(0, 3) | st.none(), st.sampled_from(PIECES)),
        max_size=3,
    )
)
def test_no_piece_anywhere_makes_a_part_say_what_the_whole_does_not(edits: list[tuple[int, int | None, bytes]]) -> None:
    body = BASE
    for at, cut, piece in sorted(edits, key=lambda edit: -edit[0]):
        # In place of as many bytes, all that follows stands where it did.
        body = body[:at] + piece + body[at + (len(piece) if cut is None else cut) :]
    known = EarlierBody()
    known.keep(PARTS)
    require_same(body, known)
    # And remembered in its turn.
    known = EarlierBody()
    read_continued(body, known)
    read_continued(body, known)
    require_same(body, known)
    require_same(BASE, known)


def test_known_parts_in_another_member_are_read_there() -> None:
    """What is content in a message names a model elsewhere."""
    body = conversation()
    body["messages"][1]["content"][-1]["input"] = {"model": "claude-dear"}
    del body["thinking"], body["model"]
    head, messages = b'{"model":"claude-opus-5-5","thinking":{"x":"%b"}', written({"messages": body["messages"]})[1:-1]
    known = knowing(head % (b"x" * 9) + b"," + written(body)[1:])
    body["messages"] = [{"role": "user", "content": "hi"}]
    # One byte more in place of a bracket, so that all parts stand where they stood.
    inside = head[:-1] % (b"x" * 10) + b"," + messages + b"}," + written(body)[1:]
    assert known.shortened(inside) is not None
    require_same(inside, known)
    facts = read_continued(inside, known)
    assert isinstance(facts, RequestFacts)
    assert facts.models == ("claude-dear",)


def test_of_a_body_with_spaces_no_part_can_be_found() -> None:
    known, body = EarlierBody(), json.dumps(conversation()).encode()
    for _ in range(3):
        require_same(body, known)
    assert not known.parts


def test_the_list_of_messages_may_not_end_where_another_would_follow() -> None:
    body = conversation(3)
    known = knowing(written(body))
    kept = body["messages"][: len(body["messages"]) - LAST_MESSAGES]
    cut = written(body | {"messages": kept})
    require_same(cut, known)
    require_same(cut.replace(b'}],"system"', b'},],"system"'), known)


def test_whoever_needs_the_members_sets_them_apart() -> None:
    body = written(conversation())
    whole, known = read_request(body), knowing(body)
    facts = read_continued(body, known)
    assert isinstance(facts, RequestFacts)
    assert isinstance(whole, RequestFacts)
    assert facts.members == {}
    set_members_apart(facts, body)
    assert facts.members == whole.members
    set_members_apart(facts, b"not read again")


def test_what_is_remembered_is_bounded_and_ends_with_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    body = written(conversation())
    gc.collect()
    before = EarlierBody.bytes_of_all
    first, second, third = knowing(body), EarlierBody(), EarlierBody()
    held = EarlierBody.bytes_of_all - before
    assert len(body) / 2 < held <= len(body)
    monkeypatch.setattr(earlier, "MAX_KEPT_BYTES", before + held + len(body) - 1)
    for _ in range(3):
        require_same(body, second)
        require_same(body, first)
    assert not second.parts
    first.end()
    assert (first.parts, EarlierBody.bytes_of_all) == ((), before)
    for _ in range(3):
        # A call that was still being judged.
        require_same(body, first)
    assert not first.parts
    require_same(body, second)
    assert second.parts
    del second
    assert EarlierBody.bytes_of_all == before
    for _ in range(3):
        require_same(body, third)
    assert third.parts


def test_bodies_that_nobody_continues_are_seldom_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    known, kept = EarlierBody(), []
    monkeypatch.setattr(EarlierBody, "keep", lambda self, parts: kept.append(parts))
    for number in range(40):
        read_continued(written(conversation(1, system=f"{number}" * 5000)), known)
    assert len(kept) == earlier.TRIES - 1 + 40 // earlier.REST_TRIES
