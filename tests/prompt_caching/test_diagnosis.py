"""What made a call pay again: seeded changes are named, with what they cost; healthy sessions raise no alarm."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from dataclasses import astuple
from typing import Any

import pytest

from support.agent_prompts import Claude, Codex, Gemini, prose, tool
from support.prefix_cache import MINUTE, Anthropic, Automatic, Used
from support.prompt_cases import RATES, Scene, nano

Body = dict[str, Any]

MINIMUMS = {"claude-opus-5-5": 512, "claude-sonnet-5-5": 1024}


def scene(**more: Any) -> Scene:
    return Scene(Anthropic(MINIMUMS), **more)


def grown(agent: Claude, at: Scene, turns: int = 4, betas: str = "") -> None:
    """Let a conversation grow, one call a turn."""
    for _ in range(turns):
        at.claude(agent.body(), betas=betas)
        agent.turn()
        at.now += 20_000
    assert at.findings == []


def change_date(body: Body) -> None:
    body["system"][3]["text"] = body["system"][3]["text"].replace("2026-11-26", "2026-11-27")


def reorder_tools(body: Body) -> None:
    body["tools"][4:9] = body["tools"][4:9][::-1]


def add_tool(body: Body) -> None:
    body["tools"].insert(6, tool(random.Random(7), "mcp__github__search", 900))


def remove_tool(body: Body) -> None:
    del body["tools"][5]


def describe_tool(body: Body) -> None:
    body["tools"][9]["description"] += " Agents: reviewer, tester."


def choose_tool(body: Body) -> None:
    body["tool_choice"] = {"type": "any"}


def think_less(body: Body) -> None:
    body["thinking"] = {"type": "enabled", "budget_tokens": 4096}


def edit_message(body: Body) -> None:
    body["messages"][2]["content"][0]["content"] = body["messages"][2]["content"][0]["content"].swapcase()


def show_image(body: Body) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo" + "A" * 400}
    body["messages"][-1]["content"].insert(0, {"type": "image", "source": source})


def unmark_all(body: Body) -> None:
    for block in [*body["system"], *(b for m in body["messages"] if isinstance(m["content"], list) for b in m["content"])]:
        block.pop("cache_control", None)


def unmark_messages(body: Body) -> None:
    for message in body["messages"]:
        for block in message["content"] if isinstance(message["content"], list) else ():
            block.pop("cache_control", None)


def go_fast(body: Body) -> None:
    body["speed"] = "fast"


SEEDS: dict[str, tuple[Callable[[Body], None], str, str, int | None]] = {
    "the date in the system prompt": (change_date, "system_changed", "system", 4),
    "the order of the tools": (reorder_tools, "tool_order", "tools", 5),
    "a tool more": (add_tool, "tool_added", "tools", 7),
    "a tool less": (remove_tool, "tool_removed", "tools", 6),
    "a tool's description": (describe_tool, "tool_changed", "tools", 10),
    "tool_choice": (choose_tool, "tool_choice_changed", "request", None),
    "thinking": (think_less, "thinking_changed", "request", None),
    "a message in the middle": (edit_message, "message_changed", "messages", 6),
    "a first image": (show_image, "images_changed", "messages", None),
    "no breakpoints": (unmark_all, "breakpoint_removed", "request", None),
    "a breakpoint further up": (unmark_messages, "breakpoint_moved", "system", 4),
    "another speed": (go_fast, "speed_changed", "request", None),
}
"""What is done to a request of Claude Code, and the cause and block that are to be named."""


def truth(model: str, used: Used, should: Used) -> float:
    """What a change has cost, in nano-dollars: what was paid, less what the same would have cost with its prefix in the cache.

    Blocks that only one of the two requests has are taken out: a tool more is written for the first time in any case.
    """
    more = sum(astuple(used)) - sum(astuple(should))
    _, write, _, read = RATES[model]
    return nano(model, used) - nano(model, should) - 1000 * more * (write if more > 0 else read)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_change_is_named_and_priced(seed):
    change, cause, level, position = SEEDS[seed]
    agent, at = Claude(list(SEEDS).index(seed)), scene()
    grown(agent, at)
    healthy = agent.body()
    body = copy.deepcopy(healthy)
    change(body)
    should = at.twin().anthropic.serve(healthy, at.now)
    used = at.claude(body)
    (found,) = at.findings
    assert (found.found.cause, found.found.level) == (cause, level), found
    if position is not None:
        assert found.found.position == position
    if cause.startswith("breakpoint"):
        # What is new in the call is no longer written either, which has nothing to do with what was cached.
        rate, _, _, read = RATES[agent.model]
        assert found.lost_nano == pytest.approx(1000 * (should.read - used.read) * (rate - read), rel=0.01)
    else:
        assert found.lost_nano == pytest.approx(truth(agent.model, used, should), rel=0.01)


def edit_first_message(body: Body) -> None:
    blocks = copy.deepcopy(body["messages"][0]["content"])
    blocks[0]["text"] = "2026-11-27" + blocks[0]["text"][10:]
    body["messages"][0] = {"role": "user", "content": blocks}


def drop_a_turn(body: Body) -> None:
    del body["messages"][3:5]


def exchange_a_tool(body: Body) -> None:
    body["tools"][3] = tool(random.Random(5), "mcp__other", 2200)


def add_two_tools(body: Body) -> None:
    body["tools"][3:3] = [tool(random.Random(5), "mcp__a", 500), tool(random.Random(6), "mcp__b", 500)]


def change_a_schema(body: Body) -> None:
    body["tools"][2]["input_schema"]["properties"]["extra"] = {"type": "string"}


def stop_thinking(body: Body) -> None:
    del body["thinking"]


def drop_a_system_block(body: Body) -> None:
    del body["system"][1]


def add_a_system_block(body: Body) -> None:
    body["system"].insert(2, {"type": "text", "text": "New rules. " * 60})


VARIANTS = {
    edit_first_message: "message_changed",
    drop_a_turn: "message_changed",
    exchange_a_tool: "tool_added",
    add_two_tools: "tool_added",
    change_a_schema: "tool_changed",
    stop_thinking: "thinking_changed",
    drop_a_system_block: "system_changed",
    add_a_system_block: "system_changed",
}


@pytest.mark.parametrize("change", VARIANTS, ids=lambda f: f.__name__)
def test_other_changes_of_these_kinds_are_named_among_helpers_and_once_alone(change):
    agent, at = Claude(30), scene()
    for turn in range(6):
        at.claude(agent.body())
        agent.say() if turn == 2 else agent.turn()
        helper = Claude(31, helper=True)
        helper.messages = [{"role": "user", "content": [agent.text(400)]}]
        at.now += 5000
        at.claude(helper.body())
        at.now += 20_000
    assert at.findings == []
    healthy = agent.body()
    body = copy.deepcopy(healthy)
    change(body)
    should = at.twin().anthropic.serve(healthy, at.now)
    used = at.claude(body)
    assert [f.found.cause for f in at.findings] == [VARIANTS[change]]
    assert at.findings[0].lost_nano == pytest.approx(truth(agent.model, used, should), rel=0.01)
    at.now += 5000
    at.claude(body)
    assert len(at.findings) == 1


def test_another_model_is_named_and_priced():
    agent, at = Claude(1), scene()
    grown(agent, at)
    warm = at.twin()
    before = copy.deepcopy(agent)
    before.messages, before.model = before.messages[:-2], "claude-sonnet-5-5"
    warm.now -= 20_000
    warm.claude(before.body())
    warm.now += 20_000
    agent.model = "claude-sonnet-5-5"
    should = warm.claude(agent.body())
    used = at.claude(agent.body())
    (found,) = at.findings
    assert (found.found.cause, found.found.before, found.found.now) == ("model_changed", "claude-opus-5-5", "claude-sonnet-5-5")
    assert found.lost_nano == pytest.approx(truth(agent.model, used, should), rel=0.01)


def test_another_provider_is_named_and_priced():
    agent, at = Claude(2), scene()
    grown(agent, at)
    should = at.twin().anthropic.serve(agent.body(), at.now)
    at.anthropic.entries.clear()
    used = at.claude(agent.body(), provider="anthropic-eu")
    (found,) = at.findings
    assert (found.found.cause, found.found.now) == ("provider_changed", "anthropic-eu")
    assert found.lost_nano == pytest.approx(truth(agent.model, used, should), rel=0.01)


def test_another_beta_header_is_named_and_priced():
    agent, at = Claude(3), scene()
    grown(agent, at, betas="claude-code-20250219,interleaved-thinking-2025-05-14")
    betas = "claude-code-20250219,interleaved-thinking-2025-05-14,context-1m-2025-08-07"
    should = at.twin().anthropic.serve(agent.body(), at.now, betas="claude-code-20250219,interleaved-thinking-2025-05-14")
    used = at.claude(agent.body(), betas=betas)
    (found,) = at.findings
    assert (found.found.cause, found.found.field) == ("header_changed", "anthropic-beta")
    assert found.lost_nano == pytest.approx(truth(agent.model, used, should), rel=0.01)


@pytest.mark.parametrize(("ttl", "pause"), [(None, 6), (None, 700), ("1h", 61)])
def test_a_pause_longer_than_the_cache_lives_is_named_and_priced(ttl, pause):
    agent, at = Claude(4, ttl=ttl), scene()
    grown(agent, at)
    should = at.twin().anthropic.serve(agent.body(), at.now)
    at.now += pause * MINUTE
    used = at.claude(agent.body())
    (found,) = at.findings
    assert found.found.cause == "ttl_lapsed"
    assert found.lost_nano == pytest.approx(truth(agent.model, used, should), rel=0.01)


def test_a_pause_within_the_hour_is_none():
    agent, at = Claude(4, ttl="1h"), scene()
    grown(agent, at)
    at.now += 40 * MINUTE
    at.claude(agent.body())
    assert at.findings == []


def test_too_many_blocks_since_the_last_breakpoint_are_named_and_priced():
    agent, at = Claude(5), scene()
    grown(agent, at)
    at.claude(agent.body())
    at.now += 20_000
    agent.turn(tools=15, size=900)
    healthy = agent.body()
    used = at.claude(healthy)
    (found,) = at.findings
    assert found.found.cause == "lookback_exceeded"
    # Another breakpoint in between would have found it.
    marked = copy.deepcopy(healthy)
    marked["messages"][-2]["content"][0]["cache_control"] = {"type": "ephemeral"}
    again = scene()
    again_agent = Claude(5)
    grown(again_agent, again)
    again.claude(again_agent.body())
    again.now += 20_000
    should = again.anthropic.serve(marked, again.now)
    assert should.read > used.read
    assert found.lost_nano == pytest.approx(truth(agent.model, used, should), rel=0.01)


def test_a_prefix_below_the_model_s_minimum_is_named():
    agent, at = Claude(6, helper=True, model="claude-sonnet-5-5"), Scene(Anthropic({"claude-sonnet-5-5": 1024}))
    agent.tools, agent.system = agent.tools[:1], ["You title.", prose(agent.rng, 300), prose(agent.rng, 200)]
    agent.messages = [{"role": "user", "content": [agent.text(300)]}]
    at.claude(agent.body())
    agent.say(100)
    at.now += 5000
    at.claude(agent.body())
    (found,) = at.findings
    assert (found.found.cause, found.found.now) == ("below_minimum", "1,024")
    assert found.lost_nano > 0


CODEX: dict[str, tuple[Callable[[Codex], None], str]] = {
    "the date in the instructions": (lambda c: setattr(c, "instructions", "2026-11-27 " + c.instructions[11:]), "system_changed"),
    "the order of the tools": (lambda c: c.tools.reverse(), "tool_order"),
    "the effort": (lambda c: setattr(c, "effort", "high"), "thinking_changed"),
    "an item in the middle": (lambda c: c.input[4].update(output=c.input[4]["output"].swapcase()), "message_changed"),
}


@pytest.mark.parametrize("seed", CODEX)
def test_a_change_in_codex_is_named_and_priced(seed):
    change, cause = CODEX[seed]
    agent, at = Codex(8), Scene(automatic=Automatic(writes=True, step=1, lifetime=30 * MINUTE))
    for _ in range(4):
        at.codex(body := agent.body(), agent.blocks(body))
        agent.turn()
        at.now += 30_000
    assert at.findings == []
    healthy = agent.body()
    salt = [healthy["reasoning"], healthy["prompt_cache_key"]]
    should = at.twin().automatic.serve(agent.model, agent.blocks(healthy), at.now, salt=salt)
    change(agent)
    used = at.codex(body := agent.body(), agent.blocks(body))
    (found,) = at.findings
    assert found.found.cause == cause
    assert found.lost_nano == pytest.approx(truth(agent.model, used, should), rel=0.01)


GEMINI: dict[str, tuple[Callable[[Gemini], None], str]] = {
    "the date in the system prompt": (lambda g: setattr(g, "system", "2026-11-27 " + g.system[11:]), "system_changed"),
    "a tool less": (lambda g: g.declared.pop(2), "tool_removed"),
    "a content in the middle": (lambda g: g.contents[0]["parts"][0].update(text="x" * 2500), "message_changed"),
}


@pytest.mark.parametrize("seed", GEMINI)
def test_a_change_in_gemini_is_named_and_priced(seed):
    change, cause = GEMINI[seed]
    agent, at = Gemini(9), Scene(automatic=Automatic(least=2048, step=1))
    for _ in range(4):
        at.gemini(body := agent.body(), agent.blocks(body))
        agent.turn()
        at.now += 30_000
    assert at.findings == []
    healthy = agent.body()
    should = at.twin().automatic.serve("gemini-2.5-pro", agent.blocks(healthy), at.now)
    change(agent)
    used = at.gemini(body := agent.body(), agent.blocks(body))
    (found,) = at.findings
    assert found.found.cause == cause
    assert found.lost_nano == pytest.approx(truth("gemini-2.5-pro", used, should), rel=0.01)


def healthy_session(seed: int) -> Scene:
    """A session as people work: turns, prompts, sub-agents side by side, helpers, compaction, going back, retries."""
    rng, at = random.Random(seed), scene()
    main = Claude(seed, ttl=rng.choice((None, "1h")))
    has_ids = rng.random() < 0.5
    for _ in range(rng.randrange(4, 10)):
        what = rng.choice(("turn", "turn", "turn", "say", "agents", "helper", "compact", "rewind", "retry", "pause"))
        at.claude(body := main.body())
        at.now += rng.randrange(2_000, 60_000)
        if what == "retry":
            at.claude(body)
            at.now += 3_000
        if what == "agents":
            side_by_side(at, seed, rng, has_ids=has_ids)
        if what == "helper":
            helper = Claude(seed + 1, model="claude-sonnet-5-5", helper=True)
            helper.messages = [{"role": "user", "content": [*main.messages[0]["content"], main.text(500)]}]
            at.claude(helper.body())
        if what == "compact" and len(main.messages) > 4:
            main.compact()
        elif what == "rewind" and len(main.messages) > 6:
            main.rewind()
        elif what == "say":
            main.say()
        else:
            main.turn(tools=rng.choice((1, 1, 2, 4)), size=rng.choice((200, 3000, 30_000)))
        if what == "pause":
            at.now += 4 * MINUTE - 60_000
    return at


def side_by_side(at: Scene, seed: int, rng: random.Random, *, has_ids: bool) -> None:
    """Run two or three sub-agents of one kind at the same time: same tools and system prompt, tasks of their own."""
    agents = [Claude(seed + 2, helper=True) for _ in range(rng.choice((2, 3)))]
    for number, agent in enumerate(agents):
        agent.rng = random.Random(at.calls * 100 + number)
        agent.messages = [{"role": "user", "content": [agent.text(800)]}]
    for _ in range(3):
        for number, agent in enumerate(agents):
            # The second begins before the first one's answer has.
            at.now += 100
            at.claude(agent.body(), agent=f"agent-{number}" if has_ids else None)
            agent.turn(size=1500)
        at.now += 15_000


@pytest.mark.parametrize("part", range(4))
def test_healthy_sessions_raise_no_alarm(part):
    for seed in range(part * 25, part * 25 + 25):
        at = healthy_session(seed)
        assert at.calls >= 4
        assert at.findings == [], (seed, at.findings[0])


def test_a_restart_changes_nothing():
    agent, at = Claude(11), scene()
    grown(agent, at)
    after = Scene(at.anthropic, at.automatic, at.store, at.now, calls=at.calls)
    body = agent.body()
    change_date(body)
    after.claude(body)
    assert [f.found.cause for f in after.findings] == ["system_changed"]


def test_used_adds_up():
    body = Claude(12).body()
    used = Anthropic(MINIMUMS).serve(body, 0)
    assert used == Used(input=used.input, write_5m=used.write_5m)
    assert used.write_5m > 10_000


def test_a_session_is_followed_once_it_has_anything_cached():
    at, agent = scene(), Claude(3)
    for _ in range(3):
        body = agent.body()
        unmark_all(body)
        at.claude(body)
        agent.turn()
        at.now += 20_000
    assert at.store.kept == {}
    grown(agent, at, turns=2)
    body = agent.body()
    unmark_all(body)
    at.claude(body)
    assert [found.found.cause for found in at.findings] == ["breakpoint_removed"]
