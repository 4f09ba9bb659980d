"""How much a model shall think: efforts in words against budgets in tokens, by one table.

The budgets of low, medium and high are those that Google documents for reading OpenAI's efforts on Gemini 2.5; above them stands
the largest budget of Gemini 2.5 Pro. 1,024 is the least that Anthropic takes.
"""

from __future__ import annotations

from collections.abc import Mapping

from sluicegate.translation.conversation import Effort, Reasoning

BUDGET_TOKENS: Mapping[Effort, int] = {
    "minimal": 1024,
    "low": 1024,
    "medium": 8192,
    "high": 24_576,
    "xhigh": 32_768,
    "max": 32_768,
}

EFFORTS: tuple[Effort, ...] = ("minimal", "low", "medium", "high", "xhigh", "max")


def budget_of(reasoning: Reasoning) -> int | None:
    """Return the budget in tokens; None where the client leaves it to the provider."""
    if reasoning.budget_tokens is not None:
        return reasoning.budget_tokens
    return None if reasoning.effort is None else BUDGET_TOKENS[reasoning.effort]


def effort_of(reasoning: Reasoning) -> Effort | None:
    """Return the effort in words; None where the client leaves it to the provider."""
    if reasoning.effort is not None or reasoning.budget_tokens is None:
        return reasoning.effort
    if reasoning.budget_tokens <= BUDGET_TOKENS["low"]:
        return "low"
    return "medium" if reasoning.budget_tokens <= BUDGET_TOKENS["medium"] else "high"


def nearest(effort: Effort, allowed: tuple[Effort, ...]) -> Effort:
    """Return the allowed effort that is nearest to ``effort``, the smaller of two."""
    place = EFFORTS.index(effort)
    return min(allowed, key=lambda other: (abs(EFFORTS.index(other) - place), EFFORTS.index(other)))


def within(budget: int, max_tokens: int | None) -> int:
    """Return a budget that leaves room for the answer: at most half of a limit that counts both and that it would fill."""
    return budget if max_tokens is None or budget < max_tokens else max_tokens // 2
