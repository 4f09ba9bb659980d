"""A client's call as the request that a target wants: the client's own bytes, its dialect in another form, or a translation."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sluicegate.calls.call import Call
from sluicegate.calls.plan import Target
from sluicegate.policy.provider import Provider
from sluicegate.sending.dialects import Translation, framed, keeps_form, path_elsewhere, speaks_alike, translation_of
from sluicegate.sending.forms import Reworded, formed, plain, plain_protocol, rewording
from sluicegate.sending.prepared import ClientRequest, PreparedRequest, addressed, in_place, prepare, sent_headers


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request for a target, and what its answer goes through on the way to the client."""

    request: PreparedRequest
    translation: Translation | None = None
    """What stands between the two; None where both speak the same API."""
    rewording: Reworded | None = None
    """What words the target's errors where it speaks the client's API in another form."""


def outgoing(
    client: ClientRequest, call: Call, asked: str, target: Target, provider: Provider, server: tuple[str, str, int, str]
) -> Outgoing:
    """Return a client's call for a target; ``asked`` is the model in its own words. Raises Untranslatable."""
    model = target.model
    if provider.name != call.envelope:
        client = replace(client, path=path_elsewhere(client.path))
    if keeps_form(client.path, call, provider, model):
        return Outgoing(prepare(client, call.protocol, asked, target, provider, server))
    words = rewording(client, call.protocol, provider)
    protocol, client = plain_protocol(call.protocol, client.path), plain(client)
    if speaks_alike(client, protocol, provider, model):
        path, body = in_place(protocol, client.path, client.body, asked, model)
        request = addressed(server, *formed(provider, model, path, sent_headers(client.headers), body))
        return Outgoing(request, framed(None, call, provider), words)
    between = translation_of(client, provider, target, call.id, call.started_at)
    headers, written = between.headers(client.headers), between.request
    assert written is not None
    request = addressed(server, *formed(provider, model, written.path, headers, written.body))
    return Outgoing(request, framed(between, call, provider))
