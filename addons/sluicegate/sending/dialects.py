"""Which dialect a client speaks and which one its target does, and what stands between the two."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from sluicegate.calls.call import Call
from sluicegate.calls.plan import Target
from sluicegate.policy.model import Policy
from sluicegate.policy.provider import Provider
from sluicegate.providers.base import ProtocolName
from sluicegate.sending.answer_facts import Headers
from sluicegate.sending.forms import OF_CLOUDS, protocol_of
from sluicegate.sending.framed import Answers, Framed, SameDialect
from sluicegate.sending.prepared import ClientRequest
from sluicegate.translation import AnswerTranslator, Dialect, Failed, TranslatedRequest, Untranslatable, translate_request
from sluicegate.translation.dialect_paths import dialect_of_count, dialect_of_path
from sluicegate.translation.requests.responses_writer import MIN_OUTPUT_TOKENS
from sluicegate.values import RequestFacts

_KEPT = (b"user-agent", b"accept", b"accept-language")
"""Headers of the client's that mean the same to every provider. All others belong to the API it speaks."""


def dialect_of_provider(provider: Provider, spoken: Dialect | None, model: str = "") -> Dialect:
    """Return the dialect in which a provider is asked for a model by clients that speak ``spoken``: the same if it has that."""
    protocol = protocol_of(provider, model)
    if protocol in ("anthropic", "bedrock"):
        return "messages"
    if protocol == "gemini":
        return "generate_content"
    return next((api for api in provider.apis if api == spoken), provider.apis[0])


def facts_at(facts: RequestFacts, target: Target, *, is_translated: bool) -> RequestFacts:
    """Return what a client's call asks of a target: its model and, where the call is translated, limits that its API can have."""
    found = facts._replace(model=target.model)
    if not is_translated:
        return found
    most = found.extent.output_tokens
    return found._replace(
        max_tokens=None if found.max_tokens is None else max(found.max_tokens, MIN_OUTPUT_TOKENS),
        extent=found.extent._replace(output_tokens=None if most is None else max(most, MIN_OUTPUT_TOKENS)),
    )


def turn_to(target: Target, call: Call, facts: RequestFacts, policy: Policy) -> RequestFacts:
    """Have a call judged by this target from here on, and return what it asks of it; ``facts`` are those of its client's body."""
    is_translated = policy.providers[target.provider].protocol != call.protocol
    call.provider, call.facts = target.provider, facts_at(facts, target, is_translated=is_translated)
    return call.facts


@dataclass(frozen=True, slots=True)
class Translation:
    """A call between two dialects, or two forms of one: the request in the target's, and what translates the answer to it."""

    request: TranslatedRequest | None
    """None where only the answer's envelope differs."""
    answers: Answers
    is_streamed: bool
    """Whether the client wants its answer as a stream."""

    def headers(self, sent: Headers) -> Headers:
        """Return the headers of the request, of which few are the client's."""
        kept = [(n, v) for n, v in sent if n.lower() in _KEPT]
        return [*kept, *((n.encode(), v.encode()) for n, v in (self.request.headers if self.request else ()))]

    def head(self, headers: Headers) -> Headers:
        """Return the headers of the client's answer, of which few are the provider's."""
        kept = [(n.lower(), v) for n, v in headers if n.lower() in (b"retry-after", b"date")]
        return [*kept, (b"content-type", self.answers.content_type.encode())]

    def whole(self, status: int, body: bytes) -> tuple[int, bytes]:
        """Return status and body of an answer that is not streamed."""
        answer = self.answers.whole(body)
        ending = self.answers.ending
        return (ending.status if isinstance(ending, Failed) else status), answer

    def pieces(self, chunk: bytes | None) -> Iterator[bytes]:
        """Yield what the client gets for a chunk; None stands for the end."""
        piece = self.answers.end() if chunk is None else self.answers.feed(chunk)
        if piece:
            yield piece


def path_elsewhere(path: str) -> str:
    """Return a path as other providers of its protocol have it: that of Azure's older API has the deployment in it."""
    bare = path.partition("?")[0]
    return re.sub(r"^/deployments/[^/]+/", "/v1/", bare) if bare.startswith("/deployments/") else path


def speaks_alike(request: ClientRequest, protocol: ProtocolName, provider: Provider, model: str = "") -> bool:
    """Return whether a provider takes a plain call as a client of a protocol has made it, but for the model."""
    spoken = dialect_of_path(request.path)
    return protocol_of(provider, model) == protocol and (spoken is None or dialect_of_provider(provider, spoken, model) == spoken)


def keeps_form(path: str, call: Call, provider: Provider, model: str) -> bool:
    """Return whether a client's own bytes are what a provider wants for a model: the same dialect in the same form."""
    if provider.protocol in OF_CLOUDS or call.protocol in OF_CLOUDS:
        spoken = dialect_of_path(path) or dialect_of_count(path)
        return provider.protocol == call.protocol and spoken == dialect_of_provider(provider, spoken, model)
    return provider.name == call.envelope or speaks_alike(ClientRequest("POST", path, [], b""), call.protocol, provider, model)


def translation_of(request: ClientRequest, provider: Provider, target: Target, answer_id: str, now: int) -> Translation:
    """Return what stands between a client and a target that speaks another dialect. Raises Untranslatable."""
    spoken = dialect_of_path(request.path)
    if spoken is None:
        raise Untranslatable(f"{request.path.partition('?')[0]} cannot be answered by {target.provider}, which has no such request")
    wanted = dialect_of_provider(provider, spoken, target.model)
    translated = translate_request(request.body, request.path, spoken, wanted, target.model)
    answers = AnswerTranslator(spoken, wanted, translated.context, answer_id=answer_id, created_s=now // 1000)
    return Translation(translated, answers, bool(translated.context.stream))


def framed(between: Translation | None, call: Call, provider: Provider) -> Translation | None:
    """Return what stands between a client and a target, one of which has its streams in Bedrock's frames.

    ``between`` is None where they speak the same dialect; it is returned as it is where neither has frames.
    """
    reads, writes = provider.protocol == "bedrock", call.protocol == "bedrock"
    if not reads and not writes:
        return between
    is_streamed = between.is_streamed if between is not None else bool(call.facts and call.facts.stream)
    inner: Answers = between.answers if between is not None else SameDialect(is_streamed=is_streamed)
    request = between.request if between is not None else None
    return Translation(request, Framed(inner, reads=reads, writes=writes), is_streamed)
