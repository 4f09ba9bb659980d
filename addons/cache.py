"""Cache: a call that says the same as one before gets the same answer, where the policy keeps answers; so may a similar question.

It stands after access and rate limits, so that every call is judged, and before budgets and keys: a kept answer costs nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from dataclasses import replace
from time import monotonic
from typing import ClassVar

from mitmproxy import http

from flow import Addon, call_of, deny, enforcing, has_left, is_decided, observing, outcome_of, services
from sluicegate.caching.cache_key import CacheKey
from sluicegate.caching.capture import Capture, WholeAnswer
from sluicegate.caching.changed_policy import refusal_by, shares_by
from sluicegate.caching.coalescing import MAX_STREAM_WAIT_S
from sluicegate.caching.eligibility import why_not_kept
from sluicegate.caching.entry import Entry
from sluicegate.caching.forms.asked import Asked, asked_of
from sluicegate.caching.forms.conversion import shape_of
from sluicegate.caching.lookup import Lookup, question_of, upstream_of
from sluicegate.caching.meaning import meaning_of, scope_of
from sluicegate.caching.pacing import PieceTimes, Replay
from sluicegate.caching.passthrough import without_passthrough
from sluicegate.caching.reuse import headers_of_hit, saved_by
from sluicegate.caching.rules import ExactRules
from sluicegate.caching.semantic.rules import SemanticRules
from sluicegate.caching.semantic.turns import Turn, turn_of
from sluicegate.caching.semantic.worker import Comparison, ScopedQuestion
from sluicegate.calls.call import Call
from sluicegate.policy.model import Policy
from sluicegate.providers.requests.earlier import set_members_apart
from sluicegate.values import COST_HEADER, Outcome, RequestFacts

logger = logging.getLogger("sluicegate")

CACHE_HEADER = "x-sluicegate-cache"
"""What the cache did for a call: ``hit``, ``miss`` or ``bypass``; absent where the policy keeps no answers."""

CAPTURE = "sluicegate_capture"
"""The attribute of a flow with the copy of its answer, where that may be kept."""

SIMILARITY_HEADER = "x-sluicegate-cache-similarity"
"""On a hit by the answer to another question: how similar the two questions are, 0 to 1."""


class Cache(Addon):
    """Answers calls from kept answers, and keeps those of others."""

    marks: ClassVar[dict[str, str]] = dict.fromkeys(("responseheaders", "response", "error"), "sluicegate_cache")
    _without: Policy | None = None
    """The policy last seen that keeps no answers: nothing is to be asked about its calls."""

    @enforcing
    def request(self, flow: http.HTTPFlow) -> Awaitable[None] | None:
        """Answer the call, if there is a kept answer to it or one under way; return what is left to do, if anything."""
        call = call_of(flow)
        if call is None or call.facts is None or call.policy is None:
            return None
        rest: Awaitable[None] | None = None
        if call.policy is not self._without and call.kind == "messages":
            rules, similar = services().answers.rules(call.policy), services().semantic.rules(call.policy)
            if rules.enabled or similar.enabled:
                flow.sluicegate_cache = True  # type: ignore[attr-defined]
                try:
                    set_members_apart(call.facts, flow.request.raw_content or b"")
                    rest = self.look_up(flow, call, call.facts, rules, similar)
                except Exception:
                    go_on_without(call)
                if rest is not None:
                    return finish_look_up(call, call.facts, rest)
            else:
                self._without = call.policy
        if call.facts.members is not None:
            # They hold the body in memory.
            call.facts.members.clear()
        return None

    async def open_first(
        self, flow: http.HTTPFlow, call: Call, facts: RequestFacts, rules: ExactRules, similar: SemanticRules
    ) -> None:
        """Look up a call once the file of kept answers is open."""
        if await services().answers.open() is None:
            call.cache = "bypass"
        elif (rest := self.look_up(flow, call, facts, rules, similar)) is not None:
            await rest

    def look_up(
        self, flow: http.HTTPFlow, call: Call, facts: RequestFacts, rules: ExactRules, similar: SemanticRules
    ) -> Awaitable[None] | None:
        """Begin to capture the answer of a call that surely has no kept one; return what finds that of any other."""
        shared, directives, request = services(), call.cache_directives, flow.request
        hashed = shared.answers.hashed
        if hashed is None:
            return self.open_first(flow, call, facts, rules, similar)
        turn = turn_of(facts.members) if similar.enabled and facts.members else None
        if turn is not None:
            rules = similar.for_questions(rules)
        facts = without_passthrough(facts, request.path)
        bypass_reason = why_not_kept(call, facts, request.path, sampled=rules.sampled)
        if directives is not None and directives.kind == "direct":
            turn = None
        elif directives is not None and directives.kind == "semantic" and turn is None:
            bypass_reason = bypass_reason or "kind"
        if not rules.enabled or bypass_reason or call.policy is None or call.principal is None:
            call.cache = "bypass"
            return None
        call.cache = "miss"
        asked, path = asked_of(facts, request.path)
        upstream = upstream_of(call.policy, call.provider, shared.target)
        head = (request.method, path, request.headers.fields)
        key = CacheKey(hashed, meaning_of(call, facts, head, scope_of(call.principal, rules.scope), upstream))
        if turn is not None:
            return self.find_or_similar(flow, call, facts, Lookup(key, asked, head, upstream), rules, turn)
        if shared.answers.may_have(key):
            return self.find_and_answer(flow, call, key, rules, asked)
        if directives is not None and directives.no_store:
            return None
        return None if self.begins(flow, call, key, rules) else self.find_and_answer(flow, call, key, rules, asked)

    async def find_and_answer(self, flow: http.HTTPFlow, call: Call, key: CacheKey, rules: ExactRules, asked: Asked) -> None:
        """Answer a call with its kept answer, or with that of an identical call, if there is one."""
        found = await self.find(flow, call, key, rules, asked)
        if found is not None and call.policy is not None:
            self.answer(flow, call, call.policy, found)

    async def find_or_similar(
        self, flow: http.HTTPFlow, call: Call, facts: RequestFacts, lookup: Lookup, rules: ExactRules, turn: Turn
    ) -> None:
        """Answer a call whose question is short with its kept answer, or with that of a similar question."""
        shared, directives, policy = services(), call.cache_directives, call.policy
        await self.find_and_answer(flow, call, lookup.key, rules, lookup.asked)
        if is_decided(flow) or policy is None or call.principal is None:
            return
        similar = shared.semantic.rules(policy).narrowed_by(directives)
        scope = scope_of(call.principal, similar.scope)
        assert shared.answers.hashed is not None
        question = question_of(call, facts, lookup, turn, scope, shared.answers.hashed, similar.ttl_ms)
        await self.find_similar(flow, call, policy, question, lookup.asked)

    async def find_similar(self, flow: http.HTTPFlow, call: Call, policy: Policy, question: ScopedQuestion, asked: Asked) -> None:
        """Answer a call with a similar question's answer; or note with which kept answer its own is to be compared."""
        capture, shared = capture_of(flow), services()
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
        flow.__dict__.pop(CAPTURE, None)
        shared.answers.pending.finish(capture.pending, kept)
        self.answer(flow, call, policy, kept, candidate.similarity)
        shared.semantic.hits += 1
        shared.semantic.saved_nano += call.saved_nano or 0

    async def find(self, flow: http.HTTPFlow, call: Call, key: CacheKey, rules: ExactRules, asked: Asked) -> Entry | None:
        """Return the answer to a call: kept, or that of an identical call under way. None if it must ask the provider."""
        answers, directives = services().answers, call.cache_directives
        ttl_ms = rules.narrowed_by(directives).ttl_ms
        most_s = answers.pending.max_wait_s
        if call.facts is not None and call.facts.stream:
            most_s = min(most_s, MAX_STREAM_WAIT_S)
        until = monotonic() + most_s
        while not is_decided(flow):
            found = await answers.find(key.whole, services().clock(), ttl_ms, asked)
            if found is not None or (directives is not None and directives.no_store):
                return found
            if self.begins(flow, call, key, rules) or ttl_ms == 0:
                # With a time to live of 0 no earlier call's answer will do, not even one that is under way.
                return None
            result = await answers.pending.wait(key, until - monotonic(), lambda: has_left(flow))
            policy = services().policy
            if policy is not call.policy:
                if (refusal := refusal_by(policy, call, services().clock())) is not None:
                    deny(flow, refusal)
                    return None
                now = answers.rules(policy)
                if not now.enabled or not shares_by(policy, now.scope, call, rules.scope):
                    return None
            if isinstance(result, Entry):
                is_wanted = directives is None or directives.takes(services().clock() - result.at)
                found = await answers.in_form(result, asked) if is_wanted else None
                # It has waited as long as the answer took.
                return None if found is None else replace(found, pace=b"")
            if result == "not_shared":
                return None
        return None

    def begins(self, flow: http.HTTPFlow, call: Call, key: CacheKey, rules: ExactRules) -> bool:
        """Begin to capture the answer of a call, and return True; False where an identical call is under way."""
        pending = services().answers.pending.begin(key)
        if pending is None:
            return False
        target = (call.provider, call.facts.model if call.facts is not None else "")
        # As the mark, an attribute of the flow: a reload of the chain makes another addon meanwhile.
        capture = Capture(pending, target, rules.max_entry_bytes)
        if rules.pacing == "natural" and call.facts is not None and call.facts.stream:
            capture.times = PieceTimes(monotonic())
        flow.sluicegate_capture = capture  # type: ignore[attr-defined]
        return True

    def answer(self, flow: http.HTTPFlow, call: Call, policy: Policy, found: Entry, similarity: float | None = None) -> None:
        """Answer a call with a kept answer."""
        shared, now = services(), services().clock()
        if is_decided(flow):
            return
        body = found.given_again(now)
        call.cache, call.first_byte_at, call.response_bytes = "hit", now, len(body)
        call.saved_nano = saved_by(found, policy, shared.prices_for(found.provider, policy), now)
        headers = [*headers_of_hit(call, found, now), (COST_HEADER, "0"), (CACHE_HEADER, "hit"), ("content-length", str(len(body)))]
        if similarity is not None:
            headers.append((SIMILARITY_HEADER, f"{similarity:.3f}"))
        fields = http.Headers([(name.encode(), value.encode()) for name, value in headers])
        # mitmproxy's ``Response.make`` would take as long as all else here.
        flow.response = http.Response(b"HTTP/1.1", 200, b"OK", fields, body, None, now / 1000, now / 1000)
        if found.pace and shared.answers.rules(policy).pacing == "natural":
            flow.sluicegate_replay = replay_of(found, body)  # type: ignore[attr-defined]
        shared.answers.note_hit(found, now, call.saved_nano)

    @observing
    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """Say that the answer is not from the cache, and begin to copy it where it may be kept."""
        call = call_of(flow)
        if call is None or call.cache in (None, "hit") or flow.response is None or call.deny is not None:
            return
        # The raw fields: by mitmproxy's look-ups it would take five times as long.
        headers, own = flow.response.headers, CACHE_HEADER.encode()
        fields = [field for field in headers.fields if field[0].lower() != own]
        headers.fields = (*fields, (own, call.cache.encode()))
        capture = capture_of(flow)
        if capture is not None and flow.response.status_code == 200:
            capture.read_head(fields)
            call.listeners.append(capture)

    def call_ended(self, flow: http.HTTPFlow) -> None:
        """Keep the answer of a call that ended well, and give it to calls that wait for it."""
        call = call_of(flow)
        if call is None or call.cache is None:
            return
        replay = flow.__dict__.pop("sluicegate_replay", None)
        if replay is not None:
            services().answers.replays.end(replay)
            call.response_bytes = replay.given_bytes
            call.first_byte_at = None if replay.first_byte_ms is None else (call.first_byte_at or 0) + replay.first_byte_ms
        capture: Capture | None = flow.__dict__.pop(CAPTURE, None)
        answers = services().answers
        if call.cache != "hit" and (call.sent_at is None or call.deny is not None):
            # It was refused, or its client left while it waited: nobody was asked what the cache might have known.
            call.cache = None
        if call.cache == "miss":
            answers.misses += 1
            services().semantic.misses += capture is not None and capture.question is not None
        if capture is None:
            return
        call.listeners = [listener for listener in call.listeners if listener is not capture]
        outcome = outcome_of(flow)
        whole = self.whole_answer(flow, call, capture, outcome)
        if whole is not None:
            answers.keep(whole, capture.pending, answers.rules(services().policy))
            if capture.question is not None:
                self.remember(capture, capture.question, whole.entry(capture.pending.key.whole))
            return
        is_over = call.deny is not None or outcome in (Outcome.CANCELLED, Outcome.INTERRUPTED)
        answers.pending.finish(capture.pending, None if is_over else "not_shared")

    def whole_answer(self, flow: http.HTTPFlow, call: Call, capture: Capture, outcome: Outcome) -> WholeAnswer | None:
        """Return the answer of a call that is kept, by the rules of the policy in force now; None if it is not to be."""
        is_left = outcome is Outcome.CANCELLED
        if call.policy is None or flow.response is None or not (is_left or outcome is Outcome.COMPLETED):
            return None
        rules = rules_of(services().policy, capture).narrowed_by(call.cache_directives)
        # Whose it is was decided with the key, when the call began.
        return capture.whole_answer(call, rules, rules_of(call.policy, capture).scope, is_left=is_left)

    def remember(self, capture: Capture, question: ScopedQuestion, entry: Entry) -> None:
        """Let similar questions find an answer that is kept, and learn whether another's would have done."""
        semantic, now = services().semantic, services().clock()
        if capture.comparison is not None:
            semantic.compare(capture.comparison, question, entry, now)
        else:
            semantic.note(question, entry, now)


