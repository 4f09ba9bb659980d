"""Read an answer of Bedrock's: a message, whole or in frames, priced as the model that was asked for."""

from __future__ import annotations

from typing import Any

from sluicegate.providers.anthropic.answer import MessagesUsage


class BedrockUsage(MessagesUsage):
    """Usage of one answer. The model's own name in it says nothing of the region, which the price depends on."""

    def _note_model(self, model: Any) -> None:
        """Leave the model that was asked for, whose id names the region."""
