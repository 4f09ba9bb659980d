"""Cache: a call that says the same as one before gets the same answer, where the policy keeps answers; so may a similar question.

It stands after access and rate limits, so that every call is judged, and before budgets and keys: a kept answer costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic
from typing import ClassVar
from weakref import WeakKeyDictionary

from mitmproxy import http

from flow import Addon, call_of, enforcing, is_decided, observing, outcome_of, services
from sluicegate.caching.entry import Entry, Owner
from sluicegate.caching.flights import Flight
from sluicegate.caching.meaning import meaning_of, scope_of, why_not_kept
from sluicegate.caching.passthrough import without_passthrough
from sluicegate.caching.reuse import headers_of_hit, is_for_others, saved_by
from sluicegate.caching.rules import ExactRules
from sluicegate.caching.semantic.turns import Turn, turn_of
from sluicegate.caching.semantic.worker import Asked, Compared
from sluicegate.calls.call import Call
from sluicegate.policy.model import Policy
from sluicegate.values import Outcome, Principal, RequestFacts

CACHE_HEADER = "x-sluicegate-cache"
"""What the cache did for a call: ``hit``, ``miss`` or ``bypass``; absent where the policy keeps no answers."""

SIMILARITY_HEADER = "x-sluicegate-cache-similarity"
"""Says of a hit that it is the answer to another question, and how similar that is, 0 to 1."""


@dataclass(eq=False, slots=True)
class Asking:
    """A call that asks the provider, whose answer may be kept."""

    key: bytes
    flight: Flight
    target: tuple[str, str]
    max_bytes: int
    chunks: list[bytes] = field(default_factory=list)
    size: int = 0
    asked: Asked | None = None
    """The question of the call, where similar ones may have its answer."""
    compared: Compared | None = None
    """A similar question's answer that would have been given."""

    def __call__(self, chunk: bytes) -> None:
        """Copy a chunk of the answer, as long as it is small enough to be kept."""
        self.size += len(chunk)
        if self.size <= self.max_bytes:
            self.chunks.append(chunk)
        else:
            self.chunks.clear()


