"""What people do with the dashboard, from end to end."""

from __future__ import annotations

import json
import re
import sqlite3
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from support.api import Api
from support.browsing import EVIL, VERA, until
from support.harness import ask, eventually

pytestmark = pytest.mark.browser


def test_signing_in_and_out(site, visit):
    seen = visit(site, token=None)
    page = seen.page
    page.goto(site.url + "/#/budgets")
    box = page.get_by_label("Admin token, operator token or virtual key")
    box.fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    assert "not the admin token" in page.get_by_role("alert").text_content()
    box.fill(site.token)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Budgets", level=1).wait_for()
    assert page.context.cookies(f"{site.url}/api/usage") == []
    (cookie,) = page.context.cookies(site.url + page.evaluate("localStorage.getItem('sluicegate-session-path')") + "/api/usage")
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    assert site.token not in json.dumps(page.context.storage_state())
    page.get_by_role("button", name="Sign out").click()
    box.wait_for()
    page.reload()
    box.wait_for()


def test_no_other_server_on_this_machine_is_sent_the_session(site, visit):
    """Somebody who has just signed in looks at what an agent serves on another port of the same host."""
    told = []

    class Agent(BaseHTTPRequestHandler):
        def do_GET(self):
            told.append(self.headers.get("cookie"))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>hello</title>")

        def log_message(self, *_):
            pass

    seen = visit(site, token=None)
    page = seen.page
    page.goto(site.url)
    page.get_by_label("Admin token, operator token or virtual key").fill(site.token)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Overview", level=1).wait_for()
    other = page.context.new_page()
    with ThreadingHTTPServer(("127.0.0.1", 0), Agent) as agent:
        threading.Thread(target=agent.serve_forever, daemon=True).start()
        for path in ("/", "/api/usage", "/at/"):
            other.goto(f"http://127.0.0.1:{agent.server_port}{path}")
        agent.shutdown()
    assert len(told) >= 3
    assert set(told) == {None}
    other.goto(site.url)
    other.get_by_role("heading", name="Overview", level=1).wait_for()


def test_a_developer_sees_what_is_theirs_and_nothing_else(site, visit):
    seen = visit(site, token="vk-grace")
    page = seen.go()
    assert page.get_by_role("heading", level=1).text_content() == "My usage"
    links = page.get_by_role("navigation", name="Main").get_by_role("link").all_text_contents()
    assert [x for x in links if x.strip()][:3] == ["sluicegate", "My usage", "My calls"]
    assert "Project churn-model" in page.locator("main").inner_text()
    page = seen.go("#/calls?range=30d")
    assert page.locator("a.to-call").count() == 50
    page.locator("a.to-call").first.click()
    page.get_by_role("complementary", name="Call").get_by_text("vk-grace").first.wait_for()
    assert "alice" not in page.locator("main").inner_text()
    page = seen.go("#/policy")
    assert page.get_by_role("heading", level=1).text_content() == "Page not found"


def test_who_may_only_look_is_offered_nothing_else(site, visit):
    seen = visit(site, token=VERA)
    for where in ("#/keys/new", "#/teams/team-data/edit"):
        assert seen.go(where).get_by_role("heading", level=1).text_content() == "Not allowed"
    page = seen.go("#/budgets")
    assert page.get_by_role("button", name="Change").count() == 0
    page = seen.go("#/policy/dry-run")
    assert page.get_by_role("button", name="Run").is_disabled()
    page = seen.go("#/policy")
    assert page.get_by_label("Policy policy.yaml").get_attribute("readonly") is not None


