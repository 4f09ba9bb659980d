"""The policy's editor, its history and its dry run."""

from __future__ import annotations

import pytest

from support.browsing import until

pytestmark = pytest.mark.browser


def replace(page, old, new):
    """Type something else into the editor."""
    box = page.get_by_label("Policy policy.yaml")
    text = box.input_value()
    assert old in text
    box.fill(text.replace(old, new))


def test_a_mistake_is_said_at_its_line_as_one_types(walk):
    page = walk("#/policy")
    before = page.get_by_label("Policy policy.yaml").input_value()
    line = before.splitlines().index(next(x for x in before.splitlines() if "id: bob" in x)) + 1
    replace(page, "{id: bob, name: Bob, team_id: team-platform}", "{id: bob, name: Bob, team_id: team-plattform}")
    wrong = page.locator(".gutter .wrong")
    wrong.wait_for()
    assert wrong.text_content() == str(line)
    problem = page.get_by_label("Problems").get_by_role("listitem")
    assert "team-platform" in problem.text_content()
    assert page.get_by_role("button", name="Save").is_disabled()
    problem.get_by_role("button").click()
    chosen = "(e => e.value.slice(e.selectionStart, e.selectionEnd))(document.querySelector('textarea'))"
    until(page, f"{chosen}.includes('id: bob')")
    page.get_by_role("button", name="Discard").click()
    until(page, "!document.querySelector('.gutter .wrong')")
    assert page.get_by_label("Policy policy.yaml").input_value() == before


def test_an_edit_is_rehearsed_saved_compared_and_taken_back(site, walk):
    page = walk("#/policy")
    replace(page, "name: Frank", "budget: {max_limit: 1.00, reset_duration: 1M}, name: Frank")
    page.get_by_text("policy is valid").wait_for()
    page.get_by_role("navigation", name="Policy").get_by_role("link", name="Dry run").click()
    page.get_by_role("button", name="Run").click()
    row = page.locator("table tbody tr", has_text="vk-frank")
    row.first.wait_for(timeout=120_000)
    assert "budget exceeded" in row.first.inner_text()
    assert "user frank" in row.first.inner_text()

    page.get_by_role("navigation", name="Policy").get_by_role("link", name="Edit").click()
    page.get_by_role("button", name="Save").click()
    page.get_by_text("saved and in force").wait_for()
    assert "budget: {max_limit: 1.00, reset_duration: 1M}, name: Frank" in site.policy.read_text()

    walk("#/policy/history")
    page.locator("table tbody tr").first.get_by_role("link").click()
    page.locator(".diff .add").wait_for()
    assert page.locator(".diff .add").all_text_contents() == [
        "+  - {id: frank, budget: {max_limit: 1.00, reset_duration: 1M}, name: Frank, team_id: team-product}"
    ]
    page.go_back()
    page.locator("table tbody tr").nth(1).get_by_role("link").click()
    page.get_by_role("button", name="Restore", exact=True).click()
    page.get_by_role("button", name="Restore this revision").click()
    until(page, "location.hash === '#/policy/history'")
    until(page, "!document.querySelector('h2.mono')")
    assert "max_limit: 1.00" not in site.policy.read_text()


def test_what_somebody_else_saved_meanwhile_is_not_overwritten(site, visit):
    seen = visit(site)
    seen.expected += ("412 (Precondition Failed)",)
    page = seen.go("#/policy")
    replace(page, "name: Alice", "name: Alicia")
    page.get_by_text("policy is valid").wait_for()
    text = site.policy.read_text()
    site.govern(text.replace("name: Carol", "name: Caroline"))
    page.get_by_role("button", name="Save").click()
    page.get_by_role("alert").wait_for()
    assert "Alicia" not in site.policy.read_text()
    site.govern(text)
