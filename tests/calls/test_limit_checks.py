"""Verdicts as they are shown: in the usage table's words, exact, and to nobody whom they are not a business of."""

from __future__ import annotations

import pytest

from sluicegate.calls.limit_checks import describe, from_text, to_text, visible_checks
from sluicegate.values import NANO

KEY = ("virtual_key", "vk", "usd", "1M", "hard", 50 * NANO, 1, 74_000_000, 10**18 + 1, 1_800_000_000_000, True)
FLIGHT = ("user", "alice", "concurrent", None, "soft", 2, 0, 2, 1, None, False)


def test_money_is_exact_text_and_counts_are_integers():
    money, flight = describe([KEY, FLIGHT])
    assert money == {
        "kind": "virtual_key",
        "id": "vk",
        "unit": "usd",
        "window": "1M",
        "enforcement": "hard",
        "limit_usd": "50",
        "used_usd": "0.000000001",
        "reserved_usd": "0.074",
        "asked_usd": "1000000000.000000001",
        "limit": None,
        "used": None,
        "reserved": None,
        "asked": None,
        "resets_at": "2027-01-15T08:00:00.000Z",
        "admitted": True,
    }
    assert {k: v for k, v in flight.items() if v is not None} == {
        "kind": "user",
        "id": "alice",
        "unit": "concurrent",
        "enforcement": "soft",
        "limit": 2,
        "used": 0,
        "reserved": 2,
        "asked": 1,
        "admitted": False,
    }


@pytest.mark.parametrize("verdicts", [None, [], [KEY, FLIGHT]])
def test_what_comes_from_a_column_is_what_went_into_it(verdicts):
    back = from_text(to_text(verdicts))
    assert back == (None if verdicts is None else [list(v) for v in verdicts])
    assert describe(back) == describe(verdicts)


def scoped(kind, admitted):
    return (kind, "x", "usd", "1M", "soft", 5, 1, 0, 1, None, admitted)


@pytest.mark.parametrize("kind", ["virtual_key", "provider_config", "user", "project", "team", "customer", "provider", "model"])
def test_who_sees_one_keys_calls_learns_nothing_of_what_all_use_but_what_refused(kind):
    shared = kind in ("provider", "model")
    for verdict in (scoped(kind, admitted=True), scoped(kind, admitted=False)):
        assert visible_checks([KEY, verdict], None) == [KEY, verdict]
        assert visible_checks([KEY, verdict], "vk") == ([KEY] if shared and verdict[-1] else [KEY, verdict])
    assert visible_checks(None, "vk") is None
