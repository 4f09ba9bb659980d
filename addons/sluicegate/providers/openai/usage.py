"""Judge the usage objects of OpenAI's answers, in the order in which they came, and turn them into what is billed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sluicegate.providers.answers.reported_counts import ReportedCounts
from sluicegate.providers.answers.usage_reader import ToolRequests, parse_count
from sluicegate.providers.answers.usage_rules import NO_RULES, UsageRules
from sluicegate.values import Usage

Fields = dict[str, Any]
"""A usage object as the provider wrote it."""

_INPUT_DETAILS = ("input_tokens_details", "prompt_tokens_details")
_OUTPUT_DETAILS = ("output_tokens_details", "completion_tokens_details")

_INPUT = ("prompt", "cached", "written")


class TokenCounts(ReportedCounts):
    """The counts of one answer, by all usage objects that were seen."""

    def __init__(self, rules: UsageRules = NO_RULES) -> None:
        super().__init__(_INPUT)
        self._rules = rules
        self.cost_nano: int | None = None
        """What the answer says it cost, where its provider is known to bill that; each figure includes the earlier ones."""

    @property
    def output(self) -> int | None:
        """Return the output so far; None if nothing has been said of it."""
        return self.get("output")

    def report(self, usage: Fields) -> bool:
        """Note one usage object; return whether it says how much output there is."""
        if self._rules.cost is not None and (cost := self._rules.cost.nano(usage)) is not None:
            self.cost_nano = max(cost, self.cost_nano or 0)
        return "output" in self.note(_fields_of(usage))

    def usage(self, model: str | None, service_tier: str | None, tools: ToolRequests) -> Usage:
        """Return what is billed, with cached input apart: OpenAI counts it, and cache writes, as part of the input."""
        prompt, cached, written = (self[name] for name in _INPUT)
        # A gateway that counts cached input beside the prompt, as other providers do, is believed: that is dearer.
        is_separate = cached + written > prompt
        return Usage(
            input_tokens=prompt if is_separate else prompt - cached - written,
            output_tokens=self["output"] + self._separate_reasoning(),
            cache_read_tokens=cached,
            cache_write_5m_tokens=written,
            model=model,
            service_tier=service_tier,
            # No table has the rates of sound.
            estimated=is_separate or self["sound"] > 0,
            **tools._asdict(),
        )

    def _separate_reasoning(self) -> int:
        """Return the reasoning that is not in the output: OpenAI includes it, some others add it to the total alone."""
        reasoning, rest = self["reasoning"], self["total"] - self["prompt"] - self["output"]
        # Where the total says nothing, a provider that is known to leave it out is taken at its word.
        is_separate = reasoning == rest or (self._rules.reasoning_separate and "total" not in self)
        return reasoning if is_separate else 0


def _fields_of(usage: Fields) -> Iterable[tuple[str, Any]]:
    """Yield the counts of a usage object by our names, whichever of OpenAI's APIs wrote it, or whoever copies them."""
    yield "prompt", _first(usage, ("input_tokens", "prompt_tokens"))
    yield "output", _first(usage, ("output_tokens", "completion_tokens"))
    details = _first(usage, _INPUT_DETAILS)
    details = details if isinstance(details, dict) else {}
    # Moonshot and DeepSeek have cached input beside the other counts.
    cached = _first(details, ("cached_tokens",))
    yield "cached", cached if cached is not None else _first(usage, ("cached_tokens", "prompt_cache_hit_tokens"))
    yield "written", _first(details, ("cache_write_tokens", "cache_creation_tokens", "cache_creation_input_tokens"))
    reasoning = _first(usage, _OUTPUT_DETAILS)
    # These two only explain each other, so that nonsense in them spoils nothing.
    total = parse_count(usage.get("total_tokens"))
    yield "total", total
    yield "sound", sum(parse_count(d.get("audio_tokens")) or 0 for d in (details, reasoning) if isinstance(d, dict))
    yield "reasoning", parse_count(reasoning.get("reasoning_tokens")) if isinstance(reasoning, dict) else None


def _first(fields: Mapping[str, Any], names: Iterable[str]) -> Any:
    return next((fields[n] for n in names if fields.get(n) is not None), None)