def test_a_key_is_made_handed_out_called_with_and_its_call_seen_as_it_happens(site, walk):
    page = walk("#/keys/new")
    page.get_by_label("Name", exact=True).fill("Ivan's laptop")
    page.get_by_label("Team", exact=True).select_option("team-data")
    page.get_by_label("Dollars").fill("12.5")
    page.get_by_label("Restrict to the list below").check()
    page.get_by_label("Models").fill("claude-haiku-*")
    page.get_by_role("button", name="Create key").click()
    page.get_by_role("heading", name="Ivan's laptop").wait_for()
    value = page.locator(".notice pre").text_content()
    assert value.startswith("sk-sg-")
    lines = page.locator(".client-setup pre").text_content()
    assert lines.splitlines()[:2] == [f"export ANTHROPIC_BASE_URL={site.url}", f"export ANTHROPIC_API_KEY={value}"]
    assert "$0.00 of $12.50 per month" in page.locator("main").inner_text()

    page.goto(site.url + "/#/calls?live=1&vk=vk-ivan-s-laptop")
    page.get_by_text("Waiting for calls").wait_for()
    until(page, "document.querySelector('.summary').textContent.includes('as they begin')")
    reply = site.post(ask("[simulate cost=0.25]", model="claude-haiku-5-5"), key=value)
    assert reply.status == 200
    row = page.locator("table.calls tbody tr")
    row.get_by_text("completed").wait_for()
    assert "$0.2500" in row.inner_text()
    assert site.post(ask(model="claude-opus-5-5"), key=value).reason == "model_blocked"
    page.get_by_text("model not allowed").wait_for()

    page.goto(site.url + "/#/keys/vk-ivan-s-laptop")
    page.get_by_text("$0.25 of $12.50 per month").wait_for()
    assert value not in page.content()
    page.get_by_role("button", name="Disable").click()
    page.get_by_role("button", name="Enable").wait_for()
    assert site.post(ask(), key=value).status == 401
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.get_by_role("heading", name="Virtual keys", level=1).wait_for()
    assert "vk-ivan-s-laptop" not in site.policy.read_text()


def test_what_cannot_be_saved_is_said_at_its_field(walk, walking):
    walking.expected += ("400 (Bad Request)",)
    page = walk("#/teams/new")
    page.get_by_label("Name", exact=True).fill("Platform two")
    page.get_by_label("Id").fill("-bad id-")
    with page.expect_response("**/api/governance/teams"):
        page.get_by_role("button", name="Create team").click()
    field = page.locator(".field.wrong")
    field.wait_for()
    assert "Id" in field.locator("label").text_content()
    assert field.locator(".hint").text_content()


def test_a_budget_is_topped_up_where_it_stands(site, walk):
    page = walk("#/budgets")
    row = page.locator("tr", has=page.get_by_role("link", name="vk-bob"))
    limit = float(row.locator("td").nth(4).inner_text().removeprefix("$"))
    assert f"id: vk-bob, team_id: team-platform, user_id: bob, budget: {{max_limit: {limit:.2f}," in site.policy.read_text()
    row.get_by_role("button", name="Change the budget of vk-bob").click()
    page.get_by_label("Dollars to add to the limit").fill("2.5")
    page.get_by_text(f"The limit will be ${limit + 2.5:.2f}").wait_for()
    page.get_by_role("button", name="Top up").last.click()
    page.get_by_role("dialog").wait_for(state="detached")
    until(
        page,
        "limit => [...document.querySelectorAll('tr')].some(r => r.textContent.includes('vk-bob') && r.textContent.includes(limit))",
        f"${limit + 2.5:.2f}",
    )
    assert f"max_limit: {limit + 2.5}" in site.policy.read_text()


def test_filters_are_in_the_address_and_back_goes_back(walk):
    page = walk("#/calls?range=30d")
    page.get_by_label("Outcome").select_option("denied")
    until(page, "[...document.querySelectorAll('table.calls tbody tr')].every(r => r.textContent.includes('refused'))")
    assert "outcome=denied" in page.url
    page.get_by_label("User").select_option("grace")
    until(page, "[...document.querySelectorAll('table.calls tbody tr')].every(r => r.textContent.includes('Grace'))")
    page.go_back()
    until(page, "!location.hash.includes('grace') && location.hash.includes('denied')")
    assert page.get_by_label("User").input_value() == ""
    shown = page.locator("a.to-call").count()
    page.get_by_role("button", name="Show more").click()
    until(page, "n => document.querySelectorAll('a.to-call').length > n", arg=shown)


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("#/?range=toString", "range: must be one of 1h, 24h, 7d, 30d, all"),
        ("#/?constructor=1", "“constructor” is not a parameter of this page; known are range, start, end, by"),
        ("#/calls?usr=alice", "“usr” is not a parameter"),
        ("#/calls?start=yesterday", "start: must be a day such as 2026-02-28"),
        ("#/calls?range=1h&start=2026-01-01", "not both"),
        ("#/calls?start=2026-02-01&end=2026-01-01", "end: must be after start"),
        ("#/health?x=1", "it has none"),
    ],
)
def test_what_makes_no_sense_in_the_address_is_said(walk, where, words):
    page = walk(where)
    assert words in page.get_by_role("alert").inner_text()


