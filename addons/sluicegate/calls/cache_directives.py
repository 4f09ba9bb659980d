"""Cache directives: what a client says of caching in Bifrost's headers, such as how old an answer may be, or that none is kept."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple, cast

from sluicegate.request_grammar import HeaderValues
from sluicegate.windows import parse_period, period_ms

CACHE_HEADERS = ("x-bf-cache-key", "x-bf-cache-ttl", "x-bf-cache-threshold", "x-bf-cache-type", "x-bf-cache-no-store")
"""Source: the headers of Bifrost 1.4.19, semantic cache."""

_NAMESPACE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,198}[\x21-\x7e])?")

_KINDS = ("direct", "semantic")


class CacheDirectives(NamedTuple):
    """What one call's headers ask for. It can only narrow what the policy says."""

    namespace: str = ""
    """Answers are shared only with calls that name the same."""
    ttl_ms: int | None = None
    """The oldest answer that is wanted, and how long this one may be kept."""
    threshold: float | None = None
    kind: Literal["direct", "semantic"] | None = None
    """Only answers to the same call, or only those to similar ones; None for both."""
    no_store: bool = False
    """Whether this call's answer is not to be kept."""

    def shorter_ttl_ms(self, ttl_ms: int) -> int:
        """Return the smaller of the policy's time to live and the client's, milliseconds."""
        return ttl_ms if self.ttl_ms is None else min(ttl_ms, self.ttl_ms)

    def takes(self, age_ms: int) -> bool:
        """Return whether an answer to a call that began so long ago, milliseconds, is young enough for the client."""
        return self.ttl_ms is None or age_ms < self.ttl_ms


def directives_of(values: HeaderValues) -> CacheDirectives:
    """Return what the headers ask for. Raises ValueError, with a sentence for the client, for a value that is not allowed."""
    namespace, ttl, threshold, kind, no_store = (_one(values, name) for name in CACHE_HEADERS)
    if namespace and not _NAMESPACE.fullmatch(namespace):
        raise ValueError("x-bf-cache-key: write up to 200 printable ASCII characters")
    if kind not in ("", *_KINDS):
        raise ValueError("x-bf-cache-type: write direct or semantic, or leave it out for both")
    if no_store.lower() not in ("", "true", "false"):
        raise ValueError("x-bf-cache-no-store: write true or false")
    return CacheDirectives(
        namespace,
        _ttl_ms(ttl),
        _threshold(threshold),
        cast("Literal['direct', 'semantic']", kind) if kind else None,
        no_store.lower() == "true",
    )


def _one(values: HeaderValues, name: str) -> str:
    found = values.get(name, ())
    if len(found) > 1:
        raise ValueError(f"{name} is sent {len(found)} times; send it once")
    return found[0].strip() if found else ""


def _ttl_ms(text: str) -> int | None:
    if not text:
        return None
    if re.fullmatch(r"[0-9]{1,9}", text):
        return int(text) * 1000
    try:
        found = period_ms(parse_period(text))
    except ValueError:
        found = None
    if found is None:
        raise ValueError("x-bf-cache-ttl: write seconds, or a duration such as 5m")
    return found


def _threshold(text: str) -> float | None:
    if not text:
        return None
    if not re.fullmatch(r"[01](?:\.[0-9]{1,6})?|\.[0-9]{1,6}", text) or float(text) > 1:
        raise ValueError("x-bf-cache-threshold: write a number from 0 to 1")
    return float(text)
