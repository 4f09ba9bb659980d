"""Learning: what answers that ended well have shown of a virtual key's calls and of a model. Bounded in memory and on file."""

from __future__ import annotations

from array import array
from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from sluicegate.model_names import undated
from sluicegate.values import RequestFacts, Usage

KEPT_ANSWERS = 100
"""Answers whose output is remembered, the last ones: the figures follow a change of work within a day."""

MIN_ANSWERS = 20
"""Answers from which a 95th percentile is taken: with fewer, it is just the longest of them."""

MIN_RATIO_SAMPLES = 5
"""Answers on which a ratio must rest before it replaces the figure of the model's family."""

MAX_KEYS = 10_000
"""Pairs of virtual key and model that are remembered, the last ones used; more are forgotten in memory and on file."""

MAX_MODELS_OF_A_KEY, MAX_MODELS = 100, 1_000
"""Models that are remembered of one virtual key and of all keys together: a key that makes up names only makes room for its own."""

MAX_SESSIONS = 10_000
"""Sessions whose last cache split is remembered."""

MIN_SPEED_TOKENS, MIN_SPEED_MS = 20, 100
"""An answer shorter than this shows how long the network takes, not how fast the model writes."""

_KEPT_SHARE = 0.95
"""What is left of the weight of older answers with each new one: a ratio rests on some twenty."""

_MAX_COUNT = (1 << 32) - 1

LearnedKey = tuple[str, str]
"""Virtual key id and model without its release date; an empty id stands for all keys."""


@dataclass(slots=True)
class Ratio:
    """The ratio of two sums over answers, in which older answers weigh less and longer ones more."""

    part: float = 0.0
    whole: float = 0.0
    samples: int = 0

    def add(self, part: float, whole: float) -> None:
        """Add one more answer."""
        self.part = self.part * _KEPT_SHARE + part
        self.whole = self.whole * _KEPT_SHARE + whole
        self.samples += 1

    @property
    def value(self) -> float | None:
        """Return the ratio; None until it rests on enough answers."""
        return self.part / self.whole if self.samples >= MIN_RATIO_SAMPLES and self.whole > 0 else None


def _no_counts() -> array[int]:
    return array("I")


