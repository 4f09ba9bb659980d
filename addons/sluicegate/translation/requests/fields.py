"""Fields at the top of each dialect's body: which are read, which may be left out, and which no other API can say.

As of 2026-11-27, from the parameter types of anthropic 2.14.0, openai 3.57.0 and google-genai 3.6.1, the documentation of
OpenRouter and DashScope, and bodies of Claude Code, Codex, Gemini CLI and Qwen Code. A field that is on no list is refused by
name: it may mean anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sluicegate.translation.conversation import DIALECT_WORDS, Dialect, Untranslatable
from sluicegate.translation.requests.typed import Fields


@dataclass(frozen=True, slots=True)
class FieldRules:
    """The known fields of one dialect."""

    read: frozenset[str]
    dropped: frozenset[str]
    """Harmless to leave out: the call means the same. Metadata and ids of users never reach another provider."""
    refused: Mapping[str, tuple[str, tuple[Any, ...]]]
    """Why a field can't be translated, and the values that say no more than leaving it out."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_STORED = "it names something stored at the provider, which another provider does not have; send the content itself"
_ONE_ANSWER = "only one answer per call can be translated; ask once for each"
_LOGPROBS = "log probabilities can't be translated; leave it out"
_MEDIA = "only text answers can be translated; leave it out"
_SERVER_TOOL = "it runs at the provider, and another provider does not have it; leave it out"

MESSAGES = FieldRules(
    read=_words(
        "max_tokens messages model output_config output_format stop_sequences stream system temperature thinking tool_choice tools"
        " top_k top_p"
    ),
    dropped=_words(
        "anthropic_beta anthropic_version betas billing_policy cache_control compaction context_management diagnostics"
        " fallback_credit_token fallbacks metadata service_tier speed user_profile_id workspace_id"
    ),
    refused={
        "container": (_SERVER_TOOL, ()),
        "inference_geo": (
            "another provider can't promise where it computes; leave it out or choose an Anthropic model",
            ("global",),
        ),
        "mcp_servers": (_SERVER_TOOL, ([],)),
        "safeguards": ("another provider does not check answers by it; leave it out", ()),
        "thread": (_STORED, ({"type": "create"},)),
    },
)

CHAT = FieldRules(
    read=_words(
        "enable_thinking frequency_penalty function_call functions max_completion_tokens max_tokens messages model"
        " parallel_tool_calls presence_penalty prompt_cache_key reasoning reasoning_effort response_format seed stop stream"
        " stream_options temperature thinking thinking_budget tool_choice tools top_k top_p verbosity"
    ),
    dropped=_words(
        "cache_control fallbacks include_reasoning metadata min_p moderation prediction prompt_cache_options prompt_cache_retention"
        " provider repetition_penalty safety_identifier service_tier store top_a transforms user vl_high_resolution_images"
    ),
    refused={
        "audio": (_MEDIA, ()),
        "logit_bias": ("tokens have other numbers at another provider; leave it out", ({},)),
        "logprobs": (_LOGPROBS, (False,)),
        "modalities": (_MEDIA, (["text"],)),
        "n": (_ONE_ANSWER, (1, "1")),
        "plugins": (_SERVER_TOOL, ([],)),
        "top_logprobs": (_LOGPROBS, (0,)),
        "web_search_options": (_SERVER_TOOL, ()),
    },
)

RESPONSES = FieldRules(
    read=_words(
        "input instructions max_output_tokens model parallel_tool_calls prompt_cache_key reasoning stream temperature text"
        " tool_choice tools top_p include"
    ),
    dropped=_words(
        "access_programs background_options client_metadata context_management fallbacks image max_tool_calls metadata moderation"
        " prompt_cache_options prompt_cache_retention safety_identifier service_tier store stream_options truncation user"
    ),
    refused={
        "background": ("another provider answers while the client waits; leave it out", (False,)),
        "conversation": (_STORED, ()),
        "previous_response_id": (_STORED, ()),
        "prompt": (_STORED, ()),
        "top_logprobs": (_LOGPROBS, (0,)),
    },
)

GENERATE_CONTENT = FieldRules(
    read=_words("contents generationConfig model systemInstruction toolConfig tools"),
    dropped=_words("fallbacks labels safetySettings serviceTier store"),
    refused={"cachedContent": (_STORED, ("",))},
)

GENERATION_CONFIG = FieldRules(
    read=_words(
        "frequencyPenalty maxOutputTokens presencePenalty responseJsonSchema responseMimeType responseSchema seed stopSequences"
        " temperature thinkingConfig topK topP _responseJsonSchema"
    ),
    dropped=_words("audioTimestamp enableAffectiveDialog enableEnhancedCivicAnswers mediaResolution"),
    refused={
        "candidateCount": (_ONE_ANSWER, (1, "1")),
        "imageConfig": (_MEDIA, ()),
        "logprobs": (_LOGPROBS, (0,)),
        "modelSelectionConfig": ("another provider does not choose models so; leave it out", ()),
        "responseLogprobs": (_LOGPROBS, (False,)),
        "responseModalities": (_MEDIA, (["TEXT"], ["text"], [])),
        "routingConfig": ("another provider does not choose models so; leave it out", ()),
        "speechConfig": (_MEDIA, ()),
    },
)

RULES: Mapping[Dialect, FieldRules] = {
    "messages": MESSAGES,
    "chat": CHAT,
    "responses": RESPONSES,
    "generate_content": GENERATE_CONTENT,
}


def check(fields: Fields, rules: FieldRules, source: Dialect, within: str = "") -> list[str]:
    """Return the fields that are left out. Raises Untranslatable for one that must not be, naming it.

    ``within`` is the path of the object that holds the fields, ending in a dot. A null says no more than leaving the field out.
    """
    dropped = []
    for name, value in fields.items():
        if name in rules.read or value is None:
            continue
        if name in rules.dropped:
            dropped.append(within + name)
        elif name in rules.refused:
            why, harmless = rules.refused[name]
            if value not in harmless:
                raise Untranslatable(f"'{within}{name}' of {DIALECT_WORDS[source]} has no counterpart here: {why}")
        else:
            raise Untranslatable(f"'{within}{name}' is not a field of {DIALECT_WORDS[source]} that can be translated; leave it out")
    return dropped
