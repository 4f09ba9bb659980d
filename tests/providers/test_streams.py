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
