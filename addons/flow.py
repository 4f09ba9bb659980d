"""Where mitmproxy and the core meet: a flow's call, the decorators every hook wears, the refusal, the services.

mitmproxy fails open: a hook that raises is logged and the request goes upstream. So nothing here trusts a hook to
finish: ``@enforcing`` turns an exception into a 503, and the failsafe (runtime/failsafe.py) passes only what is ``cleared``.
"""

from __future__ import annotations

import atexit
import functools
import inspect
import logging
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from mitmproxy import ctx, exceptions, http
from mitmproxy.addonmanager import Loader
from mitmproxy.connection import Client, ConnectionState
from mitmproxy.net.http import http1

from sluicegate import paths
from sluicegate.calls import estimate
from sluicegate.calls.call import Call
from sluicegate.calls.refusal import render
from sluicegate.policy.loader import PolicyError
from sluicegate.policy.model import Policy, VirtualKey
from sluicegate.providers import PROVIDERS
from sluicegate.services import Services
from sluicegate.storage.errors import StoreError
from sluicegate.storage.state_folder import StateError
from sluicegate.values import Deny, Outcome, Reason, RequestFacts, Usage

logger = logging.getLogger("sluicegate")


CREDENTIAL_HEADERS = ("x-bf-vk", "authorization", "x-api-key", "x-goog-api-key", "proxy-authorization")
"""Headers in which a key may stand, in the order in which they are believed."""


@dataclass(slots=True)
class ClientConnection:
    """What is known of one client connection, from its CONNECT on."""

    target: tuple[str, int] | None = None
    """Host and port of its CONNECT; None while it talks to us or names a target per request."""
    provider: str | None = None
    """The provider that governs the target."""
    key: VirtualKey | None = None
    """The virtual key its proxy credential named."""
    is_tunnel: bool = False
    """Passed through undecrypted."""
    approved: set[tuple[str, int]] = field(default_factory=set)
    """Targets outside the providers that egress has approved for this connection."""
    web_address: tuple[str, int] | None = None
    """The application's own server, once an administrative request of this connection has been sent there."""


_connections: WeakKeyDictionary[Client, ClientConnection] = WeakKeyDictionary()
_services: Services | None = None


def declare_options(loader: Loader) -> None:
    """Declare the options every addon of the chain may read; declaring them again changes nothing."""
    loader.add_option(
        "policy",
        str,
        "",
        "Policy: a YAML file, or a folder of them. Env SLUICEGATE_POLICY; default policies/quickstart.yaml.",
    )
    loader.add_option(
        "state_dir",
        str,
        "",
        "Folder for ledger, records and admin token. Env SLUICEGATE_STATE; default ~/.sluicegate.",
    )


class Addon:
    """What every addon of the chain shares: the options it may read, declared by each so that each works alone."""

    def load(self, loader: Loader) -> None:
        """mitmproxy: declare options."""
        declare_options(loader)

    def running(self) -> None:
        """mitmproxy: the proxy is up; open the services now, so that a bad policy is known before the first call."""
        services()


def services() -> Services:
    """The gateway's services, opened by whoever asks first. Raises OptionsError when they cannot be."""
    global _services
    if _services is None:
        try:
            _services = Services(
                paths.policy_path(ctx.options.policy, os.environ), paths.state_dir(ctx.options.state_dir, os.environ), os.environ
            )
        except (PolicyError, StateError, StoreError, OSError, ValueError) as e:
            raise exceptions.OptionsError(str(e)) from e
        # The agent's shell may be a child of whoever started us; a token it could read would not be a secret.
        os.environ.pop("SLUICEGATE_ADMIN_TOKEN", None)
        _services.start()
        atexit.register(_services.close)
    return _services


def printable(text: str) -> str:
    """Text off the wire as it can be written down: bytes that are no text, and what would move a cursor, are escaped."""
    return text if text.isascii() and text.isprintable() else ascii(text)[1:-1]


def new_call(flow: http.HTTPFlow, provider: str) -> Call:
    """Make the call this flow is from now on, judged by the policy of this moment."""
    shared = services()
    now = shared.clock()
    adapter = PROVIDERS[provider]
    request = flow.request
    call = Call(
        id=f"call_{now:012x}{secrets.token_hex(8)}",
        started_at=now,
        provider=provider,
        kind=adapter.classify(request.method, request.path),
        method=request.method,
        path=printable(request.path.partition("?")[0][:512]),
        policy=shared.policy,
    )
    # An attribute of this very object: a copied or replayed flow is made from its state and begins without a call.
    flow.sluicegate_call = call  # type: ignore[attr-defined]
    return call


def call_of(flow: http.HTTPFlow) -> Call | None:
    """The flow's call; None for a flow that is none, such as administration."""
    return getattr(flow, "sluicegate_call", None)


def remember_form() -> None:
    """Let requests remember whether they named their target themselves.

    mitmproxy erases the difference between ``GET /x`` and ``GET http://host/x`` before any hook runs, and a request
    for us would look like one for whatever its Host header claims. Raises RuntimeError if its parser is not where it was.
    """
    stock = getattr(http1, "read_request_head", None)
    if stock is None:
        raise RuntimeError("this version of mitmproxy parses requests elsewhere; the gateway cannot tell whom they are for")
    if getattr(stock, "remembers_form", False):
        return

    def read_request_head(lines: list[bytes]) -> http.Request:
        request: http.Request = stock(lines)
        request.origin_form = not request.authority and not request.data.host  # type: ignore[attr-defined]
        return request

    read_request_head.remembers_form = True  # type: ignore[attr-defined]
    http1.read_request_head = read_request_head


