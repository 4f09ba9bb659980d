"""Changing a policy: absent stays and null goes, only the changed entity's lines change, and what is written loads."""

from __future__ import annotations

import difflib
import json
import re
from decimal import Decimal
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sluicegate.policy.editing import operations
from sluicegate.policy.editing.draft import ConflictError, Draft, EditError, NotFoundError, merge_fields, validate_entity
from sluicegate.policy.editing.yaml_patch import Change, NotPatchableError, rewrite
from sluicegate.policy.entities import KINDS, REDACTED, AmbiguousNameError, NameIndex, id_from_name, redacted
from sluicegate.policy.loader import load
from sluicegate.yaml_document import parse
from support.hypothesis_profiles import examples

ROOT = Path(__file__).resolve().parents[3]
TEAMS, USERS, KEYS, CUSTOMERS = KINDS["teams"], KINDS["users"], KINDS["virtual_keys"], KINDS["customers"]


@pytest.mark.parametrize(
    ("kind", "name", "id_"),
    [
        ("customers", "Acme Corp", "customer-acme"),
        ("customers", "customer-acme", "customer-acme"),
        ("customers", "Müller GmbH", "customer-muller"),
        ("teams", "Engineering Team", "team-engineering"),
        ("teams", "Data  Science (EU) team", "team-data-science-eu"),
        ("teams", "Team Group", "team-group"),
        ("users", "Alice", "user-alice"),
        ("projects", "Apollo Inc.", "project-apollo"),
        ("virtual_keys", "Alice's laptop", "vk-alice-s-laptop"),
    ],
)
def test_ids_are_made_of_names(kind, name, id_):
    assert id_from_name(KINDS[kind], name) == id_
    assert id_from_name(KINDS[kind], id_) == id_


@pytest.mark.parametrize("name", ["", "   ", "开发", "---"])
def test_a_name_nothing_can_be_made_of_is_an_error(name):
    with pytest.raises(ValueError, match="give an id"):
        id_from_name(TEAMS, name)


@pytest.mark.parametrize(
    ("called", "found"),
    [
        ("team-a", "team-a"),
        ("A", "team-a"),
        ("Team A", "team-a"),
        ("x7", "x7"),
        ("Blue Team", "x7"),
        ("blue", "x7"),
        ("team-blue", "x7"),
        ("BLUE TEAM", "x7"),
        ("green", None),
        ("", None),
    ],
)
def test_entities_are_found_by_id_slug_or_name(called, found):
    assert NameIndex(TEAMS, {"team-a": None, "x7": "Blue Team"}).find(called) == found


def test_what_may_be_several_is_an_error_that_names_them():
    with pytest.raises(AmbiguousNameError, match="'Blue' may be any of t1, t2: give the id of one"):
        NameIndex(TEAMS, {"t2": "Blue", "t1": "Blue Team"}).find("Blue")
    assert NameIndex(TEAMS, {"Blue": None, "t1": "Blue"}).find("Blue") == "Blue"


BUDGET = {"max_limit": 50, "reset_duration": "1M"}
RATE = {"request_max_limit": 5, "request_reset_duration": "1h", "max_concurrent": 2}


