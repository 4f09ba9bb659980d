"""Judge the usage objects of OpenAI's answers, in the order in which they came, and turn them into what is billed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sluicegate.model_names import canonical
from sluicegate.providers.answers.reported_counts import ReportedCounts
from sluicegate.providers.answers.usage_reader import ToolRequests, parse_count
from sluicegate.providers.answers.usage_rules import NO_RULES, UsageRules
from sluicegate.values import Usage

Fields = dict[str, Any]
"""A usage object as the provider wrote it."""

_PROMPT, _OUTPUT = ("input_tokens", "prompt_tokens"), ("output_tokens", "completion_tokens")
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
        rest, reasoning = self["total"] - prompt - self["output"], self._separate_reasoning()
        # A gateway that counts cached input beside the prompt, as other providers do, shows it by a total that includes both.
        is_beside = cached + written > 0 and rest == cached + written + reasoning
        # Without such a total it is believed as well: that is dearer.
        is_separate = is_beside or cached + written > prompt
        hidden = max(0, rest - reasoning) if _hides_thoughts(model) and not is_beside else 0
        return Usage(
            input_tokens=prompt if is_separate else prompt - cached - written,
            output_tokens=self["output"] + reasoning + hidden,
            cache_read_tokens=cached,
            cache_write_5m_tokens=written,
            model=model,
            service_tier=service_tier,
            # No table has the rates of sound.
            estimated=is_separate > is_beside or self["sound"] > 0,
            **tools._asdict(),
        )

    def _separate_reasoning(self) -> int:
        """Return the reasoning that is not in the output: OpenAI includes it, some others add it to the total alone."""
        reasoning, rest = self["reasoning"], self["total"] - self["prompt"] - self["output"]
        # Where the total says nothing, a provider that is known to leave it out is taken at its word.
        is_separate = rest in (reasoning, reasoning + self["cached"] + self["written"])
        is_separate = is_separate or reasoning > self["output"] or (self._rules.reasoning_separate and "total" not in self)
        return reasoning if is_separate else 0


def _hides_thoughts(model: str | None) -> bool:
    """Return whether what a model thought may be in the total alone: so Google's copy of the API has it, and many gateways."""
    return model is not None and canonical(model).startswith("gemini-")


def _fields_of(usage: Fields) -> Iterable[tuple[str, Any]]:
    """Yield the counts of a usage object by our names, whichever of OpenAI's APIs wrote it, or whoever copies them."""
    read, written = _objects(usage, _INPUT_DETAILS), _objects(usage, _OUTPUT_DETAILS)
    total = parse_count(usage.get("total_tokens"))
    prompt, output = _first((usage,), _PROMPT), _first((usage,), _OUTPUT)
    # Some servers count an embedding's input in the total alone.
    yield "prompt", total if prompt is None and output is None else prompt
    yield "output", output
    # Moonshot and DeepSeek have cached input beside the other counts, and gateways in front of Anthropic by its names.
    yield "cached", _first((*read, usage), ("cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens"))
    yield "written", _first((*read, usage), ("cache_write_tokens", "cache_creation_tokens", "cache_creation_input_tokens"))
    # These only explain each other, so that nonsense in them spoils nothing.
    yield "total", total
    yield "sound", sum(parse_count(d.get("audio_tokens")) or 0 for d in (*read, *written))
    yield "reasoning", max((parse_count(d.get("reasoning_tokens")) or 0 for d in written), default=None)


def _objects(fields: Mapping[str, Any], names: Iterable[str]) -> list[Fields]:
    return [fields[n] for n in names if isinstance(fields.get(n), dict)]


def _first(places: Iterable[Fields], names: Iterable[str]) -> Any:
    """Return the first of these fields that says something: a zero counts only where no other contradicts it."""
    found = [place[n] for place in places for n in names if place.get(n) is not None]
    return next((value for value in found if value), found[0] if found else None)
