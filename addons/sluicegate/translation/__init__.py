"""Translate model calls between Messages, Chat Completions, Responses and generateContent, by one form that is not a provider's.

``translate_request`` writes the client's request for the target and keeps what the answer needs as ``context``;
``AnswerTranslator`` turns the target's answer into the client's, streamed or whole; ``count_tokens`` answers for a target that
does not count. Calls whose dialect is the target's own are never translated: their bytes stay the client's.
"""

from sluicegate.translation.answers.errors import reworded_error
from sluicegate.translation.answers.translator import AnswerTranslator
from sluicegate.translation.context import AnswerContext, TranslatedRequest
from sluicegate.translation.conversation import DIALECTS, Dialect, Untranslatable
from sluicegate.translation.events import Failed, Finished
from sluicegate.translation.requests.translate import translate as translate_request
from sluicegate.translation.token_count import count_tokens

__all__ = [
    "DIALECTS",
    "AnswerContext",
    "AnswerTranslator",
    "Dialect",
    "Failed",
    "Finished",
    "TranslatedRequest",
    "Untranslatable",
    "count_tokens",
    "reworded_error",
    "translate_request",
]
