"""Time goes on while a page is open: calls come in, somebody else changes things, tabs go behind others."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest

from support.api import Api
from support.browsing import until
from support.harness import ask, eventually

pytestmark = pytest.mark.browser

HIDDEN = "yes => { Object.defineProperty(document, 'hidden', {get: () => yes, configurable: true});"
HIDDEN += " document.dispatchEvent(new Event('visibilitychange')); }"

SHOWN = "[...document.querySelectorAll('a.to-call')].map(a => a.hash.split('/')[2].split('?')[0])"


@pytest.fixture
def api(site):
    """Somebody else who is at it."""
    return Api(site)


def test_a_list_that_was_lengthened_has_no_gap_when_new_calls_come(site, visit, api):
    seen = visit(site)
    seen.page.clock.install()
    page = seen.go("#/calls?range=30d&user=carol")
    page.get_by_role("button", name="Show more").click()
    until(page, "document.querySelectorAll('a.to-call').length === 100")
    for _ in range(3):
        assert site.post(ask(), key="vk-carol").status == 200
    page.clock.fast_forward(20_000)
    page.get_by_role("button", name="Show more").click()
    until(page, "document.querySelectorAll('a.to-call').length >= 150")
    shown = page.evaluate(SHOWN)
    ids = [c["id"] for c in api.ok("GET", "/api/logs?user=carol&limit=200")["logs"]]
    begin = ids.index(shown[0])
    assert shown == ids[begin : begin + len(shown)]
    page.get_by_role("button", name="Back to the newest").click()
    until(page, f"{SHOWN}[0] === '{ids[0]}'")


def start(url):
    return parse_qs(urlsplit(url).query)["start"]


def test_the_last_hour_is_always_the_last(site, visit):
    seen = visit(site)
    asked = []
    seen.page.on("request", lambda r: asked.append(r.url) if "/api/logs?" in r.url else None)
    seen.page.clock.install()
    page = seen.go("#/calls?range=1h")
    first = next(u for u in asked if "start=" in u)
    page.clock.fast_forward(6 * 60_000)
    eventually(lambda: page.wait_for_timeout(50) or any(start(u) > start(first) for u in asked if "start=" in u))


def test_what_is_slow_is_not_asked_again_before_it_has_answered(site, visit):
    seen = visit(site)
    page = seen.go("#/teams")
    waiting = []
    page.clock.install()
    page.route("**/api/health", lambda route: waiting.append(route))
    page.goto(f"{site.url}/#/health")
    for _ in range(10):
        page.clock.fast_forward(3_500)
        page.wait_for_timeout(20)
    assert len(waiting) == 1
    waiting[0].continue_()
    page.unroute("**/api/health")


def test_a_tab_behind_others_lets_go_of_its_stream_and_misses_nothing(site, walk, api):
    def lookers():
        return api.ok("GET", "/api/health")["lookers"]

    page = walk("#/calls?live=1&user=bob")
    until(page, "document.querySelector('.summary').textContent.includes('as they begin')")
    # Those of pages that have been closed go a moment later.
    eventually(lambda: lookers() == 1)
    page.evaluate(HIDDEN, True)
    eventually(lambda: page.wait_for_timeout(50) or lookers() == 0)
    before = page.evaluate(SHOWN)
    assert site.post(ask(), key="vk-bob").status == 200
    (newest,) = api.ok("GET", "/api/logs?user=bob&limit=1")["logs"]
    assert newest["id"] not in before
    page.evaluate(HIDDEN, False)
    until(page, f"{SHOWN}[0] === '{newest['id']}'")
    assert lookers() == 1


def test_a_form_shows_what_is_there_now_and_takes_nothing_of_others_back(walk, walking, api):
    walking.expected += ("412 (Precondition Failed)",)
    page = walk("#/teams/team-data")
    api.ok("PUT", "teams/team-data", {"name": "Data Science 2"})
    page.get_by_role("link", name="Edit", exact=True).click()
    name = page.get_by_label("Name", exact=True)
    name.wait_for()
    assert name.input_value() == "Data Science 2"
    api.ok("PUT", "teams/team-data", {"budget": {"max_limit": 1111}})
    page.get_by_label("Dollars").fill("2222")
    page.get_by_role("button", name="Save").click()
    assert "Someone else has changed this in the meantime (budget)" in page.get_by_role("alert").text_content()
    assert api.ok("GET", "/api/governance/teams/team-data")["team"]["budget"]["max_limit"] == 1111

    page = walk("#/teams/team-data/edit")
    api.ok("PUT", "teams/team-data", {"budget": {"max_limit": 1020}})
    page.get_by_label("Name", exact=True).fill("Data Science")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("heading", name="Data Science", level=1, exact=True).wait_for()
    team = api.ok("GET", "/api/governance/teams/team-data")["team"]
    assert (team["name"], team["budget"]["max_limit"]) == ("Data Science", 1020)


def test_a_models_budget_keeps_its_calendar_when_its_amount_is_changed(walk, api):
    aligned = {"reset_duration": "1M", "calendar_aligned": True, "timezone": "Europe/Berlin"}
    api.ok("PUT", "model-configs/claude-opus-*", {"budget": {"max_limit": 5000, **aligned}})
    page = walk("#/budgets")
    page.get_by_role("button", name="Change the budget of claude-opus-*").click()
    page.get_by_role("button", name="Edit", exact=True).click()
    page.get_by_label("Dollars").fill("6000.5")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("dialog").wait_for(state="detached")
    budget = api.ok("GET", "/api/governance/model-configs/claude-opus-*")["model_config"]["budget"]
    assert {k: budget[k] for k in ("max_limit", *aligned)} == {"max_limit": 6000.5, **aligned}
    api.ok("DELETE", "model-configs/claude-opus-*")


def test_one_of_several_budgets_is_changed_and_the_others_stay(walk, api):
    two = [{"max_limit": 900, "reset_duration": "1d"}, {"max_limit": 9000, "reset_duration": "1M"}]
    api.ok("PUT", "users/heidi", {"budgets": two})
    page = walk("#/users/heidi/edit")
    assert page.get_by_label("Dollars").count() == 0
    assert "It has several" in page.locator("main").inner_text()
    page = walk("#/budgets")
    row = page.locator("tr", has_text="$900.00")
    row.get_by_role("button", name="Change").click()
    page.get_by_role("button", name="Edit", exact=True).click()
    page.get_by_label("Dollars").fill("950")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("dialog").wait_for(state="detached")
    budgets = api.ok("GET", "/api/governance/users/heidi")["user"]["budgets"]
    assert [(b["max_limit"], b["reset_duration"]) for b in budgets] == [(950, "1d"), (9000, "1M")]
    api.ok("PUT", "users/heidi", {"budgets": None})


def test_a_providers_key_is_not_removed_by_one_click(walk, api):
    api.ok("POST", "/api/providers/openai/keys", {"name": "spare", "value": "sk-a-spare-key", "weight": 1})
    page = walk("#/providers/openai")
    page.get_by_role("button", name="Remove spare").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Cancel").click()
    assert [k["name"] for k in api.ok("GET", "/api/providers/openai")["keys"]] == ["spare"]
    page.get_by_role("button", name="Remove spare").click()
    dialog.get_by_role("button", name="Remove").click()
    dialog.wait_for(state="detached")
    assert api.ok("GET", "/api/providers/openai")["keys"] == []


def test_an_old_policy_does_not_replace_one_that_nobody_has_looked_at(walk, walking, api):
    api.ok("PUT", "users/bob", {"name": "Bobby"})
    changed = api.ok("GET", "/api/policy")["revision"]
    # A revision is recorded a moment after it has taken effect.
    listed = eventually(
        lambda: (r := api.ok("GET", "/api/policy/revisions?limit=2")["revisions"])[0]["revision"] == changed and r, 20
    )
    old = listed[1]["revision"]
    walking.expected += ("412 (Precondition Failed)",)
    page = walk(f"#/policy/history/{old}")
    page.get_by_role("button", name="Restore", exact=True).click()
    restore = page.get_by_role("button", name="Restore this revision")
    # What it would change is shown: somebody else changes the policy only now.
    restore.wait_for()
    api.ok("PUT", "users/bob", {"name": "Robert"})
    restore.click()
    page.get_by_role("alert").wait_for()
    assert api.ok("GET", "/api/governance/users/bob")["user"]["name"] == "Robert"
    page.get_by_role("button", name="Restore", exact=True).click()
    page.get_by_role("button", name="Restore this revision").click()
    until(page, "location.hash === '#/policy/history'")
    assert api.ok("GET", "/api/governance/users/bob")["user"]["name"] == "Bob"


def test_a_gateway_that_was_away_is_noticed_and_nothing_typed_is_lost(empty, visit):
    seen = visit(empty)
    # A gateway that is just ending answers 502 where its pages' server ends before it does.
    seen.expected += ("ERR_CONNECTION_REFUSED", "ERR_EMPTY_RESPONSE", "ERR_INCOMPLETE_CHUNKED_ENCODING", "502 (Bad Gateway)")
    page = seen.go("#/policy")
    box = page.get_by_label("Policy policy.yaml")
    typed = box.input_value().replace("name: Alice", "name: Alicia")
    box.fill(typed)
    page.get_by_text("policy is valid").wait_for()
    port = empty.port
    empty.stop()
    page.get_by_role("button", name="Save").click()
    assert "cannot be reached" in page.get_by_role("alert").text_content()
    empty.options = [*empty.options, "--listen-port", str(port)]
    empty.start()
    # Sessions end with the gateway: whoever signs in again is where they were.
    page.get_by_role("button", name="Save").click()
    page.get_by_label("Admin token, operator token or virtual key").fill(empty.token)
    page.keyboard.press("Enter")
    box.wait_for()
    assert box.input_value() == typed
    page.get_by_text("policy is valid").wait_for()
    page.get_by_role("button", name="Save").click()
    page.get_by_text("saved and in force").wait_for()
    assert "Alicia" in empty.policy.read_text()

    # A live tail says so as well, and goes on where it was.
    page = seen.go("#/calls?live=1&range=all")
    until(page, "document.querySelector('.summary').textContent.includes('as they begin')")
    empty.stop()
    empty.start()
    assert empty.post(ask(), key="vk-bob").status == 200
    page.get_by_label("Admin token, operator token or virtual key").fill(empty.token)
    page.keyboard.press("Enter")
    row = page.locator("table.calls tbody tr")
    row.get_by_text("bob").wait_for()
    until(page, "document.querySelector('.summary').textContent.includes('as they begin')")
    assert empty.post(ask(), key="vk-carol").status == 200
    row.get_by_text("carol").wait_for()


def test_what_was_typed_into_the_policy_is_not_left_without_a_question(site, visit):
    seen = visit(site)
    page = seen.go("#/policy")
    page.reload()
    assert seen.asked == []
    box = page.get_by_label("Policy policy.yaml")
    box.click()
    page.keyboard.type("# ")
    page.get_by_role("button", name="Discard").wait_for()
    page.reload()
    assert seen.asked == ["beforeunload"]


def test_a_tab_shows_nothing_as_one_person_when_another_has_signed_in_beside_it(site, visit):
    seen = visit(site, token=None)
    page, beside = seen.page, seen.page.context.new_page()

    def sign_in(page, token):
        page.get_by_label("Admin token, operator token or virtual key").fill(token)
        page.keyboard.press("Enter")

    page.goto(site.url)
    sign_in(page, site.token)
    page.get_by_role("heading", name="Overview", level=1).wait_for()
    beside.goto(f"{site.url}/#/health")
    beside.get_by_role("button", name="Sign out").click()
    page.get_by_role("button", name="Sign in").wait_for()
    sign_in(beside, "vk-grace")
    beside.get_by_role("navigation", name="Main").wait_for()
    page.get_by_role("heading", name="My usage", level=1).wait_for()
