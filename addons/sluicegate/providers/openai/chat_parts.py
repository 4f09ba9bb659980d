"""What a chat, completions or embeddings body may hold: parts that are known to be text, and parts that are read in one pass.

A body that fits its API's text type costs no more than its bytes; one that fits the one-pass type no more than one context
window. Whatever is not listed fits neither: a new field or type is dear until it is known. Source: the parameter types of
openai 3.57.0 (2026-11), DashScope's compatible mode, and bodies of Qwen Code 0.24.
"""

from __future__ import annotations

import msgspec

from sluicegate.providers.requests.parts import ABSENT, Json, Part, Words


class Text(Part, tag="text"):
    """Text."""

    text: Words
    cache_control: Json = ABSENT
    prompt_cache_breakpoint: Json = ABSENT


class Refusal(Part, tag="refusal"):
    """A refusal, sent back."""

    refusal: Words


class ImageUrl(Part, tag="image_url"):
    """An image, by URL or in a data URL."""

    image_url: Json
    cache_control: Json = ABSENT
    prompt_cache_breakpoint: Json = ABSENT


class File(Part, tag="file"):
    """A file, by id or in the body."""

    file: Json
    prompt_cache_breakpoint: Json = ABSENT


class ChatMessage[T](Part):
    """One message."""

    role: str
    content: str | list[T] | None = None
    name: str | None = None
    tool_calls: Json = ABSENT
    tool_call_id: str | None = None
    function_call: Json = ABSENT
    refusal: str | None = None
    reasoning_content: Words = ABSENT
    reasoning: Words = ABSENT


class ChatFunction(Part, tag="function"):
    """A tool that the client runs."""

    function: Json
    cache_control: Json = ABSENT


class ChatCustom(Part, tag="custom"):
    """A tool of free-form input that the client runs."""

    custom: Json


class Settings(Part):
    """Top-level fields of every API that hold no content: governed elsewhere, or changing how the model samples."""

    model: Json
    stream: Json = ABSENT
    stream_options: Json = ABSENT
    metadata: Json = ABSENT
    parallel_tool_calls: Json = ABSENT
    prompt_cache_key: Json = ABSENT
    prompt_cache_options: Json = ABSENT
    prompt_cache_retention: Json = ABSENT
    safety_identifier: Json = ABSENT
    service_tier: Json = ABSENT
    store: Json = ABSENT
    temperature: Json = ABSENT
    tool_choice: Json = ABSENT
    top_logprobs: Json = ABSENT
    top_p: Json = ABSENT
    user: Json = ABSENT


class ChatSettings(Settings):
    """Those of chat completions."""

    enable_thinking: Json = ABSENT
    frequency_penalty: Json = ABSENT
    function_call: Json = ABSENT
    functions: Json = ABSENT
    logit_bias: Json = ABSENT
    logprobs: Json = ABSENT
    max_completion_tokens: Json = ABSENT
    max_tokens: Json = ABSENT
    n: Json = ABSENT
    prediction: Json = ABSENT
    presence_penalty: Json = ABSENT
    reasoning_effort: Json = ABSENT
    response_format: Json = ABSENT
    seed: Json = ABSENT
    stop: Json = ABSENT
    thinking_budget: Json = ABSENT
    top_k: Json = ABSENT
    verbosity: Json = ABSENT


class ChatText(ChatSettings):
    """A chat body of text alone."""

    messages: list[ChatMessage[Text | Refusal]] | None = None
    tools: list[ChatFunction | ChatCustom] | None = None


class ChatOnePass(ChatSettings):
    """A chat body with media in known places."""

    messages: list[ChatMessage[Text | Refusal | ImageUrl | File]] | None = None
    tools: list[ChatFunction | ChatCustom] | None = None
    modalities: Json = ABSENT


class EmbeddingsText(Part):
    """An embeddings body: texts or tokens, each of which is embedded apart."""

    model: Json
    input: str | list[str | int | list[int]]
    dimensions: Json = ABSENT
    encoding_format: Json = ABSENT
    user: Json = ABSENT


class CompletionsText(Settings):
    """A body of the older completions: one prompt."""

    prompt: str | None = None
    best_of: Json = ABSENT
    echo: Json = ABSENT
    frequency_penalty: Json = ABSENT
    logit_bias: Json = ABSENT
    logprobs: Json = ABSENT
    max_tokens: Json = ABSENT
    n: Json = ABSENT
    presence_penalty: Json = ABSENT
    seed: Json = ABSENT
    stop: Json = ABSENT
    suffix: Json = ABSENT


CHAT_TEXT = msgspec.json.Decoder(ChatText)
CHAT_ONE_PASS = msgspec.json.Decoder(ChatOnePass)
EMBEDDINGS_TEXT = msgspec.json.Decoder(EmbeddingsText)
COMPLETIONS_TEXT = msgspec.json.Decoder(CompletionsText)
