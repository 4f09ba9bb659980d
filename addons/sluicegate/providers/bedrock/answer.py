"""Read an answer of Bedrock's: a message, whole or in frames, priced as the model that was asked for."""

from __future__ import annotations

from typing import Any

from sluicegate.providers.anthropic.answer import MessagesUsage

_METRICS = "amazon-bedrock-invocationMetrics"

_COUNTS = {
    "input_tokens": "inputTokenCount",
    "output_tokens": "outputTokenCount",
    "cache_read_input_tokens": "cacheReadInputTokenCount",
    "cache_creation_input_tokens": "cacheWriteInputTokenCount",
}
"""What Bedrock counts beside the model's own usage, in the last event of a stream."""


class BedrockUsage(MessagesUsage):
    """Usage of one answer. The model's own name in it says nothing of the region, which the price depends on."""

    def _note_model(self, model: Any) -> None:
        """Leave the model that was asked for, whose id names the region."""

    def _note_message(self, kind: str, value: dict[str, Any]) -> None:
        super()._note_message(kind, value)
        metrics = value.get(_METRICS)
        if not isinstance(metrics, dict):
            return
        counts = {name: metrics.get(written) for name, written in _COUNTS.items()}
        if not self._is_counted:
            # The model's own count of its output has not come.
            self._report(counts)
        elif not any(self._spelled_out().get(name) for name in counts if name != "output_tokens"):
            # Nor has any of its input.
            self._report(counts | {"output_tokens": None})
