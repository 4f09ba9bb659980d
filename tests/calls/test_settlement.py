"""Settlement: what a call is charged, by how it ended."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from sluicegate.calls.call import Call
from sluicegate.calls.estimate import expected_usage
from sluicegate.calls.record import record_of
from sluicegate.calls.settlement import charge_usage, price_usage, recorded_amounts, settle, used_or_expected
from sluicegate.policy.loader import load
from sluicegate.policy.model import FallbackPrice
from sluicegate.pricing.prices import Charge, Prices
from sluicegate.values import Outcome, Principal, RequestFacts, Usage
from support.harness import policy_text

NOW = 1_790_000_000_000
OPUS, UNKNOWN = "claude-opus-5-5", "model-without-a-price"
PRICES = Prices.load()
EXPECTED = Usage(input_tokens=1000, output_tokens=600, estimated=True)
REPORTED = Usage(input_tokens=700, output_tokens=90, cache_read_tokens=10, model=OPUS)


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    file = tmp_path_factory.mktemp("policy") / "policy.yaml"
    file.write_text(policy_text(None))
    return load(file, env={}, now=0)


def call(usage=None, expected=EXPECTED, model=OPUS, expected_nano=12_345):
    made = Call("call-1", NOW, "anthropic", "messages", principal=Principal("vk"))
    made.facts, made.expected_usage, made.usage, made.expected_nano = RequestFacts(model), expected, usage, expected_nano
    return made


@pytest.mark.parametrize(
    ("usage", "was_sent", "status", "charged"),
    [
        (None, False, None, None),  # refused, or the client left before a connection was made
        (None, False, 402, None),  # our own refusal
        (REPORTED, True, 200, REPORTED),
        (structs.replace(REPORTED, estimated=True), True, 200, structs.replace(REPORTED, estimated=True)),  # a stream that was cut
        (None, True, 200, EXPECTED),  # an answer that cannot be read
        (None, True, None, structs.replace(EXPECTED, output_tokens=0)),  # no answer at all
        (None, True, 400, None),
        (None, True, 529, None),
    ],
)
def test_the_charge_follows_the_ending(policy, usage, was_sent, status, charged):
    found = settle(call(usage), policy, PRICES, was_sent=was_sent, status=status)
    assert found.usage == charged
    assert found.cost_nano == (PRICES.cost(charged, OPUS, NOW) if charged else 0)
    tokens = charged.total_tokens if charged else 0
    assert found.rate_amounts == {"requests": int(was_sent), "tokens": tokens, "concurrent": 0}


@pytest.mark.parametrize(
    ("asked", "served", "factor"),
    [
        (None, None, 1),
        ("priority", None, 2),
        ("fast", None, 2),
        ("priority", "auto", 2),
        # An answer that names its tier is believed.
        ("priority", "default", 1),
        (None, "priority", 2),
        ("flex", "flex", 0.5),
        ("flex", None, 1),
        ("batch", None, 1),
        ("auto", None, 1),
    ],
)
def test_a_dearer_service_tier_is_charged_unless_the_answer_names_another(policy, asked, served, factor):
    model = "gpt-5.4"
    usage = Usage(input_tokens=700, output_tokens=90, model=model, service_tier=served)
    made = call(usage, model=model)
    made.facts = RequestFacts(model, service_tier=asked)
    found = settle(made, policy, PRICES, was_sent=True, status=200)
    assert found.cost_nano == factor * PRICES.cost(structs.replace(usage, service_tier=None), model, NOW)
    assert found.usage == usage
    expected = structs.replace(expected_usage(made.facts), input_tokens=700, output_tokens=90)
    is_dearer = asked in ("priority", "fast")
    assert PRICES.cost(expected, model, NOW) == (2 if is_dearer else 1) * PRICES.cost(Usage(700, 90), model, NOW)


def test_an_unpriced_model_that_was_served_is_charged_the_one_that_was_asked_for(policy):
    other = structs.replace(REPORTED, model=UNKNOWN)
    found = settle(call(other), policy, PRICES, was_sent=True, status=200)
    assert found.cost_nano == PRICES.cost(structs.replace(REPORTED, model=None), OPUS, NOW)
    assert found.usage == structs.replace(other, estimated=True)
    unpriced = settle(call(other, model=UNKNOWN), policy, PRICES, was_sent=True, status=200)
    assert (unpriced.cost_nano, unpriced.usage) == (12_345, structs.replace(other, estimated=True))
    assert not other.estimated


def test_the_fallback_price_is_for_models_without_a_price(policy):
    lenient = replace(policy, unpriced="fallback", fallback_price=FallbackPrice(10, 20))
    assert price_usage(policy, PRICES, Usage(3, 4), UNKNOWN, NOW) is None
    assert price_usage(replace(lenient, unpriced="deny"), PRICES, Usage(3, 4), UNKNOWN, NOW) is None
    assert price_usage(replace(lenient, unpriced="family"), PRICES, Usage(3, 4), UNKNOWN, NOW) == 3 * 10 + 4 * 20
    assert price_usage(lenient, PRICES, Usage(3, 4), UNKNOWN, NOW) == 3 * 10 + 4 * 20
    assert price_usage(lenient, PRICES, Usage(3, 4), OPUS, NOW) == PRICES.cost(Usage(3, 4), OPUS, NOW)


NEW_MODEL = "gpt-6.2-sol"
"""A model that no table has, of a family that has one."""


def test_a_model_without_a_price_costs_as_the_dearest_of_its_family_and_its_record_says_so(policy):
    usage = Usage(1_000, 100, model=NEW_MODEL)
    found = settle(call(usage, model=NEW_MODEL), policy, PRICES, was_sent=True, status=200)
    assert found.cost_nano == PRICES.cost(structs.replace(usage, model=None), "gpt-5.6-sol", NOW) == 1_000 * 4_000 + 100 * 20_000
    assert found.usage == structs.replace(usage, estimated=True)
    strict = replace(policy, unpriced="deny")
    assert charge_usage(strict, PRICES, usage, NEW_MODEL, NOW) is None
    lenient = replace(policy, unpriced="fallback", fallback_price=FallbackPrice(10, 20))
    assert charge_usage(lenient, PRICES, usage, NEW_MODEL, NOW) == Charge(1_000 * 10 + 100 * 20, True)


def test_a_listed_price_is_no_estimate(policy):
    found = settle(call(REPORTED), policy, PRICES, was_sent=True, status=200)
    assert found.usage == REPORTED
    assert not found.usage.estimated


@pytest.mark.parametrize(
    ("rule", "second"),
    [
        ({"unpriced": "family"}, 505_000 * 10_000),
        ({"unpriced": "fallback", "fallback_price": FallbackPrice(7, 9)}, 505_000 * 7),
        ({"unpriced": "deny"}, 505_000 * 4_000),
    ],
)
def test_each_part_of_a_call_is_priced_by_its_own_model_and_none_is_free(policy, rule, second):
    """The dearest of all Claude models costs 10 dollars a million; the asked for, claude-opus-5-5, costs 4."""
    parts = (Usage(500, 50, model=OPUS), Usage(505_000, 0, model="claude-unheard-of"))
    usage = Usage(505_500, 50, iterations=parts)
    charge = charge_usage(replace(policy, **rule), PRICES, usage, OPUS, NOW)
    assert charge == Charge(500 * 4_000 + 50 * 20_000 + second, True)


def test_without_an_estimate_nothing_was_admitted_and_nothing_is_charged(policy):
    assert used_or_expected(call(REPORTED, expected=None), PRICES, 200) is None
    assert settle(call(None, expected=None), policy, PRICES, was_sent=True, status=None).cost_nano == 0


@given(
    st.sampled_from([None, REPORTED, Usage(estimated=True)]),
    st.booleans(),
    st.sampled_from([None, 200, 400, 529]),
    st.integers(0, 5_000),
)
def test_a_record_settles_as_the_call_did(policy, usage, was_sent, status, size):
    """Recovery after a crash and the dry run know the record alone, and must book what the running gateway has booked."""
    ended = call(usage if was_sent and status == 200 else None, structs.replace(EXPECTED, input_tokens=size))
    settlement = settle(ended, policy, PRICES, was_sent=was_sent, status=status)
    ended.usage, ended.cost_nano, ended.status = settlement.usage, settlement.cost_nano, status if was_sent else None
    ended.outcome = Outcome.COMPLETED if status == 200 else Outcome.FAILED
    amounts = recorded_amounts(record_of(ended, NOW + 1))
    assert amounts.pop("usd") == settlement.cost_nano
    if was_sent and status is None and not size:
        # The one case a record cannot tell: sent, without an answer and without any input.
        settlement.rate_amounts["requests"] = 0
    assert amounts == settlement.rate_amounts


def test_a_refused_call_on_record_gives_everything_back():
    record = {"id": "a", "outcome": "denied", "status": 402, "cost_nano": 5, "input_tokens": 7}
    assert recorded_amounts(record) == {"usd": 0, "requests": 0, "tokens": 0, "concurrent": 0}


def test_a_clock_that_is_set_back_does_not_shorten_the_time_a_call_took():
    call = Call("c", 0, "anthropic", "messages", sent_at=10_000, ended_at=4_000, unseen_ms=9_000)
    assert call.elapsed_ms == 9_000
