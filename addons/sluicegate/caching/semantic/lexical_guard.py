"""The lexical guard: two questions have one answer only where nothing differs but what cannot matter."""

from __future__ import annotations

from typing import Literal

from sluicegate.caching.semantic.questions import Question, Token, has_plurals, same_thing

Difference = Literal["code", "words"]


def difference(one: Question, other: Question) -> Difference | None:
    """Return what keeps an answer to one question from the other, or None where nothing does."""
    if one.verbatim != other.verbatim:
        return "code"
    if not (one.request or one.verbatim) or not _same(one.request, other.request) or not _same(one.closing, other.closing):
        return "words"
    return None


_SHORT_TOKENS = 3
"""Up to here an article tells things apart: ``what is a set`` and ``what is set``."""


def _same(one: tuple[Token, ...], other: tuple[Token, ...]) -> bool:
    """Return whether the words are the same in the same order. Polarity, numbers and names are words like any other."""
    if len(one) != len(other):
        return False
    if [a.text for a in one] != [b.text for b in other]:
        return has_plurals(one) and all(same_thing(a, b) for a, b in zip(one, other, strict=True))
    if len(one) > _SHORT_TOKENS:
        return True
    return [a.indefinite for a in one] == [b.indefinite for b in other]
