"""A restored policy brings back limits and names, in words, but no access that was taken away since."""

from __future__ import annotations

import pytest
import yaml

from sluicegate.policy.editing.draft import EditError
from sluicegate.policy.editing.restoring import plan_restore
from sluicegate.yaml_document import parse

THEN = """\
version: 1
teams:
  - {id: team-a, budget: {max_limit: 500, reset_duration: 1M}}   # ours
  - {id: team-gone}
virtual_keys:
  - id: vk-bob   # of Bob
    team_id: team-a
    budget: {max_limit: 50.00, reset_duration: 1M}
  - {id: vk-old, value: env.OLD, expires_at: 2030-01-01T00:00:00Z}
  - {id: vk-left, value_hash: <secret virtual_keys/vk-left/value_hash>}
  - {id: vk-same, value_hash: <secret virtual_keys/vk-same/value_hash>, rate_limit: {request_max_limit: 100, request_reset_duration: 1h, max_concurrent: 4}}
operators:
  - {id: dana, role: admin, token_hash: <secret operators/dana/token_hash>}
  - {id: eve, role: admin, token_hash: <secret operators/eve/token_hash>}
"""
NOW = """\
version: 1
teams:
  - {id: team-a, budget: {max_limit: 50, reset_duration: 1M}}
virtual_keys:
  - {id: vk-bob, team_id: team-a, is_active: false, budget: {max_limit: 50, reset_duration: 1M}}
  - {id: vk-old, value_hash: <secret virtual_keys/vk-old/value_hash>, expires_at: 2026-11-20T00:00:00Z}
  - {id: vk-same, value_hash: <secret virtual_keys/vk-same/value_hash>, rate_limit: {request_max_limit: 10, request_reset_duration: 1m}}
  - {id: vk-new}
operators:
  - {id: dana, role: viewer, token_hash: <secret operators/dana/token_hash>}
egress: {default: deny}
"""
DAYS = {("vk-bob", "disabled"): "2026-11-20", ("vk-left", "deleted"): "2026-11-21"}


def plan(*asked, now=NOW, then=THEN):
    docs = [[parse(text.encode(), "policy.yaml")] for text in (now, then)]
    return plan_restore(*docs, {"policy.yaml": then}, asked, lambda kind, name, done: DAYS.get((name, done)))


def keys(of):
    return {k["id"]: k for k in yaml.safe_load(of.texts["policy.yaml"])["virtual_keys"]}


def test_revocations_stay_and_everything_else_is_said_in_words():
    made = plan()
    assert [e.text for e in made.kept] == [
        "key vk-bob, disabled 2026-11-20, stays disabled",
        "key vk-old expires at 2026-11-20T00:00:00Z, as now",
        "key vk-old, rotated since, keeps its present value",
        "key vk-left, deleted 2026-11-21, stays deleted",
        "operator dana stays a viewer",
        "operator eve stays removed",
    ]
    assert [(e.loosens, e.text) for e in made.effects] == [
        (True, "raises team team-a's budget from 50 to 500"),
        (True, "brings back team team-gone, which is gone now"),
        (True, "raises key vk-same's request limit from 10 to 100"),
        (True, "changes request_reset_duration of key vk-same's rate limit: 1m becomes 1h"),
        (False, "adds the concurrent limit of key vk-same: 4"),
        (False, "deletes key vk-new"),
        (True, "changes egress: {'default': 'deny'} becomes nothing"),
    ]
    found = keys(made)
    assert sorted(found) == ["vk-bob", "vk-old", "vk-same"]
    assert found["vk-bob"]["is_active"] is False
    assert found["vk-old"]["value_hash"] == "<secret virtual_keys/vk-old/value_hash>"
    assert "value" not in found["vk-old"]
    assert "# of Bob" in made.texts["policy.yaml"]
    (operator,) = yaml.safe_load(made.texts["policy.yaml"])["operators"]
    assert (operator["id"], operator["role"]) == ("dana", "viewer")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("vk-bob", ["re-enables key vk-bob, disabled 2026-11-20"]),
        (
            "vk-old",
            [
                "lets key vk-old expire at 2030-01-01T00:00:00Z instead of at 2026-11-20T00:00:00Z",
                "brings back the old value of key vk-old, rotated since",
            ],
        ),
        ("vk-left", ["brings back key vk-left, deleted 2026-11-21"]),
        ("dana", ["makes operator dana an admin again"]),
        ("eve", ["gives operator eve access again"]),
    ],
)
def test_what_is_asked_for_by_name_is_given_back_and_said_and_nothing_else_is(name, words):
    made, others = plan(name), [e for e in plan().kept if e.id != name]
    assert [e.text for e in made.effects if e.id == name] == words
    assert all(e.loosens for e in made.effects if e.id == name)
    assert list(made.kept) == others


