"""Answers are looked at for how many characters their tokens have: a model's first ones, then seldom, and never for ever."""

from __future__ import annotations

import json

from budget import MAX_LOOKS, Budget
from sluicegate.calls.answer import AnswerReader
from sluicegate.calls.call import Call
from sluicegate.providers import PROTOCOLS
from sluicegate.values import RequestFacts

HIDDEN = {
    "type": "message",
    "role": "assistant",
    "model": "claude-opus-5-5",
    "stop_reason": "end_turn",
    "content": [{"type": "redacted_thinking", "data": "c2VjcmV0"}, {"type": "text", "text": "Yes."}],
    "usage": {"input_tokens": 10, "output_tokens": 900},
}


def ended(call_id: str, model: str) -> Call:
    """A call whose answer shows less than was billed, so that it teaches nothing of the model's tokens."""
    reader = AnswerReader(PROTOCOLS["anthropic"].usage_reader(), "", "application/json")
    reader.feed(json.dumps(HIDDEN).encode())
    call = Call(
        id=call_id,
        started_at=0,
        provider="anthropic",
        kind="messages",
        protocol="anthropic",
        method="POST",
        path="/v1/messages",
        by_base_url=True,
        client_address="127.0.0.1",
    )
    call.answer, call.facts = reader.finish(), RequestFacts(model)
    return call


def test_a_model_that_never_shows_all_it_writes_is_not_looked_at_for_ever():
    budget = Budget()
    seen = [budget.visible_characters(ended(f"call_{i}1", "claude-opus-5-5")) for i in range(3 * MAX_LOOKS)]
    assert set(seen) == {0}
    assert budget.looks["claude-opus-5-5"] == MAX_LOOKS
    # One call in sixteen still is: the provider may begin to show it.
    budget.visible_characters(ended("call_0", "claude-opus-5-5"))
    assert budget.looks["claude-opus-5-5"] == MAX_LOOKS + 1


def test_models_that_clients_make_up_fill_no_memory():
    budget = Budget()
    call = ended("call_1", "made-up")
    for i in range(3000):
        call.facts = RequestFacts(f"made-up-{i}")
        budget.visible_characters(call)
    assert len(budget.looks) <= 1001