def origin_form(request: http.Request) -> bool:
    """Whether the request is addressed to our own listener rather than to a target it names."""
    return getattr(request, "origin_form", False)


def connection_of(client: Client) -> ClientConnection:
    """What is known of a client connection."""
    found = _connections.get(client)
    if found is None:
        found = _connections[client] = ClientConnection()
    return found


def ensure_call(flow: http.HTTPFlow) -> Call | None:
    """The flow's call, made now if its host is a provider's and no identity stands before us in the chain."""
    call = call_of(flow)
    if call is None and flow.metadata.get("sluicegate") is None:
        provider = services().policy.provider_of_host(flow.request.host, flow.request.port)
        if provider is not None:
            call = new_call(flow, provider.name)
    return call


def facts_of(flow: http.HTTPFlow, call: Call) -> RequestFacts | None:
    """What governance needs of the body, read once; denies the flow and returns None where the body is no model call."""
    if call.facts is None:
        encoding = flow.request.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            deny(flow, Deny(Reason.UNSUPPORTED, f"Request bodies in content-encoding {encoding[:40]} are not supported"))
            return None
        read = PROVIDERS[call.provider].read_request(flow.request.raw_content or b"", flow.request.path)
        if isinstance(read, str):
            deny(flow, Deny(Reason.INVALID_REQUEST, f"Invalid request: {read}"))
            return None
        call.facts = read
    return call.facts


def model_call(flow: http.HTTPFlow) -> tuple[Call, RequestFacts, Policy] | None:
    """What a limit is judged on: the call, its body's facts and its policy. None where there is nothing to limit."""
    call = ensure_call(flow)
    if call is None or call.kind != "messages" or not isinstance(call.policy, Policy):
        return None
    facts = facts_of(flow, call)
    return None if facts is None else (call, facts, call.policy)


def expected_of(call: Call, facts: RequestFacts) -> Usage:
    """What this call will probably use, estimated once from its size and what its model's calls have taught."""
    if call.expected_usage is None:
        call.expected_usage = estimate.expected_usage(facts, services().writer.learned.get(facts.model))
    return call.expected_usage


def was_sent_upstream(flow: http.HTTPFlow) -> bool:
    """Whether the request has been put on a connection to the provider: from then on it may cost money."""
    call = call_of(flow)
    if call is None or call.deny is not None:
        return False
    server = flow.server_conn
    up = server.timestamp_tls_setup if flow.request.scheme == "https" else server.timestamp_tcp_setup
    return up is not None


def outcome_of(flow: http.HTTPFlow) -> Outcome:
    """How the flow ended, seen from its ``response`` or ``error`` hook."""
    call = call_of(flow)
    if call is not None and call.deny is not None:
        return Outcome.DENIED
    if call is not None and call.outcome is not None:
        return call.outcome
    if flow.error is not None:
        gone = not flow.client_conn.state & ConnectionState.CAN_READ
        return Outcome.CANCELLED if gone else Outcome.FAILED
    if flow.response is None or flow.response.status_code >= 400 or (call is not None and call.upstream_error):
        return Outcome.FAILED
    return Outcome.COMPLETED


def deny(flow: http.HTTPFlow, verdict: Deny) -> None:
    """Refuse the flow with the provider's own envelope; the first refusal stands."""
    call = call_of(flow)
    if call is not None:
        if call.deny is not None:
            return
        call.deny = verdict
    provider, client = (call.provider, call.client) if call else ("anthropic", "other")
    status, headers, body = render(verdict, provider, client)
    flow.response = http.Response.make(status, body, dict(headers))


def limit_body(flow: http.HTTPFlow, max_bytes: int, refuse: Callable[[http.HTTPFlow], None]) -> None:
    """Keep at most ``max_bytes`` of the body that is about to come; ``refuse`` answers the flow if there are more."""
    flow.sluicegate_body_limit = (max_bytes, refuse)  # type: ignore[attr-defined]


def decided(flow: http.HTTPFlow) -> bool:
    """Whether somebody has already answered, failed or dropped this flow."""
    return flow.response is not None or flow.error is not None or not flow.live


def enforcing(hook: Callable[..., Any]) -> Callable[..., Any]:
    """For hooks that may refuse: skipped once a flow is decided; an exception becomes a 503, never a free pass."""

    def failed(flow: http.HTTPFlow) -> None:
        logger.exception("%s failed; the call is refused", hook.__qualname__)
        deny(flow, Deny(Reason.GATEWAY_ERROR, f"The gateway could not judge this call ({hook.__qualname__}); try again"))

    if inspect.iscoroutinefunction(hook):

        @functools.wraps(hook)
        async def wrapped_async(self: object, flow: http.HTTPFlow) -> None:
            if decided(flow):
                return
            try:
                await hook(self, flow)
            except Exception:
                failed(flow)

        wrapped_async.enforcing = True  # type: ignore[attr-defined]
        return wrapped_async

    @functools.wraps(hook)
    def wrapped(self: object, flow: http.HTTPFlow) -> None:
        if decided(flow):
            return
        try:
            hook(self, flow)
        except Exception:
            failed(flow)

    wrapped.enforcing = True  # type: ignore[attr-defined]
    return wrapped


def observing(hook: Callable[..., Any]) -> Callable[..., Any]:
    """For hooks that only watch or book: an exception is logged and never disturbs the flow."""

    @functools.wraps(hook)
    def wrapped(self: object, flow: http.HTTPFlow) -> None:
        try:
            hook(self, flow)
        except Exception:
            logger.exception("%s failed", hook.__qualname__)

    wrapped.observing = True  # type: ignore[attr-defined]
    return wrapped


remember_form()
