"""A table of people applied to a policy: what it creates and changes, and that the second time changes nothing."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.policy.editing.draft import Draft
from sluicegate.policy.editing.roster import COLUMNS, Applied, RosterError, apply_roster
from sluicegate.policy.entities import KINDS
from sluicegate.policy.loader import load
from sluicegate.yaml_document import parse

NOW = 1_790_000_000_000
TEXT = """\
version: 1
customers: [{id: acme}, {id: globex}]
teams: [{id: core, name: Core Team, customer_id: acme}, {id: new}]
projects: [{id: apollo, team_id: core}]
users:
  - {id: ann, name: Ann, team_id: core, labels: {cost_center: "1", site: B}, budget: {max_limit: 5.00, reset_duration: 1d}}
  - {id: bob, is_active: false}
  - {id: cyd}
virtual_keys:
  - {id: vk-ann, user_id: ann, team_id: core}
  - {id: vk-cyd, user_id: cyd}
  - {id: vk-cyd-2, user_id: cyd}
"""


def whole(draft: Draft) -> dict:
    lists = {k.name: [e.after for e in draft.entries(k).values() if e.after] for k in KINDS.values() if k.name != "providers"}
    return {"version": 1} | lists


def applied(*rows: dict, text: str = TEXT, missing="report") -> tuple[Applied, Draft]:
    draft = Draft([parse(text.encode(), "policy.yaml")])
    return apply_roster(draft, [*enumerate(rows, 2)], missing=missing, now=NOW), draft


def again(draft: Draft, *rows: dict, missing="report") -> Applied:
    return applied(*rows, text=json.dumps(whole(draft), default=float), missing=missing)[0]


def changes(found: Applied) -> list[tuple]:
    return [(c.row, c.action, c.kind, c.id) for c in found.changes]


def entity(draft: Draft, kind: str, entity_id: str) -> dict:
    return draft.entries(KINDS[kind])[entity_id].after


FULL = {
    "user": "dee@acme.example", "name": "Dee", "team": "Data Science", "customer": "acme", "project": "Zeus", "budget": "50/month",
    "rate": "100/1h", "tokens": "5000/1h", "concurrent": "4", "models": "claude-haiku-*, openai/gpt-5", "labels": "cost_center=4711",
    "label:site": "Berlin",
}  # fmt: skip


def test_a_new_person_gets_user_team_project_and_key():
    found, draft = applied(FULL)
    assert changes(found) == [
        (2, "create", "team", "team-data-science"),
        (2, "create", "user", "dee@acme.example"),
        (2, "create", "project", "Zeus"),
        (2, "create", "virtual_key", "vk-dee-acme-example"),
    ]
    assert entity(draft, "users", "dee@acme.example") == {
        "id": "dee@acme.example",
        "name": "Dee",
        "team_id": "team-data-science",
        "budget": {"max_limit": 50, "reset_duration": "1M", "calendar_aligned": True},
        "rate_limit": {
            "request_max_limit": 100,
            "request_reset_duration": "1h",
            "token_max_limit": 5000,
            "token_reset_duration": "1h",
            "max_concurrent": 4,
        },
        "labels": {"cost_center": "4711", "site": "Berlin"},
    }
    assert entity(draft, "teams", "team-data-science")["customer_id"] == "acme"
    key = entity(draft, "virtual_keys", "vk-dee-acme-example")
    assert (key["user_id"], key["project_id"], "team_id" in key) == ("dee@acme.example", "Zeus", False)
    assert [c["provider"] for c in key["provider_configs"]] == ["anthropic", "openai"]
    assert found.secrets.keys() == {"vk-dee-acme-example"}
    assert not any(secret in json.dumps(c) for secret in found.secrets.values() for c in found.changes)
    assert changes(again(draft, FULL)) == []


def test_a_row_changes_what_it_says_and_nothing_else():
    found, draft = applied({"user": "ann", "labels": "cost_center=2"}, {"user": "cyd", "name": "Cyd"})
    assert changes(found) == [(2, "change", "user", "ann"), (3, "change", "user", "cyd")]
    assert found.changes[0].what == "labels cost_center=1 site=B -> cost_center=2 site=B"
    ann = entity(draft, "users", "ann")
    assert (ann["name"], ann["team_id"], ann["labels"]) == ("Ann", "core", {"cost_center": "2", "site": "B"})
    assert found.missing == ["bob"]
    _, draft = applied({"user": "ann", "budget": "none", "labels": "cost_center=none; site=none", "team": "none"})
    assert entity(draft, "users", "ann") == {"id": "ann", "name": "Ann"}


def test_a_person_who_moves_takes_the_keys_along():
    row = {"user": "ann", "team": "new"}
    found, draft = applied(row)
    assert changes(found) == [(2, "change", "user", "ann"), (2, "change", "virtual_key", "vk-ann")]
    assert entity(draft, "virtual_keys", "vk-ann") == {"id": "vk-ann", "user_id": "ann"}
    assert changes(again(draft, row)) == []


def test_the_team_of_the_row_pays_even_where_the_project_has_another(tmp_path):
    row = {"user": "eve", "team": "new", "project": "apollo"}
    _, draft = applied(row)
    assert entity(draft, "virtual_keys", "vk-eve")["team_id"] == "new"
    assert changes(again(draft, row)) == []
    file = tmp_path / "policy.yaml"
    file.write_text(json.dumps(whole(draft), default=float))
    assert load(file, env={}, now=NOW).virtual_keys["vk-eve"].team_id == "new"


def test_a_disabled_person_is_enabled_only_in_so_many_words():
    found, draft = applied({"user": "bob"})
    assert (found.changes, found.notes) == ([], ["row 2: user bob is disabled and stays so; write yes under active to enable it"])
    found, draft = applied({"user": "bob", "active": "Yes"})
    assert changes(found) == [(2, "enable", "user", "bob"), (2, "create", "virtual_key", "vk-bob")]
    assert changes(again(draft, {"user": "bob", "active": "yes"})) == []
    found, draft = applied({"user": "ann", "active": "no"}, {"user": "fay", "active": "no"})
    assert changes(found) == [(2, "disable", "user", "ann"), (3, "disable", "user", "fay")]


@pytest.mark.parametrize(
    ("missing", "users", "keys"),
    [
        ("report", {"ann": True, "bob": False, "cyd": True}, {"vk-ann", "vk-cyd", "vk-cyd-2"}),
        ("disable", {"ann": True, "bob": False, "cyd": False}, {"vk-ann", "vk-cyd", "vk-cyd-2"}),
        ("delete", {"ann": True}, {"vk-ann"}),
    ],
)
def test_leavers_are_reported_disabled_or_deleted_with_their_keys(missing, users, keys):
    found, draft = applied({"user": "ann"}, missing=missing)
    left = {e["id"]: e.get("is_active", True) for e in whole(draft)["users"]}
    assert (left, {k["id"] for k in whole(draft)["virtual_keys"]}) == (users, keys)
    assert found.missing == (["bob", "cyd"] if missing == "report" else [])
    assert all(c.row is None for c in found.changes)
    assert changes(again(draft, {"user": "ann"}, missing=missing)) == []


def test_one_of_several_keys_has_to_be_named():
    _, draft = applied({"user": "cyd", "key": "vk-cyd-2", "models": "claude-haiku-*"})
    assert "provider_configs" not in entity(draft, "virtual_keys", "vk-cyd")
    assert entity(draft, "virtual_keys", "vk-cyd-2")["provider_configs"][0]["allowed_models"] == ["claude-haiku-*"]
    found, _ = applied({"user": "cyd", "key": "vk-cyd-3"})
    assert changes(found) == [(2, "create", "virtual_key", "vk-cyd-3")]


def test_every_mistake_of_every_row_is_told_with_its_row_and_column():
    with pytest.raises(RosterError) as refused:
        applied(
            {"user": "ann", "budget": "50", "rate": "x/1h"},
            {"budget": "1/1d"},
            {"user": "Ann", "budget": "1/1x", "active": "perhaps"},
            {"user": "bad user"},
            {"user": "cyd", "models": "claude-haiku-*"},
            {"user": "gil", "team": "--", "tem": "x"},
            {"user": "hal", "team": "core", "customer": "globex"},
            {"user": "ida", "labels": "cost center"},
            {"user": "joe", "label:9": "x"},
            {"user": "ann", "key": "vk-cyd"},
            {"user": "kim", "key": "vk-cyd"},
        )
    assert [(m.row, m.column) for m in refused.value.mistakes] == [
        (2, "budget"), (2, "rate"), (3, "user"), (4, "user"), (4, "active"), (4, "budget"), (5, "user"), (6, "user"), (7, "tem"),
        (7, "team"), (8, "customer"), (9, "labels"), (10, "labels"), (11, "user"), (12, "key"),
    ]  # fmt: skip
    lines = str(refused.value).splitlines()
    assert lines[0] == "15 mistakes; nothing was applied"
    assert lines[1] == "row 2, budget: 50: write a number, a slash and a period, such as 50/month"
    assert "did you mean team?" in lines[9]
    assert "team 'core' belongs to customer 'acme', not to 'globex'" in lines[11]


CELLS = {
    "team": st.sampled_from(["core", "new", "Core Team", "none", "Other People"]),
    "project": st.sampled_from(["apollo", "none", "zeus"]),
    "budget": st.sampled_from(["50/month", "5/30d", "none", "20/never"]),
    "rate": st.sampled_from(["100/1h", "none"]),
    "models": st.sampled_from(["all", "claude-haiku-*"]),
    "labels": st.sampled_from(["cost_center=1", "site=none", "a=b;c=d"]),
    "active": st.sampled_from(["yes", "no"]),
    "name": st.sampled_from(["One", "Two"]),
}
ROWS = st.lists(
    st.builds(
        lambda user, cells: {"user": user, **cells},
        st.sampled_from(["ann", "bob", "eve", "fay"]),
        st.fixed_dictionaries({}, optional=CELLS),
    ),
    min_size=1,
    unique_by=lambda row: row["user"],
)


@given(ROWS, st.sampled_from(["report", "disable", "delete"]))
def test_the_second_time_changes_nothing(rows, missing):
    assert set(CELLS) < set(COLUMNS)
    _, draft = applied(*rows, missing=missing)
    assert changes(again(draft, *rows, missing=missing)) == []
