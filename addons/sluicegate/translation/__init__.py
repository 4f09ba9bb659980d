"""Translate model calls between Messages, Chat Completions, Responses and generateContent, by one form that is no provider's.

``translate_request(body, path, source, target, model)`` returns the target's request;
``AnswerTranslator(source, target, context, answer_id=..., created_s=...)`` turns the target's answer into the client's.
"""

from sluicegate.translation.answers.translator import AnswerTranslator
from sluicegate.translation.context import AnswerContext, TranslatedRequest
from sluicegate.translation.conversation import DIALECTS, Dialect, Untranslatable
from sluicegate.translation.events import Failed, Finished
from sluicegate.translation.requests.translate import translate as translate_request

__all__ = [
    "DIALECTS",
    "AnswerContext",
    "AnswerTranslator",
    "Dialect",
    "Failed",
    "Finished",
    "TranslatedRequest",
    "Untranslatable",
    "translate_request",
]
