"""Refusals: the status, headers and words of each, for each client that wants them otherwise."""

from __future__ import annotations

import re

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.calls.call import BY_BASE_URL, IN_CLOUD_MODE
from sluicegate.calls.refusal import (
    NO_BREAK_SPACE,
    STATUS,
    WORD_JOINER,
    budget_message,
    model_message,
    one_line,
    rate_message,
    render,
)
from sluicegate.policy.limit import Limit
from sluicegate.values import NANO, Deny, Reason
from sluicegate.windows import parse_iso, parse_period

RATES = ("request_limited", "token_limited", "concurrency_limited")
KEYS = ("virtual_key_required", "virtual_key_not_found", "virtual_key_blocked")
ROWS = [
    ("budget_exceeded", "other", 402, "budget_exceeded"),
    ("budget_exceeded", "claude-code", 429, "billing_error"),
    ("budget_exceeded", "codex", 400, "budget_exceeded"),
    ("request_limited", "other", 429, "rate_limited"),
    ("token_limited", "other", 429, "rate_limited"),
    ("concurrency_limited", "other", 429, "rate_limited"),
    *((limit, "claude-code", 429, "rate_limited") for limit in RATES),
    *((limit, "codex", 400, "rate_limited") for limit in RATES),
    *((limit, client, 402, "rate_limited") for limit in RATES for client in ("gemini-cli", "qwen-code")),
    *((limit, "opencode", 402, "limit_exceeded") for limit in RATES),
    *(("budget_exceeded", client, 402, "budget_exceeded") for client in ("gemini-cli", "qwen-code", "opencode")),
    ("model_blocked", "other", 403, "model_blocked"),
    ("model_blocked", "gemini-cli", 403, "model_blocked"),
    ("model_blocked", "claude-code", 400, "model_blocked"),
    ("model_blocked", "codex", 404, "model_not_found"),
    ("provider_blocked", "other", 403, "provider_blocked"),
    ("provider_blocked", "claude-code", 400, "provider_blocked"),
    *((reason, IN_CLOUD_MODE, 409, reason) for reason in ("budget_exceeded", "model_blocked", "provider_blocked")),
    *((reason, IN_CLOUD_MODE, 409, reason) for reason in ("invalid_request", "unsupported", "model_unpriced")),
    *((limit, IN_CLOUD_MODE, 429, "rate_limited") for limit in RATES),
    *((reason, BY_BASE_URL, 409, reason) for reason in ("model_blocked", "provider_blocked", "model_unpriced")),
    *((reason, BY_BASE_URL, 409, reason) for reason in ("missing_required_headers", "blocked_by_policy")),
    *((reason, BY_BASE_URL, 400, reason) for reason in ("invalid_request", "unsupported")),
    *((limit, BY_BASE_URL, 429, "rate_limited") for limit in RATES),
    ("budget_exceeded", BY_BASE_URL, 429, "billing_error"),
    ("virtual_key_not_found", BY_BASE_URL, 401, "virtual_key_not_found"),
    *((key, IN_CLOUD_MODE, 409, key) for key in KEYS),
    ("virtual_key_required", "other", 401, "virtual_key_required"),
    ("virtual_key_not_found", "other", 401, "virtual_key_not_found"),
    ("virtual_key_blocked", "other", 401, "virtual_key_blocked"),
    *((key, "codex", 400, key) for key in KEYS),
    *((key, client, 401, key) for key in KEYS for client in ("claude-code", "gemini-cli", "qwen-code", "opencode")),
    ("invalid_request", "other", 400, "invalid_request"),
    ("model_unpriced", "other", 400, "model_unpriced"),
    ("missing_required_headers", "other", 400, "missing_required_headers"),
    ("unsupported", "other", 400, "unsupported"),
    ("blocked_by_policy", "other", 400, "blocked_by_policy"),
    ("gateway_error", "other", 503, "gateway_error"),
    ("provider_unavailable", "other", 503, "provider_unavailable"),
    ("shutting_down", "other", 503, "shutting_down"),
    ("provider_unavailable", "claude-code", 503, "provider_unavailable"),
    *(("provider_unavailable", client, 400, "provider_unavailable") for client in ("codex", "gemini-cli", "qwen-code", "opencode")),
]


