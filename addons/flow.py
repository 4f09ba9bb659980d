"""Where mitmproxy and the core meet: a flow's call and its refusal, the decorators of every hook, options, services.

mitmproxy fails open: it logs a hook that raises and sends the request upstream. So no hook is trusted to finish:
``@enforcing`` turns an exception into a 503, and the failsafe (runtime/failsafe.py) lets only ``cleared`` calls pass.
"""

from __future__ import annotations

import atexit
import functools
import logging
import os
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

from mitmproxy import ctx, exceptions, http
from mitmproxy.addonmanager import Loader
from mitmproxy.connection import Client, ConnectionState

from sluicegate import paths
from sluicegate.calls.call import Call, Settlement, escape_unprintable, new_call_id
from sluicegate.calls.refusal import for_client, refusal_of_body, render
from sluicegate.calls.settlement import settle
from sluicegate.network.egress.connection import ClientConnection, Traffic
from sluicegate.policy.loader import PolicyError
from sluicegate.policy.model import Policy
from sluicegate.providers.base import ProtocolAdapter
from sluicegate.providers.requests.reading import read_at_once, read_in_thread
from sluicegate.services import Services, open_services
from sluicegate.storage.errors import StoreError
from sluicegate.storage.state_folder import StateError
from sluicegate.values import Deny, Outcome, Reason, RequestFacts

logger = logging.getLogger("sluicegate")

_services: Services | None = None

OPTIONS = {
    "policy": "Policy: a YAML file, or a folder of them. Env SLUICEGATE_POLICY; default policies/quickstart.yaml.",
    "state_dir": "Folder for ledger, records and admin token. Env SLUICEGATE_STATE; default ~/.sluicegate.",
}
"""The options that every addon of the chain may read, and what is said of them."""


def declare_options(loader: Loader) -> None:
    """Declare those options; declaring them again changes nothing."""
    for name, text in OPTIONS.items():
        loader.add_option(name, str, "", text)


class Addon:
    """What the addons of the chain share. Each declares the options it reads, so that it works alone.

    An addon that defines ``call_ended`` gets the hooks ``response`` and ``error`` for it.
    """

    marks: ClassVar[dict[str, str]] = {}
    """By hook, the attribute of a flow without which that hook has nothing to do; runtime/dispatch.py then does not call it."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "call_ended" in cls.__dict__:
            # Only where there is something to do: mitmproxy calls every hook that exists, for every flow.
            cls.response = cls.error = observing(cls.call_ended)  # type: ignore[attr-defined]

    def load(self, loader: Loader) -> None:
        """Declare our options."""
        declare_options(loader)

    def running(self) -> None:
        """Open the services before the first call, so that a bad policy is known at the start."""
        services()

    def call_ended(self, flow: http.HTTPFlow) -> Awaitable[None] | None:
        """Finish what an addon does for a flow, however it ended: answered, refused, failed or cancelled.

        What is returned is awaited before the next addon's turn, except for a call that mitmproxy has lost: so it may only
        make better what has been done already.

        mitmproxy ends each flow with exactly one of ``response`` and ``error``; addons are called in the chain's order.
        """


def services() -> Services:
    """Return the gateway's services, opened by the first caller. Raises OptionsError if they cannot be opened."""
    global _services
    if _services is None:
        try:
            _services = open_services(
                paths.policy_path(ctx.options.policy, os.environ), paths.state_dir(ctx.options.state_dir, os.environ), os.environ
            )
            _services.choose_way_out()
        except (PolicyError, StateError, StoreError, OSError, ValueError) as e:
            raise exceptions.OptionsError(str(e)) from e
        # The agent may run in a child of the shell that started the gateway, and could read the token there.
        os.environ.pop("SLUICEGATE_ADMIN_TOKEN", None)
        _services.start()
        atexit.register(_services.close)
    return _services


def new_call(flow: http.HTTPFlow, provider: str, policy: Policy) -> Call:
    """Make the flow's call, judged from here on by this policy."""
    now, request, served = services().clock(), flow.request, policy.providers[provider]
    call = Call(
        id=new_call_id(now),
        started_at=now,
        provider=provider,
        kind=served.kind_of(request.method, request.path),
        protocol=served.protocol,
        method=request.method,
        path=escape_unprintable(request.path.partition("?")[0][:512]),
        by_base_url=origin_form(request) and connection_of(flow.client_conn).target is None,
        client_address=source_of(flow),
        policy=policy,
        node=services().node_name,
    )
    return call_begun(flow, call)


def call_begun(flow: http.HTTPFlow, call: Call) -> Call:
    """Note that this is the flow's call, and return it."""
    # An attribute, not metadata: mitmproxy copies and replays flows by their state, and a copy must begin without a call.
    flow.sluicegate_call = call  # type: ignore[attr-defined]
    return call