@pytest.mark.parametrize(
    ("present", "fields", "after"),
    [
        ({"a": 1, "b": 2}, {"b": 3}, {"a": 1, "b": 3}),
        ({"team_id": "t"}, {"team_id": None}, {}),
        ({"budget": BUDGET}, {"budget": {"max_limit": 60}}, {"budget": BUDGET | {"max_limit": 60}}),
        ({"budget": BUDGET}, {"budget": {}}, {"budget": BUDGET}),
        ({"budget": BUDGET}, {"budget": None}, {}),
        ({"budget": BUDGET | {"enforcement": "hard"}}, {"budget": {"max_limit": None, "reset_duration": None}}, {}),
        ({}, {"budget": BUDGET}, {"budget": BUDGET}),
        ({"rate_limit": RATE}, {"rate_limit": {"token_max_limit": 9, "token_reset_duration": "1d"}}, {"rate_limit": RATE | {"token_max_limit": 9, "token_reset_duration": "1d"}}),
        ({"rate_limit": RATE}, {"rate_limit": {"request_max_limit": None}}, {"rate_limit": {"max_concurrent": 2}}),
        ({"rate_limit": RATE}, {"rate_limit": {"request_max_limit": None, "max_concurrent": None}}, {}),
        ({"budgets": [BUDGET]}, {"budgets": [BUDGET | {"max_limit": 1}]}, {"budgets": [BUDGET | {"max_limit": 1}]}),
        (
            {"provider_configs": [{"provider": "anthropic", "budget": BUDGET}]},
            {"provider_configs": [{"provider": "openai"}]},
            {"provider_configs": [{"provider": "openai"}]},
        ),
        (
            {"keys": [{"name": "a", "value": "env.A", "weight": 2}]},
            {"keys": [{"name": "b", "value": "env.B"}, {"name": "a", "weight": 1}]},
            {"keys": [{"name": "a", "value": "env.A", "weight": 1}, {"name": "b", "value": "env.B"}]},
        ),
        ({"keys": [{"name": "a", "value": "env.A", "weight": 2}]}, {"keys": [{"name": "a", "weight": None}]}, {"keys": [{"name": "a", "value": "env.A"}]}),
        ({"keys": [{"name": "a", "value": "env.A"}]}, {"keys": []}, {"keys": [{"name": "a", "value": "env.A"}]}),
        ({"budget": BUDGET}, {"budget": "lots"}, {"budget": "lots"}),
    ],
)  # fmt: skip
def test_absent_stays_null_goes_and_limits_are_merged(present, fields, after):
    before = json.dumps(present)
    assert merge_fields(present, fields) == after
    assert json.dumps(present) == before


@pytest.mark.parametrize(
    ("kind", "value", "says", "field"),
    [
        ("teams", {"id": "t", "budgt": {}}, "budgt: 'budgt' is not a known key here (did you mean budget?)", "budgt"),
        ("teams", {"id": "t", "budget": {"max_limit": -1, "reset_duration": "1M"}}, "budget.max_limit: '-1': an amount cannot be", "budget.max_limit"),
        ("teams", {"id": "t", "budget": "lots"}, "budget: 'lots' is not a mapping", "budget"),
        ("teams", {"id": "t", "rate_limit": {"request_max_limit": 1}}, "request_max_limit needs its request_reset_duration", "rate_limit"),
        ("teams", {"id": "a b"}, "id: 'a b': an id is 1 to 128", "id"),
        ("virtual_keys", {"id": "k", "value": 5}, "value: this value is not text", "value"),
        ("virtual_keys", {"id": "k", "provider_configs": [{"provider": "anthropic", "weight": -1}]}, "provider_configs[0].weight: '-1': a weight", "provider_configs[0].weight"),
        ("virtual_keys", {"id": "k", "name": "a\nb"}, "write one line", "name"),
        ("virtual_keys", {"id": "k", "name": "\ud800"}, "write one line", "name"),
        ("virtual_keys", {"id": "k", "previous_value_hash": "sha256:" + "0" * 64}, "belong together", None),
    ],
)  # fmt: skip
def test_what_is_wrong_names_its_field(kind, value, says, field):
    with pytest.raises(EditError) as caught:
        validate_entity(KINDS[kind], value)
    assert says in str(caught.value)
    assert caught.value.field == field


TEXT = """\
version: 1
customers: [{id: c1, name: Acme Corp}]
teams:
  - {id: t1, name: Blue Team, customer_id: c1}
  - id: t2
virtual_keys:
  - {id: k1, team_id: t1, budget: {max_limit: 50.00, reset_duration: 1M}}
  - {id: k2, team_id: t1, value_hash: "sha256:0000000000000000000000000000000000000000000000000000000000000000"}
"""


def draft(text=TEXT):
    return Draft([parse(text.encode(), "policy.yaml")])


def test_a_reference_may_be_a_slug_or_a_name_and_a_wrong_one_says_what_is_near():
    made = operations.upsert(draft(), KEYS, "k1", {"team_id": "blue"}).entry
    assert made.after["team_id"] == "t1"
    assert not made.is_changed
    with pytest.raises(EditError, match=r"there is no customer 'c2' \(did you mean c1\?\)") as caught:
        operations.upsert(draft(), TEAMS, "t1", {"customer_id": "c2"})
    assert caught.value.field == "customer_id"


