"""What models take, known by their names, as dated data: limits of the answer, forms of thinking, sampling.

As of 2026-11-27, from the providers' pages of models. A limit only ever lowers what a client asks for, to what the model can write
at most; a name that no rule knows gets no field that only some models take.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from sluicegate.translation.conversation import Effort

DEFAULT_MAX_TOKENS = 32_000
"""For Anthropic, which asks for a limit, where the client sets none."""

_CLAUDE = re.compile(r"claude-(?:(\d)(?:[-.](\d))?-)?([a-z]+)(?:-(\d{1,2})(?:[-.](\d{1,2}))?)?(?!\d)")
_GEMINI = re.compile(r"gemini-(\d+)(?:\.(\d+))?")
_GPT = re.compile(r"(?:^|[/.])gpt-(\d+)(?:\.(\d+))?")
_O_SERIES = re.compile(r"(?:^|[/.])(?:o[1-9]|codex-)")
_NEWEST = (99, 0)
_PLAIN: tuple[Effort, ...] = ("low", "medium", "high")


def _version(major: str | None, minor: str | None) -> tuple[int, int]:
    return (int(major), int(minor or 0)) if major else _NEWEST


# -- Anthropic ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Claude:
    """What a Claude model takes. A name without a version is taken for the newest."""

    thinking: Literal["adaptive", "budget", ""]
    efforts: tuple[Effort, ...]
    samples: bool
    """Whether it takes temperature, top_p and top_k."""
    takes_schema: bool
    """Whether it can be held to a schema of its answer."""
    max_tokens: int


def claude(model: str) -> Claude:
    """Return what an Anthropic model takes."""
    found = _CLAUDE.search(model)
    family = found[3] if found else ""
    version = _version(found[1] or found[4], found[2] if found[1] else found[5]) if found else _NEWEST
    thinking: Literal["adaptive", "budget", ""] = "adaptive" if version >= (4, 6) else "budget" if version >= (3, 7) else ""
    efforts: tuple[Effort, ...] = (*_PLAIN, "xhigh", "max") if version >= (4, 7) else (*_PLAIN, "max")
    return Claude(thinking, efforts, version < (4, 7), version >= (4, 1), _claude_limit(family, version))


def _claude_limit(family: str, version: tuple[int, int]) -> int:
    if version < (3, 7):
        return 8192 if version == (3, 5) else 4096
    if version < (4, 5) and family == "opus":
        return 32_000
    return 128_000 if version >= (5, 0) or (version >= (4, 6) and family == "opus") else 64_000


# -- OpenAI and those that speak its APIs ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OpenAIModel:
    """What a model behind one of OpenAI's dialects takes."""

    is_openai: bool
    """Whether it is one of OpenAI's own, for which fields have OpenAI's newer names."""
    efforts: tuple[Effort, ...]
    """The efforts it takes; empty where it does not reason or is not known to."""
    off: str
    """The word for the least reasoning; empty where there is none."""
    max_tokens: int

    @property
    def reasons(self) -> bool:
        """Whether it is known to reason, and so takes neither temperature nor stop sequences."""
        return bool(self.efforts)


_GPT_OUTPUT_TOKENS = {
    "gpt-4o-2024-05-13": 4096,
    "gpt-4o": 16_384,
    "gpt-4.1": 32_768,
    "gpt-4.5": 16_384,
    "gpt-4-turbo": 4096,
    "gpt-4-1106": 4096,
    "gpt-4-0125": 4096,
    "gpt-4-vision": 4096,
    "gpt-4": 8192,
    "gpt-3.5": 4096,
}
_OTHERS_OUTPUT_TOKENS = {"deepseek-chat": 8192, "deepseek-reasoner": 65_536, "qwen3-coder": 65_536, "gpt-oss": 65_536}
UNKNOWN_OUTPUT_TOKENS = 32_768
"""For models of no known limit. Servers refuse a limit that does not fit into the context beside the prompt, and agents ask for
128,000 whatever the model."""


def openai_model(model: str) -> OpenAIModel:
    """Return what a model behind Chat Completions or Responses takes."""
    if "gpt-oss" in model:
        return OpenAIModel(False, _PLAIN, "low", _others_limit(model))
    if _O_SERIES.search(model):
        return OpenAIModel(True, _PLAIN, "low", 100_000)
    found = _GPT.search(model)
    if not found:
        return OpenAIModel("chatgpt-" in model, (), "", _others_limit(model))
    version = _version(found[1], found[2])
    name = model[found.start() :].lstrip("/.")
    if version < (5, 0) or "chat" in name:
        limit = next((limit for begin, limit in _GPT_OUTPUT_TOKENS.items() if name.startswith(begin)), UNKNOWN_OUTPUT_TOKENS)
        return OpenAIModel(True, (), "", 16_384 if "chat" in name else limit)
    return OpenAIModel(True, *_gpt_efforts(name, version), 128_000)


def _others_limit(model: str) -> int:
    return next((limit for name, limit in _OTHERS_OUTPUT_TOKENS.items() if name in model), UNKNOWN_OUTPUT_TOKENS)


def _gpt_efforts(name: str, version: tuple[int, int]) -> tuple[tuple[Effort, ...], str]:
    if "pro" in name.split("-"):
        return ("high",), "high"
    top: tuple[Effort, ...] = ("xhigh",) if version >= (5, 2) or "codex-max" in name else ()
    if "codex" in name:
        return (*_PLAIN, *top), "low"
    if version == (5, 0):
        return ("minimal", *_PLAIN), "minimal"
    return (*_PLAIN, *top), "none"


# -- Google ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Gemini:
    """What a Gemini model takes. A name without a version is taken for the newest."""

    thinking: Literal["level", "budget", ""]
    levels: tuple[Effort, ...]
    least_budget_tokens: int
    most_budget_tokens: int
    signs_calls: bool
    """Whether it refuses a function call in the conversation that bears no thought signature."""
    max_tokens: int


def gemini(model: str) -> Gemini:
    """Return what a Gemini model takes."""
    found = _GEMINI.search(model)
    version = _version(found[1], found[2]) if found else _NEWEST
    flash = "flash" in model
    if version < (2, 5):
        return Gemini("", (), 0, 0, False, 8192)
    if version < (3, 0):
        return Gemini("budget", (), 0 if flash else 128, 24_576 if flash else 32_768, False, 65_536)
    levels: tuple[Effort, ...] = ("minimal", "low", "medium", "high") if flash else ("low", "medium", "high")
    return Gemini("level", ("low", "high") if version == (3, 0) and not flash else levels, 0, 0, True, 65_536)


def is_mistral(model: str) -> bool:
    """Whether a model is Mistral's, which takes ids of tool calls only if they are nine letters and digits."""
    return re.search(r"(?:mi[sn]i?stral|mixtral|codestral|devstral|magistral|pixtral)", model) is not None
