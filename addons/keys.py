"""Keys: the provider's key is added to a request that has passed every check, and removed once its bytes have left.

It is added only if the request is about to go exactly where the provider's ``base_url`` says.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable

from mitmproxy import http

from flow import Addon, call_of, deny, enforcing, is_decided, observing, services
from sluicegate.calls.call import Call
from sluicegate.calls.claude_code.standing import standing_of
from sluicegate.calls.client_login import ClientLogin
from sluicegate.calls.keyring import no_usable_key
from sluicegate.policy.provider import Provider
from sluicegate.providers.account_headers import without_account_headers
from sluicegate.providers.signing.account import Account, CannotSignError, OutgoingRequest
from sluicegate.values import Deny, Reason

HeaderFields = tuple[tuple[bytes, bytes], ...]

PROVIDER_KEY_HEADERS = frozenset(
    (
        *(b"x-api-key", b"authorization", b"api-key", b"x-goog-api-key"),
        *(b"x-amz-security-token", b"x-amz-date", b"x-amz-content-sha256"),
    )
)
"""Headers that may carry a provider's key, or belong to the signature of an account."""

LENGTH_HEADERS = frozenset((b"content-length", b"transfer-encoding"))
"""Headers that say where a body ends."""

NOTHING_SENT: tuple[HeaderFields | None, HeaderFields] = (None, ())
"""What is known of a request's headers before they have the key: as they are sent, and without it."""


class Keys(Addon):
    """Adds the provider key in place of the virtual key that identity removed."""

    @enforcing
    def request(self, flow: http.HTTPFlow) -> Awaitable[None] | None:
        """Add the key once all checks have passed, and only then clear the call for the failsafe."""
        call = call_of(flow)
        if call is None or call.policy is None or call.cleared:
            # The relay adds the key where it sends the call.
            return None
        provider = call.policy.providers[call.provider]
        destination = (flow.request.scheme, flow.request.host, flow.request.port)
        is_sendable = call.kind != "unsupported" and (call.kind != "login" or call.login is not None)
        if not call.identified or not is_sendable or destination != services().target(provider)[:3]:
            deny(flow, Deny(Reason.GATEWAY_ERROR, "The gateway lost track of where this call was going; nothing was sent"))
            return None
        if call.kind == "keyless":
            # Its clients send it without a credential, so it leaves with none, and whoever asks gets no use of ours.
            self.clear(flow, call, ())
            return None
        if call.login is not None:
            self.pass_login(flow, call, call.login, provider)
            return None
        names = call.plan.targets[0].key_names if call.plan is not None else None
        key = services().keyring.choose(provider, caller_of(call), call.started_at, names)
        if key is None:
            deny(flow, Deny(Reason.PROVIDER_UNAVAILABLE, no_usable_key(provider)))
            if flow.response is not None and call.path.startswith("/api/"):
                # Claude Code fetches settings before its first call: it waits on a 503 and goes on after a 404.
                flow.response.status_code, flow.response.reason = 404, "Not Found"
            return None
        call.provider_key = key
        if key.account is None:
            self.clear(flow, call, provider.credentials(key))
            return None
        return self.sign(flow, call, key.account)

    async def sign(self, flow: http.HTTPFlow, call: Call, account: Account) -> None:
        """Clear a call with what its account vouches for it by; refuse it where the account has no credentials."""
        request = flow.request
        outgoing = OutgoingRequest(request.method, request.url, request.raw_content or b"")
        try:
            credentials = await account.headers(outgoing)
        except CannotSignError as e:
            deny(flow, Deny(Reason.PROVIDER_UNAVAILABLE, f"Provider '{call.provider}' cannot be called: {e}"))
            return
        if not is_decided(flow):
            self.clear(flow, call, credentials)

    def pass_login(self, flow: http.HTTPFlow, call: Call, login: ClientLogin, provider: Provider) -> None:
        """Let the call leave with its client's own login, which it has brought, as its only credential."""
        if not provider.is_home_of_logins or provider.name != call.envelope:
            deny(flow, Deny(Reason.GATEWAY_ERROR, "The gateway lost track of where this login was going; nothing was sent"))
            return
        self.clear(flow, call, (("authorization", login.take().decode("ascii")),))

    def clear(self, flow: http.HTTPFlow, call: Call, credentials: Iterable[tuple[str, str]]) -> None:
        """Make these the request's only credentials, and let it leave."""
        fields = flow.request.headers.fields
        names = [name.lower() for name, _ in fields]
        if not PROVIDER_KEY_HEADERS.isdisjoint(names):
            fields = without_provider_key(fields)
        if flow.request.raw_content and LENGTH_HEADERS.isdisjoint(names):
            fields = (*fields, content_length(flow.request.raw_content))
        added = [(name.encode(), value.encode()) for name, value in credentials]
        sent = flow.request.headers.fields = (*fields, *added)
        flow.sluicegate_sent = sent, (*fields, *without_provider_key(added))  # type: ignore[attr-defined]
        call.cleared = True

    @observing
    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """Remove the key as the answer begins: the request's bytes have left, and nothing later may see it.

        What the answer says about the account of that key is removed too, and Claude Code gets its caller's own standing in place
        of that; of a client's own login, it is the client's to read.
        """
        self.remove_key(flow)
        call = call_of(flow)
        # A refusal is our own answer, and tells of the caller's budget.
        is_ours = call is not None and (call.deny is not None or call.late_refusal is not None)
        if call is not None and call.login is None and not is_ours and flow.response is not None:
            fields = without_account_headers(flow.response.headers.fields)
            flow.response.headers.fields = fields if flow.response.status_code >= 300 else fields + standing_of(call)
        if call is not None and call.attempts is not None:
            # Noted where each attempt was answered.
            return
        # A key may be rejected for more than models (administration, account settings); that says nothing about the key.
        if call is None or call.kind not in ("messages", "count_tokens") or call.provider_key is None or flow.response is None:
            return
        if call.policy is not None:
            shared = services()
            provider = call.policy.providers[call.provider]
            shared.keyring.note_response(provider, call.provider_key, caller_of(call), flow.response.status_code, shared.clock())

    @observing
    def error(self, flow: http.HTTPFlow) -> None:
        """Remove the key from a call that broke off."""
        self.remove_key(flow)

    def remove_key(self, flow: http.HTTPFlow) -> None:
        """Delete every header that may carry a provider key."""
        if call_of(flow) is None:
            return
        headers = flow.request.headers
        sent, without_key = getattr(flow, "sluicegate_sent", NOTHING_SENT)
        headers.fields = without_key if headers.fields is sent else without_provider_key(headers.fields)
        flow.sluicegate_sent = NOTHING_SENT  # type: ignore[attr-defined]


def caller_of(call: Call) -> str:
    """Return the id of the virtual key a call is made with; empty if there is none."""
    return call.principal.virtual_key_id if call.principal else ""


def content_length(body: bytes) -> tuple[bytes, bytes]:
    """Return the header that states a body's length, for a request that came without it.

    HTTP/2 needs none, but a provider that speaks HTTP/1.1 would take such a body for the next request, and that one
    would go unjudged.
    """
    return b"content-length", b"%d" % len(body)


def without_provider_key(fields: Iterable[tuple[bytes, bytes]]) -> HeaderFields:
    """Return the header fields without those that may carry a provider key."""
    return tuple([f for f in fields if f[0].lower() not in PROVIDER_KEY_HEADERS])


addons = [Keys()]
