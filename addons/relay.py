"""Relay: calls that may need another attempt, or another API than their client's, are sent by a server of our own.

All others go straight to their provider.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import ClassVar

from mitmproxy import ctx, http

from flow import Addon, call_of, connection_of, deny, enforcing, services
from sluicegate.calls.call import Call
from sluicegate.calls.plan import Plan
from sluicegate.network.loopback.ticket_server import TICKET_HEADER
from sluicegate.policy.model import Policy
from sluicegate.providers.model_lists import NOT_FOUND, unknown_model_body
from sluicegate.providers.model_pages import PageError, described, listed
from sluicegate.routing.offered_models import OfferedModels, model_described
from sluicegate.sending import relay
from sluicegate.sending.dialects import keeps_form
from sluicegate.sending.exchange import RelayedCall
from sluicegate.sending.forms import counted
from sluicegate.sending.prepared import ClientRequest, in_place
from sluicegate.translation import Untranslatable
from sluicegate.translation.dialect_paths import dialect_of_count
from sluicegate.translation.requests.foreign_thoughts import holds_packed_thoughts
from sluicegate.values import Deny, Reason

ESTIMATED_HEADER = "x-sluicegate-estimated"
"""``true`` on a count of tokens that no provider has made."""


class Relay(Addon):
    """Forwards such a call with a ticket; its provider key is added where it is sent."""

    marks: ClassVar[dict[str, str]] = dict.fromkeys(("response", "error"), "sluicegate_relayed")

    def __init__(self) -> None:
        self.relay: relay.Relay | None = None
        self.offered: OfferedModels | None = None
        self.start_task: asyncio.Task[relay.Relay] | None = None
        self.tickets: dict[str, str] = {}
        """The tickets of calls under way, by the flow's id."""

    def running(self) -> None:
        """Start the server, so that the first call need not wait for it."""
        super().running()
        self.start_task = asyncio.get_running_loop().create_task(self.start_server())

    async def start_server(self) -> relay.Relay:
        """Return the relay once it serves, started now if it is not running yet."""
        if self.relay is None:
            # With a bundle the option is ours, and the client follows the bundle by itself.
            named = ctx.options.ssl_verify_upstream_trusted_ca if services().trust.bundle is None else None
            self.relay = relay.Relay(services(), named)
            services().own_servers["relay"] = self.relay.server.address
        await self.relay.start()
        return self.relay

    @enforcing
    def request(self, flow: http.HTTPFlow) -> Awaitable[None] | None:
        """Forward a call whose plan a single request to its own provider cannot fulfil; else put the plan's model in place."""
        call = call_of(flow)
        if call is not None and call.asks_all and call.policy is not None:
            return self.answer_models(flow, call, call.policy)
        if call is None or call.policy is None or call.facts is None:
            return None
        if call.plan is None:
            if holds_packed_thoughts(flow.request.raw_content or b""):
                self.put_in_place(flow, call, call.facts.model, call.facts.model)
            return None
        if not call.identified:
            deny(flow, Deny(Reason.GATEWAY_ERROR, "The gateway lost track of who makes this call; nothing was sent"))
        elif call.kind == "count_tokens" and not self.is_own(flow, call, call.policy, call.facts.model):
            return self.answer_count(flow, call)
        elif call.kind == "count_tokens" or (
            call.plan.is_direct(call.envelope) and self.is_own(flow, call, call.policy, call.facts.model)
        ):
            self.put_in_place(flow, call, call.asked_model or call.facts.model, call.facts.model)
        else:
            return self.forward(flow, call, call.plan, call.policy)
        return None

    def is_own(self, flow: http.HTTPFlow, call: Call, policy: Policy, model: str) -> bool:
        """Return whether the client's own provider answers, in the client's own form."""
        return call.provider == call.envelope and keeps_form(flow.request.path, call, policy.providers[call.provider], model)

    async def answer_models(self, flow: http.HTTPFlow, call: Call, policy: Policy) -> None:
        """Answer which models of all providers the caller may use, or describe one of them, in the form of the client's API."""
        if not call.identified:
            deny(flow, Deny(Reason.GATEWAY_ERROR, "The gateway lost track of who makes this call; nothing was sent"))
            return
        if self.offered is None:
            self.offered = OfferedModels(lambda: (p.model for p in services().prices.own()))
        # In a thread: providers are asked for their lists, and price lists are read.
        names = await asyncio.to_thread(self.offered.names_for, policy, call.principal)
        status, name = 200, model_described(call.path, policy)
        try:
            if name is None:
                body = listed(call.protocol, names, flow.request.query)
            elif name in names:
                body = described(call.protocol, name)
            else:
                words = f"There is no model '{name[:80]}' that this key may use"
                status, body = NOT_FOUND, unknown_model_body(call.protocol, words)
        except PageError as e:
            deny(flow, Deny(Reason.INVALID_REQUEST, f"Invalid request: {e}"))
            return
        flow.response = http.Response.make(status, body, {"content-type": "application/json"})

    async def answer_count(self, flow: http.HTTPFlow, call: Call) -> None:
        """Answer how many tokens a request has that another provider than the client's would get."""
        body, path = flow.request.raw_content or b"", flow.request.path
        dialect = dialect_of_count(path)
        assert dialect is not None
        try:
            # In a thread: a conversation of a megabyte takes some milliseconds to read.
            answer = await asyncio.to_thread(counted, body, path, dialect)
        except Untranslatable as e:
            deny(flow, Deny(Reason.UNSUPPORTED, f"Not supported by {call.provider}: {e.message}"))
            return
        flow.response = http.Response.make(200, answer, {"content-type": "application/json", ESTIMATED_HEADER: "true"})

    def put_in_place(self, flow: http.HTTPFlow, call: Call, asked: str, model: str) -> None:
        """Change the request so that it asks for the target's model; every other byte stays the client's."""
        request = flow.request
        path, body = in_place(call.protocol, request.path, request.raw_content or b"", asked, model)
        ids = call.policy.providers[call.provider].ids if call.policy is not None else None
        request.path = path if ids is None else ids.outer_path(path)
        if body != request.raw_content:
            request.data.content = body
            if "content-length" in request.headers:
                request.headers["content-length"] = str(len(body))

    async def forward(self, flow: http.HTTPFlow, call: Call, plan: Plan, policy: Policy) -> None:
        """Direct the request to the relay with a ticket, for which the call and the client's request wait there."""
        started, request = await self.start_server(), flow.request
        path = policy.providers[call.envelope].inner_path(request.path, is_whole=True)
        sent = ClientRequest(request.method, path, list(request.headers.fields), request.raw_content or b"")
        facts = call.facts
        assert facts is not None
        asked = call.asked_model or facts.model
        flow.sluicegate_relayed = True  # type: ignore[attr-defined]
        ticket = self.tickets[flow.id] = started.server.issue_ticket(RelayedCall(call, plan, policy, facts, asked, sent))
        name, port = started.server.address
        fields = ((b"host", f"{name}:{port}".encode()), (TICKET_HEADER.encode(), ticket.encode()))
        request.headers.fields = (*fields, (b"content-length", b"%d" % len(sent.body)))
        data = request.data
        # Set past mitmproxy's own setters, which would also rewrite the Host header.
        data.scheme, (data.host, data.port), data.authority, data.path = b"http", started.server.address, b"", b"/"
        connection_of(flow.client_conn).own_servers.add(started.server.address)
        call.cleared = True

    def call_ended(self, flow: http.HTTPFlow) -> None:
        """Forget the ticket of a call that has ended."""
        ticket = self.tickets.pop(flow.id, None)
        if ticket is not None and self.relay is not None:
            self.relay.server.revoke_ticket(ticket)
            flow.request.headers.pop(TICKET_HEADER, None)

    def done(self) -> None:
        """Stop the relay's server."""
        if self.relay is not None:
            self.relay.stop()


addons = [Relay()]