def test_a_time_of_ones_own_is_in_the_address(site, walk):
    began = json.loads(site.admin("/api/logs?limit=1").body)["logs"][0]["started_at"][:16]
    page = walk("#/?by=constructor")
    assert page.locator("canvas").count() == 4
    page.get_by_role("button", name="Custom").click()
    page.get_by_label("Until").fill(began)
    until(page, "began => location.hash.includes('start=') && location.hash.includes(encodeURIComponent(began))", began)
    assert page.get_by_role("heading", name="In the time").is_visible()
    page = walk(f"#/calls?start=2020-01-01&end={began}Z")
    total = json.loads(site.admin(f"/api/logs?limit=1&start=2020-01-01&end={began}Z").body)["pagination"]["total_count"]
    assert f"{total:,} calls".replace(",", " ") in page.locator(".summary").inner_text().replace(",", " ").replace("\u202f", " ")


def test_a_list_is_searched_and_sorted_by_the_gateway_and_shows_names_beside_ids(walk):
    page = walk("#/keys?sort_by=name&order=desc")
    page.get_by_label("Search").fill("data")
    rows = page.locator("table.rows tbody tr")
    until(page, "location.hash.includes('q=data') && document.querySelectorAll('table.rows tbody tr').length === 2")
    assert [x.split()[0] for x in rows.all_inner_texts()] == ["vk-heidi", "vk-grace"]
    page = walk("#/calls?range=30d&user=carol")
    assert page.locator("table.calls tbody td:nth-child(2)").first.inner_text() == "Carol"


def test_an_address_that_leads_nowhere_says_so(walk):
    for where in ("#/nowhere", "#/keys/%", "#/%E0%A4%A", "#/__proto__", "#/constructor"):
        page = walk("#/users")
        page.evaluate("where => { location.hash = where }", where)
        page.get_by_role("heading", name="Page not found", level=1, exact=True).wait_for()


def test_a_calls_cost_can_be_followed_line_by_line(site, walk):
    (call,) = json.loads(site.admin("/api/logs?limit=1&outcome=completed&model=claude-opus-5-5&min_cost=0.01").body)["logs"]
    page = walk(f"#/calls/{call['id']}")
    panel = page.get_by_role("complementary", name="Call")
    panel.locator("tfoot").wait_for()
    until(page, "![...document.querySelectorAll('.cost tbody td')].some(d => d.textContent === '–')")
    parts = [float(x) for x in panel.locator(".cost tbody td:last-child").all_text_contents()]
    assert abs(sum(parts) - float(call["cost_usd"])) < 0.00001
    assert panel.locator("tfoot td").last.text_content() == f"${call['cost_usd']}"
    assert "At list price" not in panel.inner_text()
    assert call["policy_revision"] in panel.inner_text()


