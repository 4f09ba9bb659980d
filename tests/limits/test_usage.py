"""The usage table's forecasts, and whose level a level is of."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.limits.ledger import Ledger
from sluicegate.limits.usage import exhausted_at, forecast, usage_rows, with_names_and_parents
from sluicegate.policy.loader import load
from sluicegate.values import NANO

HOUR = 3_600_000


@pytest.mark.parametrize(
    ("used", "end", "now", "ahead", "full"),
    [
        (50, 100 * HOUR, 50 * HOUR, 100, None),
        (60, 100 * HOUR, 50 * HOUR, 120, 83 * HOUR + HOUR // 3),
        (100, 100 * HOUR, 50 * HOUR, 200, 50 * HOUR),
        (250, 100 * HOUR, 50 * HOUR, 500, 50 * HOUR),
        (0, 100 * HOUR, 50 * HOUR, 0, None),
        (9, 100 * HOUR, HOUR - 1, None, None),
        (9, 100 * HOUR, HOUR, 900, 11 * HOUR + HOUR // 9),
        (9, 100 * HOUR, 0, None, None),
        (9, None, 50 * HOUR, None, 555 * HOUR + 5 * HOUR // 9),
        (9, None, HOUR - 1, None, None),
        (0, None, 50 * HOUR, None, None),
    ],
)
def test_what_a_window_comes_to_at_its_pace(used, end, now, ahead, full):
    assert forecast(used, 0, end, now) == ahead
    found = exhausted_at(used, 100, 0, end, now)
    assert found == full or (found is not None and full is not None and 0 <= found - full <= 1)


@given(st.integers(0, 10**15), st.integers(0, 10**15), st.integers(0, 10**12), st.integers(1, 10**11), st.integers(0, 10**11))
def test_a_limit_is_exhausted_in_its_window_exactly_when_the_forecast_is_beyond_it(used, maximum, start, length, passed):
    now = start + min(passed, length - 1)
    ahead, full = forecast(used, start, start + length, now), exhausted_at(used, maximum, start, start + length, now)
    assert full is None or now <= full < start + length
    if ahead is not None and used < maximum:
        # Moments are whole milliseconds: what is reached within the last one is reached at the end, which is no longer in it.
        assert used * (length - 1) <= maximum * (now - start) if full is None else ahead >= maximum


def test_a_prepaid_budget_that_lasts_for_ages_names_no_day(tmp_path):
    assert exhausted_at(1, 10**18, 0, None, 50 * HOUR) is None


MONTH = {"budget": {"max_limit": 1, "reset_duration": "1M"}}
SPEED = {"rate_limit": {"request_max_limit": 5, "request_reset_duration": "1h", "max_concurrent": 3}}
POLICY = {
    "version": 1,
    "providers": {"anthropic": MONTH},
    "model_configs": [{"model_name": "claude-*"} | MONTH],
    "customers": [{"id": "acme", "name": "Acme Corp"} | MONTH],
    "teams": [{"id": "eng", "name": "Engineering", "customer_id": "acme"} | MONTH, {"id": "free", "customer_id": "acme"}],
    "users": [{"id": "alice", "team_id": "eng"} | MONTH, {"id": "bob", "team_id": "free"}],
    "projects": [{"id": "apollo", "team_id": "free"} | MONTH],
    "virtual_keys": [
        {"id": "vk:1", "name": "Laptop", "user_id": "alice", "provider_configs": [{"provider": "openai"} | MONTH]} | MONTH | SPEED,
        {"id": "vk-2", "user_id": "bob"} | MONTH,
        {"id": "vk-3", "user_id": "bob", "project_id": "apollo"} | MONTH,
        {"id": "vk-4", "user_id": "alice", "provider_configs": [{"provider": "openai"} | SPEED]},
        {"id": "vk-5"} | MONTH,
    ],
}


def test_each_level_knows_the_nearest_one_above_that_is_there(tmp_path):
    file = tmp_path / "policy.yaml"
    file.write_text(json.dumps(POLICY))
    policy, ledger = load(file, env={}, now=0), Ledger()
    rows = with_names_and_parents(usage_rows(policy, ledger, HOUR), policy)
    tree = {(r["kind"], r["id"], r["name"]): r["parent"] and tuple(r["parent"].values()) for r in rows}
    assert tree == {
        ("customer", "acme", "Acme Corp"): None,
        ("team", "eng", "Engineering"): ("customer", "acme"),
        ("project", "apollo", "apollo"): ("customer", "acme"),
        ("user", "alice", "alice"): ("team", "eng"),
        ("virtual_key", "vk:1", "Laptop"): ("user", "alice"),
        ("virtual_key", "vk-2", "vk-2"): ("customer", "acme"),
        ("virtual_key", "vk-3", "vk-3"): ("project", "apollo"),
        ("virtual_key", "vk-5", "vk-5"): None,
        ("provider_config", "vk:1:openai", "openai"): ("virtual_key", "vk:1"),
        ("provider_config", "vk-4:openai", "openai"): ("user", "alice"),
        ("provider", "anthropic", "anthropic"): None,
        ("model", "claude-*", "claude-*"): None,
    }


def test_only_money_is_forecast_and_what_has_no_window_is_never_exhausted(tmp_path):
    file = tmp_path / "policy.yaml"
    file.write_text(json.dumps(POLICY))
    policy, ledger = load(file, env={}, now=0), Ledger()
    limits = {x.unit: x for x in policy.virtual_keys["vk:1"].limits}
    ledger.reserve("a", [(x, 3) for x in limits.values()], 0)
    ledger.settle("a", {"usd": NANO // 2, "requests": 3, "tokens": 3})
    rows = {r["unit"]: r for r in usage_rows(policy, ledger, HOUR // 2) if r["id"] == "vk:1"}
    assert (rows["usd"]["forecast_usd"], rows["usd"]["exhausted_at"]) == (None, None)
    assert (rows["requests"]["forecast_usd"], rows["requests"]["exhausted_at"]) == (None, "1970-01-01T00:50:00.000Z")
    assert (rows["concurrent"]["forecast_usd"], rows["concurrent"]["exhausted_at"]) == (None, None)
    (later,) = (r for r in usage_rows(policy, ledger, 72 * HOUR) if r["id"] == "vk:1" and r["unit"] == "usd")
    assert (later["forecast_usd"], later["exhausted_at"]) == ("5", "1970-01-07T00:00:00.000Z")
