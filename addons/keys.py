"""Keys: the provider's key goes on where every check has passed, and comes off again once the bytes have left.

It is written only if the request is about to go exactly where the provider's ``base_url`` says.
"""

from __future__ import annotations

import random

from mitmproxy import http

from adapter import Addon, call_of, deny, enforcing, observing, services
from sluicegate.call import Deny, Reason
from sluicegate.policy import Policy, Provider, ProviderKey
from sluicegate.providers import PROVIDERS


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
        usable = [k for k in provider.keys if k.value and k.weight > 0]
        if provider.simulate:
            usable = [ProviderKey("simulated", "simulated", 1.0, "simulator")]
        if not usable:
            deny(flow, Deny(Reason.PROVIDER_UNAVAILABLE, unavailable(provider)))
            if flow.response is not None and call.path.startswith("/api/"):
                # Claude Code asks for settings before it makes its call: it waits on a 503 and goes on at a 404.
                flow.response.status_code, flow.response.reason = 404, "Not Found"
            return
        chosen = random.choices(usable, weights=[k.weight for k in usable])[0]  # noqa: S311
        for name, value in PROVIDERS[call.provider].credentials(chosen.value or ""):
            flow.request.headers[name] = value
        call.provider_key = chosen.name
        call.cleared = True

    @observing
    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: the answer begins, so the request's bytes have left; nothing later may see the key."""
        self.disarm(flow)

    @observing
    def error(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: the call broke off."""
        self.disarm(flow)

    def disarm(self, flow: http.HTTPFlow) -> None:
        """Delete every place a provider key can stand in."""
        if call_of(flow) is not None:
            for name in ("x-api-key", "authorization", "x-goog-api-key"):
                flow.request.headers.pop(name, None)


def unavailable(provider: Provider) -> str:
    """Why no key of the provider can be used, naming where each should have come from, never a value."""
    if not provider.keys:
        return f"Provider '{provider.name}' has no key: add one under providers.{provider.name}.keys in the policy"
    where = ", ".join(f"{k.name} ({k.source})" for k in provider.keys)
    return f"Provider '{provider.name}' has no usable key: {where} is not set on the gateway's machine"


addons = [Keys()]