class Cache(Addon):
    """Answers calls from kept answers, and keeps those of others."""

    asking: ClassVar[WeakKeyDictionary[http.HTTPFlow, Asking]] = WeakKeyDictionary()
    """An attribute of the class, like the meter's taps: a reload of the chain makes a new instance."""

    @enforcing
    async def request(self, flow: http.HTTPFlow) -> None:
        """Answer the call, if there is a kept answer to it or one under way."""
        call = call_of(flow)
        if call is None or call.facts is None or call.policy is None:
            return
        rules, similar = services().answers.rules(call.policy), services().semantic.rules(call.policy)
        if (rules.enabled or similar.enabled) and call.kind == "messages":
            turn = turn_of(call.facts.members) if similar.enabled and call.facts.members else None
            await self.look_up(flow, call, call.facts, similar.of_questions(rules) if turn is not None else rules, turn)
        if call.facts.members is not None:
            # They hold the body in memory.
            call.facts.members.clear()

    async def look_up(self, flow: http.HTTPFlow, call: Call, facts: RequestFacts, rules: ExactRules, turn: Turn | None) -> None:
        """Answer a call, or note that its answer may be kept. ``turn`` is its question, if similar ones may have its answer."""
        shared, wishes, request = services(), call.cache_wishes, flow.request
        facts = without_passthrough(facts, request.path)
        hashed = await shared.answers.open()
        is_out = why_not_kept(call, facts, request.path, sampled=rules.sampled)
        if wishes is not None and wishes.kind == "direct":
            turn = None
        elif wishes is not None and wishes.kind == "semantic" and turn is None:
            is_out = is_out or "kind"
        if not rules.enabled or is_out or hashed is None or call.policy is None or call.principal is None:
            call.cache = "bypass"
            return
        call.cache = "miss"
        upstream = repr(shared.target(call.policy.providers[call.provider]))
        asked = (request.method, request.path, request.headers.fields)
        key = hashed.of(meaning_of(call, facts, asked, scope_of(call.principal, rules.scope), upstream))
        found = await self.find(flow, call, key, rules)
        if found is not None:
            self.answer(flow, call, call.policy, found)
        elif turn is not None:
            similar = shared.semantic.rules(call.policy)
            ttl_ms = similar.ttl_ms if wishes is None or wishes.ttl_ms is None else min(similar.ttl_ms, wishes.ttl_ms)
            scope = scope_of(call.principal, similar.scope)
            rest = facts._replace(members={name: raw for name, raw in (facts.members or {}).items() if name != turn.turns_member})
            namespace = hashed.of([*meaning_of(call, rest, asked, scope, upstream), turn.frame])
            await self.find_similar(flow, call, call.policy, Asked(scope, namespace, turn.text, ttl_ms))

    async def find_similar(self, flow: http.HTTPFlow, call: Call, policy: Policy, asked: Asked) -> None:
        """Answer a call with a similar question's answer; or note with what its own is to be compared, once it has come."""
        asking, shared = self.asking.get(flow), services()
        if asking is None:
            return
        asking.asked = asked
        rules, wishes, now = shared.semantic.rules(policy), call.cache_wishes, shared.clock()
        threshold = max(rules.threshold, wishes.threshold or 0) if wishes is not None else rules.threshold
        candidate = await shared.semantic.find(asked, threshold=threshold, error_bound=rules.error_bound, now=now)
        kept = None if candidate is None else await shared.answers.find(candidate.key, now, asked.ttl_ms)
        if candidate is None or kept is None or is_decided(flow):
            return
        if not candidate.is_used:
            asking.compared = Compared(candidate, kept.body)
            return
        self.asking.pop(flow, None)
        shared.answers.flights.land(asking.flight, kept)
        self.answer(flow, call, policy, kept, candidate.similarity)
        shared.semantic.hits += 1
        shared.semantic.saved_nano += call.saved_nano or 0

    async def find(self, flow: http.HTTPFlow, call: Call, key: bytes, rules: ExactRules) -> Entry | None:
        """Return the answer to a call: kept, or that of an identical call under way. None if it has to ask by itself."""
        answers, wishes = services().answers, call.cache_wishes
        ttl_ms = rules.ttl_ms if wishes is None or wishes.ttl_ms is None else min(rules.ttl_ms, wishes.ttl_ms)
        until = monotonic() + answers.flights.max_wait_s
        while not is_decided(flow):
            found = await answers.find(key, services().clock(), ttl_ms)
            if found is not None or (wishes is not None and wishes.no_store):
                return found
            flight = answers.flights.begin(key)
            if flight is not None:
                target = (call.provider, call.facts.model if call.facts is not None else "")
                self.asking[flow] = Asking(key, flight, target, rules.max_entry_bytes)
                return None
            landed = await answers.flights.wait(key, until - monotonic())
            if isinstance(landed, Entry):
                return landed
            if landed == "alone":
                return None
        return None

    def answer(self, flow: http.HTTPFlow, call: Call, policy: Policy, found: Entry, similarity: float | None = None) -> None:
        """Answer a call with a kept answer."""
        shared, now = services(), services().clock()
        if is_decided(flow):
            return
        body = found.given_again(now)
        call.cache, call.first_byte_at, call.response_bytes = "hit", now, len(body)
        call.saved_nano = saved_by(found, policy, shared.prices_for(found.provider, policy), now)
        headers = headers_of_hit(call, found, now)
        if similarity is not None:
            headers[SIMILARITY_HEADER] = f"{similarity:.3f}"
        flow.response = http.Response.make(200, body, {**headers, CACHE_HEADER: "hit"})
        shared.answers.note_hit(found, now, call.saved_nano)

    @observing
    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """Say that the answer is not from the cache, and begin to copy it where it may be kept."""
        call, asking = call_of(flow), self.asking.get(flow)
        if call is None or call.cache is None or flow.response is None or call.deny is not None:
            return
        flow.response.headers[CACHE_HEADER] = call.cache
        if asking is not None and flow.response.status_code == 200 and not flow.response.headers.get("content-encoding"):
            call.listeners.append(asking)

    def call_ended(self, flow: http.HTTPFlow) -> None:
        """Keep the answer of a call that ended well, and tell whoever waits for it."""
        call, asking = call_of(flow), self.asking.pop(flow, None)
        if call is None:
            return
        answers = services().answers
        if call.cache == "miss":
            answers.misses += 1
            services().semantic.misses += asking is not None and asking.asked is not None
        if asking is None:
            return
        call.listeners = [listener for listener in call.listeners if listener is not asking]
        entry = self.entry_of(flow, call, asking)
        if entry is not None:
            answers.keep(entry, asking.flight, answers.rules(services().policy))
            self.remember(asking, entry)
            return
        is_over = call.deny is not None or outcome_of(flow) in (Outcome.CANCELLED, Outcome.INTERRUPTED)
        answers.flights.land(asking.flight, None if is_over else "alone")

    def remember(self, asking: Asking, entry: Entry) -> None:
        """Let similar questions find an answer that is kept, and learn whether another's would have done."""
        semantic, asked, now = services().semantic, asking.asked, services().clock()
        if asked is None:
            return
        if asking.compared is not None:
            semantic.compare(asking.compared, asked, entry.key, entry.body, until=entry.until, now=now)
        else:
            semantic.note(asked, entry.key, until=entry.until, now=now)

    def entry_of(self, flow: http.HTTPFlow, call: Call, asking: Asking) -> Entry | None:
        """Return the answer of a call as it is kept; None if it is not to be."""
        shared, facts, response = services(), call.facts, flow.response
        if call.policy is None or call.principal is None or facts is None or response is None or not asking.chunks:
            return None
        body = b"".join(asking.chunks)
        rules = rules_of(shared.policy, asking)
        is_whole = outcome_of(flow) is Outcome.COMPLETED and len(body) == asking.size == call.response_bytes
        if not rules.enabled or not is_whole or (call.provider, facts.model) != asking.target or not is_for_others(call, body):
            # Of a routed call that another target has answered, the next one should ask the first again.
            return None
        wishes = call.cache_wishes
        ttl_ms = rules.ttl_ms if wishes is None or wishes.ttl_ms is None else min(rules.ttl_ms, wishes.ttl_ms)
        owner = owner_of(call.principal, rules_of(call.policy, asking))
        kind = response.headers.get("content-type", "application/json")
        at, usage = call.started_at, call.usage
        if usage is None:
            return None
        return Entry(asking.key, at, at + ttl_ms, owner, call.provider, facts.model, kind, body, usage=usage)


def rules_of(policy: Policy, asking: Asking) -> ExactRules:
    """Return the rules by which a call's answer is kept."""
    rules = services().answers.rules(policy)
    return rules if asking.asked is None else services().semantic.rules(policy).of_questions(rules)


def owner_of(principal: Principal, rules: ExactRules) -> Owner:
    """Return whose answer a caller's is."""
    scope = scope_of(principal, rules.scope)
    return Owner(*scope, principal.virtual_key_id, principal.user_id, principal.team_id, principal.customer_id)


addons = [Cache()]
