"""Which calls are examined, and by whose word: only those that a provider has answered and said the use of."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from sluicegate.calls.answer import Answer
from sluicegate.calls.call import Call
from sluicegate.calls.client_login import ClientLogin
from sluicegate.policy.loader import load
from sluicegate.pricing.prices import Prices
from sluicegate.prompt_caching.examination import had_it_read, lost_nano
from sluicegate.prompt_caching.seen import Seen, seen_of
from sluicegate.values import RequestFacts, Usage
from support.harness import policy_text
from support.prompt_cases import START

OPUS = "claude-opus-5-5"
USED = Usage(10, 50, 1000, 4000, 2000, model=OPUS)


@pytest.fixture(scope="module")
def examined(tmp_path_factory):
    """Return what is handed over of a call, changed by the fields that are given."""
    path = tmp_path_factory.mktemp("seen") / "policy.yaml"
    path.write_text(policy_text("http://127.0.0.1:1"))
    policy, prices = load(path, env={"PROVIDER_KEY": "x"}, now=START), Prices.load()

    def make(**fields: Any) -> Seen | None:
        call = Call("call_1", START, "anthropic", "messages", path="/v1/messages", policy=policy)
        given = {"facts": RequestFacts(OPUS), "record": {"user_id": "alice"}, "answer": Answer(USED), "session_id": "s"}
        for name, value in (given | fields).items():
            setattr(call, name, value)
        headers = ((b"Anthropic-Beta", b"beta"), (b"x-other", b"1"))
        return seen_of(call, call.record, policy, lambda *_: prices, b"{}", headers)

    return make


LEFT_OUT = {
    "no answer": {"answer": None},
    "an answer that says nothing": {"answer": Answer(None)},
    "no tokens": {"answer": Answer(Usage(output_tokens=5))},
    "an answer of our own cache": {"cache": "hit"},
    "no model call": {"kind": "count_tokens"},
    "no record": {"record": None},
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_calls_that_no_provider_has_answered_are_left_out(examined, name):
    assert examined(**LEFT_OUT[name]) is None


def test_what_is_handed_over(examined):
    seen = examined(sent_at=START + 5, first_byte_at=START + 900, agent_id="a", cache="miss")
    assert (seen.session, seen.agent_id, seen.model, seen.has_breakpoints) == (("", "s", "alice"), "a", OPUS, True)
    assert (seen.started_at, seen.sent_at, seen.ready_at, seen.header) == (START, START + 5, START + 900, "beta")
    assert examined(answer=Answer(structs.replace(USED, model=None))).model == OPUS


@pytest.mark.parametrize(
    ("tokens", "left"),
    [
        (0, (10, 1000, 4000, 2000)),
        (1500, (10, 2500, 4000, 500)),
        (5000, (10, 6000, 1000, 0)),
        (6005, (5, 7005, 0, 0)),
        (9999, (0, 7010, 0, 0)),
    ],
)
def test_what_could_have_been_read_is_what_comes_first_in_the_prompt(examined, tokens, left):
    """By hand: opus 5.5 costs 4 dollars a million, 5 and 8 to write for 5 minutes and an hour, 0.20 to read."""
    could = had_it_read(USED, tokens)
    assert (could.input_tokens, could.cache_read_tokens, could.cache_write_5m_tokens, could.cache_write_1h_tokens) == left
    rest, read, write_5m, write_1h = (a - b for a, b in zip((10, 1000, 4000, 2000), left, strict=True))
    assert lost_nano(examined(), tokens) == 4000 * rest + 200 * read + 5000 * write_5m + 8000 * write_1h


def test_a_call_that_its_caller_has_paid_has_lost_no_dollars(examined):
    assert lost_nano(examined(login=ClientLogin(b"Bearer x")), 5000) == 0
