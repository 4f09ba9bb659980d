"""The line that says what is left: whatever the quota, one line, the tightest first."""

from __future__ import annotations

from datetime import timedelta, timezone

import pytest

from sluicegate.cli.statusline_text import RED, YELLOW, format_line, gateway_and_key
from sluicegate.windows import parse_iso

NOW = parse_iso("2026-11-24T10:00:00Z")
BERLIN = timezone(timedelta(hours=1))


def budget(used, most=50.0, source="virtual_key", scope="vk-dev-alice", resets="2026-12-01T00:00:00.000Z", reserved=0.0):
    return {
        "max_limit": most,
        "current_usage": used,
        "reserved": reserved,
        "source": source,
        "scope_id": scope,
        "resets_at": resets,
    }


def rate(what, left, most, source="virtual_key", scope="vk-dev-alice", resets="2026-11-24T10:30:00.000Z"):
    empty = {f"{x}_{y}": None for x in ("request", "token") for y in ("max_limit", "remaining", "resets_at")}
    return empty | {
        "source": source,
        "scope_id": scope,
        f"{what}_max_limit": most,
        f"{what}_remaining": left,
        f"{what}_resets_at": resets,
    }


@pytest.mark.parametrize(
    ("budgets", "rates", "shown"),
    [
        ([], [], "no limit applies"),
        ([budget(10)], [], "██░░░░░░ $40.00 of $50.00 left, resets 1 Dec"),
        ([budget(0.001, 5000, "customer", "acme"), budget(0)], [], "░░░░░░░░ $50.00 of $50.00 left, resets 1 Dec"),
        ([budget(10, reserved=5)], [], "██░░░░░░ $35.00 of $50.00 left, resets 1 Dec"),
        ([budget(48.116)], [], "████████ $1.88 of $50.00 left, resets 1 Dec"),
        ([budget(50.3)], [], "████████ $0.00 of $50.00 left, resets 1 Dec"),
        ([budget(0, 0)], [], "████████ $0.00 of $0.00 left, resets 1 Dec"),
        ([budget(1, resets=None)], [], "░░░░░░░░ $49.00 of $50.00 left, never resets"),
        ([budget(1, resets="2026-11-24T23:30:00Z")], [], "░░░░░░░░ $49.00 of $50.00 left, resets 00:30"),
        (
            [budget(10), budget(450, 500, "team", "team-engineering")],
            [],
            "███████░ $50.00 of $500.00 left (team-engineering), resets 1 Dec",
        ),
        (
            [budget(45), budget(450, 500, "team", "team-engineering")],
            [],
            "███████░ $5.00 of $50.00 left, resets 1 Dec · $50.00 of $500.00 left (team-engineering), resets 1 Dec",
        ),
        ([budget(10)], [rate("request", 70, 100)], "██░░░░░░ $40.00 of $50.00 left, resets 1 Dec"),
        (
            [budget(10)],
            [rate("request", 12, 100)],
            "███████░ $40.00 of $50.00 left, resets 1 Dec · 12 of 100 calls left, resets 11:30",
        ),
        ([], [rate("token", 1_200_000, 2_000_000)], "███░░░░░ 1,200,000 of 2,000,000 tokens left, resets 11:30"),
        ([], [rate("request", 0, 0)], "████████ 0 of 0 calls left, resets 11:30"),
    ],
)
def test_the_tightest_comes_first(budgets, rates, shown):
    assert format_line({"budgets": budgets, "rate_limits": rates}, NOW, BERLIN, colour=False) == shown


def test_what_is_nearly_used_up_is_coloured_and_the_rest_is_not():
    coloured = format_line({"budgets": [budget(45)], "rate_limits": [rate("request", 0, 100)]}, NOW, BERLIN)
    assert f"{YELLOW}$5.00" in coloured
    assert f"{RED}0 of 100 calls" in coloured
    assert "\n" not in coloured
    plain = format_line({"budgets": [budget(1)], "rate_limits": []}, NOW, BERLIN)
    assert " $49.00 of $50.00 left" in plain


@pytest.mark.parametrize(
    ("env", "found"),
    [
        ({}, (None, None)),
        ({"HTTPS_PROXY": "http://vk-a:@gw:8080"}, ("http://gw:8080", "vk-a")),
        ({"HTTPS_PROXY": "http://gw:8080", "ANTHROPIC_API_KEY": "vk-b"}, ("http://gw:8080", "vk-b")),
        ({"https_proxy": "http://sk%2Fa:@gw:8080"}, ("http://gw:8080", "sk/a")),
        (
            {"HTTPS_PROXY": "http://company:3128", "ANTHROPIC_BASE_URL": "http://gw:8080", "ANTHROPIC_API_KEY": "vk-d"},
            ("http://gw:8080", "vk-d"),
        ),
        ({"ANTHROPIC_BASE_URL": "http://gw:8080/anthropic", "ANTHROPIC_AUTH_TOKEN": "vk-c"}, ("http://gw:8080", "vk-c")),
        (
            {"HTTPS_PROXY": "http://gw:8080", "ANTHROPIC_BASE_URL": "https://api.anthropic.com", "ANTHROPIC_API_KEY": "k"},
            ("http://gw:8080", "k"),
        ),
    ],
)
def test_gateway_and_key_are_those_the_agent_runs_with(env, found):
    assert gateway_and_key(env) == found