def call_of(flow: http.HTTPFlow) -> Call | None:
    """Return the flow's call; None for a flow that is not a call, such as administration."""
    try:
        return flow.sluicegate_call  # type: ignore[attr-defined, no-any-return]
    except AttributeError:
        return None


def count_refusal(flow: http.HTTPFlow, call: Call, reason: Reason) -> None:
    """Count a refused call of an unknown caller by source and minute, not as a record: anyone could fill the disk."""
    shared = services()
    shared.writer.count_refusal(call.started_at, source_of(flow), reason.value)
    shared.metrics.count_refusal(reason.value)
    call.recorded = True
    shared.writer.flush_soon(1.0)


def source_of(flow: http.HTTPFlow) -> str:
    """Return the address that a flow comes from, as far as the proxies that policy trusts say."""
    return getattr(flow.request, "source", None) or (flow.client_conn.peername[0] if flow.client_conn.peername else "?")


def origin_form(request: http.Request) -> bool:
    """Return whether the request is addressed to our own listener, not to a target that it names."""
    return getattr(request, "origin_form", False)


def connection_of(client: Client) -> ClientConnection:
    """Return what is known about a client connection."""
    # An attribute, as of a flow: a copy must begin without it, and a dictionary takes ten times as long to look it up.
    found: ClientConnection | None = getattr(client, "sluicegate_connection", None)
    if found is None:
        found = client.sluicegate_connection = ClientConnection()  # type: ignore[attr-defined]
    return found


def record_connection(client: Client, traffic: Traffic, outcome: str, reason: Reason | None = None) -> None:
    """Record a connection to another host. A stranger's refusal is only counted: anyone could fill the disk."""
    shared, key = services(), connection_of(client).key
    source = connection_of(client).source or (client.peername[0] if client.peername else "?")
    if outcome == "denied" and reason is not None and key is None and not shared.policy.server.trusts(source):
        shared.writer.count_refusal(shared.clock(), source, reason.value)
    else:
        row = traffic.row(shared.clock(), key, source, outcome, reason.value if reason else None)
        shared.writer.record_connection(row)
    shared.writer.flush_soon(0.5)


def ensure_call(flow: http.HTTPFlow) -> Call | None:
    """Return the flow's call, made now if its host is a provider's and the chain runs without identity."""
    call = call_of(flow)
    if call is None and flow.metadata.get("sluicegate") is None:
        policy = services().policy
        provider = policy.provider_of_host(flow.request.host, flow.request.port)
        if provider is not None:
            call = new_call(flow, provider.name, policy)
    return call


Judge = Callable[[http.HTTPFlow, Call, RequestFacts], Awaitable[None] | None]


def when_read(flow: http.HTTPFlow, call: Call, then: Judge) -> Awaitable[None] | None:
    """Have a call judged by what governance needs from its body, read once; refuse one whose body is not a model call.

    It waits only where a large body has not been read yet, so it does not come between a check and its reservation.
    """
    facts = call.facts
    if facts is None:
        body = body_of(flow, call)
        read = read_at_once(*body, connection_of(flow.client_conn).earlier_body)
        if read is None:
            return _when_read_in_thread(flow, call, then, read_in_thread(*body))
        facts = note_facts(flow, call, read)
    return None if facts is None else then(flow, call, facts)


async def _when_read_in_thread(flow: http.HTTPFlow, call: Call, then: Judge, reading: Awaitable[RequestFacts | str]) -> None:
    facts = note_facts(flow, call, await reading)
    if facts is not None and (rest := then(flow, call, facts)) is not None:
        await rest


def body_of(flow: http.HTTPFlow, call: Call) -> tuple[ProtocolAdapter, bytes, str, int]:
    """Return how a call's body is read, the body, its path in the protocol's own form, and how many objects it may hold."""
    policy = call.policy or services().policy
    served = policy.providers[call.provider]
    path = flow.request.path if served.ids is None else served.ids.inner_path(flow.request.path)
    return served.adapter, flow.request.raw_content or b"", path, policy.server.max_objects


def note_facts(flow: http.HTTPFlow, call: Call, read: RequestFacts | str) -> RequestFacts | None:
    """Note what was read of a call's body, and return it; refuse a body that is not a model call and return None."""
    refusal = refusal_of_body(read, services().credentials(services().policy).shows_secret)
    if refusal is not None:
        if not isinstance(read, str):
            flow.request.raw_content = b""
        deny(flow, refusal)
    call.facts = None if refusal is not None or isinstance(read, str) else read
    return call.facts


