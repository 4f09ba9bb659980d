"""Claude's requests on Vertex AI and on Anthropic's own API: the body of one as the other has it.

On Vertex the path names the model and says whether the answer is a stream, and the body names Vertex's version of the API.
"""

from __future__ import annotations

import re

import msgspec

VERSION = "vertex-2023-10-16"
ANTHROPIC_VERSION = b"2023-06-01"

_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_DATE = re.compile(r"[-@](20\d{6})$")

LEFT_OUT = frozenset(
    {"anthropic_beta", "betas", "billing_policy", "context_management", "diagnostics", "fallback_credit_token", "fallbacks"}
    | {"service_tier", "speed", "user_profile_id", "workspace_id"}
)
"""Fields of Messages that Vertex does not take, and that change nothing in what the call means."""

BETAS = frozenset(
    {
        "claude-code-20250219",
        "context-1m-2025-08-07",
        "effort-2025-11-24",
        "fine-grained-tool-streaming-2025-05-14",
        "interleaved-thinking-2025-05-14",
        "thinking-display-updates-2026-08-18",
        "thinking-token-count-2026-05-13",
        "tool-search-tool-2025-10-19",
        "web-search-2025-03-05",
    }
)
"""Values of ``anthropic-beta`` that Vertex takes: it refuses calls with another one. Those that Claude Code 2.1.332 sends to
it, and from docs.cloud.google.com/vertex-ai/generative-ai/docs/partner-models/claude, 2026-11-27."""


def with_model(model: str, body: bytes) -> bytes:
    """Return the body of a call with the model that its path names in front; every other byte is the client's."""
    rest = body.lstrip(b" \t\r\n")[1:]
    separator = b"" if rest.lstrip(b" \t\r\n").startswith(b"}") else b","
    return b'{"model":' + msgspec.json.encode(model) + separator + rest


def as_messages(model: str, body: bytes) -> bytes:
    """Return the body as Anthropic's own API has it."""
    members = {name: value for name, value in _MEMBERS.decode(body).items() if name not in ("model", "anthropic_version")}
    return msgspec.json.encode({"model": msgspec.Raw(msgspec.json.encode(dashed(model))), **members})


def as_raw_predict(body: bytes) -> tuple[bytes, bool]:
    """Return a Messages body as Vertex has it, and whether it asks for a stream."""
    members = {name: value for name, value in _MEMBERS.decode(body).items() if name not in LEFT_OUT and name != "model"}
    is_stream = bytes(members.get("stream", b"")) == b"true"
    return msgspec.json.encode({"anthropic_version": VERSION, **members}), is_stream


def known_betas(value: bytes) -> bytes:
    """Return those of a header's betas that Vertex takes."""
    return b",".join(beta for beta in (b.strip() for b in value.split(b",")) if beta.decode("latin-1") in BETAS)


def dashed(model: str) -> str:
    """Return a model's name as Anthropic writes it: ``claude-opus-4-5-20251101``."""
    return _DATE.sub(r"-\1", model)


def dated(model: str) -> str:
    """Return a model's name as Vertex writes it: ``claude-opus-4-5@20251101``."""
    return _DATE.sub(r"@\1", model)
