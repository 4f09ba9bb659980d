"""OpenTelemetry's names for what a model call is: its operation, its provider and its error.

As of 2026-11-27. Source: https://opentelemetry.io/docs/specs/semconv/gen-ai/ (status: development), where
``gen_ai.provider.name`` has replaced ``gen_ai.system`` and input tokens include cached ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from sluicegate.values import Kind, Outcome

PROVIDER_NAMES: Mapping[str, str] = {
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "foundry": "azure.ai.inference",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "moonshot": "moonshot_ai",
    "vertex": "gcp.vertex_ai",
    "xai": "x_ai",
}
"""Providers that the conventions call otherwise than we do."""

_BY_PROTOCOL = {"bedrock": "aws.bedrock", "vertex": "gcp.vertex_ai"}

DURATION_BOUNDS_S = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
FIRST_TOKEN_BOUNDS_S = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
TOKEN_BOUNDS = tuple(float(4**n) for n in range(14))
"""Upper bounds of buckets that the conventions ask for."""

_EMBEDDINGS = re.compile(r"(/embeddings|:(batch)?embedcontents?|/embed)$", re.IGNORECASE)
_GENERATE = re.compile(r":(stream)?generatecontent$", re.IGNORECASE)

_ERROR = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
"""What an error's type may look like; a provider's sentence is none."""


@lru_cache(maxsize=512)
def operation_of(kind: Kind, path: str) -> str:
    """Return a call's operation by its path; for a request that is not a model call, its kind."""
    if kind != "messages":
        return kind
    if _EMBEDDINGS.search(path):
        return "embeddings"
    if _GENERATE.search(path):
        return "generate_content"
    is_legacy = path.endswith("/completions") and not path.endswith("/chat/completions")
    return "text_completion" if is_legacy else "chat"


def provider_name(name: str, protocol: str) -> str:
    """Return what the conventions call a provider of the policy."""
    return PROVIDER_NAMES.get(name) or _BY_PROTOCOL.get(protocol, name)


def error_of(record: Mapping[str, Any], upstream_error: str | None) -> str | None:
    """Return why a call was not completed: our reason, the status, or the type of an error in its answer; None if it was."""
    outcome = record["outcome"]
    if outcome == Outcome.COMPLETED:
        return None
    if outcome == Outcome.CANCELLED:
        return "cancelled"
    if record["reason"]:
        return str(record["reason"])
    if (record["status"] or 0) >= 400:
        return str(record["status"])
    return upstream_error if upstream_error and _ERROR.fullmatch(upstream_error) else "_OTHER"
