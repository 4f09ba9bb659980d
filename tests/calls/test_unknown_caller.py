"""Callers without a known virtual key: each is told what to do where it would do it."""

from __future__ import annotations

import pytest

from sluicegate.calls.unknown_caller import refusal_at_proxy, refusal_of_unknown
from sluicegate.values import Reason

REQUIRED, NOT_FOUND = Reason.VIRTUAL_KEY_REQUIRED, Reason.VIRTUAL_KEY_NOT_FOUND
IN_URL = "put it into the proxy URL (HTTPS_PROXY=http://KEY:x@HOST:PORT)"
SENT = "The key that was sent is not a known virtual key: it may have been revoked or mistyped"


@pytest.mark.parametrize(
    ("client", "provider", "sent", "is_login", "reason", "says"),
    [
        ("claude-code", "anthropic", (), False, REQUIRED, f"No virtual key was sent: set ANTHROPIC_API_KEY to yours, or {IN_URL}"),
        ("codex", "openai", (), False, REQUIRED, f"No virtual key was sent: set CODEX_API_KEY to yours, or {IN_URL}"),
        ("gemini-cli", "gemini", (), False, REQUIRED, f"No virtual key was sent: set GEMINI_API_KEY to yours, or {IN_URL}"),
        ("qwen-code", "openai", (), False, REQUIRED, f"No virtual key was sent: set OPENAI_API_KEY to yours, or {IN_URL}"),
        ("opencode", "openai", (), False, REQUIRED, f"No virtual key was sent: set OPENAI_API_KEY to yours, or {IN_URL}"),
        ("other", "gemini", (), False, REQUIRED, f"No virtual key was sent: set GEMINI_API_KEY to yours, or {IN_URL}"),
        ("other", "anthropic", (), False, REQUIRED, f"No virtual key was sent: set ANTHROPIC_API_KEY to yours, or {IN_URL}"),
        ("claude-code", "anthropic", ("x-api-key",), False, NOT_FOUND, f"{SENT}; set ANTHROPIC_API_KEY to yours, or {IN_URL}"),
        (
            "claude-code",
            "anthropic",
            ("authorization",),
            False,
            NOT_FOUND,
            f"{SENT}; set ANTHROPIC_AUTH_TOKEN to yours, or {IN_URL}",
        ),
        ("claude-code", "vertex", (), False, REQUIRED, f"No virtual key was sent: set ANTHROPIC_AUTH_TOKEN to yours, or {IN_URL}"),
        ("gemini-cli", "vertex", (), False, REQUIRED, f"No virtual key was sent: set GOOGLE_API_KEY to yours, or {IN_URL}"),
        (
            "claude-code",
            "foundry",
            (),
            False,
            REQUIRED,
            f"No virtual key was sent: set ANTHROPIC_FOUNDRY_API_KEY to yours, or {IN_URL}",
        ),
        (
            "claude-code",
            "anthropic",
            ("authorization", "x-api-key"),
            False,
            NOT_FOUND,
            f"{SENT}; set ANTHROPIC_API_KEY to yours, or {IN_URL}",
        ),
        ("codex", "openai", ("authorization",), False, NOT_FOUND, f"{SENT}; set CODEX_API_KEY to yours, or {IN_URL}"),
        ("other", "gemini", ("query",), False, NOT_FOUND, f"{SENT}; set GEMINI_API_KEY to yours, or {IN_URL}"),
        (
            "other",
            "openai",
            ("api-key", "proxy-authorization"),
            False,
            NOT_FOUND,
            f"{SENT}; set OPENAI_API_KEY to yours, or {IN_URL}; nor is the one in the proxy URL known",
        ),
        (
            "claude-code",
            "anthropic",
            ("proxy-authorization",),
            False,
            NOT_FOUND,
            "The key in the proxy URL is not a known virtual key: it may have been revoked or mistyped; correct it there, "
            "or set ANTHROPIC_API_KEY to yours",
        ),
        (
            "claude-code",
            "anthropic",
            ("authorization",),
            True,
            REQUIRED,
            "A Claude login was sent, and this gateway asks for a virtual key: set ANTHROPIC_API_KEY to yours in place of the login",
        ),
        (
            "claude-code",
            "anthropic",
            ("authorization", "proxy-authorization"),
            True,
            NOT_FOUND,
            "A Claude login was sent, and this gateway asks for a virtual key: set ANTHROPIC_API_KEY to yours in place of the login"
            "; the one in the proxy URL is not known",
        ),
        (
            "claude-code",
            "anthropic",
            ("authorization", "x-api-key"),
            True,
            NOT_FOUND,
            f"{SENT}; set ANTHROPIC_API_KEY to yours, or {IN_URL}",
        ),
    ],
)
def test_an_unknown_caller_is_told_what_fits(client, provider, sent, is_login, reason, says):
    refusal = refusal_of_unknown(client, provider, sent, is_login=is_login)
    assert (refusal.reason, refusal.message) == (reason, says)


@pytest.mark.parametrize("sent", [("authorization",), ("authorization", "proxy-authorization")])
def test_where_logins_pass_one_without_a_key_is_told_where_the_key_goes(sent):
    refusal = refusal_of_unknown("claude-code", "anthropic", sent, is_login=True, passes_logins=True)
    assert f"{IN_URL}, where it works beside the login, or set ANTHROPIC_API_KEY to yours" in refusal.message
    assert ("the one in the proxy URL is not known" in refusal.message) == (len(sent) == 2)


def test_a_shell_tool_is_told_whether_its_key_is_missing_or_wrong():
    assert "asks for a virtual key" in refusal_at_proxy(has_credential=False).message
    assert "is not a known virtual key" in refusal_at_proxy(has_credential=True).message
