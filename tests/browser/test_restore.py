"""What restoring a revision does is read before it is done; revocations since stay unless they are ticked."""

from __future__ import annotations

import pytest

from support.api import Api
from support.browsing import until
from support.harness import eventually

pytestmark = pytest.mark.browser


def test_a_restore_is_shown_in_words_and_gives_back_only_what_is_ticked(small, walk_small):
    api = Api(small)
    old = api.ok("GET", "/api/policy")["revision"]
    before = len(api.ok("GET", "/api/policy/revisions")["revisions"])
    team = api.ok("GET", "teams")["teams"][0]
    first, second = (k["id"] for k in api.ok("GET", "virtual-keys")["virtual_keys"][:2])
    api.ok("PUT", f"teams/{team['id']}", {"budget": {"max_limit": 7}})
    for key in (first, second):
        api.ok("PUT", f"virtual-keys/{key}", {"is_active": False})
    eventually(lambda: len(api.ok("GET", "/api/policy/revisions")["revisions"]) == before + 3)
    page = walk_small(f"#/policy/history/{old}")
    page.get_by_role("button", name="Restore", exact=True).click()
    plan = page.get_by_role("region", name="What restoring does")
    plan.get_by_text(f"raises team {team['id']}'s budget from 7 to").wait_for()
    boxes = plan.get_by_role("checkbox")
    assert [boxes.nth(i).is_checked() for i in range(boxes.count())] == [False, False]
    plan.get_by_label(f"key {first}, disabled").check()
    plan.get_by_label(f"re-enables key {first}, disabled").wait_for()
    assert plan.get_by_label(f"key {second}, disabled").is_visible()
    assert api.ok("GET", f"virtual-keys/{first}")["virtual_key"]["is_active"] is False, "nothing is done before it is confirmed"
    plan.get_by_role("button", name="Restore this revision").click()
    until(page, "location.hash === '#/policy/history'")
    assert [api.ok("GET", f"virtual-keys/{k}")["virtual_key"]["is_active"] for k in (first, second)] == [True, False]
    assert api.ok("GET", f"teams/{team['id']}")["team"]["budget"]["max_limit"] == team["budget"]["max_limit"]
    api.ok("PUT", f"virtual-keys/{second}", {"is_active": True})


def test_a_new_entity_never_overwrites_one_that_exists(small, walk_small, walking_small):
    api = Api(small)
    teams = api.ok("GET", "teams")["teams"]
    team, before = teams[0], [(t["id"], t["name"]) for t in teams]
    walking_small.expected += ("409 (Conflict)",)
    page = walk_small("#/teams/new")
    page.get_by_label("Name").fill(team["name"].upper())
    page.get_by_role("button", name="Create team").click()
    page.get_by_text(f"is taken by the team '{team['id']}'").first.wait_for()
    assert [(t["id"], t["name"]) for t in api.ok("GET", "teams")["teams"]] == before