def test_a_calls_panel_has_what_each_limit_stood_at_when_it_was_judged(site, walk):
    (listed,) = json.loads(site.admin("/api/logs?limit=1&outcome=denied&reason=budget_exceeded").body)["logs"]
    call = json.loads(site.admin(f"/api/logs/{listed['id']}").body)
    page = walk(f"#/calls/{call['id']}")
    items = page.get_by_role("complementary", name="Call").locator(".verdicts li")
    items.first.wait_for()
    texts = items.all_inner_texts()
    assert len(texts) == len(call["limits"]) >= 1
    for text, verdict in zip(texts, call["limits"], strict=True):
        words = " ".join(text.split())
        assert words.startswith(verdict["id"])
        if verdict["unit"] == "usd":
            assert f"{dollars(verdict['limit_usd'])} per month" in words
            assert re.search(rf"{re.escape(dollars(verdict['used_usd']))}\d* used,", words) or float(verdict["used_usd"]) < 1
        else:
            used = "" if verdict["unit"] == "concurrent" else f"{verdict['used']:,} used, "
            assert f"{used}{verdict['reserved']:,} in flight, {verdict['asked']:,} asked" in words
        assert ("admitted" in words) == verdict["admitted"]
    last = call["limits"][-1]
    assert [v["admitted"] for v in call["limits"]] == [True] * (len(texts) - 1) + [False]
    told = float(last["used_usd"]) + float(last["reserved_usd"])
    # More digits where without them it would look used up to the cent.
    assert re.search(rf"{re.escape(dollars(told))}\d* of {re.escape(dollars(last['limit_usd']))}", texts[-1])
    assert "resets" in texts[-1]


def dollars(amount):
    return f"${float(amount):,.2f}"


def test_a_real_refusals_panel_says_what_its_client_was_told(small, walk_small, visit):
    replies = [small.post(ask(model="claude-haiku-5-5"), key="vk-ci") for _ in range(15)]
    assert [r.status for r in replies] == [200] * 14 + [429]
    used, limit = re.search(r"\((\d+)/(\d+),", replies[-1].message).groups()
    page = walk_small("#/calls?range=1h&outcome=denied&vk=vk-ci")
    page.locator("a.to-call").first.click()
    panel = page.get_by_role("complementary", name="Call")
    panel.locator(".verdicts li").first.wait_for()
    assert f"{used} of {limit} calls with this call" in panel.inner_text()
    assert panel.locator(".told").text_content() == replies[-1].message
    # The developer is told so on their own page, and why.
    banner = visit(small, token="vk-ci").go().get_by_role("status").filter(has_text="Your calls are refused")
    banner.get_by_text(replies[-1].message).wait_for()
    assert "virtual key vk-ci has used its 14 calls, until" in banner.inner_text()
    page = walk_small("#/calls?range=1h&outcome=completed&vk=vk-ci")
    page.locator("a.to-call").first.click()
    panel.get_by_text("13 used, 0 in flight, 1 asked").wait_for()
    assert "admitted" in panel.locator(".verdicts").inner_text()


def made(gateway, key):
    """Make a call with a key that has made none, and return its record."""
    gateway.post(key=key)
    return eventually(lambda: next((c for c in gateway.rows() if c["virtual_key_id"] == key), None))


def test_a_call_from_before_limits_were_kept_says_so(small, walk_small):
    call = made(small, "vk-bob")
    with sqlite3.connect(small.state / "sluicegate.db") as db:
        db.execute("UPDATE calls SET limits = NULL WHERE id = ?", [call["id"]])
    db.close()
    page = walk_small(f"#/calls/{call['id']}")
    panel = page.get_by_role("complementary", name="Call")
    panel.get_by_text("from before limits were recorded").wait_for()
    assert panel.locator(".verdicts").count() == 0


def test_a_call_by_subscription_shows_what_it_would_have_cost_and_offers_no_correction(small, walk_small):
    call = made(small, "vk-carol")
    with sqlite3.connect(small.state / "sluicegate.db") as db:
        db.execute(
            "UPDATE calls SET shadow_usd = cost_usd, shadow_nano = cost_nano, cost_usd = '0', cost_nano = 0 WHERE id = ?",
            [call["id"]],
        )
    db.close()
    page = walk_small(f"#/calls/{call['id']}")
    panel = page.get_by_role("complementary", name="Call")
    panel.get_by_text(f"At list price it is ${call['cost_usd']}.").wait_for()
    assert panel.locator("table.cost tfoot").inner_text().split()[-1] == f"${call['cost_usd']}"
    assert panel.get_by_role("button", name="Correct the cost").count() == 0
    page.locator(f"td[title*='${call['cost_usd']} at list price']").wait_for()