@pytest.mark.parametrize(("reason", "client", "status", "family"), ROWS)
def test_every_row_of_the_table(reason, client, status, family):
    deny = Deny(Reason(reason), "Because.", retry_after=90)
    got, headers, body = render(deny, "anthropic", client)
    assert (got, dict(headers)["x-sluicegate-reason"], dict(headers)["content-type"]) == (status, reason, "application/json")
    assert dict(headers)["x-should-retry"] == "false"
    # Clients that get another status for a rate limit obey a long wait in silence.
    assert dict(headers).get("retry-after") == (None if reason in RATES and status != 429 else "90")
    assert orjson.loads(body) == {"type": "error", "error": {"type": family, "message": "Because."}}


def test_every_reason_has_a_status():
    assert set(STATUS) == set(Reason)


@pytest.mark.parametrize("client", ["other", "claude-code", "codex", "gemini-cli", "qwen-code", "opencode"])
@pytest.mark.parametrize(
    ("reason", "status"),
    [
        ("request_limited", 429),
        ("token_limited", 429),
        ("concurrency_limited", 429),
        ("gateway_error", 503),
        ("shutting_down", 503),
    ],
)
def test_a_wait_worth_waiting_is_left_to_every_client(client, reason, status):
    got, headers, _ = render(Deny(Reason(reason), "x", retry_after=5, final=False), "anthropic", client)
    assert (got, dict(headers)["retry-after"], "x-should-retry" in dict(headers)) == (status, "5", False)


def test_no_answer_of_a_provider_is_a_status_that_gemini_cli_does_not_try_again_for_minutes():
    for final in (True, False):
        unreachable = Deny(Reason.PROVIDER_UNREACHABLE, "x", final=final)
        statuses = [render(unreachable, "gemini", client)[0] for client in ("gemini-cli", "qwen-code", "claude-code", "other")]
        assert statuses == [424, 502, 502, 502]


@pytest.mark.parametrize(("provider", "key"), [("openai", "code"), ("gemini", "status")])
def test_other_providers_get_their_own_envelope(provider, key):
    _, _, body = render(Deny(Reason.BUDGET_EXCEEDED, "No."), provider, "other")
    error = orjson.loads(body)["error"]
    assert (error["message"], error[key].lower()) == ("No.", "budget_exceeded")


@pytest.mark.parametrize(
    ("client", "code"), [("other", "request_limited"), ("codex", "rate_limited"), ("opencode", "limit_exceeded")]
)
def test_openai_s_code_is_the_exact_reason_where_the_status_is_the_standard_one(client, code):
    _, _, body = render(Deny(Reason.REQUEST_LIMITED, "No."), "openai", client)
    error = orjson.loads(body)["error"]
    assert (error["code"], error["type"]) == (code, "limit_exceeded" if client == "opencode" else "rate_limited")


def limit(unit="usd", maximum=50 * NANO, text="1M", hard=False):
    return Limit("virtual_key", "vk-dev-alice", "VK", unit, maximum, parse_period(text), hard, "c")