def capture_of(flow: http.HTTPFlow) -> Capture | None:
    """Return the copy of a flow's answer that may be kept; None without one."""
    return flow.__dict__.get(CAPTURE)


def replay_of(found: Entry, body: bytes) -> Replay | None:
    """Return what gives a stream again at the pace at which it came; None for an answer in one piece."""
    if shape_of(body) == "whole":
        return None
    try:
        return services().answers.replays.begin(body, found.pace)
    except ValueError as e:
        logger.warning("The pace of a cached answer is damaged (%s), so it is given at once", e)
        return None


async def finish_look_up(call: Call, facts: RequestFacts, rest: Awaitable[None]) -> None:
    """Do what is left of looking a call up."""
    try:
        await rest
    except Exception:
        go_on_without(call)
    if facts.members is not None:
        facts.members.clear()


def go_on_without(call: Call) -> None:
    """Log the exception being handled. The call has been judged, and will be paid: nothing is wrong with it."""
    logger.exception("Cached answers cannot be looked up; call %s goes on", call.id)
    call.cache = "bypass"


def rules_of(policy: Policy, capture: Capture) -> ExactRules:
    """Return the rules by which a call's answer is kept."""
    rules = services().answers.rules(policy)
    return rules if capture.question is None else services().semantic.rules(policy).for_questions(rules)


addons = [Cache()]
