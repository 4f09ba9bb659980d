"""What Claude Code is told of budgets: the sentence of a refusal, and the headers that go with it."""

from __future__ import annotations

import pytest

from sluicegate.calls.admission import deny_exhausted
from sluicegate.calls.call import Call
from sluicegate.calls.refusal import for_client
from sluicegate.limits.claims import Exhausted
from sluicegate.policy.limit import Limit
from sluicegate.values import NANO, Deny
from sluicegate.windows import parse_iso, parse_period

NOW, DECEMBER = parse_iso("2026-11-28T10:00:00Z"), parse_iso("2026-12-01T00:00:00Z")


def refusal(at: int | None = DECEMBER, *, kind="team", scope="team-eng", name="Engineering", window="1M", hard=False) -> Deny:
    limit = Limit(kind, scope, "Team", "usd", 500 * NANO, parse_period(window), hard, "c", name=name)
    return deny_exhausted(Exhausted(limit, 500_120_000_000 if not hard else 499 * NANO, 2 * NANO, at), NOW)


def said(deny: Deny, client="claude-code", provider="anthropic") -> Deny:
    return for_client(deny, Call("call_1", NOW, provider, "messages", client=client))


def test_it_is_one_sentence_with_the_name_the_amounts_and_the_day():
    assert said(refusal()).message == "Budget exceeded: team Engineering has used $500.12 of $500.00, resets 1 Dec (UTC)"


@pytest.mark.parametrize(
    ("at", "words"),
    [
        ("2026-11-28T14:30:00Z", "resets 28 Nov 14:30 (UTC)"),
        # It is not over before that minute has passed.
        ("2026-11-28T14:29:01Z", "resets 28 Nov 14:30 (UTC)"),
        ("2027-01-01T00:00:00Z", "resets 1 Jan 2027 (UTC)"),
    ],
)
def test_a_reset_has_its_time_and_its_year_where_they_matter(at, words):
    assert said(refusal(parse_iso(at))).message.endswith(words)


def test_a_budget_that_never_resets_says_so_and_has_no_such_header():
    deny = said(refusal(None, window="never"))
    assert deny.message.endswith(" of $500.00, never resets")
    assert not [name for name, _ in deny.headers if name.endswith(("-reset", "-period"))]


def test_a_hard_budget_says_what_the_call_could_cost():
    assert "has used $499.00 of $500.00, and this call could cost $2.00, resets 1 Dec" in said(refusal(hard=True)).message


@pytest.mark.parametrize(
    ("kind", "scope", "words"),
    [
        ("virtual_key", "vk-alice", "virtual key vk-alice has"),
        ("provider_config", "vk-alice:openai", "virtual key vk-alice with openai has"),
        ("model", "claude-fable-*", "model claude-fable-* has"),
    ],
)
def test_a_scope_without_a_name_is_called_by_its_id(kind, scope, words):
    assert words in said(refusal(kind=kind, scope=scope, name="")).message


@pytest.mark.parametrize(("client", "provider"), [("codex", "openai"), ("other", "anthropic"), ("claude-code", "bedrock")])
def test_others_and_the_mode_of_a_cloud_get_the_words_of_the_table(client, provider):
    deny = refusal()
    assert said(deny, client, provider) == deny
    assert deny.headers == ()
