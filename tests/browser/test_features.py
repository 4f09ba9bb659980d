"""Features on the dashboard: switched with the YAML shown before it is written, and what the cache did since."""

from __future__ import annotations

import pytest

from support.api import Api, token_hash
from support.browsing import VERA, until
from support.harness import ask, eventually

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def house(small):
    """The small gateway with a viewer; its policy is as before afterwards."""
    before = small.policy.read_text()
    api = Api(small)

    def put(text, viewers):
        small.govern(text)
        eventually(lambda: len(api.ok("GET", "/api/config")["operators"]) == viewers)

    put(before + f"operators: [{{id: vera, role: viewer, token_hash: '{token_hash(VERA)}'}}]\n", 1)
    yield small
    put(before, 0)


def part(page, name):
    return page.get_by_role("region", name=name, exact=True)


def figures_of(section):
    """Return the figures of a part by their names, once they have come: they are asked for besides the page."""
    section.locator(".stat").first.wait_for()
    return dict(zip(section.locator(".stat dt").all_inner_texts(), section.locator(".stat dd").all_inner_texts(), strict=True))


def focused(page):
    return page.evaluate("document.activeElement.getAttribute('aria-label')")


def test_semantic_caching_is_enabled_with_its_yaml_shown_first_all_by_keyboard(house, walk_small, walking_small):
    page = walk_small("#/health")
    page.get_by_role("navigation", name="Main").get_by_role("link", name="Features").click()
    section = part(page, "Semantic caching")
    section.get_by_text("off", exact=True).wait_for()
    before = house.policy.read_text()
    section.get_by_role("button", name="Enable semantic caching").focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Enable semantic caching")
    dialog.locator(".diff .add", has_text="semantic: {enabled: true, scope: user}").wait_for()
    assert "never with other code" in dialog.inner_text()

    # A mistake is said at its field as one types, and cannot be saved.
    walking_small.expected = ("400 (Bad Request)",)
    dialog.get_by_label("Least similarity").fill("3")
    until(page, "document.querySelector('dialog [aria-invalid]')")
    assert dialog.get_by_role("button", name="Enable").is_disabled()
    page.keyboard.press("Enter")
    dialog.get_by_label("Least similarity").fill("0.9")
    dialog.get_by_label("Answers are shared by").select_option("team")
    dialog.get_by_text("others are answered too").wait_for()
    dialog.locator(".diff .add", has_text="semantic: {enabled: true, scope: team, threshold: 0.9}").wait_for()
    assert house.policy.read_text() == before
    dialog.get_by_label("Least similarity").focus()
    page.keyboard.press("Enter")

    section.get_by_text("on", exact=True).wait_for()
    assert house.policy.read_text() == before + "\ncache:\n  semantic: {enabled: true, scope: team, threshold: 0.9}\n"
    assert "calls of the same team" in section.inner_text()
    figures = figures_of(section)
    assert (figures["Hits"], figures["False hits, estimated"]) == ("0", "–")
    until(page, "document.activeElement.getAttribute('aria-label') === 'Change semantic caching'")
    page.get_by_role("status").get_by_text("Semantic caching: enabled").wait_for()

    section.get_by_role("button", name="Disable semantic caching").click()
    dialog = page.get_by_role("dialog", name="Disable semantic caching")
    dialog.locator(".diff .del").wait_for()
    dialog.get_by_role("button", name="Disable").click()
    section.get_by_text("off", exact=True).wait_for()
    assert "  semantic: {enabled: false, scope: team, threshold: 0.9}\n" in house.policy.read_text()


SWITCHES = {
    "Content recording": ("enable", "content: full", "on"),
    "Alerts": ("disable", "alerts: {thresholds: []}", "off"),
    "Clients' own subscriptions: anthropic": ("enable", "  anthropic: {simulate: true, subscriptions: pass}", "on"),
}


def test_each_other_switch_shows_its_lines_and_one_that_is_left_writes_nothing(house, walk_small):
    page = walk_small("#/features")
    before = house.policy.read_text()
    for name, (operation, line, _) in SWITCHES.items():
        part(page, name).get_by_role("button", name=operation.capitalize()).click()
        dialog = page.get_by_role("dialog")
        added = dialog.locator(".diff .add", has_text=line)
        added.wait_for()
        page.keyboard.press("Escape")
        until(page, "!document.querySelector('dialog')")
        assert operation in focused(page).lower()
    assert house.policy.read_text() == before

    name, (operation, line, after) = "Content recording", SWITCHES["Content recording"]
    part(page, name).get_by_role("button", name=operation.capitalize()).click()
    page.get_by_role("dialog").get_by_role("button", name=operation.capitalize()).click()
    part(page, name).get_by_text(after, exact=True).wait_for()
    assert house.policy.read_text() == f"{before}\n{line}\n"


def test_what_the_cache_did_is_shown_to_a_viewer_and_cleared_by_an_admin_after_a_question(house, walk_small, visit):
    page = walk_small("#/features")
    section = part(page, "Exact caching")
    assert section.locator(".stats").count() == 0
    section.get_by_role("button", name="Enable exact caching").click()
    page.get_by_role("dialog").locator(".diff .add", has_text="exact: {enabled: true, scope: user}").wait_for()
    page.get_by_role("dialog").get_by_label("Streams are given").select_option("natural")
    page.get_by_role("dialog").locator(".diff .add", has_text="exact: {enabled: true, scope: user, pacing: natural}").wait_for()
    page.get_by_role("dialog").get_by_role("button", name="Enable").click()
    section.get_by_text("on", exact=True).wait_for()
    section.get_by_text("at the pace at which they came").wait_for()
    assert Api(house).ok("GET", "/api/cache")["pacing"] == "natural"
    for _ in range(3):
        assert house.post(ask(), key="vk-carol").status == 200
        eventually(lambda: Api(house).ok("GET", "/api/cache")["entries"] == 1)

    viewer = visit(house, VERA).go("#/features")
    shown = part(viewer, "Exact caching")
    figures = figures_of(shown)
    assert (figures["Hits"], figures["Misses"], figures["Hit rate"]) == ("2", "1", "66.7 %")
    assert float(figures["Saved"].removeprefix("$")) > 0
    assert figures["Kept answers"].startswith("1, ")
    assert viewer.get_by_text("Your role is read-only.").is_visible()
    assert viewer.locator("main button").count() == 0

    clear = section.get_by_role("button", name="Clear the cache")
    clear.click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    assert Api(house).ok("GET", "/api/cache")["entries"] == 1
    clear.click()
    page.get_by_role("dialog").get_by_role("button", name="Delete the answers").click()
    clear.wait_for(state="detached")
    assert Api(house).ok("GET", "/api/cache")["entries"] == 0
    page.get_by_role("status").get_by_text("Deleted 1 cached answers").wait_for()
