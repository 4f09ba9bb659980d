"""What is typed, or shown once, is not lost without a question; budgets raised for a time and users erased on their pages."""

from __future__ import annotations

import pytest

from support.api import Api
from support.browsing import until
from support.forms import parameters
from support.harness import eventually

pytestmark = pytest.mark.browser

TYPED = "What you have typed is not saved. Leave it, and lose it?"
SHOWN_ONCE = "The key's value has not been copied and is not shown again. Leave it, and lose it?"


@pytest.fixture(scope="module")
def api(small):
    """Somebody else who is at it."""
    return Api(small)


def by_link(page):
    page.get_by_role("navigation", name="Main").get_by_role("link", name="Health", exact=True).click()


def by_address(page):
    page.evaluate("location.hash = '#/health'")


WAYS = {"a link": by_link, "back": lambda page: page.go_back(), "the address": by_address}


LEFT = [("#/teams/new", "Name", way) for way in WAYS] + [("#/keys/vk-bob/edit", "Description", "a link")]


@pytest.mark.parametrize(("where", "label", "way"), LEFT)
def test_a_form_that_is_left_asks_and_stays_as_it_is_or_is_left(walk_small, walking_small, where, label, way):
    page = walk_small("#/users")
    page.evaluate("where => { location.hash = where }", where)
    box = page.get_by_label(label, exact=True)
    box.wait_for()
    WAYS[way](page)
    until(page, "where => location.hash !== where", where)
    assert walking_small.asked == []

    page = walk_small("#/users")
    page.evaluate("where => { location.hash = where }", where)
    box.fill("typed")
    walking_small.stays = True
    WAYS[way](page)
    until(page, "where => location.hash === where", where)
    assert (box.input_value(), walking_small.asked) == ("typed", [TYPED])
    # Emptied again, nothing would be lost; typed again, the second answer lets it go.
    walking_small.stays = False
    WAYS[way](page)
    until(page, "!document.querySelector('form')")
    assert page.evaluate("location.hash") == ("#/users" if way == "back" else "#/health")
    assert walking_small.asked == [TYPED, TYPED]


def open_provider_key(page):
    page.get_by_role("button", name="Add key").click()
    return page.get_by_role("dialog").get_by_label("Name")


def open_provider(page):
    page.get_by_role("button", name="Edit").click()
    return page.get_by_role("dialog").get_by_label("Base URL")


def open_raise(page):
    page.get_by_role("button", name="Raise").click()
    return page.get_by_label("Dollars more")


def open_budget(page):
    page.get_by_role("button", name="Change the budget of vk-bob").click()
    return page.get_by_label("Dollars to add to the limit")


DIALOGS = [
    ("#/providers/anthropic", open_provider_key),
    ("#/providers/anthropic", open_provider),
    ("#/budgets", open_budget),
    ("#/teams/team-data", open_raise),
]


@pytest.mark.parametrize(("where", "opened"), DIALOGS)
def test_a_dialog_that_is_closed_in_any_way_asks_once_something_was_typed(walk_small, walking_small, where, opened):
    page = walk_small(where)
    dialog = page.get_by_role("dialog")
    opened(page)
    page.keyboard.press("Escape")
    dialog.wait_for(state="detached")
    assert walking_small.asked == []

    box = opened(page)
    before = box.input_value()
    box.fill("1234")
    walking_small.stays = True
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    dialog.get_by_role("button", name="Close").click()
    dialog.get_by_role("button", name="Cancel").click()
    page.mouse.click(3, 3)
    assert (box.input_value(), walking_small.asked) == ("1234", [TYPED] * 5)
    box.fill(before)
    page.keyboard.press("Escape")
    dialog.wait_for(state="detached")
    assert len(walking_small.asked) == 5


