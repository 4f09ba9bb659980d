"""The shape of the section ``cache``: which answers are kept, for whom, how long, and in how much room."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StrictBool, WithJsonSchema, field_validator

from sluicegate.policy import semantic_extra
from sluicegate.policy.fields import Duration, Model
from sluicegate.windows import parse_period, period_ms

CacheScope = Literal["virtual_key", "user", "team", "customer"]
"""Who shares kept answers."""

Pacing = Literal["none", "natural"]
"""How fast a kept stream is given again: at once, or as it came."""

MAX_CACHE_BYTES = 1 << 40
"""Most bytes that a size may be: a terabyte."""

_SIZE = re.compile(r"([1-9][0-9]{0,12})(|KB|MB|GB|TB)")
_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def size_bytes(value: str) -> int:
    """Return the bytes that a size such as ``2GB`` stands for; units are powers of a thousand. Raises ValueError."""
    found = _SIZE.fullmatch(value)
    if found is None or not (bytes_ := int(found[1]) * _UNITS[found[2]]) <= MAX_CACHE_BYTES:
        raise ValueError("write a size such as 4MB or 2GB, at most 1TB")
    return bytes_


def _size(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("write a size such as 4MB or 2GB")
    size_bytes(str(value))
    return str(value)


Size = Annotated[
    str, BeforeValidator(_size), WithJsonSchema({"type": ["string", "integer"], "pattern": f"^{_SIZE.pattern}$", "minimum": 1})
]
Share = Annotated[float, Field(gt=0, lt=1, strict=True)]


def _checked_ttl(value: str) -> str:
    if not 1_000 <= (period_ms(parse_period(value)) or 0) <= 366 * 86_400_000:
        raise ValueError("write a time from 1s to 1Y; answers grow stale")
    return value


class _Kept(Model):
    """What both caches have."""

    enabled: StrictBool = Field(False, description="Whether answers are kept and used.")
    scope: CacheScope = Field(
        "user", description="Who shares answers. A key without a user, team or customer shares its answers with nobody."
    )

    @field_validator("ttl", check_fields=False)
    @classmethod
    def _check_ttl(cls, value: str) -> str:
        return _checked_ttl(value)


class ExactCache(_Kept):
    """Answers to calls that say exactly the same."""

    ttl: Duration = Field("1h", description="How long an answer is used, from 1s to 1Y.")
    max_bytes: Size = Field("2GB", description="Room on disk; the answers that were used longest ago go first.")
    max_entry_bytes: Size = Field("4MB", description="The largest answer that is kept, before it is compressed.")
    pacing: Pacing = Field(
        "none",
        description="How a kept stream is given again: none, all at once; natural, at the pace at which it came, within bounds.",
    )
    sampled: StrictBool = Field(
        False,
        description="Keep answers of calls that ask for a temperature above 0 too; those that say nothing of it are kept anyway.",
    )


class SemanticCache(_Kept):
    """Answers to short questions that mean the same in other words."""

    threshold: Share = Field(0.95, description="The least similarity of two questions, 0 to 1.")
    error_bound: Share = Field(0.01, description="The share of wrong answers that is accepted, learned for each kept answer.")
    ttl: Duration = Field("30m", description="How long an answer is used, from 1s to 1Y.")

    @field_validator("enabled")
    @classmethod
    def _check_installed(cls, value: bool) -> bool:
        if value and not semantic_extra.is_installed():
            raise ValueError(semantic_extra.NOT_INSTALLED)
        return value


class Cache(Model):
    """Answers that are kept and given again, so that the same call is not paid twice. Off unless enabled."""

    exact: ExactCache = Field(default_factory=ExactCache, description="For calls that say exactly the same.")
    semantic: SemanticCache = Field(default_factory=SemanticCache, description="For short questions in other words.")