def test_a_put_makes_the_team_it_names_and_says_so_and_a_post_does_not():
    saved = operations.upsert(draft(), KEYS, "k3", {"team_id": "team-new"})
    assert [(e.kind.singular, e.id, e.after) for e in saved.created] == [("team", "team-new", {"id": "team-new"})]
    assert operations.upsert(draft(), KEYS, "k3", {"team_id": "Data Science Team"}).created[0].id == "team-data-science"
    with pytest.raises(EditError, match="there is no team 'team-new'"):
        operations.create(draft(), KEYS, {"id": "k3", "team_id": "team-new"})


def test_a_key_made_by_post_has_a_secret_and_one_made_by_put_its_id():
    posted = operations.create(draft(), KEYS, {"name": "Bob's key"})
    assert (posted.entry.id, posted.secret[:6], posted.entry.after["value_hash"]) == (
        "vk-bob-s-key",
        "sk-sg-",
        operations.hash_value(posted.secret),
    )
    put = operations.upsert(draft(), KEYS, "vk-bob", {})
    assert (put.secret, put.entry.after) == (None, {"id": "vk-bob"})
    with pytest.raises(EditError, match="with a value"):
        operations.upsert(draft(), KEYS, "vk-bob", {}, demo_keys=False)
    named = draft(TEXT + "  - {id: x, name: Bob's key}\n")
    assert operations.create(named, KEYS, {"name": "bob's KEY"}).entry.id == "vk-bob-s-key"
    assert operations.create(named, KEYS, {"name": "Bob's key"}).entry.id == "vk-bob-s-key-2"


EXISTING = (
    TEXT
    + """\
  - {id: vk-carol, name: Carol, budget: {max_limit: 5, reset_duration: 1M}}
projects:
  - {id: project-apollo, name: Apollo}
users:
  - {id: alice, name: Alice}
model_configs:
  - {model_name: "claude-*", budget: {max_limit: 5, reset_duration: 1M}}
"""
)
SPELLINGS = ["Carol", "carol", " CAROL ", "\uff23\uff41\uff52\uff4f\uff4c", "C\u00e1rol", "vk-carol", "VK Carol"]


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_name_that_leads_to_an_existing_key_makes_another_or_is_a_conflict(name):
    made = draft(EXISTING)
    before = made.get(KEYS, "vk-carol").after
    first = operations.create(made, KEYS, {"name": name, "budget": {"max_limit": 7, "reset_duration": "1M"}})
    second = operations.create(made, KEYS, {"name": name})
    assert (first.entry.id, second.entry.id) == ("vk-carol-2", "vk-carol-3")
    assert made.get(KEYS, "vk-carol").after == before
    with pytest.raises(ConflictError, match=r"taken by the virtual key 'vk-carol' \(Carol\): change that one") as caught:
        operations.create(draft(EXISTING), KEYS, {"name": name}, only=True)
    assert (caught.value.field, caught.value.details) == ("name", {"existing": "vk-carol"})


@pytest.mark.parametrize(
    ("kind", "fields", "existing"),
    [
        ("virtual_keys", {"id": "vk-carol"}, "vk-carol"),
        ("virtual_keys", {"id": "VK-Carol"}, "vk-carol"),
        ("users", {"id": "alice"}, "alice"),
        ("users", {"id": "ALICE", "name": "Another"}, "alice"),
        ("projects", {"id": "project-apollo"}, "project-apollo"),
        ("model_configs", {"model_name": "claude-*"}, "claude-*"),
        ("model_configs", {"model_name": "Claude-*"}, "claude-*"),
    ],
)
def test_an_id_in_use_is_a_conflict_however_it_is_written(kind, fields, existing):
    for only in (False, True):
        with pytest.raises(ConflictError, match=f"taken by the .* '{re.escape(existing)}'"):
            operations.create(draft(EXISTING), KINDS[kind], fields, only=only)
    entity_id = fields.get("id") or fields["model_name"]
    with pytest.raises(ConflictError, match=f"taken by the .* '{re.escape(existing)}'"):
        operations.upsert(draft(EXISTING), KINDS[kind], entity_id, {}, only_create=True)


