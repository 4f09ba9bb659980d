"""Measure the guard: over labelled pairs, how many hits are right, how many are missed, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sluicegate.caching.semantic import lexical_guard, questions
from sluicegate.caching.semantic.pairs import Pair

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Result:
    """What one rule did with some pairs."""

    rule: str
    same: int
    different: int
    hits: int
    false_hits: tuple[str, ...]
    """The ids of pairs with two answers that would have shared one."""

    @property
    def precision(self) -> float | None:
        """The share of hits that are right; None without a hit."""
        return (self.hits - len(self.false_hits)) / self.hits if self.hits else None

    @property
    def recall(self) -> float | None:
        """The share of pairs with one answer that are hits; None without such a pair."""
        return (self.hits - len(self.false_hits)) / self.same if self.same else None

    @property
    def bound(self) -> float | None:
        """The largest probability that a pair with two answers is a hit, at ``CONFIDENCE``; None without such a pair."""
        return upper_limit(len(self.false_hits), self.different) if self.different else None


def evaluate(pairs: Sequence[Pair], threshold: float, embed: Callable[[list[str]], Any]) -> list[Result]:
    """Return what similarity alone, the guard alone, and both together do with some pairs."""
    vectors = embed([text for pair in pairs for text in (pair.a, pair.b)])
    read = [(questions.read(pair.a), questions.read(pair.b)) for pair in pairs]
    of_read = embed([question.text for both in read for question in both])
    near = [_similarity(vectors, at) >= threshold for at in range(len(pairs))]
    passed = [lexical_guard.difference(*both) is None for both in read]
    found = [ok and _similarity(of_read, at) >= threshold for at, ok in enumerate(passed)]
    rules = {"similarity": near, "guard": passed, "both": found}
    return [_result(rule, pairs, hits) for rule, hits in rules.items()]


def _similarity(vectors: Any, at: int) -> float:
    """Return the cosine of the two texts of a pair, rounded where only arithmetic makes a difference."""
    return round(float(vectors[2 * at] @ vectors[2 * at + 1]), 6)


def _result(rule: str, pairs: Sequence[Pair], hits: Sequence[bool]) -> Result:
    same = sum(pair.same_answer for pair in pairs)
    false = tuple(pair.id for pair, hit in zip(pairs, hits, strict=True) if hit and not pair.same_answer)
    return Result(rule, same, len(pairs) - same, sum(hits), false)


def upper_limit(errors: int, trials: int, confidence: float = CONFIDENCE) -> float:
    """Return the Clopper-Pearson upper limit of a probability after ``errors`` in ``trials``; one-sided.

    It is the p at which as few errors or fewer have the probability 1 - confidence.
    """
    if errors >= trials:
        return 1.0
    low, high = errors / trials, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _at_most(errors, trials, middle) > 1 - confidence else (low, middle)
    return high


def _at_most(errors: int, trials: int, p: float) -> float:
    """Return the probability of at most ``errors`` in ``trials``, each with the probability p, 0 < p < 1."""
    if p >= 1:
        return 0.0
    logs = (
        math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1) + k * math.log(p) + (trials - k) * math.log1p(-p)
        for k in range(errors + 1)
    )
    return sum(map(math.exp, logs))