def test_everything_asked_for_is_the_old_text_as_it_was():
    assert plan("vk-bob", "vk-old", "vk-left", "dana", "eve").texts["policy.yaml"] == THEN


def test_an_expiry_that_was_brought_forward_stays_and_one_that_was_put_off_does_not():
    template = "version: 1\nvirtual_keys:\n  - {{id: k{}}}\n"
    sooner, later = ", expires_at: 2026-01-01T00:00:00+01:00", ", expires_at: 2026-01-01T00:00:00Z"
    for now, then, kept in ((sooner, later, 1), (later, sooner, 0), ("", later, 0), (later, "", 1), (later, later, 0)):
        assert len(plan(now=template.format(now), then=template.format(then)).kept) == kept


def test_a_key_that_was_disabled_or_ran_out_sooner_then_is_so_again():
    now = "version: 1\nvirtual_keys:\n  - {id: a}\n  - {id: b, expires_at: 2030-01-01T00:00:00Z}\n"
    then = "version: 1\nvirtual_keys:\n  - {id: a, is_active: false}\n  - {id: b, expires_at: 2029-01-01T00:00:00Z}\n"
    made = plan(now=now, then=then)
    assert [(e.loosens, e.text) for e in made.effects] == [
        (False, "disables key a"),
        (False, "changes expires_at of key b: 2030-01-01T00:00:00Z becomes 2029-01-01T00:00:00Z"),
    ]
    assert made.texts["policy.yaml"] == then


def test_a_name_that_nothing_was_taken_from_is_a_mistake():
    with pytest.raises(EditError, match=r"nothing of 'vk-bib' was revoked since \(did you mean vk-bob\?\)") as caught:
        plan("vk-bib")
    assert caught.value.field == "also_re_enable"


LONG = ", ".join(f"host{i}.example.com" for i in range(10))
MODELS = "claude-haiku-4-5, claude-sonnet-4-5-20250929, claude-sonnet-5, claude-3-5-haiku-20241022"


@pytest.mark.parametrize(
    ("now", "then", "words"),
    [
        (f"egress: {{allow: [{LONG}]}}", f"egress: {{allow: [{LONG}, '*']}}", "changes egress: allow gains *"),
        (f"egress: {{allow: [{LONG}], deny: [x.example]}}", f"egress: {{allow: [{LONG}]}}", "changes egress: deny loses x.example"),
        ("", f"egress: {{default: deny, allow: [{LONG}]}}", f"changes egress: default nothing becomes deny; allow gains {LONG}"),
        (
            f"virtual_keys: [{{id: k, provider_configs: [{{provider: anthropic, allowed_models: [{MODELS}]}}]}}]",
            f"virtual_keys: [{{id: k, provider_configs: [{{provider: anthropic, allowed_models: [{MODELS}, claude-opus-5]}}]}}]",
            "changes provider_configs of key k: anthropic.allowed_models gains claude-opus-5",
        ),
        (
            f"virtual_keys: [{{id: k, provider_configs: [{{provider: anthropic, allowed_models: [{MODELS}]}}]}}]",
            "virtual_keys: [{id: k, provider_configs: [{provider: anthropic}]}]",
            f"changes provider_configs of key k: anthropic.allowed_models loses {MODELS}",
        ),
        (
            "teams: [{id: t, budgets: [{max_limit: 1, reset_duration: 1d}, {max_limit: 5, reset_duration: 1w}, {max_limit: 9, reset_duration: 1M}]}]",
            "teams: [{id: t, budgets: [{max_limit: 1, reset_duration: 1d}, {max_limit: 5, reset_duration: 1w}, {max_limit: 900, reset_duration: 1M}]}]",
            "changes budgets of team t: 1M.max_limit 9 becomes 900",
        ),
        (
            f"egress: {{allow: [{LONG}, a.example, b.example]}}",
            f"egress: {{allow: [{LONG}, b.example, a.example]}}",
            "changes egress: the order of allow",
        ),
    ],
)
def test_of_long_values_it_says_what_differs(now, then, words):
    made = plan(now=f"version: 1\n{now}\n", then=f"version: 1\n{then}\n")
    assert [e.text for e in made.effects] == [words]


def test_of_very_many_differences_it_says_how_many_are_left_out():
    hosts = ", ".join(f"host{i}.example.com" for i in range(100))
    (effect,) = plan(now="version: 1\n", then=f"version: 1\negress: {{allow: [{hosts}]}}\n").effects
    assert effect.text.startswith("changes egress: allow gains host0.example.com, host1.example.com, ")
    assert effect.text.endswith(", host19.example.com and 80 more")
