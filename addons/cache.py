"""Cache: a call that says the same as one before gets the same answer, where the policy keeps answers; so may a similar question.

It stands after access and rate limits, so that every call is judged, and before budgets and keys: a kept answer costs nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from time import monotonic
from typing import ClassVar
from weakref import WeakKeyDictionary

from mitmproxy import http

from flow import Addon, call_of, enforcing, has_left, is_decided, observing, outcome_of, services
from sluicegate.caching.capture import Capture
from sluicegate.caching.coalescing import MAX_STREAM_WAIT_S
from sluicegate.caching.eligibility import why_not_kept
from sluicegate.caching.entry import Entry
from sluicegate.caching.forms.asked import Asked, asked_of
from sluicegate.caching.meaning import meaning_of, scope_of
from sluicegate.caching.passthrough import without_passthrough
from sluicegate.caching.reuse import headers_of_hit, saved_by
from sluicegate.caching.rules import ExactRules
from sluicegate.caching.semantic.rules import SemanticRules
from sluicegate.caching.semantic.turns import Turn, turn_of
from sluicegate.caching.semantic.worker import Comparison, ScopedQuestion
from sluicegate.calls.call import Call
from sluicegate.policy.model import Policy
from sluicegate.providers.answers.content_encoding import ContentDecoder
from sluicegate.values import COST_HEADER, Outcome, RequestFacts, usd

logger = logging.getLogger("sluicegate")

CACHE_HEADER = "x-sluicegate-cache"
"""What the cache did for a call: ``hit``, ``miss`` or ``bypass``; absent where the policy keeps no answers."""

SIMILARITY_HEADER = "x-sluicegate-cache-similarity"
"""On a hit by the answer to another question: how similar the two questions are, 0 to 1."""


class Cache(Addon):
    """Answers calls from kept answers, and keeps those of others."""

    marks: ClassVar[dict[str, str]] = dict.fromkeys(("responseheaders", "response", "error"), "sluicegate_cache")
    captures: ClassVar[WeakKeyDictionary[http.HTTPFlow, Capture]] = WeakKeyDictionary()
    """An attribute of the class, like the meter's taps: a reload of the chain makes a new instance."""

    _without: Policy | None = None
    """The policy last seen that keeps no answers: nothing is to be asked about its calls."""

    @enforcing
    def request(self, flow: http.HTTPFlow) -> Awaitable[None] | None:
        """Answer the call, if there is a kept answer to it or one under way; return what is left to do, if anything."""
        call = call_of(flow)
        if call is None or call.facts is None or call.policy is None:
            return None
        if call.policy is not self._without and call.kind == "messages":
            rules, similar = services().answers.rules(call.policy), services().semantic.rules(call.policy)
            if rules.enabled or similar.enabled:
                return self.look_up_first(flow, call, call.facts, rules, similar)
            self._without = call.policy
        if call.facts.members is not None:
            # They hold the body in memory.
            call.facts.members.clear()
        return None

    async def look_up_first(
        self, flow: http.HTTPFlow, call: Call, facts: RequestFacts, rules: ExactRules, similar: SemanticRules
    ) -> None:
        """Answer a call of a policy that keeps answers."""
        flow.sluicegate_cache = True  # type: ignore[attr-defined]
        turn = turn_of(facts.members) if similar.enabled and facts.members else None
        try:
            await self.look_up(flow, call, facts, similar.for_questions(rules) if turn is not None else rules, turn)
        except Exception:
            # It has been judged, and will be paid: nothing is wrong with the call.
            logger.exception("Cached answers cannot be looked up; call %s goes on", call.id)
            call.cache = "bypass"
        if facts.members is not None:
            facts.members.clear()

    async def look_up(self, flow: http.HTTPFlow, call: Call, facts: RequestFacts, rules: ExactRules, turn: Turn | None) -> None:
        """Answer a call, or begin to capture its answer. ``turn`` is its question, if similar ones may have its answer."""
        shared, directives, request = services(), call.cache_directives, flow.request
        facts = without_passthrough(facts, request.path)
        hashed = await shared.answers.open()
        bypass_reason = why_not_kept(call, facts, request.path, sampled=rules.sampled)
        if directives is not None and directives.kind == "direct":
            turn = None
        elif directives is not None and directives.kind == "semantic" and turn is None:
            bypass_reason = bypass_reason or "kind"
        if not rules.enabled or bypass_reason or hashed is None or call.policy is None or call.principal is None:
            call.cache = "bypass"
            return
        call.cache = "miss"
        asked, path = asked_of(facts, request.path)
        served = call.policy.providers[call.provider]
        upstream = repr((shared.target(served), served.protocol, served.version, served.place))
        head = (request.method, path, request.headers.fields)
        key = hashed.of(meaning_of(call, facts, head, scope_of(call.principal, rules.scope), upstream))
        found = await self.find(flow, call, key, rules.narrowed_by(directives), asked)
        if found is not None:
            self.answer(flow, call, call.policy, found)
        elif turn is not None:
            similar = shared.semantic.rules(call.policy).narrowed_by(directives)
            scope = scope_of(call.principal, similar.scope)
            rest = facts._replace(members={name: raw for name, raw in (facts.members or {}).items() if name != turn.turns_member})
            namespace = hashed.of([*meaning_of(call, rest, head, scope, upstream), turn.frame])
            await self.find_similar(flow, call, call.policy, ScopedQuestion(scope, namespace, turn.text, similar.ttl_ms), asked)

    async def find_similar(self, flow: http.HTTPFlow, call: Call, policy: Policy, question: ScopedQuestion, asked: Asked) -> None:
        """Answer a call with a similar question's answer; or note with which kept answer its own is to be compared."""
        capture, shared = self.captures.get(flow), services()
        if capture is None:
            return
        capture.question = question
        rules, now = shared.semantic.rules(policy).narrowed_by(call.cache_directives), shared.clock()
        candidate = await shared.semantic.find(question, threshold=rules.threshold, error_bound=rules.error_bound, now=now)
        kept = None if candidate is None else await shared.answers.find(candidate.key, now, question.ttl_ms, asked)
        if candidate is None or kept is None or is_decided(flow):
            return
        if not candidate.is_used:
            capture.comparison = Comparison(candidate, kept.body)
            return
        self.captures.pop(flow, None)
        shared.answers.pending.finish(capture.pending, kept)
        self.answer(flow, call, policy, kept, candidate.similarity)
        shared.semantic.hits += 1
        shared.semantic.saved_nano += call.saved_nano or 0

    async def find(self, flow: http.HTTPFlow, call: Call, key: bytes, rules: ExactRules, asked: Asked) -> Entry | None:
        """Return the answer to a call: kept, or that of an identical call under way. None if it must ask the provider."""
        answers, directives = services().answers, call.cache_directives
        most_s = answers.pending.max_wait_s
        if call.facts is not None and call.facts.stream:
            most_s = min(most_s, MAX_STREAM_WAIT_S)
        until = monotonic() + most_s
        while not is_decided(flow):
            found = await answers.find(key, services().clock(), rules.ttl_ms, asked)
            if found is not None or (directives is not None and directives.no_store):
                return found
            pending = answers.pending.begin(key)
            if pending is not None:
                target = (call.provider, call.facts.model if call.facts is not None else "")
                self.captures[flow] = Capture(pending, target, rules.max_entry_bytes)
                return None
            result = await answers.pending.wait(key, until - monotonic(), lambda: has_left(flow))
            if isinstance(result, Entry):
                return await answers.in_form(result, asked)
            if result == "not_shared":
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
        headers = headers_of_hit(call, found, now) | {COST_HEADER: usd(0)}
        if similarity is not None:
            headers[SIMILARITY_HEADER] = f"{similarity:.3f}"
        flow.response = http.Response.make(200, body, {**headers, CACHE_HEADER: "hit"})
        shared.answers.note_hit(found, now, call.saved_nano)

    @observing
    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """Say that the answer is not from the cache, and begin to copy it where it may be kept."""
        call = call_of(flow)
        if call is None or call.cache is None or flow.response is None or call.deny is not None:
            return
        capture = self.captures.get(flow)
        flow.response.headers[CACHE_HEADER] = call.cache
        if capture is not None and flow.response.status_code == 200:
            capture.decoder = ContentDecoder(flow.response.headers.get("content-encoding", ""))
            call.listeners.append(capture)

    def call_ended(self, flow: http.HTTPFlow) -> None:
        """Keep the answer of a call that ended well, and give it to calls that wait for it."""
        call = call_of(flow)
        if call is None or call.cache is None:
            return
        capture = self.captures.pop(flow, None)
        answers = services().answers
        if call.cache == "miss":
            answers.misses += 1
            services().semantic.misses += capture is not None and capture.question is not None
        if capture is None:
            return
        call.listeners = [listener for listener in call.listeners if listener is not capture]
        outcome = outcome_of(flow)
        entry = self.entry_of(flow, call, capture) if outcome is Outcome.COMPLETED else None
        if entry is not None:
            answers.keep(entry, capture.pending, answers.rules(services().policy))
            self.remember(capture, entry)
            return
        is_over = call.deny is not None or outcome in (Outcome.CANCELLED, Outcome.INTERRUPTED)
        answers.pending.finish(capture.pending, None if is_over else "not_shared")

    def entry_of(self, flow: http.HTTPFlow, call: Call, capture: Capture) -> Entry | None:
        """Return the answer of a call as it is kept, by the rules of the policy in force now; None if it is not to be."""
        if call.policy is None or flow.response is None:
            return None
        rules = rules_of(services().policy, capture).narrowed_by(call.cache_directives)
        content_type = flow.response.headers.get("content-type", "application/json")
        # Whose it is was decided with the key, when the call began.
        return capture.entry(call, content_type, rules, rules_of(call.policy, capture).scope)

    def remember(self, capture: Capture, entry: Entry) -> None:
        """Let similar questions find an answer that is kept, and learn whether another's would have done."""
        semantic, question, now = services().semantic, capture.question, services().clock()
        if question is None:
            return
        if capture.comparison is not None:
            semantic.compare(capture.comparison, question, entry, now)
        else:
            semantic.note(question, entry, now)


def rules_of(policy: Policy, capture: Capture) -> ExactRules:
    """Return the rules by which a call's answer is kept."""
    rules = services().answers.rules(policy)
    return rules if capture.question is None else services().semantic.rules(policy).for_questions(rules)


addons = [Cache()]
