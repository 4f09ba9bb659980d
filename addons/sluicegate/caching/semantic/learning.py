"""How often an answer may be given to another question: learned for each kept answer, so that errors stay under a bound.

The idea is that of vCache (Schroeder et al., arXiv:2502.03771). A candidate is either used or *explored*: then the call goes to
its provider all the same, and comparing the two answers shows whether the kept one would have done. From these comparisons follows
a lower bound of the probability of being right at a similarity. If a candidate is wrong with at most probability w, using it with
probability ``error_bound / w`` makes at most ``error_bound`` of all candidates wrong.

What is ours: the bound is exact over a grid of logistic curves; an entry that was never wrong also learns from what its owner's
other entries have shown at the same age; and an entry that is more probably wrong than right is never used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

MIN_EXPLORATION = 0.02
"""The share of candidates that is explored however sure we are, so that a change of the model is noticed."""

_MAX_WRONG = 0.5
"""Probability of being wrong from which a candidate is not used at all."""

_BINS = 100
_MIDPOINTS = (*(x / 10 for x in range(3, 9)), *(0.85 + x / 100 for x in range(26)))
_STEEPNESSES = (5.0, 10.0, 20.0, 50.0, 100.0, 200.0)
_CURVES = tuple((t, g) for t in _MIDPOINTS for g in _STEEPNESSES)

_AGES = 4
"""Entries are told apart by how often they were found right: never, once, twice, more often."""


def _right(bin_: int, curve: tuple[float, float]) -> float:
    midpoint, steepness = curve
    return 1 / (1 + math.exp(-steepness * (bin_ / _BINS - midpoint)))


_TABLES: dict[int, tuple[list[float], list[float], list[float], list[int]]] = {}
"""For each similarity: the probability of being right by each curve, its logarithm and its opposite's, and the ascending order."""


def _table(bin_: int) -> tuple[list[float], list[float], list[float], list[int]]:
    found = _TABLES.get(bin_)
    if found is None:
        rights = [_right(bin_, curve) for curve in _CURVES]
        order = sorted(range(len(rights)), key=rights.__getitem__)
        logs = [math.log(r) for r in rights], [math.log(max(1 - r, 1e-12)) for r in rights]
        found = _TABLES[bin_] = (rights, *logs, order)
    return found


def _bin(similarity: float) -> int:
    """Return a similarity in hundredths, rounded down: the less similar, the less sure."""
    return max(0, min(_BINS, math.floor(similarity * _BINS + 1e-6)))


class Evidence:
    """Comparisons at several similarities, and what they say of the probability of being right."""

    __slots__ = ("_bounds", "_likelihoods", "agreed", "disagreed")

    def __init__(self) -> None:
        self.agreed = self.disagreed = 0
        self._likelihoods = [0.0] * len(_CURVES)
        self._bounds: dict[int, float] = {}

    def add(self, similarity: float, agreed: bool) -> None:
        """Note one comparison."""
        self._bounds.clear()
        _, log_right, log_wrong, _ = _table(_bin(similarity))
        evidence = log_right if agreed else log_wrong
        self._likelihoods = [likelihood + more for likelihood, more in zip(self._likelihoods, evidence, strict=True)]
        self.agreed += agreed
        self.disagreed += not agreed

    def surely_right(self, similarity: float) -> float:
        """Return a lower bound of the probability that an answer is right at a similarity.

        A curve is in the region of confidence 1 - e where its likelihood is at least e times the largest (two parameters: the
        quantile of chi squared is -2 ln e). The bound is the largest, over all e, of 1 - e times the least right curve in it.
        """
        bin_ = _bin(similarity)
        if bin_ in self._bounds:
            return self._bounds[bin_]
        rights, _, _, order = _table(bin_)
        most = max(self._likelihoods)
        found = passed = 0.0
        for at in order:
            found = max(found, (1 - passed) * rights[at])
            passed = max(passed, math.exp(self._likelihoods[at] - most))
        self._bounds[bin_] = found
        return found


@dataclass(slots=True)
class Experience:
    """What one owner's entries have shown, by how often an entry had been right before.

    Entries that will fail tend to fail early, so what older entries show says nothing of younger ones; the other way round it is
    a bound on the safe side.
    """

    by_age: tuple[Evidence, ...] = field(default_factory=lambda: tuple(Evidence() for _ in range(_AGES)))

    def learn(self, entry: Evidence, similarity: float, agreed: bool) -> None:
        """Note a comparison, for the entry and for those like it."""
        if not entry.disagreed:
            for evidence in self.by_age[min(entry.agreed, _AGES - 1) :]:
                evidence.add(similarity, agreed)
        entry.add(similarity, agreed)

    def exploration(self, entry: Evidence, similarity: float, error_bound: float) -> float:
        """Return with which probability a candidate must be explored, so that at most ``error_bound`` of all are wrong."""
        right = entry.surely_right(similarity)
        if not entry.disagreed:
            right = max(right, self.by_age[min(entry.agreed, _AGES - 1)].surely_right(similarity))
        wrong = 1 - right
        if wrong >= _MAX_WRONG:
            return 1.0
        return max(MIN_EXPLORATION, 1 - error_bound / wrong) if wrong else MIN_EXPLORATION
