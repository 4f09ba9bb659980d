"""A small company and its agents' calls of the last weeks, entered as real calls are: reserved, settled, recorded.

Nothing here writes a total. Every call is judged and charged by the gateway's own ledger at the time it claims to have
happened, so budgets, records and reports must agree.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from msgspec import structs

from sluicegate.calls.admission import Demand, admit
from sluicegate.calls.call import CLAUDE_CODE, Call
from sluicegate.calls.record import record_of
from sluicegate.calls.refusal import render
from sluicegate.services import Services
from sluicegate.values import Deny, Outcome, RequestFacts, Usage

OPUS, SONNET, HAIKU = "claude-opus-5-5", "claude-sonnet-5-5", "claude-haiku-5-5"
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000

POLICY = """\
# Acme's agents. Edit this file or use the dashboard: both are the same policy.
version: 1
providers:
  anthropic: {simulate: true}          # answers are made up here: no key, no spending
customers:
  - {id: customer-acme, name: Acme Corp, budget: {max_limit: 400.00, reset_duration: 1M}}
teams:
  - {id: team-platform, name: Platform, customer_id: customer-acme, budget: {max_limit: 150.00, reset_duration: 1M}}
  - {id: team-product, name: Product, customer_id: customer-acme, budget: {max_limit: 120.00, reset_duration: 1M}}
  - {id: team-data, name: Data Science, customer_id: customer-acme, budget: {max_limit: 60.00, reset_duration: 1M}}
projects:
  - {id: checkout, name: Checkout, team_id: team-product}
  - {id: churn-model, name: Churn model, team_id: team-data, budget: {max_limit: 14.00, reset_duration: 1M}}
users:
  - {id: alice, name: Alice, team_id: team-platform}
  - {id: bob, name: Bob, team_id: team-platform}
  - {id: carol, name: Carol, team_id: team-platform}
  - {id: dan, name: Dan, team_id: team-product, budget: {max_limit: 6.00, reset_duration: 1d}}
  - {id: erin, name: Erin, team_id: team-product}
  - {id: frank, name: Frank, team_id: team-product}
  - {id: grace, name: Grace, team_id: team-data}
  - {id: heidi, name: Heidi, team_id: team-data}
virtual_keys:
  - {id: vk-alice, team_id: team-platform, user_id: alice, budget: {max_limit: 60.00, reset_duration: 1M}}
  - {id: vk-bob, team_id: team-platform, user_id: bob, budget: {max_limit: 40.00, reset_duration: 1M}}
  - {id: vk-carol, team_id: team-platform, user_id: carol, budget: {max_limit: 40.00, reset_duration: 1M}}
  - {id: vk-dan, team_id: team-product, user_id: dan, project_id: checkout}
  - {id: vk-erin, team_id: team-product, user_id: erin, project_id: checkout, budget: {max_limit: 33.00, reset_duration: 1M}}
  - {id: vk-frank, team_id: team-product, user_id: frank, rate_limit: {max_concurrent: 4, token_max_limit: 40000000, token_reset_duration: 1h}}
  - {id: vk-grace, team_id: team-data, user_id: grace, project_id: churn-model}
  - id: vk-heidi
    team_id: team-data
    user_id: heidi
    budget: {max_limit: 20.00, reset_duration: 1M, enforcement: hard}
    provider_configs: [{provider: anthropic, allowed_models: ["claude-sonnet-*", "claude-haiku-*"]}]
  - id: vk-ci
    name: Reviews in CI
    team_id: team-platform
    rate_limit: {request_max_limit: 14, request_reset_duration: 1h}
    provider_configs: [{provider: anthropic, allowed_models: ["claude-haiku-*"]}]
