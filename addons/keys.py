"""Keys: the provider's key goes on where every check has passed, and comes off again once the bytes have left.

It is written only if the request is about to go exactly where the provider's ``base_url`` says.
"""

from __future__ import annotations

from mitmproxy import http

from flow import Addon, call_of, deny, enforcing, observing, services
from sluicegate.calls.call import Call
from sluicegate.policy.model import Policy, Provider, ProviderKey
from sluicegate.providers import PROVIDERS
from sluicegate.values import Deny, Reason

SIMULATED = ProviderKey("simulated", "simulated", 1.0, "simulator")

Fields = tuple[tuple[bytes, bytes], ...]

PLACES = frozenset((b"x-api-key", b"authorization", b"x-goog-api-key"))
"""Headers that carry a provider's key."""


class Keys(Addon):
    """Swaps credentials: identity has removed the virtual key, this writes the provider key."""

    @enforcing
    def request(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: all checks have passed; arm the request, and only then clear it for the last gate."""
        call = call_of(flow)
        if call is None or not isinstance(call.policy, Policy):
            return
        provider = call.policy.providers[call.provider]
        going = (flow.request.scheme, flow.request.host, flow.request.port)
        if not call.identified or going != services().target(provider)[:3]:
            deny(
                flow,
                Deny(Reason.GATEWAY_ERROR, "The gateway lost track of where this call was going; nothing was sent"),
            )
            return
        chosen = SIMULATED if provider.simulate else services().keyring.choose(provider, whose(call), call.started_at)
        if chosen is None:
            deny(flow, Deny(Reason.PROVIDER_UNAVAILABLE, unavailable(provider)))
            if flow.response is not None and call.path.startswith("/api/"):
                # Claude Code asks for settings before it makes its call: it waits on a 503 and goes on at a 404.
                flow.response.status_code, flow.response.reason = 404, "Not Found"
            return
        given = PROVIDERS[call.provider].auth_headers(chosen.value or "")
        fields = without_key(flow.request.headers)
        flow.request.headers.fields = (
            *fields,
            *length_of(fields, flow.request.raw_content or b""),
            *((name.encode(), value.encode()) for name, value in given),
        )
        call.provider_key = chosen
        call.cleared = True

    @observing
    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: the answer begins, so the request's bytes have left; nothing later may see the key."""
        self.disarm(flow)
        call = call_of(flow)
        # What a key may not do beside the models (administration, an account's settings) says nothing of the key.
        if call is None or call.kind == "other" or call.provider_key is None or flow.response is None:
            return
        if isinstance(call.policy, Policy):
            shared = services()
            provider = call.policy.providers[call.provider]
            shared.keyring.note_response(provider, call.provider_key, whose(call), flow.response.status_code, shared.clock())

    @observing
    def error(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: the call broke off."""
        self.disarm(flow)

    def disarm(self, flow: http.HTTPFlow) -> None:
        """Delete every place a provider key can stand in."""
        if call_of(flow) is not None:
            flow.request.headers.fields = without_key(flow.request.headers)


def whose(call: Call) -> str:
    """The virtual key a call is made with."""
    return call.principal.virtual_key_id if call.principal else ""


def length_of(fields: Fields, body: bytes) -> Fields:
    """The header that says how long a body is, for a request that came without.

    HTTP/2 needs none, but a provider that speaks HTTP/1.1 would take such a body for the next request, which nobody
    has judged.
    """
    if not body or any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in fields):
        return ()
    return ((b"content-length", b"%d" % len(body)),)


def without_key(headers: http.Headers) -> Fields:
    """Header fields without those a provider key can stand in."""
    return tuple(f for f in headers.fields if f[0].lower() not in PLACES)


def unavailable(provider: Provider) -> str:
    """Why no key of the provider can be used, naming where each should have come from, never a value."""
    if not provider.keys:
        return f"Provider '{provider.name}' has no key: add one under providers.{provider.name}.keys in the policy"
    where = ", ".join(f"{k.name} ({k.source})" for k in provider.keys)
    return f"Provider '{provider.name}' has no usable key: {where} is not set on the gateway's machine"


addons = [Keys()]
