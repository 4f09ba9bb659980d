"""What is left, in the object that Claude Code gives to programs that draw its status line."""

from __future__ import annotations

import pytest

from sluicegate.cli.statusline_json import with_spend_limit
from sluicegate.windows import parse_iso

RESET = "2026-12-01T00:00:00.000Z"


def budget(used, most, source="virtual_key", resets=RESET, window="1M", **more):
    return {
        "current_usage": used,
        "reserved": 40.0,
        "max_limit": most,
        "source": source,
        "resets_at": resets,
        "reset_duration": window,
    } | more


def test_the_fullest_budget_is_added_to_what_the_client_gave():
    given = {"model": {"id": "m"}, "rate_limits": {"five_hour": {"used_percentage": 3}, "spend_limit": {"used_percentage": 1}}}
    told = with_spend_limit(given, {"budgets": [budget(10, 50), budget(412.5, 500, "team")]})
    limit = {
        "used_percentage": 82.5,
        "used_usd": 412.5,
        "limit_usd": 500,
        "period": "monthly",
        "resets_at": parse_iso(RESET) // 1000,
    }
    assert told == {"model": {"id": "m"}, "rate_limits": {"five_hour": {"used_percentage": 3}, "spend_limit": limit}}


def test_without_a_budget_it_stays_as_it_is():
    assert with_spend_limit({"model": 1}, {"budgets": []}) == {"model": 1}


@pytest.mark.parametrize(
    ("one", "limit"),
    [
        (budget(1, 4, resets=None, window="never"), {"used_percentage": 25, "used_usd": 1, "limit_usd": 4}),
        (budget(5, 4, resets=None, window="2h"), {"used_percentage": 125, "used_usd": 5, "limit_usd": 4}),
        (budget(0, 0, resets=None, window="1d"), {"used_percentage": 100, "used_usd": 0, "limit_usd": 0, "period": "daily"}),
        (
            budget(2, 4, resets=None, window="1w", limit_in_force=8.0),
            {"used_percentage": 25, "used_usd": 2, "limit_usd": 8, "period": "weekly"},
        ),
    ],
)
def test_what_does_not_hold_for_a_budget_is_absent(one, limit):
    assert with_spend_limit({"rate_limits": None}, {"budgets": [one]}) == {"rate_limits": {"spend_limit": limit}}
