"""Claude's requests at Bedrock and on Anthropic's own API: the body of one as the other has it.

At Bedrock the path names the model and says whether the answer is a stream, and the body has the version and the betas that
are headers elsewhere.
"""

from __future__ import annotations

import msgspec

VERSION = "bedrock-2023-05-31"

_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])

LEFT_OUT = frozenset(
    {"model", "stream", "betas", "billing_policy", "diagnostics", "fallback_credit_token", "fallbacks", "service_tier", "speed"}
    | {"user_profile_id", "workspace_id", "anthropic_version", "anthropic_beta"}
)
"""Fields of Messages that Bedrock does not take, and that change nothing in what the call means."""

BETAS = frozenset(
    {
        "compact-2026-01-12",
        "computer-use-2024-10-22",
        "computer-use-2025-01-24",
        "context-1m-2025-08-07",
        "context-management-2025-06-27",
        "dev-full-thinking-2025-05-14",
        "effort-2025-11-24",
        "fine-grained-tool-streaming-2025-05-14",
        "interleaved-thinking-2025-05-14",
        "output-128k-2025-02-19",
        "thinking-token-count-2026-05-13",
        "token-efficient-tools-2025-02-19",
        "tool-examples-2025-10-29",
        "tool-search-tool-2025-10-19",
    }
)
"""Betas that Bedrock takes: it refuses calls with another one. Those that Claude Code 2.1.332 sends to it, and those of
docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-anthropic-claude-messages-request-response.html, 2026-11-27."""


def as_messages(model: str, body: bytes, *, is_stream: bool) -> tuple[bytes, list[str]]:
    """Return the body as Anthropic's own API has it, and the betas that are a header there."""
    members = _MEMBERS.decode(body)
    betas = msgspec.json.decode(members.get("anthropic_beta", b"[]"))
    kept = {name: value for name, value in members.items() if name not in ("anthropic_version", "anthropic_beta")}
    stream = {"stream": True} if is_stream else {}
    named = [beta for beta in betas if isinstance(beta, str)] if isinstance(betas, list) else []
    return msgspec.json.encode({"model": model, **kept, **stream}), named


def as_invoke(body: bytes, betas: list[str]) -> tuple[bytes, bool]:
    """Return a Messages body as Bedrock has it, with those of the betas that it takes, and whether it asks for a stream."""
    members = _MEMBERS.decode(body)
    is_stream = bytes(members.get("stream", b"")) == b"true"
    taken = [beta for beta in dict.fromkeys(betas) if beta in BETAS]
    kept = {name: value for name, value in members.items() if name not in LEFT_OUT}
    return msgspec.json.encode({"anthropic_version": VERSION, **({"anthropic_beta": taken} if taken else {}), **kept}), is_stream