def test_a_failed_save_a_session_that_ends_and_a_reload_keep_or_ask(small, visit, api):
    seen = visit(small)
    seen.expected += ("400 (Bad Request)", "500 (Internal")
    page = seen.go("#/teams/new")
    page.get_by_label("Name", exact=True).press_sequentially("Night shift")
    page.get_by_label("Id").fill("-bad id-")
    page.get_by_role("button", name="Create team").click()
    page.locator(".field.wrong").wait_for()
    assert page.get_by_label("Name", exact=True).input_value() == "Night shift"
    # The session ends meanwhile: whoever signs in again has the form as it was.
    page.context.clear_cookies()
    page.get_by_label("Id").fill("night")
    page.get_by_role("button", name="Create team").click()
    token = page.get_by_label("Admin token, operator token or virtual key")
    token.fill(small.token)
    assert not page.get_by_label("Id").is_visible()
    page.keyboard.press("Enter")
    token.wait_for(state="detached")
    assert page.get_by_label("Name", exact=True).input_value() == "Night shift"
    seen.stays = True
    page.get_by_role("button", name="Sign out").click()
    assert (seen.asked, page.get_by_label("Id").input_value()) == ([TYPED], "night")
    seen.stays = False
    page.get_by_role("button", name="Create team").click()
    page.get_by_role("heading", name="Night shift", level=1).wait_for()
    assert seen.asked == [TYPED]
    assert api.ok("DELETE", "teams/night")

    page = seen.go("#/teams/new")
    page.get_by_label("Name", exact=True).press_sequentially("Night")
    page.reload()
    assert seen.asked == [TYPED, "beforeunload"]


def test_a_session_that_ends_under_a_dialog_is_taken_up_in_front_of_it(small, visit):
    seen = visit(small)
    page = seen.go("#/providers/openai")
    open_provider_key(page).fill("spare")
    page.get_by_label("Value").fill("sk-typed-once")
    page.context.clear_cookies()
    page.get_by_role("button", name="Save").click()
    page.get_by_label("Admin token, operator token or virtual key").fill(small.token)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Save").wait_for()
    assert page.get_by_label("Value").input_value() == "sk-typed-once"


def test_somebody_else_who_signs_in_sees_nothing_of_what_was_typed(small, visit):
    seen = visit(small, token=None)
    page = seen.page
    page.goto(f"{small.url}/#/teams/new")
    page.get_by_label("Admin token, operator token or virtual key").fill(small.token)
    page.keyboard.press("Enter")
    page.get_by_label("Name", exact=True).fill("Of the admin's own")
    page.context.clear_cookies()
    page.evaluate("dispatchEvent(new Event('signedout'))")
    page.get_by_label("Admin token, operator token or virtual key").fill("vk-bob")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("navigation", name="Main").get_by_role("link", name="My usage").wait_for()
    assert seen.asked == []
    assert "Of the admin's own" not in page.content()


def test_a_keys_value_is_left_only_once_it_is_copied_or_stored(walk_small, walking_small, api):
    page = walk_small("#/keys/new")
    page.get_by_label("Name", exact=True).fill("Once")
    page.get_by_role("button", name="Create key").click()
    page.get_by_text("shown once and never again").wait_for()
    assert walking_small.asked == []
    value = page.locator(".notice pre").text_content()
    walking_small.stays = True
    page.get_by_role("link", name="Edit").click()
    until(page, "location.hash === '#/keys/vk-once'")
    assert (walking_small.asked, page.locator(".notice pre").text_content()) == ([SHOWN_ONCE], value)
    page.get_by_label("I have stored it").check()
    by_link(page)
    until(page, "location.hash === '#/health'")

    page = walk_small("#/keys/vk-once")
    page.get_by_role("button", name="Rotate").click()
    page.get_by_role("button", name="Rotate key").click()
    page.locator(".notice pre").wait_for()
    assert page.locator(".notice pre").text_content() != value
    assert not page.get_by_label("I have stored it").is_checked()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator(".notice").get_by_role("button", name="Copy").click()
    until(page, "document.querySelector('.notice input').checked")
    page.get_by_role("button", name="Rotate").click()
    page.get_by_role("button", name="Rotate key").click()
    until(page, "!document.querySelector('.notice input').checked")
    # A key that is deleted needs nobody to keep its value.
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    until(page, "location.hash === '#/keys'")
    assert walking_small.asked == [SHOWN_ONCE]


def test_a_response_that_comes_while_one_types_leaves_the_search_alone(walk_small):
    page = walk_small("#/keys")
    search = page.get_by_label("Search")
    search.press_sequentially("vk-", delay=5)
    until(page, "location.hash.includes('q=vk-')")
    with page.expect_response("**/virtual-keys?**search=vk-b*"):
        search.press_sequentially("b", delay=5)
        page.wait_for_timeout(260)
        search.press_sequentially("o", delay=5)
    assert search.input_value() == "vk-bo"
    until(page, "location.hash.includes('q=vk-bo')")