def test_a_request_sent_twice_makes_one_team_and_a_different_one_another():
    made = draft(EXISTING)
    body = {"name": "Platform", "budget": {"max_limit": 7, "reset_duration": "1M"}}
    first, again = operations.create(made, TEAMS, body), operations.create(made, TEAMS, body)
    other = operations.create(made, TEAMS, {"name": "Platform Team", "budget": {"max_limit": 9, "reset_duration": "1M"}})
    assert [s.entry.id for s in (first, again, other)] == ["team-platform", "team-platform", "team-platform-2"]
    assert first.entry.after["budget"]["max_limit"] == 7
    with pytest.raises(ConflictError, match="'PLATFORM team' is taken by the team 'team-platform' \\(Platform\\)"):
        operations.create(made, TEAMS, {"name": "PLATFORM team"}, only=True)


def test_a_long_id_keeps_its_length_with_a_number():
    made = draft()
    first, second = (operations.create(made, KEYS, {"name": "x" * 300}).entry.id for _ in range(2))
    assert (len(first), len(second), second[-2:]) == (128, 128, "-2")


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({"value": "a-secret-value"}, {"value_hash": operations.hash_value("a-secret-value")}),
        ({"value": "env.KEY"}, {"value": "env.KEY"}),
        ({"value_hash": "sha256:" + "1" * 64}, {"value_hash": "sha256:" + "1" * 64}),
    ],
)
def test_a_value_is_kept_as_a_hash_or_where_it_comes_from(fields, kept):
    for name in ("k1", "k2", "k3"):
        after = operations.upsert(draft(), KEYS, name, fields).entry.after
        assert {n: v for n, v in after.items() if n.startswith("value")} == kept


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"value": REDACTED}, "stands for a value that is not shown"),
        ({"value": "short"}, "8 to 512"),
        ({"value": "has a space in it"}, "8 to 512"),
        ({"value": "sch\u00f6n-geheim"}, "8 to 512"),
        ({"value": "a-secret-value", "value_hash": "sha256:" + "1" * 64}, "not both"),
        ({"id": "other"}, "an id cannot be changed"),
        ({"is_active": "yes"}, "is not true or false"),
    ],
)
def test_values_that_cannot_be(fields, says):
    with pytest.raises(EditError, match=says):
        operations.upsert(draft(), KEYS, "k1", fields)


def test_rotation_keeps_the_value_before_for_the_grace_alone():
    hour = 3_600_000
    made = operations.rotate(draft(), "k2", grace="1h", value=None, now=hour, env={})
    after = made.entry.after
    assert after["previous_value_hash"] == "sha256:" + "0" * 64
    assert after["previous_expires_at"] == "1970-01-01T02:00:00.000Z"
    assert after["value_hash"] == operations.hash_value(made.secret)
    demo = operations.rotate(draft(), "k1", grace="1h", value=None, now=0, env={}).entry.after
    assert demo["previous_value_hash"] == operations.hash_value("k1")
    assert "previous_value_hash" not in operations.rotate(draft(), "k2", grace=None, value=None, now=0, env={}).entry.after
    for grace, says in (("never", "accepted forever"), ("1x", "not a duration")):
        with pytest.raises(EditError, match=says):
            operations.rotate(draft(), "k2", grace=grace, value=None, now=0, env={})


def test_top_up_adds_exactly_and_asks_which():
    assert operations.top_up(draft(), KEYS, "k1", amount=Decimal("0.1")).entry.after["budget"]["max_limit"] == Decimal("50.10")
    two = TEXT.replace(
        "budget: {max_limit: 50.00, reset_duration: 1M}",
        "budgets: [{max_limit: 5, reset_duration: 1d}, {max_limit: 9, reset_duration: never}]",
    )
    with pytest.raises(ConflictError, match="several budgets"):
        operations.top_up(draft(two), KEYS, "k1", amount=Decimal(1))
    after = operations.top_up(draft(two), KEYS, "k1", amount=Decimal(1), reset_duration="never").entry.after
    assert [b["max_limit"] for b in after["budgets"]] == [5, 10]
    with pytest.raises(ConflictError, match="no budget"):
        operations.top_up(draft(), KEYS, "k2", amount=Decimal(1))


