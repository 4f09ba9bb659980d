"""Judge the usage metadata of Gemini's answers, in the order in which they came, and turn it into what is billed."""

from __future__ import annotations

from typing import Any

from sluicegate.providers.answers.reported_counts import ReportedCounts
from sluicegate.providers.answers.usage_reader import ToolRequests, parse_count
from sluicegate.values import Usage

_COUNTS = {
    "promptTokenCount": "prompt",
    "cachedContentTokenCount": "cached",
    "toolUsePromptTokenCount": "tool_use",
    "candidatesTokenCount": "answer",
    "thoughtsTokenCount": "thoughts",
}
_INPUT = ("prompt", "cached", "tool_use")

_TIERS = {
    "ON_DEMAND_PRIORITY": "priority",
    "ON_DEMAND_FLEX": "flex",
}
"""Service tiers by the type of traffic, as Vertex names them; the rest is billed at the standard price."""


class TokenCounts(ReportedCounts):
    """The counts of one answer, by all metadata that was seen. Each chunk repeats the counts so far."""

    def __init__(self) -> None:
        super().__init__(_INPUT)
        self._service_tier: str | None = None
        self._tier_fields: tuple[Any, Any] = (None, None)
        """What the last metadata said of the tier, as it was written."""
        self._has_other_rates = False
        """Whether some of it is sound or pictures, whose rates no table has."""

    @property
    def has_answer(self) -> bool:
        """Return whether the answer itself has been counted, not its thoughts alone."""
        return self["answer"] > 0

    @property
    def output(self) -> int:
        """Return the output so far: the answer and the thoughts, which are counted beside it or in the total alone."""
        return self["answer"] + self["thoughts"] + self._hidden

    @property
    def _rest(self) -> int:
        """Return what the total has beyond the other counts."""
        return self["total"] - self["prompt"] - self["tool_use"] - self["answer"] - self["thoughts"]

    @property
    def _hidden(self) -> int:
        """Return the thoughts that only the total shows: gateways drop the count of them, which is younger than the rest."""
        return max(0, self._rest) if self._rest != self["cached"] else 0

    def has_tier(self, tier: str | None, traffic: str | None) -> bool:
        """Return whether metadata with these fields would say nothing new of the tier."""
        return (tier is None and traffic is None) or (tier, traffic) == self._tier_fields

    def report(self, metadata: dict[str, Any]) -> None:
        """Note one metadata object."""
        # The total only explains the others, so that nonsense in it spoils nothing.
        total = ("total", parse_count(metadata.get("totalTokenCount")))
        self.note([*((name, metadata.get(field)) for field, name in _COUNTS.items()), total])
        if _counts_other(metadata.get("promptTokensDetails"), ("AUDIO",)) or _counts_other(
            metadata.get("candidatesTokensDetails"), ("AUDIO", "IMAGE", "VIDEO")
        ):
            self._has_other_rates = True
        tier, traffic = self._tier_fields = metadata.get("serviceTier"), metadata.get("trafficType")
        if isinstance(tier, str):
            self._service_tier = tier.lower().removeprefix("service_tier_")[:64]
        elif isinstance(traffic, str):
            self._service_tier = _TIERS.get(traffic)

    def usage(self, model: str | None, tools: ToolRequests) -> Usage:
        """Return what is billed: cached input apart from the prompt it is part of, what tools read as further input."""
        prompt, cached, tool_use = (self[name] for name in _INPUT)
        is_beside = cached > 0 and self._rest == cached
        is_separate = is_beside or cached > prompt
        return Usage(
            input_tokens=(prompt if is_separate else prompt - cached) + tool_use,
            output_tokens=self.output,
            cache_read_tokens=cached,
            model=model,
            service_tier=self._service_tier,
            estimated=is_separate > is_beside or self._hidden > 0 or self._has_other_rates,
            **tools._asdict(),
        )


def _counts_other(details: Any, kinds: tuple[str, ...]) -> bool:
    """Return whether the counts by medium show any tokens of these kinds."""
    listed = [d for d in details if isinstance(d, dict)] if isinstance(details, list) else []
    return any(d.get("modality") in kinds and parse_count(d.get("tokenCount")) for d in listed)
