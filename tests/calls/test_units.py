"""Units of limits: each is known wherever a limit of it is judged, refused, settled and given back."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from sluicegate.calls.admission import REASONS
from sluicegate.calls.refusal import STATUS
from sluicegate.calls.settlement import recorded_amounts
from sluicegate.limits.ledger import Ledger
from sluicegate.policy.limit import Limit
from sluicegate.policy.schema import RateLimit
from sluicegate.routing.router import UNIT_WORDS
from sluicegate.values import ZERO_AMOUNTS, Unit
from sluicegate.web.limit_states import RateLimitState
from sluicegate.windows import parse_period

UNITS = get_args(Unit)
LIMIT = Limit("team", "t", "Team", "usd", 10, parse_period("1h"), False, "counter")


@pytest.mark.parametrize("unit", UNITS)
def test_a_limit_of_each_unit_refuses_with_a_reason_and_a_status(unit):
    assert REASONS[unit] in STATUS


@pytest.mark.parametrize("unit", UNITS)
def test_releasing_a_call_frees_a_claim_of_each_unit(unit):
    ledger, limit = Ledger(), replace(LIMIT, unit=unit)
    assert ledger.reserve("call", [(limit, 3)], now=0) is None
    assert ledger.usage(limit, now=0)[:2] == (0, 3)
    ledger.release("call")
    assert ledger.usage(limit, now=0)[:2] == (0, 0)
    assert "call" not in ledger.open


@pytest.mark.parametrize("outcome", ["denied", "completed"])
def test_a_record_settles_claims_of_each_unit(outcome):
    assert set(recorded_amounts({"outcome": outcome, "status": 200})) == set(UNITS) == set(ZERO_AMOUNTS)


def test_every_unit_has_a_word_and_every_field_of_a_rate_limit_is_shown():
    assert set(UNIT_WORDS) == set(UNITS)
    assert set(RateLimit.model_fields) <= set(RateLimitState.model_fields)