def test_deleting_what_is_still_named_says_by_what():
    with pytest.raises(ConflictError, match="Team 't1' is still referred to by virtual_key k1, virtual_key k2") as caught:
        operations.delete(draft(), TEAMS, "t1")
    assert caught.value.details["referred_by"] == ["virtual_key k1", "virtual_key k2"]
    changing = draft()
    _, detached = operations.delete(changing, TEAMS, "blue", detach=True)
    assert [e.id for e in detached] == ["k1", "k2"]
    assert all("team_id" not in e.after for e in detached)
    with pytest.raises(NotFoundError, match=r"there is no team 't3' \(did you mean t"):
        operations.delete(draft(), TEAMS, "t3")


def test_no_secret_is_in_what_is_shown():
    keys = [{"value": "sk-3"}, {"value": "env.A"}, {"value": "file:/a"}]
    webhooks = [{"name": "w", "url": "https://hooks.example.com/x", "secret": "s"}, {"url": "env.URL", "secret": "file:/s"}]
    assert redacted({"alerts": {"webhooks": webhooks}})["alerts"]["webhooks"] == [
        {"name": "w", "url": REDACTED, "secret": REDACTED},
        {"url": "env.URL", "secret": "file:/s"},
    ]
    shown = redacted({"value": "file:1", "value_hash": "sha256:2", "keys": keys, "name": "n"})
    kept = [{"value": REDACTED}, {"value": "env.A"}, {"value": "file:/a"}]
    assert shown == {"value": REDACTED, "value_hash": REDACTED, "keys": kept, "name": "n"}


# -- the text ---------------------------------------------------------------------------------------------------------

ACME = (ROOT / "policies/acme.yaml").read_text()


def changed(text, *changes):
    """The lines that were there before and are not now, and the other way round."""
    fresh, read = rewrite(parse(text.encode(), "f"), text, changes)
    assert read.value == parse(fresh.encode(), "f").value
    lines = list(difflib.ndiff(text.split("\n"), fresh.split("\n")))
    return [x[2:] for x in lines if x[0] == "-"], [x[2:] for x in lines if x[0] == "+"], fresh


def test_only_the_changed_lines_change():
    alice = parse(ACME.encode(), "f").value["virtual_keys"][2]
    gone, come, _ = changed(
        ACME, Change("virtual_keys", 2, alice | {"user_id": "bob", "budget": {**alice["budget"], "max_limit": Decimal("60.50")}})
    )
    assert gone == ["    user_id: alice", "    budget: {max_limit: 50.00, reset_duration: 1M}"]
    assert come == ["    user_id: bob", "    budget: {max_limit: 60.50, reset_duration: 1M}"]


def test_a_new_entity_stands_behind_the_last_of_its_list_and_before_the_comments_that_follow():
    new = {
        "id": "vk-new",
        "budget": BUDGET,
        "expires_at": "2027-01-01T00:00:00Z",
        "provider_configs": [{"provider": "anthropic", "allowed_models": ["*", "claude-haiku-*"]}],
    }
    gone, come, fresh = changed(ACME, Change("virtual_keys", None, new))
    assert not gone
    assert come == [
        "  - id: vk-new",
        "    budget: {max_limit: 50, reset_duration: 1M}",
        "    expires_at: 2027-01-01T00:00:00Z",
        "    provider_configs:",
        '      - {provider: anthropic, allowed_models: ["*", "claude-haiku-*"]}',
    ]
    assert fresh.index("vk-new") < fresh.index("# A key for a contractor")


def test_deleting_leaves_the_rest_byte_for_byte():
    _, come, fresh = changed(ACME, Change("virtual_keys", 1, None))
    assert not come
    block = ACME[ACME.index("  - id: vk-ds-team") : ACME.index("  - id: vk-dev-alice")]
    assert fresh == ACME.replace(block, "")


def test_a_list_emptied_and_a_section_made():
    _, _, fresh = changed(
        ACME, Change("users", 0, None), Change("model_configs", None, {"model_name": "claude-*", "budget": BUDGET})
    )
    assert "users: []\n  # A user's limits hold over all of that user's keys.\n" in fresh
    assert fresh.endswith('\nmodel_configs:\n  - model_name: "claude-*"\n    budget: {max_limit: 50, reset_duration: 1M}\n')