def was_sent_upstream(flow: http.HTTPFlow) -> bool:
    """Return whether the request was put on a connection to the provider: from then on it may cost money."""
    call = call_of(flow)
    if call is None or call.deny is not None:
        return False
    if call.attempts is not None:
        return any(attempt.was_sent for attempt in call.attempts)
    server = flow.server_conn
    return (server.timestamp_tls_setup if flow.request.scheme == "https" else server.timestamp_tcp_setup) is not None


def end_call(flow: http.HTTPFlow, call: Call) -> None:
    """Note when the call ended, and whether that was before its answer had; the first to ask decides."""
    if call.ended_at is None:
        call.ended_at = services().clock()
        call.was_cut = flow.error is not None


def settlement_of(flow: http.HTTPFlow, call: Call, policy: Policy) -> Settlement:
    """Return what the ended call is charged, settled once for every addon that asks."""
    if call.settlement is None:
        status = flow.response.status_code if flow.response else None
        end_call(flow, call)
        call.settlement = settle(
            call, policy, services().prices_for(call.provider, policy), was_sent=was_sent_upstream(flow), status=status
        )
    return call.settlement


def mark_as_left(flow: http.HTTPFlow) -> None:
    """Note that the client has cancelled this call; over HTTP/2 its connection stays open for others."""
    flow.sluicegate_left = True  # type: ignore[attr-defined]


def has_left(flow: http.HTTPFlow) -> bool:
    """Return whether the client has cancelled this call, or closed its connection."""
    return getattr(flow, "sluicegate_left", False) or not flow.client_conn.state & ConnectionState.CAN_READ


def outcome_of(flow: http.HTTPFlow) -> Outcome:
    """Return how the flow ended; only meaningful once it has."""
    call = call_of(flow)
    if call is not None and call.deny is not None:
        return Outcome.DENIED
    if call is not None and call.outcome is not None:
        return call.outcome
    if flow.error is not None:
        return Outcome.CANCELLED if has_left(flow) else Outcome.FAILED
    if flow.response is None or flow.response.status_code >= 400 or (call is not None and call.upstream_error):
        return Outcome.FAILED
    return Outcome.COMPLETED


def deny(flow: http.HTTPFlow, refusal: Deny) -> None:
    """Refuse the flow in the provider's own error envelope. The first refusal stands."""
    call = call_of(flow)
    if call is not None:
        if call.deny is not None:
            return
        call.deny = refusal = for_client(refusal, call)
    protocol, client = (call.protocol, call.audience) if call else (connection_of(flow.client_conn).envelope, "other")
    status, headers, body = render(refusal, protocol, client)
    flow.response = http.Response.make(status, body, dict(headers))


def limit_body(flow: http.HTTPFlow, max_bytes: int, refuse: Callable[[http.HTTPFlow], None]) -> None:
    """Keep at most ``max_bytes`` of the body that is about to arrive; ``refuse`` answers the flow if there are more."""
    flow.sluicegate_body_limit = (max_bytes, refuse)  # type: ignore[attr-defined]


def is_decided(flow: http.HTTPFlow) -> bool:
    """Return whether the flow has already been answered, has failed, or was dropped."""
    return flow.response is not None or flow.error is not None or not flow.live


def enforcing(hook: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a hook that may refuse: it is skipped once a flow is decided, and an exception becomes a 503, never a pass."""

    def refuse(self: object, flow: http.HTTPFlow) -> None:
        name = f"{type(self).__name__}.{hook.__name__}"
        logger.exception("%s failed; the call is refused", name)
        deny(flow, Deny(Reason.GATEWAY_ERROR, f"The gateway could not judge this call ({name}); try again"))

    async def finish(self: object, rest: Awaitable[None], flow: http.HTTPFlow) -> None:
        try:
            await rest
        except Exception:
            refuse(self, flow)

    @functools.wraps(hook)
    def wrapped(self: object, flow: http.HTTPFlow) -> Awaitable[None] | None:
        if flow.response is not None or flow.error is not None or not flow.live:  # is_decided, without a call
            return None
        try:
            rest = hook(self, flow)
        except Exception:
            refuse(self, flow)
            return None
        # A hook that seldom has to wait makes no coroutine for the other calls.
        return None if rest is None else finish(self, rest, flow)

    wrapped.enforcing = True  # type: ignore[attr-defined]
    return wrapped


def observing(hook: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a hook that only watches or keeps accounts: an exception is logged and never disturbs the flow.

    What it returns is awaited before the hooks of later addons, where hooks are awaited at all.
    """

    @functools.wraps(hook)
    def wrapped(self: object, flow: http.HTTPFlow) -> Any:
        try:
            return hook(self, flow)
        except Exception:
            logger.exception("%s.%s failed", type(self).__name__, hook.__name__)
            return None

    wrapped.observing = True  # type: ignore[attr-defined]
    return wrapped
