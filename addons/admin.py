"""Admin: requests addressed to the gateway itself. Origin-form on our own port only, never through the proxy.

The agents being governed can reach this port, so nothing here is open but what holds no secret.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from mitmproxy import ctx, http

from flow import CREDENTIAL_HEADERS, Addon, connection_of, enforcing, limit_body, observing, origin_form, services
from sluicegate.addresses import is_loopback, normalize_host
from sluicegate.web import app as web
from sluicegate.web import body_limits as bodies
from sluicegate.web.server import TICKET_HEADER, ApplicationServer, Headers
from sluicegate.web.session_path import split

SECRET = (*CREDENTIAL_HEADERS, "cookie")
"""Headers taken off before anything prints or saves the flow; the application gets what it needs of them."""

WRITES = ("POST", "PUT", "PATCH", "DELETE")


class Admin(Addon):
    """First of the chain to see a request: what is for the gateway itself must never meet identity."""

    def __init__(self) -> None:
        self.server: ApplicationServer | None = None
        self.starting: asyncio.Task[ApplicationServer] | None = None
        self.credentials: dict[str, Headers] = {}
        self.places: dict[str, str] = {}
        self.tickets: dict[str, str] = {}

    def running(self) -> None:
        """mitmproxy: the proxy is up; start serving, so that the first request need not wait for that."""
        super().running()
        self.starting = asyncio.get_running_loop().create_task(self.serve())

    async def serve(self) -> ApplicationServer:
        """The application's server, started now if it is not up yet."""
        if self.server is None:
            self.server = ApplicationServer(web.build(services(), Path(ctx.options.confdir).expanduser() / "mitmproxy-ca-cert.pem"))
            services().web_address = self.server.address
        await self.server.start()
        return self.server

    @enforcing
    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: a request begins; claim it if it is ours, and take its credentials off the flow."""
        request = flow.request
        place, path = split(request.path)
        if not origin_form(request) or connection_of(flow.client_conn).target is not None or not web.is_ours(path):
            return
        flow.metadata["sluicegate"] = "admin"
        if place:
            # Nobody's to print or save, like the credentials.
            self.places[flow.id], request.path = place, path
        fields = request.headers.fields
        self.credentials[flow.id] = [(n, v) for n, v in fields if n.lower().decode("latin-1") in SECRET]
        for name in SECRET:
            request.headers.pop(name, None)
        if not self.ours(request.host_header or ""):
            self.refuse(flow, 421, "This gateway does not answer to that Host; list it under server.hosts in the policy")
        elif request.method in WRITES:
            same = request.headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")
            origin, host = request.headers.get("origin"), request.host_header
            if not same or (origin is not None and origin not in (f"http://{host}", f"https://{host}")):
                self.refuse(flow, 403, "Writes from another origin are refused")
            elif sends_other_than_json(request):
                self.refuse(flow, 415, "Writes are application/json")
        if flow.response is None:
            self.bound(flow)

    def bound(self, flow: http.HTTPFlow) -> None:
        """See that no more of a body is kept than whoever sends it may send, also where it does not say how much that is."""
        request, client = flow.request, flow.client_conn
        declared = request.headers.get("content-length", "" if "transfer-encoding" in request.headers else "0")
        size = int(declared) if declared.isdecimal() and len(declared) < 20 else None
        if size is not None and size <= bodies.MAX_ANONYMOUS_BODY_BYTES:
            return
        fields = [*request.headers.fields, *self.credentials[flow.id]]
        source = client.peername[0] if client.peername else ""
        most = bodies.max_body_bytes(services(), request.method, request.path, self.places.get(flow.id, ""), fields, source)

        def refuse(flow: http.HTTPFlow) -> None:
            body = json.dumps(bodies.too_large(most)).encode()
            flow.response = http.Response.make(413, body, {"content-type": "application/json", **web.SAFE})

        if size is not None and size > most:
            refuse(flow)
        else:
            limit_body(flow, most, refuse)

    @enforcing
    async def request(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: the request is complete; send it to the application, which gives it its credentials back."""
        if flow.metadata.get("sluicegate") != "admin":
            return
        server = await self.serve()
        request, client = flow.request, flow.client_conn
        # A body may hold a token or a provider's key; like the credentials it is nobody's to print or save.
        body, request.raw_content = request.raw_content or b"", b""
        source = client.peername[0] if client.peername else ""
        ticket = self.tickets[flow.id] = server.issue_ticket(
            self.credentials.pop(flow.id, []), body, source, self.places.pop(flow.id, "")
        )
        request.headers[TICKET_HEADER] = ticket
        request.headers["content-length"] = "0"
        for name in ("upgrade", "transfer-encoding"):
            request.headers.pop(name, None)
        # Set apart from mitmproxy's own setters, which would write the Host header anew.
        request.data.scheme, (request.data.host, request.data.port) = b"http", server.address
        connection_of(client).web_address = server.address

    @observing
    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: the application answers; let it through as it comes."""
        if flow.id in self.tickets and flow.response is not None:
            flow.response.stream = True
            for name, value in web.SAFE.items():
                flow.response.headers.setdefault(name, value)

    @observing
    def response(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: answered; what is still to be printed and saved of it has no cookie."""
        self.forget(flow)

    @observing
    def error(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: broken off."""
        self.forget(flow)

    def forget(self, flow: http.HTTPFlow) -> None:
        """Let go of what was kept for a request."""
        self.credentials.pop(flow.id, None)
        self.places.pop(flow.id, None)
        ticket = self.tickets.pop(flow.id, None)
        if ticket is not None and self.server is not None:
            self.server.revoke_ticket(ticket)
            flow.request.headers.pop(TICKET_HEADER, None)
            if flow.response is not None:
                flow.response.headers.pop("set-cookie", None)

    def done(self) -> None:
        """mitmproxy: we are being unloaded."""
        if self.server is not None:
            self.server.stop()

    def ours(self, host: str) -> bool:
        """Whether a Host header names us: loopback, the address we listen on, or a name the policy lists."""
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() and not host.endswith("]") else host
        name = normalize_host(name)
        return name == "localhost" or is_loopback(name) or name == ctx.options.listen_host or name in services().policy.server.hosts

    def refuse(self, flow: http.HTTPFlow, status: int, message: str) -> None:
        """Answer an administrative request that may not be served."""
        body = b'{"type":"error","error":{"type":"forbidden","message":"' + message.encode() + b'"}}'
        flow.response = http.Response.make(status, body, {"content-type": "application/json", **web.SAFE})


def sends_other_than_json(request: http.Request) -> bool:
    """Whether a write's body is something a form of another site could send; deleting takes no body."""
    length = request.headers.get("content-length", "0")
    bare = request.method == "DELETE" and length == "0" and "transfer-encoding" not in request.headers
    return not bare and not request.headers.get("content-type", "").startswith("application/json")


addons = [Admin()]