@pytest.mark.parametrize(
    "section",
    ["teams: [] # one\n  # two\n", "teams: # one\n  # two\n", "teams: [ # one\n  # two\n]\n", "teams: [\n  # two\n] # one\n"],
)
def test_comments_in_an_empty_list_stay_when_it_is_filled(section):
    text = f"version: 1\n{section}# three\nusers: []\n"
    fresh, read = rewrite(parse(text.encode(), "f"), text, [Change("teams", None, {"id": "a"})])
    assert read.value == {"version": 1, "teams": [{"id": "a"}], "users": []}
    assert all(f"# {word}\n" in fresh for word in ("one", "two", "three"))


def test_comments_of_a_list_stay_when_it_is_emptied_and_filled_again():
    text, comment = ACME, "  # A key for a contractor: real value kept as a hash"
    for changes in ([Change("virtual_keys", i, None) for i in range(3)], [Change("virtual_keys", None, {"id": "vk-new"})]):
        text, read = rewrite(parse(text.encode(), "f"), text, changes)
        assert comment in text
    assert read.value["virtual_keys"] == [{"id": "vk-new"}]


ODD = {
    "a dash of its own": "version: 1\nteams:\n  -\n    id: a # one\n  - id: b\n",
    "no indentation": "version: 1\nteams:\n- id: a  # one\n- id: b\n",
    "wide dashes": "version: 1\nteams:\n    -   id: a  # one\n        name: A\n    -   id: b\n",
    "flow": "version: 1\nteams: [{id: a}, {id: b}] # one\n",
    "flow on lines": "# one\nversion: 1\nteams: [\n  {id: a},\n  {id: b},\n]\n",
    "quoted keys": '"version": 1\n"teams":\n  - "id": a # one\n  - {"id": b}\n',
    "anchors": "version: 1\nteams:\n  - id: a # one\n    budget: &b {max_limit: 1, reset_duration: 1d}\n  - id: b\n    budget: *b\n",
    "documents": "# one\n---\nversion: 1\nteams:\n  - id: a\n  - id: b\n...\n",
    "windows": "version: 1\r\nteams:\r\n  - id: a # one\r\n  - id: b\r\n",
    "json": '{\n "version": 1,\n "teams": [\n  {"id": "a"},\n  {"id": "b", "name": "one"}\n ]\n}\n',
    "one line": "{version: 1, teams: [{id: a}, {id: b, name: one}]}",
    "no end": "version: 1\nteams:\n  - id: a # one\n  - id: b",
    "block text": "version: 1\nteams:\n  - id: a # one\n    name: |-\n      b\n  - id: b\n    name: >-\n      # no\n      comment\n\n",
    "words": "version: 1\nteams:\n  - id: a # one\n    name: 'yes'\n  - id: b\n    name: yes\n",
    "null": "version: 1\nteams:\n  - id: a # one\n    name:\n    customer_id: ~\n  - id: b\n",
}


@pytest.mark.parametrize("layout", ODD)
def test_every_layout_can_be_changed_without_touching_the_rest(layout):
    text = ODD[layout]
    doc = parse(text.encode(), "f")
    first = doc.value["teams"][0]
    for change, ids in (
        (Change("teams", 0, first | {"name": "A b", "rate_limit": {"max_concurrent": 1}}), ["a", "b"]),
        (Change("teams", None, {"id": "c", "name": "no"}), ["a", "b", "c"]),
        (Change("teams", 1, None), ["a"]),
        (Change("users", None, {"id": "u"}), ["a", "b"]),
        (Change("providers", None, {"simulate": True}, "anthropic"), ["a", "b"]),
    ):
        fresh, read = rewrite(doc, text, [change])
        assert [t["id"] for t in read.value["teams"]] == ids
        if change.position != 1:
            assert "one" in fresh
        assert fresh.count("\r\n") == (fresh.count("\n") if layout == "windows" else 0)
        if layout == "json":
            assert json.loads(fresh)["version"] == 1
            assert fresh.startswith('{\n "version"')


