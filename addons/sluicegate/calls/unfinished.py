"""Unfinished answers: what a call used whose end nobody saw, from the time it ran and from what was delivered."""

from __future__ import annotations

import math

from msgspec.structs import replace

from sluicegate.calls.bound import worst_case_usage
from sluicegate.calls.call import Call
from sluicegate.pricing.generation import Generation, generation_of
from sluicegate.pricing.prices import Prices
from sluicegate.tokenizers.encodings import encoding_of
from sluicegate.values import RequestFacts, Usage

MIN_GAP_MS = 250
"""A model that writes what can be seen sends several pieces a second; a longer pause may be one in which it thinks."""

FIRST_TOKEN_MS = 2_000
"""Of the pause before visible text, what reading the prompt and the network take: nothing is written in that time."""

NOTICE_MS = 2_000
"""How long a provider may go on writing, and billing, until it notices that nobody listens; counted under hard budgets."""


class Pauses:
    """Adds up the time in which an answer brought no content. Times are milliseconds of any steady clock."""

    __slots__ = ("_last_at", "_seen", "total_ms")

    def __init__(self, sent_at: float) -> None:
        """Begin when the request is sent."""
        self.total_ms = 0.0
        self._last_at = sent_at
        self._seen = 0

    def note(self, now: float, content_pieces: int) -> None:
        """Note how often content has come by now."""
        if content_pieces != self._seen:
            self._seen = content_pieces
            # As ``end`` does, which would be another call for each piece of an answer.
            pause = now - self._last_at
            self._last_at = now
            if pause >= MIN_GAP_MS:
                self.total_ms += pause

    def end(self, now: float) -> None:
        """Count the pause that ends now, if it was one."""
        pause = now - self._last_at
        self._last_at = now
        if pause >= MIN_GAP_MS:
            self.total_ms += pause


def unfinished_usage(call: Call, facts: RequestFacts, prices: Prices) -> Usage:
    """Return what a call used that ended without a final usage: its input as reported, else as expected, and its output.

    Where a hard budget applies (the call has a bound), every figure is the most it can be, so that the charge is never
    below the bill: unknown input is the bound's, and output is what the fastest model writes in that time.
    """
    answer = call.answer
    reported = answer.usage if answer is not None else None
    if call.bound_nano is not None:
        worst = bound_usage(facts, prices, call.started_at)
        if not has_one_pass(facts):
            # A second pass may read everything again, and only the end of the answer would say so.
            return worst
        base, limit = reported or worst, worst.output_tokens
        if facts.max_tokens is None:
            # Text that has been counted was written, whatever we believe the model can write.
            limit = max(limit, call.delivered_tokens or 0)
        # An answer that came to its end without a count may have used all that it was allowed.
        output = _most_output(call, facts, limit) if _was_cut(call) else limit
    else:
        base = reported or _expected_input(call)
        output = min(_output_limit(call, facts, prices), _likely_output(call, facts))
    if answer is not None and reported is None:
        base = replace(base, **answer.tool_requests._asdict())
    if answer is not None and answer.output_tokens is not None:
        # The answer's end has counted its output, though not its input.
        output = answer.output_tokens
    elif reported is not None:
        output = max(output, reported.output_tokens)
    return replace(base, output_tokens=output, iterations=(), estimated=True)


def text_to_count(call: Call) -> tuple[str, str] | None:
    """Return the delivered text on which a call's charge depends, and the encoding to count it with.

    None where the answer's end has counted its output, or where the model's tokenizer is not known.
    """
    answer, facts = call.answer, call.facts
    if answer is None or facts is None or not answer.is_readable or answer.is_final or answer.output_tokens is not None:
        return None
    served = answer.usage.model if answer.usage is not None else None
    encoding = encoding_of(served or facts.model) or encoding_of(facts.model)
    text = answer.delivered.text if encoding is not None else ""
    return (text, encoding) if text and encoding is not None else None