def test_what_is_recorded_is_never_taken_for_markup(site, walk):
    said = site.post(ask(model=EVIL), key="vk-alice", user_agent=EVIL, x_claude_code_session_id="s-1")
    assert said.status >= 400
    call = eventually(lambda: site.rows("SELECT * FROM calls WHERE session_id = 's-1' ORDER BY rowid DESC"))[0]
    page = walk(f"#/calls/{call['id']}")
    panel = page.get_by_role("complementary", name="Call")
    assert EVIL in panel.locator("dd", has_text="<img").first.text_content()
    for where in ("#/", "#/calls?range=1h", "#/budgets", "#/teams", "#/teams/team-platform", "#/models"):
        walk(where)
        assert page.evaluate("window.hacked") is None
        assert page.locator("img[src=x]").count() == 0
    assert EVIL in walk("#/budgets").locator("main").inner_text()


def test_a_fresh_gateway_shows_what_is_missing_until_a_call_has_completed(empty, visit):
    Api(empty).ok("PUT", "/api/providers/anthropic", {"simulate": False})
    page = visit(empty).go()
    steps = page.locator(".checklist li")
    page.get_by_role("link", name="No usable provider key").wait_for()
    assert "to do" in steps.first.inner_text()
    page.get_by_role("button", name="Simulate anthropic").click()
    steps.first.get_by_text("done", exact=True).wait_for()
    # A refused call is none that completed.
    assert empty.post(ask(model="claude-opus-5-5"), key="vk-ci").reason == "model_blocked"
    steps.last.get_by_text("model not allowed").wait_for()
    assert "to do" in steps.last.inner_text()
    shown = page.locator(".client-setup pre").text_content().splitlines()
    assert shown == [f"export ANTHROPIC_BASE_URL={empty.url}", "export ANTHROPIC_API_KEY=vk-alice", 'claude -p "say hi"']
    page.get_by_role("button", name="curl").click()
    line = page.locator(".client-setup pre").text_content()
    assert re.match(rf"curl {re.escape(empty.url)}/v1/messages", line)
    import subprocess

    answer = subprocess.run(["sh", "-c", line.replace("curl ", "curl -s ", 1)], capture_output=True, text=True, timeout=60)
    assert "Hello" in answer.stdout
    page.get_by_role("heading", name="Overview").wait_for()
    page.get_by_text("This month").wait_for()


def test_a_call_is_corrected_on_its_panel(small, walk_small, walking_small, visit):
    walking_small.expected += ("400 (Bad Request)",)
    call = made(small, "vk-alice")
    before = small.used("virtual_key/vk-alice")
    page = walk_small(f"#/calls/{call['id']}?range=1h")
    panel = page.get_by_role("complementary", name="Call")
    panel.get_by_role("button", name="Correct the cost").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("What it should have cost, in dollars").fill("99999999999999999")
    dialog.get_by_role("button", name="Adjust").click()
    problem = dialog.get_by_role("alert").locator("p")
    problem.wait_for()
    assert dialog.inner_text().count(problem.inner_text()) == 1
    dialog.get_by_label("What it should have cost, in dollars").fill("0.5")
    dialog.get_by_label("Reason").fill("the provider's bill")
    dialog.get_by_role("button", name="Adjust").click()
    table = panel.locator("table.adjustments")
    table.wait_for()
    assert "the provider's bill" in table.inner_text()
    assert table.locator("tfoot td").last.text_content() == "$0.50"
    assert panel.locator("table.cost").first.locator("tfoot td").last.text_content() == f"${call['cost_usd']}"
    assert small.used("virtual_key/vk-alice") == pytest.approx(before + 0.5 - float(call["cost_usd"]))
    page.locator("td[title*='adjusted from']").wait_for()
    # Who may not adjust is not offered it.
    own = visit(small, token="vk-alice").go(f"#/calls/{call['id']}?range=1h").get_by_role("complementary", name="Call")
    own.locator("table.adjustments").wait_for()
    assert own.get_by_role("button", name="Correct the cost").count() == 0