def test_messages_name_level_numbers_and_reset():
    at = parse_iso("2026-12-01T00:00:00Z")
    said = budget_message(limit(), 50 * NANO, None, at)
    assert said == "Budget exceeded: VK budget exceeded: 50.00 > 50.00 dollars (vk-dev-alice, resets 2026-12-01T00:00:00Z)"
    assert budget_message(limit(), 0, None, None).endswith("(vk-dev-alice, never resets)")
    said = budget_message(limit(hard=True), 49 * NANO, 2 * NANO, at)
    assert "51.00 > 50.00 dollars: 49.00 used and this call's worst case of 2.00" in said
    # A limit far below a cent: the amounts differ, so the texts do.
    said = budget_message(limit(maximum=100_000), 120_000, None, None)
    assert said == "Budget exceeded: VK budget exceeded: 0.00012 > 0.0001 dollars (vk-dev-alice, never resets)"
    said = budget_message(limit(maximum=100_000, hard=True), 40_000, 70_000, None)
    assert "0.00011 > 0.0001 dollars: 0.00004 used and this call's worst case of 0.00007" in said
    said = rate_message(limit("requests", 100, "1h"), 101, retry_after=7)
    assert said == "Rate limits exceeded: [request limit exceeded (101/100, resets every 1h)] for VK vk-dev-alice; try again in 7 s"
    said = rate_message(limit("tokens", 100, "never"), 100, retry_after=None)
    assert said == "Rate limits exceeded: [token limit exceeded (100/100, never resets)] for VK vk-dev-alice"
    assert model_message("m", ["b", "a"]) == "Model 'm' is not allowed for this virtual key. Allowed: a, b"


def test_a_message_is_one_printable_line_without_words_that_clients_replace():
    bad = "Model 'x\n\x1b[31mPrompt is too long: credit balance is TOO low' " + "y" * 5000
    _, _, body = render(Deny(Reason.MODEL_BLOCKED, bad), "anthropic", "other")
    said = orjson.loads(body)["error"]["message"]
    assert said.isprintable()
    assert len(said) <= 1000
    assert "too long" not in said.lower()
    assert "too low" not in said.lower()


OPENCODE = [
    r"429|500|502|503|504|524",
    r"rate increased too quickly|rate limit|rate-limit|rate_limit|too many requests",
    r"overloaded|service unavailable|service_unavailable|service-unavailable|internal error|internal_error|internal server error"
    r"|server error|server_error|server-error|provider returned error|provider_returned_error|provider-returned-error",
    r"terminated|fetch failed|failed to fetch|network[-_\s]error|upstream connect|connection error|connection refused"
    r"|connection lost|socket connection was closed|socket hang up|reset before headers|getaddrinfo|enotfound|eai_again"
    r"|econnrefused|econnreset|etimedout",
    r"^timeout$|\b(?:request|response|connection|network|stream|read) (?:timeout|timed out|time out)\b",
    r"try your request again|retry your request|resource exhausted|resource_exhausted",
    r"\btry again (?:later|in\b)|\b(?:currently|temporarily) at capacity\b",
]
"""What opencode 1.18.33 looks for in the message and the body of an error that its library would not try again."""
PIECES = re.split(r"\||\\b", "|".join(OPENCODE).replace("(?:", "|").replace(")", "|"))


@given(st.lists(st.sampled_from([*PIECES, *"0123456789 .-_"]) | st.text(max_size=3), max_size=12).map("".join))
def test_opencode_finds_no_reason_to_try_a_final_refusal_again(said):
    _, _, body = render(Deny(Reason.REQUEST_LIMITED, said), "openai", "opencode")
    shown = orjson.loads(body)["error"]["message"]
    assert not [p for p in OPENCODE for text in (shown, body.decode()) if re.search(p, text, re.IGNORECASE)]
    as_read = shown.replace(WORD_JOINER, "").replace(NO_BREAK_SPACE, " ")
    assert as_read == one_line(said).replace(NO_BREAK_SPACE, " ")


def test_opencode_is_left_to_wait_where_waiting_helps():
    _, _, body = render(Deny(Reason.REQUEST_LIMITED, "Rate limits", retry_after=5, final=False), "openai", "opencode")
    assert orjson.loads(body)["error"] == {
        "type": "rate_limited",
        "code": "request_limited",
        "message": "Rate limits",
        "param": None,
    }
