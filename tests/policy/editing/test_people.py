"""Users who leave or move, and what becomes of their keys."""

from __future__ import annotations

import json

import pytest

from sluicegate.policy.editing import people
from sluicegate.policy.editing.draft import ConflictError, Draft, EditError
from sluicegate.policy.entities import KINDS
from sluicegate.policy.loader import load
from sluicegate.policy.model import Policy
from sluicegate.values import Principal
from sluicegate.yaml_document import parse

NOW = 1_790_000_000_000
KEYS = KINDS["virtual_keys"]
TEXT = """\
version: 1
customers: [{id: acme}]
teams: [{id: old, customer_id: acme}, {id: new}]
projects: [{id: apollo, team_id: old}]
users:
  - {id: ann, team_id: old}
  - {id: bob, is_active: false}
virtual_keys:
  - {id: follows, user_id: ann}
  - {id: own, user_id: ann, team_id: old}
  - {id: of-project, user_id: ann, project_id: apollo}
  - {id: ended, user_id: ann, expires_at: "2020-01-01T00:00:00Z"}
  - {id: of-bob, user_id: bob}
  - {id: service, trust_user_header: true}
"""


@pytest.fixture
def draft() -> Draft:
    return Draft([parse(TEXT.encode(), "policy.yaml")])


@pytest.fixture
def policy(tmp_path) -> Policy:
    file = tmp_path / "policy.yaml"
    file.write_text(TEXT)
    return load(file, env={}, now=NOW)


def keys(draft: Draft) -> dict[str, dict]:
    return {e.id: e.after for e in draft.entries(KEYS).values() if e.after is not None}


def test_a_disabled_users_keys_are_refused_in_words_that_name_the_user(policy):
    assert policy.virtual_keys["of-bob"].refusal(NOW) == "Virtual key 'of-bob' cannot be used: the user 'bob' is disabled"
    assert policy.virtual_keys["follows"].refusal(NOW) is None
    assert policy.user_refusal(policy.principal_of(policy.virtual_keys["service"], "bob")) == (
        "Virtual key 'service' cannot be used: the user 'bob' is disabled"
    )
    for user in ("ann", "stranger", None):
        assert policy.user_refusal(Principal("service", user)) is None


@pytest.mark.parametrize("detach", [False, True])
def test_a_user_with_keys_that_work_is_not_deleted_without_a_word_about_them(draft, detach):
    with pytest.raises(ConflictError, match=r"by keys that work: follows, own, of-project; delete them too \(--with-keys"):
        people.delete_user(draft, "ann", detach=detach, now=NOW)
    with pytest.raises(EditError, match="either deleted with their user or kept"):
        people.delete_user(draft, "ann", with_keys=True, keep_keys=True, now=NOW)


def test_keys_are_deleted_with_their_user(draft):
    removed = people.delete_user(draft, "ann", with_keys=True, now=NOW)
    assert [e.id for e in removed.keys] == ["follows", "own", "of-project", "ended"]
    assert removed.detached == []
    assert set(keys(draft)) == {"of-bob", "service"}


def test_keys_that_are_kept_lose_their_user_and_those_of_a_disabled_one_stay_refused(draft):
    removed = people.delete_user(draft, "ann", keep_keys=True, now=NOW)
    assert {e.id for e in removed.detached} == {"follows", "own", "of-project", "ended"}
    people.delete_user(draft, "bob", keep_keys=True, now=NOW)
    assert keys(draft)["follows"] == {"id": "follows"}
    assert keys(draft)["of-bob"] == {"id": "of-bob", "is_active": False}


def test_a_user_whose_keys_have_all_ended_can_be_deleted(draft):
    for name in ("follows", "own", "of-project"):
        draft.delete(draft.entries(KEYS)[name])
    assert [e.id for e in people.delete_user(draft, "ann", detach=True, now=NOW).detached] == ["ended"]


def payers_after(draft: Draft, tmp_path, *, moves: bool) -> dict[str, tuple]:
    people.change_user(draft, "ann", {"team_id": "new"}, moves_keys=moves, only_create=False)
    whole = {"version": 1} | {
        kind.name: [e.after for e in draft.entries(kind).values() if e.after]
        for kind in KINDS.values()
        if kind.name not in ("providers", "model_configs")
    }
    file = tmp_path / "moved.yaml"
    file.write_text(json.dumps(whole))
    found = people.payers(load(file, env={}, now=NOW), "ann")
    return {p.id: (p.team_id, p.customer_id, p.is_with_user) for p in found}


def test_who_moves_is_said_key_by_key(draft, tmp_path):
    assert payers_after(draft, tmp_path, moves=False) == {
        "follows": ("new", None, True),
        "own": ("old", "acme", False),
        "of-project": ("old", "acme", False),
        "ended": ("new", None, True),
    }


def test_all_keys_move_where_that_is_asked_for(draft, tmp_path):
    found = payers_after(draft, tmp_path, moves=True)
    assert found == dict.fromkeys(("follows", "own", "of-project", "ended"), ("new", None, True))
