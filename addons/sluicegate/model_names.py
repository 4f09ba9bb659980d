"""Compare model names: decide whether a name in a list means the name in a call."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from functools import lru_cache

_RELEASE_DATE = re.compile(r"[-@](20\d{6}|20\d\d-\d\d-\d\d|latest)$")
_PREFIXES = ("anthropic/", "openai/", "google/", "gemini/", "models/")

_BEDROCK_ID = re.compile(
    r"(?:arn:aws[a-z-]*:bedrock:[a-z0-9-]+:\d*:(?:inference-profile|foundation-model)/)?"
    r"(?:(?:global|us|us-gov|eu|apac|jp|au|ca|in)\.)?anthropic\.(claude-[a-z0-9.-]+?)(?:-v\d+)?(?::\d+)?(?::\d+k)?"
)
"""An id of a model of Anthropic's at Amazon Bedrock, or of its inference profile in a region; the name stands in the middle."""


@lru_cache(maxsize=4096)
def canonical(model: str) -> str:
    """Return the name in lower case, without a provider prefix or a context-window suffix such as ``[1m]``.

    An id of Bedrock's, such as ``us.anthropic.claude-haiku-4-5-20251001-v1:0``, is the name in it.
    """
    name = model.strip().lower()
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    name = re.sub(r"\[\d+[km]\]$", "", name)
    sold = _BEDROCK_ID.fullmatch(name) if "anthropic." in name else None
    return name if sold is None else sold[1]


def is_bedrock_id(model: str) -> bool:
    """Return whether a name is an id of Bedrock's that says which model of Anthropic's it is."""
    return "anthropic." in model and _BEDROCK_ID.fullmatch(model.lower()) is not None


@lru_cache(maxsize=4096)
def undated(model: str) -> str:
    """Return the canonical name without its release date: ``claude-haiku-5-5-20261007`` becomes ``claude-haiku-5-5``."""
    return _RELEASE_DATE.sub("", canonical(model))


@lru_cache(maxsize=16384)
def matches(pattern: str, model: str) -> bool:
    """Return whether a list entry (a name, a name without its date, or a glob) means this model."""
    return means(pattern, model)


def means(pattern: str, model: str) -> bool:
    """Return what ``matches`` does without remembering it: for comparing whole lists, which would fill the memory."""
    want, have = canonical(pattern), canonical(model)
    return want in ("*", have, undated(have)) or (is_glob(want) and fnmatchcase(have, want))


def is_glob(pattern: str) -> bool:
    """Return whether a list entry is a pattern of names rather than a name."""
    return any(c in canonical(pattern) for c in "*?[")
