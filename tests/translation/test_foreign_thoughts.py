"""A session that moves back to the client's own API: what others thought is taken out, and nothing else changes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.translation.conversation import DIALECTS, Opaque
from sluicegate.translation.opaque import PREFIX, pack
from sluicegate.translation.requests.foreign_thoughts import holds_packed_thoughts, without_foreign_thoughts
from sluicegate.translation.requests.gemini_writer import UNSIGNED
from support.translations import cases

PACKED = pack(Opaque("responses", "ZW5j"))
TEXT = {"type": "text", "text": "Hello."}
THINKING = {"type": "thinking", "thinking": "hm", "signature": PACKED}
OWN = {"type": "thinking", "thinking": "hm", "signature": "c2ln"}
CALL = {"functionCall": {"name": "read", "args": {}}}


def said(*content, **fields):
    return {"messages": [{"role": "assistant", "content": list(content)} | fields]}


MOVED = [
    ("messages", said(THINKING, OWN, TEXT), said(OWN, TEXT)),
    ("messages", said({"type": "redacted_thinking", "data": PACKED}), {"messages": []}),
    ("chat", said(TEXT, reasoning_details=[{"type": "reasoning.encrypted", "data": PACKED}]), said(TEXT)),
    ("chat", said(TEXT, reasoning_details=[{"data": PACKED}, {"data": "own"}]), said(TEXT, reasoning_details=[{"data": "own"}])),
    (
        "responses",
        {"input": [{"type": "reasoning", "encrypted_content": PACKED}, {"type": "reasoning", "encrypted_content": "own"}]},
        {"input": [{"type": "reasoning", "encrypted_content": "own"}]},
    ),
    (
        "generate_content",
        {"contents": [{"parts": [CALL | {"thoughtSignature": PACKED}, {"text": "a", "thought_signature": PACKED}, CALL]}]},
        {"contents": [{"parts": [CALL | {"thoughtSignature": UNSIGNED}, {"text": "a"}, CALL]}]},
    ),
]


@pytest.mark.parametrize(("dialect", "body", "expected"), MOVED)
def test_what_others_thought_is_taken_out(dialect, body, expected):
    assert json.loads(without_foreign_thoughts(json.dumps({"model": "m"} | body).encode(), dialect)) == {"model": "m"} | expected


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_other_body_stays_the_clients_byte_for_byte(dialect):
    bodies = [json.dumps(case.body, indent=1).encode() for case in cases() if PREFIX not in json.dumps(case.body)]
    spoken_of = json.dumps({"messages": [{"role": "user", "content": f"What is {PACKED}?"}]}, indent=2).encode()
    for body in (
        *bodies,
        spoken_of,
        PREFIX.encode(),
        b"{" + PREFIX.encode(),
        b'{"messages":' + b"[" * 50_000 + PREFIX.encode(),
        b'"%b"' % PREFIX.encode(),
    ):
        assert without_foreign_thoughts(body, dialect) == body


PARTS = (PREFIX.encode(), PREFIX[:-1].encode(), PREFIX[1:].encode(), PREFIX[:9].encode(), b"Z", b"Z" * 70, b"text ", b"")


@given(st.lists(st.sampled_from(PARTS), max_size=6))
def test_packed_thoughts_are_found_wherever_they_stand(parts):
    body = b"".join(parts)
    assert holds_packed_thoughts(body) == (PREFIX.encode() in body)
