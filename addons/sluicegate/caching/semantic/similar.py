"""Questions whose answers are kept, found again by other questions: nearest by embedding, let through by the guard, and learned of.

All of it is in memory and bounded, and nothing of a question is written to disk. It is used by one thread at a time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sluicegate.caching.entry import Owner
from sluicegate.caching.semantic import lexical_guard
from sluicegate.caching.semantic.learning import Evidence, Experience
from sluicegate.caching.semantic.questions import Question, read

MAX_QUESTIONS = 10_000
MAX_IN_NAMESPACE = 1000
MAX_OWNERS = 1000

_NEAREST = 8
"""How many of the nearest questions the guard looks at."""


class KeptAnswer(NamedTuple):
    """Where a question's answer is kept, and whose it is."""

    key: bytes
    owner: Owner
    model: str


@dataclass(slots=True, eq=False)
class _Known:
    """A question whose answer is kept."""

    question: Question
    answer: KeptAnswer
    until: int
    evidence: Evidence = field(default_factory=Evidence)


@dataclass(slots=True)
class _Namespace:
    """Questions that differ in nothing else, and their vectors, one row each."""

    owner: Hashable
    known: list[_Known] = field(default_factory=list)
    vectors: Any = None


class Candidate(NamedTuple):
    """A kept answer that may serve a question."""

    key: bytes
    similarity: float
    is_used: bool
    """Whether to give it; else the provider is asked, and ``learn`` told whether it would have done."""
    owner: Hashable
    evidence: Evidence


class SimilarQuestions:
    """The questions of all callers; who shares answers is told apart by ``owner``, and all else that matters by ``namespace``."""

    def __init__(self, embed: Callable[[list[str]], Any], chance: Callable[[], float]) -> None:
        self._embed, self._chance = embed, chance
        self._spaces: OrderedDict[tuple[Hashable, bytes], _Namespace] = OrderedDict()
        self._experience: OrderedDict[Hashable, Experience] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def find(
        self, owner: Hashable, namespace: bytes, text: str, *, threshold: float, error_bound: float, now: int
    ) -> Candidate | None:
        """Return the kept answer that may serve a question, and whether it is to be used or compared; None without one."""
        space = self._spaces.get((owner, namespace))
        if space is None or not space.known:
            return None
        self._spaces.move_to_end((owner, namespace))
        question = read(text)
        similarities = space.vectors @ self._embed([question.text])[0]
        for at in similarities.argsort()[::-1][:_NEAREST]:
            similarity, known = round(float(similarities[at]), 6), space.known[at]
            if similarity < threshold:
                return None
            if now < known.until and lexical_guard.difference(question, known.question) is None:
                exploration = self._of(owner).exploration(known.evidence, similarity, error_bound)
                return Candidate(known.answer.key, similarity, self._chance() >= exploration, owner, known.evidence)
        return None

    def note(self, owner: Hashable, namespace: bytes, text: str, answer: KeptAnswer, *, until: int, now: int) -> None:
        """Remember a question whose answer is kept until ``until``, epoch milliseconds."""
        import numpy as np

        question = read(text)
        space = self._spaces.setdefault((owner, namespace), _Namespace(owner))
        self._spaces.move_to_end((owner, namespace))
        vector = self._embed([question.text])
        others = [at for at, known in enumerate(space.known) if known.until > now and known.answer.key != answer.key]
        kept = others[-(MAX_IN_NAMESPACE - 1) :]
        self._count += len(kept) + 1 - len(space.known)
        space.vectors = vector if space.vectors is None else np.concatenate((space.vectors[kept], vector))
        space.known = [*(space.known[at] for at in kept), _Known(question, answer, until)]
        while self._count > MAX_QUESTIONS:
            _, oldest = self._spaces.popitem(last=False)
            self._count -= len(oldest.known)

    def learn(self, candidate: Candidate, agreed: bool) -> None:
        """Note whether a candidate's answer would have done."""
        self._of(candidate.owner).learn(candidate.evidence, candidate.similarity, agreed)

    def clear(self, owned: Mapping[str, str] | None = None) -> int:
        """Forget the questions of those whom columns of the answers' file name, all by default; return how many.

        What was learned from comparisons goes with the last question of an owner's.
        """
        before = self._count
        for at, space in list(self._spaces.items()):
            kept = [n for n, known in enumerate(space.known) if not known.answer.owner.fits(owned or {}, known.answer.model)]
            self._count -= len(space.known) - len(kept)
            if not kept:
                del self._spaces[at]
            elif len(kept) < len(space.known):
                space.known, space.vectors = [space.known[n] for n in kept], space.vectors[kept]
        left = {space.owner for space in self._spaces.values()}
        for owner in [owner for owner in self._experience if not owned or owner not in left]:
            del self._experience[owner]
        return before - self._count

    def _of(self, owner: Hashable) -> Experience:
        found = self._experience.setdefault(owner, Experience())
        self._experience.move_to_end(owner)
        if len(self._experience) > MAX_OWNERS:
            self._experience.popitem(last=False)
        return found
