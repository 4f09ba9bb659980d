"""Forms: a dialect as a provider has it. Vertex AI and Bedrock have the model in the path, and Claude's bodies without it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from urllib.parse import quote

import orjson

from sluicegate.policy.provider import Provider
from sluicegate.providers.answers.sse import SseParser
from sluicegate.providers.base import ProtocolName
from sluicegate.providers.bedrock import request_body as invoke
from sluicegate.providers.bedrock.request import COUNT, counted_in, invoked_in
from sluicegate.providers.vertex.paths import named_in, publisher_of
from sluicegate.providers.vertex.request_body import ANTHROPIC_VERSION, as_messages, as_raw_predict, dated, known_betas
from sluicegate.sending.answer_facts import Headers
from sluicegate.sending.prepared import ClientRequest
from sluicegate.translation import Dialect, Failed, Untranslatable, count_tokens, reworded_error
from sluicegate.translation.dialect_paths import dialect_of_path

_OWN_EVENT = b"event: vertex_event\n"
"""How events of Vertex's own begin among Claude's; some clients of Messages take them for an error."""

_VERSION_HEADER, _BETAS = b"anthropic-version", b"anthropic-beta"

OF_CLOUDS = ("vertex", "bedrock")
"""Protocols that have other providers' dialects in a form of their own."""


def protocol_of(provider: Provider, model: str) -> ProtocolName:
    """Return the API in which a provider takes calls of a model: on Vertex that of its maker, in a form of its own."""
    if provider.protocol != "vertex":
        return "anthropic" if provider.protocol == "bedrock" else provider.protocol
    return "anthropic" if publisher_of(model) == "anthropic" else "gemini"


def plain_protocol(protocol: ProtocolName, path: str) -> ProtocolName:
    """Return the API whose words a client's call has, whatever form it is in."""
    if protocol not in OF_CLOUDS:
        return protocol
    return "anthropic" if dialect_of_path(path) == "messages" else "gemini"


def plain(request: ClientRequest) -> ClientRequest:
    """Return a request in the form of the API's own maker."""
    if (invoked := invoked_in(request.path)) is not None:
        body, betas = invoke.as_messages(invoked.model, request.body, is_stream=invoked.stream)
        joined = ",".join(dict.fromkeys([*_betas_in(request.headers), *betas])).encode()
        return replace(request, path="/v1/messages", headers=_as_anthropic(request.headers, joined), body=body)
    named = named_in(request.path)
    if named is None:
        return request
    if named.publisher == "google":
        _, mark, query = request.path.partition("?")
        return replace(request, path=f"/v1beta/models/{named.model}:{named.method}{mark}{query}")
    headers = _as_anthropic(request.headers)
    return replace(request, path="/v1/messages", headers=headers, body=as_messages(named.model, request.body))


def _as_anthropic(headers: Headers, betas: bytes | None = None) -> Headers:
    """Return headers with the version of Anthropic's own API, and with these betas in place of theirs if any are given."""
    replaced = (_VERSION_HEADER,) if betas is None else (_VERSION_HEADER, _BETAS)
    kept = [(n, v) for n, v in headers if n.lower() not in replaced]
    return [*kept, (_VERSION_HEADER, ANTHROPIC_VERSION), *([(_BETAS, betas)] if betas else [])]


def _betas_in(headers: Headers) -> list[str]:
    """Return the betas that a request names in its header."""
    written = b",".join(v for n, v in headers if n.lower() == _BETAS).decode("latin-1")
    return [beta.strip() for beta in written.split(",") if beta.strip()]


def counted(body: bytes, path: str, dialect: Dialect) -> bytes:
    """Return the answer to a request for a count, in the client's form. Raises Untranslatable."""
    if not path.partition("?")[0].endswith(COUNT):
        return count_tokens(body, path, dialect)
    inner = counted_in(body)
    if isinstance(inner, str):
        raise Untranslatable(inner)
    return orjson.dumps({"inputTokens": orjson.loads(count_tokens(inner, path, dialect))["input_tokens"]})


def formed(provider: Provider, model: str, path: str, headers: Headers, body: bytes) -> tuple[str, Headers, bytes]:
    """Return path, headers and body of a plain request as a provider has them."""
    if provider.protocol == "bedrock":
        body, is_stream = invoke.as_invoke(body, _betas_in(headers))
        method = "invoke-with-response-stream" if is_stream else "invoke"
        kept = [(n, v) for n, v in headers if n.lower() not in (_VERSION_HEADER, _BETAS, b"accept")]
        return provider.outer_path(f"/model/{quote(model, safe=':')}/{method}"), kept, body
    if provider.protocol != "vertex":
        return provider.outer_path(path), headers, body
    if publisher_of(model) == "google":
        head, _, rest = path.partition("/models/")
        version = "v1" if head == "/v1" else "v1beta1"
        return provider.outer_path(f"/{version}/publishers/google/models/{rest}"), headers, body
    body, is_stream = as_raw_predict(body)
    method = "streamRawPredict" if is_stream else "rawPredict"
    path = f"/v1/publishers/anthropic/models/{quote(dated(model), safe='@')}:{method}"
    return provider.outer_path(path), _for_vertex(headers), body


def _for_vertex(headers: Headers) -> Headers:
    """Return headers with those betas alone that Vertex takes."""
    kept = [(n, known_betas(v) if n.lower() == _BETAS else v) for n, v in headers]
    return [(n, v) for n, v in kept if v]


@dataclass(slots=True)
class Reworded:
    """Answers of a provider that speaks the client's dialect, but has its errors in another envelope, and events of its own."""

    dialect: Dialect
    ending: Failed | None = None

    @property
    def answers(self) -> Reworded:
        """Return what words errors."""
        return self

    def error(self, status: int, body: bytes) -> tuple[int, bytes]:
        """Return the client's status and body for a provider's answer with an error status."""
        self.ending, status, written = reworded_error(self.dialect, status, body)
        return status, written

    async def stream(self, chunks: AsyncIterator[bytes], kind: str) -> AsyncIterator[bytes]:
        """Yield an answer of this content type without events of the provider's own."""
        if self.dialect != "messages" or not kind.startswith("text/event-stream"):
            async for chunk in chunks:
                yield chunk
            return
        events = SseParser()
        async for chunk in chunks:
            text = events.complete(chunk)
            if _OWN_EVENT in text:
                text = b"".join(e + b"\n\n" for e in text.split(b"\n\n") if e and not e.startswith(_OWN_EVENT))
            if text:
                yield text
        if rest := events.remainder():
            yield rest

    def head(self, headers: Headers) -> Headers:
        """Return the headers of the client's answer, of which few are the provider's."""
        return [(n.lower(), v) for n, v in headers if n.lower() in (b"retry-after", b"date")]


def rewording(request: ClientRequest, protocol: ProtocolName, provider: Provider) -> Reworded | None:
    """Return what words a provider's errors for a client's call of another protocol; None where the envelope is the same."""
    spoken = dialect_of_path(request.path)
    return (
        Reworded(spoken)
        if spoken is not None and not {protocol, provider.protocol}.isdisjoint(OF_CLOUDS) and provider.protocol != protocol
        else None
    )