@pytest.mark.parametrize(
    "text",
    [
        "version: 1\nteams: [\n  {id: a, budget: {max_limit: 1, reset_duration: 1d}},\n  {id: b}, # one\n]\n",
        "version: 1\nteams:\n  - id: a\n    budget: &b {max_limit: 1, reset_duration: 1d}\n  - id: b\n    budget: *b\n",
    ],
)
def test_what_cannot_be_changed_keeping_comments_and_meaning_is_refused(text):
    doc = parse(text.encode(), "f")
    with pytest.raises(NotPatchableError, match="edit it by hand"):
        rewrite(doc, text, [Change("teams", 0, {"id": "a", "budget": BUDGET})])


# -- any sequence of changes ------------------------------------------------------------------------------------------

NAMES = st.text(
    st.characters(exclude_categories=("C", "Z"), include_characters=" '\"#:-{}[],&*!|>%@`?"), min_size=1, max_size=12
).filter(str.strip)
AMOUNTS = st.decimals(0, 1_000_000, places=2) | st.integers(0, 1000)
BUDGETS = st.fixed_dictionaries({"max_limit": AMOUNTS, "reset_duration": st.sampled_from(["1h", "1M", "never"])})
MORE_BUDGETS = st.fixed_dictionaries({"max_limit": AMOUNTS, "reset_duration": st.sampled_from(["1d", "1w"])})
KEY_FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "name": NAMES | st.none(),
        "description": st.text(st.characters(exclude_categories=("C", "Zl", "Zp"), include_characters="\n\t"), min_size=1, max_size=20) | st.none(),
        "team_id": st.sampled_from(["team-engineering", "Data Science Team", None]),
        "is_active": st.booleans(),
        "budget": BUDGETS | st.none(),
        "budgets": st.lists(MORE_BUDGETS, max_size=2, unique_by=lambda b: b["reset_duration"]),
        "rate_limit": st.fixed_dictionaries({"request_max_limit": st.integers(0, 99), "request_reset_duration": st.just("1h")}) | st.none(),
        "provider_configs": st.lists(
            st.fixed_dictionaries({"provider": st.sampled_from(["anthropic", "openai"])}, optional={"allowed_models": st.lists(NAMES, max_size=3), "weight": st.floats(0, 9), "budget": BUDGETS}),
            max_size=2, unique_by=lambda c: c["provider"],
        ) | st.none(),
    },
)  # fmt: skip
IDS = st.sampled_from(["vk-eng-team", "vk-ds-team", "vk-dev-alice", "vk-new-1", "vk-new-2"])
EDITS = st.lists(st.tuples(st.sampled_from(["put", "put", "put", "delete"]), IDS, KEY_FIELDS), min_size=1, max_size=6)


@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(EDITS, st.sampled_from(["block", "json", "no indentation"]))
@example([("delete", i, {}) for i in ("vk-eng-team", "vk-ds-team", "vk-dev-alice")] + [("put", "vk-eng-team", {})], "block")
def test_any_sequence_of_changes_keeps_the_policy_loadable_its_meaning_and_its_comments(tmp_path, edits, layout):
    text = ACME
    if layout == "json":
        text = json.dumps(parse(ACME.encode(), "f").value, default=float, indent=2)
    elif layout == "no indentation":
        text = "# A policy\n" + yaml.safe_dump(
            json.loads(json.dumps(parse(ACME.encode(), "f").value, default=float)), sort_keys=False
        )
    outside = [x for x in text.split("\n") if x.startswith("#")]
    file = tmp_path / "policy.yaml"
    for what, name, fields in edits:
        changing = Draft([parse(text.encode(), str(file))])
        meant = {i: e.after for i, e in changing.entries(KEYS).items()}
        if what == "delete":
            if name not in meant:
                continue
            operations.delete(changing, KEYS, name)
            del meant[name]
        else:
            meant[name] = operations.upsert(changing, KEYS, name, fields).entry.after
        changes = [Change("virtual_keys", e.position, e.after) for e in changing.changes()]
        if changes:
            text, _ = rewrite(changing.docs[0], text, changes)
        file.write_text(text)
        policy = load(file, env={}, now=0)
        assert set(policy.virtual_keys) == set(meant)
        read = {k["id"]: k for k in parse(text.encode(), "f").value["virtual_keys"]}
        assert read == meant
        assert [x for x in text.split("\n") if x.startswith("#")] == outside
        if layout == "block":
            assert "  # A key for a contractor: real value kept as a hash" in text
