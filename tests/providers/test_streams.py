"""Every recorded answer is read to its true bill, however it is spelled, cut, packed and labelled."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.respelling import PACKERS, cut, cuts, respell, spellings
from support.streams import Recorded, check, read, recorded_answers

ALL = recorded_answers()
by_name = pytest.mark.parametrize("recorded", ALL, ids=[r.id for r in ALL])

KINDS = ["text/event-stream", "TEXT/EVENT-STREAM; charset=utf-8", "application/json", "text/plain", "application/octet-stream", ""]


@by_name
def test_a_recorded_answer_is_read_to_its_bill(recorded: Recorded):
    check(recorded, read(recorded))
    check(recorded, read(recorded, [recorded.body[i : i + 1] for i in range(len(recorded.body))]))


@given(st.sampled_from(ALL), spellings, cuts, st.sampled_from(sorted(PACKERS)), st.sampled_from(KINDS))
def test_any_spelling_of_the_same_events_gives_the_same_bill(recorded, spelling, at, encoding, kind):
    body = PACKERS[encoding](respell(recorded.body, spelling, is_stream=recorded.is_stream))
    check(recorded, read(recorded, cut(body, at), encoding=encoding, content_type=kind))


STREAMED = [r for r in ALL if r.is_stream]


CUT_STEP_BYTES = 17
"""Bytes from one cut to the next. Each stream begins at another of them, so that all of them are cut at every byte of an event."""


@pytest.mark.parametrize(("first", "recorded"), enumerate(STREAMED), ids=[r.id for r in STREAMED])
def test_a_cut_at_any_byte_never_raises_and_charges_more_the_more_was_delivered(first: int, recorded: Recorded):
    """Once the input is known, until the end says what there was. Wherever it is cut, the end is not believed before it came."""
    last, known = 0, False
    for end in (*range(first % CUT_STEP_BYTES, len(recorded.body), CUT_STEP_BYTES), len(recorded.body)):
        answer = read(recorded, [recorded.body[:end]])
        if not answer.is_readable or answer.is_unbilled or answer.is_final:
            continue
        delivered = answer.delivered.characters
        assert last <= delivered
        assert delivered <= recorded.delivered or recorded.rule == "reserved"
        last = delivered
        known = known or answer.usage is not None
        # Whatever was known of the input stays known, in whatever class.
        assert answer.usage is not None or not known


@given(st.sampled_from(ALL), st.integers(0, 1 << 16), st.integers(0, 255), spellings)
def test_a_damaged_answer_never_raises(recorded, at, byte, spelling):
    body = bytearray(respell(recorded.body, spelling, is_stream=recorded.is_stream))
    body[at % len(body)] = byte
    answer = read(recorded, cut(bytes(body), [at]))
    assert answer.delivered.characters <= len(body)