def note_count(call: Call, tokens: int) -> None:
    """Note how many tokens the kept part of the delivered text is; the rest of it is taken to be as long in tokens."""
    if call.answer is not None and (delivered := call.answer.delivered).kept:
        call.delivered_tokens = math.ceil(tokens * max(1, delivered.characters / delivered.kept))


def _output_limit(call: Call, facts: RequestFacts, prices: Prices) -> int:
    """Return the most output a call can be charged for: what it allows, or what its model can write, for each candidate."""
    if facts.max_tokens is not None:
        return facts.max_tokens * facts.extent.candidates
    # Text that has been counted was written, whatever we believe the model can write.
    return max(prices.max_output(facts.model) * facts.extent.candidates, call.delivered_tokens or 0)


def bound_usage(facts: RequestFacts, prices: Prices, at: int) -> Usage:
    """Return the most a call can use; ``at`` is when it began, epoch milliseconds."""
    return worst_case_usage(facts, prices.context_window(facts.model, at), prices.max_output(facts.model))


def has_one_pass(facts: RequestFacts) -> bool:
    """Return whether one model reads the input once, so that the beginning of an answer can say how much it was."""
    return facts.extent.passes == 1 and facts.extent.prompts == 1 and not facts.models


def _was_cut(call: Call) -> bool:
    return call.was_cut or call.answer is None or call.answer.error is not None


def _expected_input(call: Call) -> Usage:
    """Return the input that was expected, divided as that of the session's last call was."""
    if call.expected_usage is None:
        return Usage(estimated=True)
    expected = replace(call.expected_usage, output_tokens=0)
    return call.cache_split.apply(expected) if call.cache_split is not None else expected


def _likely_output(call: Call, facts: RequestFacts) -> int:
    """Return the larger of the output that was delivered and the output the model has probably written unseen.

    Thinking that is billed but not shown leaves no trace but time. Where an answer shows that there was some, the model
    wrote all the time; otherwise text that was delivered accounts for the time in which it came, and only pauses count.
    """
    family = generation_of(facts.model)
    own, shared = call.known
    # Other keys' calls may raise a charge, never lower it: anyone can have a model write slowly, or spaces by the thousand.
    per_ms = own.tokens_per_ms.value or max(shared.tokens_per_ms.value or 0, family.tokens_per_s / 1000)
    delivered, has_hidden = _delivered(call, family)
    # An answer in one piece has been written to its end before its first byte comes.
    is_streamed = call.answer is not None and call.answer.is_streamed and call.answer.has_content
    if has_hidden or not is_streamed:
        return max(delivered, round(per_ms * call.elapsed_ms))
    paused = round(per_ms * max(0, call.unseen_ms - FIRST_TOKEN_MS))
    return max(delivered + paused, round(per_ms * call.unseen_ms))


def _most_output(call: Call, facts: RequestFacts, limit: int) -> int:
    """Return the most output the model can have written by the time the provider noticed the end, up to ``limit``."""
    family = generation_of(facts.model)
    if family.max_tokens_per_s is None:
        return limit
    delivered, _ = _delivered(call, family)
    # Candidates are written side by side.
    per_s = family.max_tokens_per_s * facts.extent.candidates
    return min(limit, max(delivered, -(-per_s * (call.elapsed_ms + NOTICE_MS) // 1000)))


def _delivered(call: Call, family: Generation) -> tuple[int, bool]:
    """Return the tokens of the text that reached the client, and whether more was written than can be seen."""
    if call.answer is None:
        return 0, False
    delivered = call.answer.delivered
    if call.delivered_tokens is not None:
        return call.delivered_tokens + delivered.hidden_tokens, delivered.has_hidden
    own, shared = call.known
    usual = family.characters_per_token
    length = own.characters_per_token.value or min(shared.characters_per_token.value or usual, usual)
    return math.ceil(delivered.characters / length) + delivered.hidden_tokens, delivered.has_hidden
