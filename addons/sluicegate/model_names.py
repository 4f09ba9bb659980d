"""Compare model names: decide whether a name in a list means the name in a call."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from functools import lru_cache

_RELEASE_DATE = re.compile(r"[-@](20\d{6}|20\d\d-\d\d-\d\d|latest)$")
_PREFIXES = ("anthropic/", "openai/", "google/", "gemini/", "models/")


@lru_cache(maxsize=4096)
def canonical(model: str) -> str:
    """Return the name in lower case, without a provider prefix or a context-window suffix such as ``[1m]``."""
    name = model.strip().lower()
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return re.sub(r"\[\d+[km]\]$", "", name)


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