"""


@dataclass(frozen=True, slots=True)
class Person:
    """A person with a key: the models they use, their sessions a day, and their working hours."""

    key: str
    models: tuple[str, ...]
    sessions: float
    hours: tuple[int, int]


PEOPLE = (
    Person("vk-alice", (OPUS, OPUS, SONNET), 5, (8, 18)),
    Person("vk-bob", (SONNET, OPUS), 3.4, (9, 18)),
    Person("vk-carol", (SONNET,), 3.2, (7, 16)),
    Person("vk-dan", (OPUS, SONNET), 5.5, (9, 20)),
    Person("vk-erin", (OPUS, SONNET), 4.6, (8, 17)),
    Person("vk-frank", (SONNET, HAIKU), 3.5, (10, 19)),
    Person("vk-grace", (OPUS, SONNET), 2.6, (9, 17)),
    Person("vk-heidi", (SONNET, SONNET, OPUS), 3, (8, 16)),
    Person("vk-ci", (HAIKU,), 8, (0, 24)),
)

CLIENT = "claude-cli/2.1.330 (external, cli)"


@dataclass(frozen=True, slots=True)
class Turn:
    """One call to be made: its time, caller and session, and the usage the provider would report."""

    at: int
    key: str
    model: str
    usage: Usage
    latency_ms: int
    session_id: str
    agent_id: str | None
    ending: str


def turns(now: int, days: int, chance: random.Random, busy: float, offset: int) -> Iterator[Turn]:
    """Return everyone's calls from ``days`` before ``now`` until now, in no order. Weekends are quiet.

    ``offset`` is how far the company's clocks are ahead of UTC, in milliseconds.
    """
    first = (now + offset - days * DAY) // DAY * DAY - offset
    for day in range(first, now + 1, DAY):
        weekend = time.gmtime((day + offset) // 1000).tm_wday >= 5
        for person in PEOPLE:
            pace = person.sessions * busy * (0.12 if weekend and person.key != "vk-ci" else 1)
            for _ in range(int(pace + chance.random())):
                start = day + int(chance.uniform(*person.hours) * HOUR)
                yield from (t for t in session(person, start, chance) if now - days * DAY <= t.at < now)


def session(person: Person, at: int, chance: random.Random) -> Iterator[Turn]:
    """One session of an agent: a context that grows and is read from the cache, and some sub-agents."""
    model = chance.choice(person.models)
    name = f"{chance.getrandbits(128):032x}"
    session_id = f"{name[:8]}-{name[8:12]}-4{name[13:16]}-a{name[17:20]}-{name[20:]}"
    context, helper = chance.randrange(14_000, 40_000), None
    for number in range(chance.randrange(3, 15)):
        helper = f"agent-{chance.getrandbits(32):08x}" if model != HAIKU and chance.random() < 0.15 else None
        used = HAIKU if helper and chance.random() < 0.5 else model
        new_tokens, output_tokens = chance.randrange(300, 6_000), int(chance.lognormvariate(6.1, 0.8))
        usage = Usage(
            input_tokens=chance.randrange(4, 900),
            output_tokens=output_tokens,
            cache_read_tokens=0 if number == 0 or helper else context,
            cache_write_5m_tokens=context + new_tokens if number == 0 or helper else new_tokens,
            model=used,
        )
        draw = chance.random()
        ending = "overloaded" if draw < 0.006 else "cut" if draw < 0.009 else "left" if draw < 0.022 else "well"
        latency = int(chance.uniform(500, 1_600) + output_tokens * chance.uniform(8, 17) * (0.5 if used == HAIKU else 1))
        yield Turn(at, person.key, used, usage, latency, session_id, helper, ending)
        context += new_tokens + output_tokens
        at += latency + int(chance.expovariate(1 / 45_000)) + 1_500


class Clock:
    """The simulated time, epoch milliseconds."""

    def __init__(self, now: int) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


def play(policy: Path, state_dir: Path, *, days: int = 25, busy: float = 1.0, offset: int | None = None, seed: int = 5) -> int:
    """Enter the company's history into the state of a gateway that is not running. Return how many calls were made.

    It works by day in this machine's time zone, or in one that is ``offset`` milliseconds ahead of UTC.
    """
    until = time.time_ns() // 1_000_000
    ahead = time.localtime().tm_gmtoff * 1000 if offset is None else offset
    clock = Clock(until - days * DAY)
    services = Services(policy, state_dir, {}, clock)
    made = 0
    try:
        for turn in sorted(turns(until, days, random.Random(seed), busy, ahead), key=lambda t: t.at):
            clock.now = turn.at
            call = begun(services, turn, made)
            clock.now += turn.latency_ms if call.deny is None else 3
            ended(services, call, turn)
            services.writer.record(record_of(call, clock.now))
            made += 1
            if made % 400 == 0:
                services.writer.flush()
    finally:
        services.close()
    return made


def begun(services: Services, turn: Turn, number: int) -> Call:
    """Judge a call as the chain does: access, rate limits, budgets."""
    policy, body = services.policy, turn.usage.prompt_tokens * 3
    call = Call(f"call_{turn.at:012x}{number:016x}", turn.at, "anthropic", "messages", "POST", "/v1/messages", policy)
    call.principal = policy.principal_of(policy.virtual_keys[turn.key], None)
    call.facts = RequestFacts(turn.model, stream=True, body_bytes=body)
    call.session_id, call.agent_id, call.user_agent, call.request_bytes = turn.session_id, turn.agent_id, CLIENT, body
    cost = services.prices.cost(turn.usage, turn.model, turn.at) or 0
    demand = Demand(turn.usage.total_tokens, cost, cost)
    found = admit(policy, services.ledger, call.id, call.principal, call.provider, turn.model, demand, turn.at, call.limit_checks)
    call.deny = found if isinstance(found, Deny) else None
    call.expected_nano = cost
    return call


def ended(services: Services, call: Call, turn: Turn) -> None:
    """End the same call: it is charged what it used until its end."""
    if call.deny is not None:
        services.ledger.release(call.id)
        call.outcome, call.status = Outcome.DENIED, render(call.deny, call.protocol, CLAUDE_CODE)[0]
        return
    call.outcome, call.status = Outcome.COMPLETED, 200
    if turn.ending == "overloaded":
        call.outcome, call.status = Outcome.FAILED, 529
        services.ledger.settle(call.id, {"usd": 0, "tokens": 0, "requests": 1, "concurrent": 0})
        return
    usage = turn.usage
    if turn.ending in ("cut", "left"):
        call.outcome = Outcome.FAILED if turn.ending == "cut" else Outcome.CANCELLED
        usage = structs.replace(usage, output_tokens=usage.output_tokens // 3 + 1, estimated=True)
    call.usage, call.first_byte_at = usage, turn.at + min(turn.latency_ms, 350 + turn.latency_ms // 12)
    call.response_bytes = usage.output_tokens * 90
    call.cost_nano = services.prices.cost(usage, turn.model, turn.at) or 0
    services.ledger.settle(call.id, {"usd": call.cost_nano, "tokens": usage.total_tokens, "requests": 1, "concurrent": 0})
    services.ledger.close(call.id)


def asking(chance: random.Random) -> tuple[str, str, dict[str, str]]:
    """Return a call to a simulated provider, to be made now: its key, body and headers."""
    person = chance.choice(PEOPLE)
    turn = next(session(person, 0, chance))
    usage, seconds = turn.usage, min(9.0, turn.latency_ms / 1000)
    words = (
        f"[simulate input={usage.input_tokens} output={usage.output_tokens} cache_read={usage.cache_write_5m_tokens} "
        f"cache_write_5m={chance.randrange(200, 3000)} slow={seconds:.1f}{' error=overloaded_error' if chance.random() < 0.02 else ''}]"
    )
    headers = {"user-agent": CLIENT, "x-claude-code-session-id": turn.session_id}
    if turn.agent_id or chance.random() < 0.15:
        headers["x-claude-code-agent-id"] = turn.agent_id or f"agent-{chance.getrandbits(32):08x}"
    return (
        person.key,
        json.dumps({"model": turn.model, "max_tokens": 1024, "stream": True, "messages": [{"role": "user", "content": words}]}),
        headers,
    )
