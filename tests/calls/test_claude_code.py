"""What Claude Code is told of budgets: the sentence of a refusal, and the headers that go with it."""

from __future__ import annotations

import pytest

from sluicegate.calls.admission import deny_exhausted
from sluicegate.calls.call import Call
from sluicegate.calls.claude_code.standing import standing_of
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


def call_under(*checks: tuple[str, int, int, int | None], **more) -> Call:
    """A call that these budgets have admitted, by the kind of their scope, what is used of how much, and their end."""
    call = Call("call_1", NOW, "anthropic", "messages", **({"client": "claude-code"} | more))
    call.limit_checks = [(k, "x", "usd", "1M", "soft", most, used, 10**12, 10**12, end, True) for k, used, most, end in checks]
    call.limit_checks.append(("virtual_key", "x", "requests", "1m", "soft", 10, 9, 0, 1, NOW, True))
    return call


def standing(call: Call) -> dict[str, str]:
    return {n.decode().removeprefix("anthropic-ratelimit-unified-"): v.decode() for n, v in standing_of(call)}


@pytest.mark.parametrize(
    ("used", "utilization", "surpassed"),
    [
        (0, "0.00", None),
        (749, "0.74", None),
        (750, "0.75", "0.75"),
        (949, "0.94", "0.75"),
        (950, "0.95", "0.95"),
        (1200, "0.99", "0.95"),
    ],
)
def test_an_answer_says_how_full_the_budget_is_and_which_notice_is_due(used, utilization, surpassed):
    status = "allowed_warning" if surpassed else "allowed"
    expected = {"status": status, "overage-status": status, "representative-claim": "overage", "overage-utilization": utilization}
    expected |= {"reset": str(DECEMBER // 1000), "overage-reset": str(DECEMBER // 1000)}
    expected |= {"overage-surpassed-threshold": surpassed} if surpassed else {}
    assert standing(call_under(("team", used, 1000, DECEMBER))) == expected


def test_the_fullest_of_the_budgets_that_a_caller_may_see_speaks_by_what_is_charged():
    own, team, everybody = ("virtual_key", 10, 100, NOW + 500), ("team", 600, 1000, DECEMBER), ("provider", 990, 1000, None)
    assert standing(call_under(own, team, everybody))["overage-utilization"] == "0.60"
    said = standing(call_under(("virtual_key", 70, 100, NOW + 500), team, everybody))
    # A second that has begun is not over.
    assert (said["overage-utilization"], said["reset"]) == ("0.70", str(NOW // 1000 + 1))


def test_a_budget_that_never_resets_has_no_reset():
    assert "reset" not in standing(call_under(("user", 1, 2, None)))


@pytest.mark.parametrize("more", [{"client": "other"}, {"client": "codex"}, {"envelope": "bedrock"}])
def test_others_get_nothing(more):
    assert standing(call_under(("user", 1, 2, None), **more)) == {}


def test_a_caller_without_a_budget_gets_nothing():
    assert standing(call_under()) == standing(call_under(("model", 1, 2, None))) == {}
