"""Stop sequences: which of them a target is sent; the answer's translation ends the text at the others itself.

Claude Code ends its safety classifier's answers by one, so a target without stop sequences must not mean a refusal.
"""

from __future__ import annotations

from sluicegate.translation.conversation import Dialect
from sluicegate.translation.requests.models import openai_model

MAX_CHAT_STOP_SEQUENCES = 4
MAX_GEMINI_STOP_SEQUENCES = 5


def sent_stops(stop: tuple[str, ...], target: Dialect, model: str) -> tuple[str, ...]:
    """Return the sequences that the target takes, the first of them where it takes only some."""
    match target:
        case "responses":
            return ()
        case "chat":
            takes = openai_model(model)
            # OpenAI's own reasoning models refuse them.
            return () if takes.reasons and takes.is_openai else stop[:MAX_CHAT_STOP_SEQUENCES]
        case "generate_content":
            return stop[:MAX_GEMINI_STOP_SEQUENCES]
        case "messages":
            return tuple(sequence for sequence in stop if sequence.strip())


def applied_stops(stop: tuple[str, ...], target: Dialect, model: str) -> tuple[str, ...]:
    """Return the sequences at which the answer's translation ends the text."""
    sent = sent_stops(stop, target, model)
    return tuple(sequence for sequence in stop if sequence not in sent)