@dataclass(slots=True)
class Learned:
    """What is remembered of one virtual key's calls to one model, or of all keys' calls to it."""

    outputs: array[int] = field(default_factory=_no_counts)
    """Output tokens of the last answers that were not cut short, oldest first."""
    tokens_per_byte: Ratio = field(default_factory=Ratio)
    """Prompt tokens for a byte of the request's text."""
    characters_per_token: Ratio = field(default_factory=Ratio)
    """Characters of delivered text for an output token."""
    tokens_per_ms: Ratio = field(default_factory=Ratio)
    """Output tokens for a millisecond of a whole call."""
    _ranked: array[int] = field(default_factory=_no_counts, init=False, compare=False)
    """The same outputs, smallest first: sorting them anew for each call would take longer than all the rest."""

    def __post_init__(self) -> None:
        self._ranked = array("I", sorted(self.outputs))

    def add_output(self, tokens: int) -> None:
        """Remember the output of an answer that came to its own end."""
        tokens = min(tokens, _MAX_COUNT)
        if len(self.outputs) >= KEPT_ANSWERS:
            del self._ranked[bisect_left(self._ranked, self.outputs.pop(0))]
        self.outputs.append(tokens)
        insort(self._ranked, tokens)

    @property
    def output_tokens(self) -> int | None:
        """Return the 95th percentile of the outputs, one of them (nearest rank); None until there are enough."""
        count = len(self._ranked)
        return self._ranked[-(-count * 95 // 100) - 1] if count >= MIN_ANSWERS else None


class Known(NamedTuple):
    """What is known before a call: of this key's calls to the model, and of everybody's."""

    own: Learned
    shared: Learned


class Lesson(msgspec.Struct, frozen=True):
    """What one answer teaches; None where it says nothing about that."""

    output_tokens: int | None = None
    prompt: tuple[int, int] | None = None
    """Prompt tokens, and the bytes of text they were made from."""
    delivered: tuple[int, int] | None = None
    """Characters of delivered text, and the output tokens that were billed for them."""
    speed: tuple[int, int] | None = None
    """Output tokens, and the milliseconds they took."""

    def __bool__(self) -> bool:
        """Return whether it teaches anything."""
        return bool(self.output_tokens is not None or self.prompt or self.delivered or self.speed)


class CacheSplit(NamedTuple):
    """How the prompt of a session's last call was billed, in tokens of each class."""

    uncached: int
    read: int
    write_5m: int
    write_1h: int

    def apply(self, usage: Usage) -> Usage:
        """Return a usage whose uncached input is divided in the same proportion; no token is lost or made."""
        total, tokens = sum(self), usage.input_tokens
        if not total:
            return usage
        read, write_5m, write_1h = (tokens * part // total for part in self[1:])
        return Usage(
            input_tokens=tokens - read - write_5m - write_1h,
            output_tokens=usage.output_tokens,
            cache_read_tokens=usage.cache_read_tokens + read,
            cache_write_5m_tokens=usage.cache_write_5m_tokens + write_5m,
            cache_write_1h_tokens=usage.cache_write_1h_tokens + write_1h,
            web_search_requests=usage.web_search_requests,
            model=usage.model,
            speed=usage.speed,
            service_tier=usage.service_tier,
            inference_geo=usage.inference_geo,
            estimated=True,
        )


_NOTHING = Learned()
"""Stands for what is not remembered; it is never added to."""

UNKNOWN = Known(_NOTHING, _NOTHING)
"""What is known before the first call."""


class Learning:
    """What has been learned, by virtual key and model, and the last cache split of each session."""

    def __init__(self, learned: Mapping[LearnedKey, Learned] | Iterable[tuple[LearnedKey, Learned]] = ()) -> None:
        """Begin with what is on file, least recently learned first."""
        self.learned: OrderedDict[LearnedKey, Learned] = OrderedDict(learned)
        self._models: dict[str, OrderedDict[str, None]] = {}
        """The models of each key, least recently learned first; of all keys under an empty id."""
        for key_id, name in self.learned:
            self._models.setdefault(key_id, OrderedDict())[name] = None
        self.splits: OrderedDict[tuple[str, str, str], CacheSplit] = OrderedDict()

    def known(self, key_id: str | None, model: str) -> Known:
        """Return what is known of a key's calls to a model; without a key, all calls are one caller's."""
        name = undated(model)
        shared = self.learned.get(("", name), _NOTHING)
        return Known(self.learned.get((key_id, name), _NOTHING) if key_id else shared, shared)

    def learn(self, key_id: str | None, model: str, lesson: Lesson) -> dict[LearnedKey, Learned | None]:
        """Add what an answer teaches. Return what has changed and must be written; None for what was forgotten."""
        name = undated(model)
        changed: dict[LearnedKey, Learned | None] = {}
        # The shared entry comes last, so that it is forgotten after the keys that it is made of.
        for key in ((key_id, name), ("", name)) if key_id else (("", name),):
            found = self.learned.get(key)
            if found is None:
                found = self.learned[key] = Learned()
            else:
                self.learned.move_to_end(key)
            _add(found, lesson)
            changed[key] = found
            models = self._models.get(key[0])
            if models is None:
                models = self._models[key[0]] = OrderedDict()
            if name in models:
                models.move_to_end(name)
            else:
                models[name] = None
            if len(models) > (MAX_MODELS_OF_A_KEY if key[0] else MAX_MODELS):
                changed[self._forget((key[0], next(iter(models))))] = None
        while len(self.learned) > MAX_KEYS:
            changed[self._forget(next(iter(self.learned)))] = None
        return changed

    def _forget(self, key: LearnedKey) -> LearnedKey:
        del self.learned[key]
        models = self._models[key[0]]
        del models[key[1]]
        if not models:
            del self._models[key[0]]
        return key

    def remember_split(self, key_id: str | None, session_id: str | None, model: str, usage: Usage) -> None:
        """Remember how a session's prompt was billed; calls without a session teach nothing."""
        if session_id is None:
            return
        key = (key_id or "", session_id, undated(model))
        self.splits[key] = CacheSplit(
            usage.input_tokens, usage.cache_read_tokens, usage.cache_write_5m_tokens, usage.cache_write_1h_tokens
        )
        self.splits.move_to_end(key)
        if len(self.splits) > MAX_SESSIONS:
            self.splits.popitem(last=False)

    def split(self, key_id: str | None, session_id: str | None, model: str) -> CacheSplit | None:
        """Return how the session's last prompt was billed; None where that is not known."""
        return None if session_id is None else self.splits.get((key_id or "", session_id, undated(model)))


def _add(learned: Learned, lesson: Lesson) -> None:
    if lesson.output_tokens is not None:
        learned.add_output(lesson.output_tokens)
    if lesson.prompt is not None:
        learned.tokens_per_byte.add(*lesson.prompt)
    if lesson.delivered is not None:
        learned.characters_per_token.add(*lesson.delivered)
    if lesson.speed is not None:
        learned.tokens_per_ms.add(*lesson.speed)


def lesson_of(
    facts: RequestFacts, reported: Usage, *, is_truncated: bool = False, characters: int = 0, elapsed_ms: int = 0
) -> Lesson:
    """Return what an answer with this final usage teaches.

    Estimates teach nothing: they would only confirm themselves. An answer that was cut short says nothing about how long
    answers are. Images, and input that is not in the body, break the ratio of tokens to bytes; so do the
    further steps of a call that was served in several.
    """
    if reported.estimated:
        return Lesson()
    output, prompt, most = reported.output_tokens, reported.prompt_tokens, facts.max_tokens
    is_whole = not is_truncated and (most is None or output < most * facts.extent.candidates)
    text_bytes = facts.text_bytes if facts.is_text_only and not reported.iterations else 0
    return Lesson(
        output if is_whole and output else None,
        (min(prompt, text_bytes), text_bytes) if text_bytes > 0 and prompt else None,
        # Fewer characters than tokens: much of what was billed was thought unseen.
        (characters, output) if output and characters >= output else None,
        (output, elapsed_ms) if output >= MIN_SPEED_TOKENS and elapsed_ms >= MIN_SPEED_MS else None,
    )