KINDS = {
    "keys": ("virtual-keys/vk-carol", "virtual_key", "#/keys/vk-carol"),
    "users": ("users/carol", "user", "#/users/carol"),
    "teams": ("teams/team-data", "team", "#/teams/team-data"),
    "projects": ("projects/churn-model", "project", "#/projects/churn-model"),
    "customers": ("customers/customer-acme", "customer", "#/customers/customer-acme"),
}


# One dialog for all of them; the key says what is wrong too.
@pytest.mark.parametrize("kind", parameters(KINDS, short=["keys", "projects"]))
def test_a_budget_is_raised_until_a_time_and_says_so(walk_small, walking_small, api, kind):
    path, entity, where = KINDS[kind]
    api.ok("PUT", path, {"budget": {"max_limit": 100, "reset_duration": "1M"}})
    page = walk_small(where)
    page.get_by_role("button", name="Raise").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("In the time zone").wait_for()
    dialog.get_by_label("Dollars more").fill("20")
    dialog.get_by_text("The limit will be $120.00 until then").wait_for()
    if kind == "keys":
        walking_small.expected += ("400 (Bad Request)",)
        dialog.get_by_label("Until").fill("2020-01-01T00:00")
        dialog.get_by_role("button", name="Raise").last.click()
        dialog.locator(".field.wrong").wait_for()
        assert dialog.get_by_label("Dollars more").input_value() == "20"
    dialog.get_by_label("Until").fill("2099-12-31T12:00")
    if kind != "keys":
        dialog.get_by_text("December 31, 2099").wait_for()
    dialog.get_by_role("button", name="Raise").last.click()
    dialog.wait_for(state="detached")
    page.get_by_text("Raised by $20.00 until").wait_for()
    page.get_by_text("of $120.00 per month").first.wait_for()
    budget = api.ok("GET", f"/api/governance/{path}")[entity]["budget"]
    ends = page.evaluate("new Date('2099-12-31T12:00').toISOString()")[:16]
    assert [(float(r["amount"]), r["until"][:16]) for r in budget["raises"]] == [(20, ends)]
    if kind != "keys":
        return
    # An edit of the amount leaves the raise in force.
    page = walk_small("#/budgets")
    page.get_by_role("button", name="Change the budget of vk-carol", exact=True).click()
    page.get_by_role("button", name="Edit", exact=True).click()
    page.get_by_label("Dollars").fill("200")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("dialog").wait_for(state="detached")
    budget = api.ok("GET", f"/api/governance/{path}")[entity]["budget"]
    assert (float(budget["max_limit"]), float(budget["limit_in_force"])) == (200, 220)


def test_a_user_is_erased_after_seeing_what_goes_and_typing_the_id(walk_small, walking_small, api):
    walking_small.expected += ("404 (Not Found)", "503 (Service Unavailable)")
    api.ok("POST", "users", {"id": "leaver", "name": "A Leaver"})
    api.ok("POST", "virtual-keys", {"id": "vk-leaver", "user_id": "leaver"})
    page = walk_small("#/users/leaver")
    page.get_by_role("button", name="Erase").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("User leaver would be erased: 0 calls, 1 keys").wait_for()
    assert "vk-leaver" in dialog.inner_text()
    button = dialog.get_by_role("button", name="Erase for good")
    dialog.get_by_label("Type the user's id to confirm").fill("leave")
    assert button.is_disabled()
    assert "leaver" in [u["id"] for u in api.ok("GET", "/api/governance/users")["users"]]
    dialog.get_by_label("Type the user's id to confirm").fill("leaver")
    # A gateway that is busy writing says so, and to do it again: what was typed is still there for that.
    erased = dialog.get_by_text("every sum is as it was")
    button.click()
    erased.or_(dialog.get_by_role("alert")).first.wait_for()
    while not erased.count():
        button.click()
        erased.or_(dialog.get_by_role("alert")).first.wait_for()
    dialog.get_by_role("button", name="Close").last.click()
    until(page, "location.hash === '#/users'")
    eventually(lambda: "leaver" not in [u["id"] for u in api.ok("GET", "/api/governance/users")["users"]])
    assert "vk-leaver" not in [k["id"] for k in api.ok("GET", "/api/governance/virtual-keys")["virtual_keys"]]
