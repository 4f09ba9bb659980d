"""A request as a target wants it: the client's own bytes where it speaks the target's API, else what they are translated to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote

import msgspec

from sluicegate.calls.plan import Target
from sluicegate.policy.provider import Provider, ProviderKey
from sluicegate.providers.base import ProtocolName
from sluicegate.providers.bedrock.models import with_model
from sluicegate.providers.signing.account import OutgoingRequest
from sluicegate.sending.answer_facts import Headers
from sluicegate.translation.dialect_paths import dialect_of_count, dialect_of_path
from sluicegate.translation.requests.foreign_thoughts import without_foreign_thoughts

CONSUMED_FIELDS: dict[str, tuple[str, ...]] = {"openai": ("fallbacks",)}
"""Top-level fields of a body that are for the gateway, by its client's protocol. Anthropic's ``fallbacks`` is its own."""

NOT_SENT = frozenset((b"host", b"content-length", b"transfer-encoding", b"connection", b"accept-encoding", b"expect"))
"""Headers of the client's that are about its own connection, or that are written anew."""

_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])


@dataclass(frozen=True, slots=True)
class ClientRequest:
    """A model call as its client has sent it, judged, without credentials and without the path of a base URL."""

    method: str
    path: str
    headers: Headers
    body: bytes


@dataclass(frozen=True, slots=True)
class PreparedRequest:
    """A request ready to be sent: where, and its bytes."""

    server: tuple[str, str, int]
    target: bytes
    headers: Headers
    body: bytes

    @property
    def url(self) -> str:
        """Return where it goes, as a URL."""
        scheme, host, port = self.server
        return f"{scheme}://{hostport(scheme, host, port)}{self.target.decode('latin-1')}"


def prepare(
    request: ClientRequest,
    spoken: ProtocolName,
    asked_model: str,
    target: Target,
    provider: Provider,
    server: tuple[str, str, int, str],
) -> PreparedRequest:
    """Return a client's request for a target that speaks the same API. ``server`` is scheme, host, port and path prefix.

    The body's bytes stay the client's but for a model that another one stands in for, and for what is the gateway's own.
    """
    path, body = in_place(spoken, request.path, request.body, asked_model, target.model)
    return addressed(server, provider.outer_path(path), sent_headers(request.headers), body)


def sent_headers(headers: Headers) -> Headers:
    """Return those of a client's headers that go to the provider."""
    return [(n, v) for n, v in headers if n.lower() not in NOT_SENT]


def addressed(server: tuple[str, str, int, str], path: str, headers: Headers, body: bytes) -> PreparedRequest:
    """Return a request with these headers for a server: scheme, host, port and path prefix."""
    scheme, host, port, prefix = server
    own = (b"host", hostport(scheme, host, port).encode())
    framing = ((b"accept-encoding", b"identity"), (b"content-length", b"%d" % len(body)))
    whole = (prefix + path).encode("utf-8", "surrogateescape")
    return PreparedRequest((scheme, host, port), whole, [own, *headers, *framing], body)


def hostport(scheme: str, host: str, port: int) -> str:
    """Return host and port as the Host header has them."""
    authority = f"[{host}]" if ":" in host else host
    return authority if port == (443 if scheme == "https" else 80) else f"{authority}:{port}"


def in_place(spoken: ProtocolName, path: str, body: bytes, asked_model: str, model: str) -> tuple[str, bytes]:
    """Return path and body with the model that is to answer, without what is the gateway's own or what other providers thought.

    ``spoken`` is the protocol that the client speaks.
    """
    dialect = dialect_of_path(path)
    if dialect is not None:
        body = without_foreign_thoughts(body, dialect)
    if spoken == "bedrock":
        return path if model == asked_model else with_model(path, model), body
    if spoken in ("gemini", "vertex") and dialect_of_count(path) != "messages":
        return with_model_in_path(path, asked_model, model), body
    path = path.replace(f"/deployments/{asked_model}/", f"/deployments/{quote(model, safe='')}/", 1)
    return path, rewritten(body, model if model != asked_model else None, CONSUMED_FIELDS.get(spoken, ()))


async def with_key(method: str, request: PreparedRequest, provider: Provider, key: ProviderKey) -> Headers:
    """Return a request's headers with those that a provider key adds, in the provider's way. Raises CannotSignError."""
    added = await provider.authorization(key, OutgoingRequest(method, request.url, request.body))
    return [*request.headers, *((n.encode(), v.encode()) for n, v in added)]


def rewritten(body: bytes, model: str | None, removed: Iterable[str] = ()) -> bytes:
    """Return a JSON body with another model, and without some top-level fields; every other value keeps its bytes and its place."""
    if model is None and not any(b'"%s"' % name.encode() in body for name in removed):
        return body
    members = _MEMBERS.decode(body)
    changed = {name: value for name, value in members.items() if name not in removed}
    if model is not None:
        changed["model"] = msgspec.Raw(msgspec.json.encode(model))
    return body if changed == members else msgspec.json.encode(changed)


def with_model_in_path(path: str, model: str, other: str) -> str:
    """Return a path of Gemini's with another model in it."""
    if model == other:
        return path
    head, _, rest = path.partition("/models/")
    _, colon, method = rest.partition(":")
    return f"{head}/models/{quote(other, safe='@')}{colon}{method}"
