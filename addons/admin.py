"""Admin: requests addressed to the gateway itself. In origin form on its own port only, never through the proxy.

The agents that are governed can reach this port, so nothing here is open except what holds no secret.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from email.utils import formatdate
from pathlib import Path
from typing import ClassVar

from mitmproxy import ctx, http

from flow import Addon, connection_of, enforcing, limit_body, observing, origin_form, services, source_of
from sluicegate.addresses import is_address, is_loopback, normalize_host
from sluicegate.credentials import CREDENTIAL_HEADERS
from sluicegate.network.loopback.ticket_server import TICKET_HEADER
from sluicegate.web.app import SECURITY_HEADERS, body_types, build, form_paths, is_own_path
from sluicegate.web.body_limits import MAX_ANONYMOUS_BODY_BYTES, max_body_bytes, too_large_error
from sluicegate.web.endpoint import FORM
from sluicegate.web.erasing import follow_erasures
from sluicegate.web.errors import error_body
from sluicegate.web.routes.device import SECRET_QUERIES
from sluicegate.web.server import ApplicationServer, Headers, PendingRequest
from sluicegate.web.session_path import split_session_path

OPEN_PATHS = frozenset({"/health", "/ready", "/ca.pem", "/setup", "/setup.json"})
"""What answers to any Host, without what only staff see."""

WRITE_METHODS = ("POST", "PUT", "PATCH", "DELETE")


class Admin(Addon):
    """The first addon to see a request: requests for the gateway itself must never reach identity."""

    def __init__(self) -> None:
        self.server: ApplicationServer | None = None
        self.start_task: asyncio.Task[ApplicationServer] | None = None
        self.credentials: dict[str, Headers] = {}
        """The secret headers of requests under way, by the flow's id, as are the three below."""
        self.session_paths: dict[str, str] = {}
        self.queries: dict[str, bytes] = {}
        self.tickets: dict[str, str] = {}

    def running(self) -> None:
        """Start the application's server, so that the first request need not wait for it."""
        super().running()
        self.start_task = asyncio.get_running_loop().create_task(self.start_server())

    async def start_server(self) -> ApplicationServer:
        """Return the application's server once it serves, started now if it is not running yet."""
        if self.server is None:
            self.server = ApplicationServer(
                build(services(), services().authority_folder or Path(ctx.options.confdir).expanduser())
            )
            services().own_servers["web"] = self.server.address
            follow_erasures(services())
        await self.server.start()
        return self.server

    marks: ClassVar[dict[str, str]] = dict.fromkeys(("request", "responseheaders", "response", "error"), "sluicegate_admin")

    @enforcing
    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Claim a request for the gateway itself, remove its secrets from the flow and refuse what another site may have sent.

        The secrets must not be printed or saved, and are restored for the application.
        """
        request = flow.request
        session_path, path = split_session_path(request.path)
        if not origin_form(request) or connection_of(flow.client_conn).target is not None or not is_own_path(path):
            return
        flow.metadata["sluicegate"] = "admin"
        flow.sluicegate_admin = True  # type: ignore[attr-defined]
        if session_path:
            # As secret as the cookie that is bound to it: not to be printed or saved.
            self.session_paths[flow.id], request.path = session_path, path
        bare, mark, query = path.partition("?")
        if mark and bare in SECRET_QUERIES:
            self.queries[flow.id], request.path = query.encode("utf-8", "surrogateescape"), bare
        self.withhold_secrets(flow)
        if flow.response is not None:
            return
        if not is_own_host(request.host_header or "", flow.client_conn.sockname):
            if request.method in ("GET", "HEAD") and path.partition("?")[0] in OPEN_PATHS:
                # Probes come by address. Whoever has led a browser here by a name of its own learns no more than a stranger.
                self.credentials[flow.id] = []
                self.session_paths.pop(flow.id, None)
            else:
                self.refuse(flow, 421, "The gateway does not answer to this Host; list it under server.hosts in the policy")
        elif request.method in WRITE_METHODS and (refusal := refusal_of_write(request)) is not None:
            self.refuse(flow, *refusal)
        if flow.response is None:
            self.limit_body(flow)

    def withhold_secrets(self, flow: http.HTTPFlow) -> None:
        """Remove the headers that hold secrets, for the application alone to see; refuse a request whose URL holds one."""
        request, secrets = flow.request, services().credentials(services().policy)
        kept: Headers = []
        withheld: Headers = []
        for name, value in request.headers.fields:
            is_secret = name.lower().decode("latin-1") in CREDENTIAL_HEADERS or secrets.shows_secret(name + b" " + value)
            (withheld if is_secret else kept).append((name, value))
        request.headers.fields, self.credentials[flow.id] = tuple(kept), withheld
        if secrets.shows_secret(request.data.method + b" " + request.data.path):
            request.data.method, request.data.path = b"GET", b"/"
            self.refuse(flow, 400, "A key or token stands in the URL; send it in the Authorization header")

    def limit_body(self, flow: http.HTTPFlow) -> None:
        """Refuse a body larger than its sender may send: at once by its declared length, else when it has grown too large."""
        request = flow.request
        declared = request.headers.get("content-length", "" if "transfer-encoding" in request.headers else "0")
        size = int(declared) if declared.isdecimal() and len(declared) < 20 else None
        if size is not None and size <= MAX_ANONYMOUS_BODY_BYTES:
            return
        fields = [*request.headers.fields, *self.credentials[flow.id]]
        session_path = self.session_paths.get(flow.id, "")
        limit = max_body_bytes(services(), request.method, request.path, session_path, fields, source_of(flow))

        def refuse(flow: http.HTTPFlow) -> None:
            body = json.dumps(too_large_error(limit)).encode()
            flow.response = http.Response.make(413, body, {"content-type": "application/json", **SECURITY_HEADERS})

        if size is not None and size > limit:
            refuse(flow)
        else:
            limit_body(flow, limit, refuse)

    @enforcing
    def request(self, flow: http.HTTPFlow) -> Awaitable[None] | None:
        """Forward the complete request to the application with a ticket, which restores its secrets there."""
        return self.forward(flow) if flow.metadata.get("sluicegate") == "admin" else None

    async def forward(self, flow: http.HTTPFlow) -> None:
        """Forward an administrative request."""
        server = await self.start_server()
        request = flow.request
        # A body may hold a token or a provider's key, so it must not be printed or saved either.
        body, request.raw_content = request.raw_content or b"", b""
        credentials, session_path = self.credentials.pop(flow.id, []), self.session_paths.pop(flow.id, "")
        port = flow.client_conn.sockname[1] if flow.client_conn.sockname else 0
        query = self.queries.pop(flow.id, None)
        pending = PendingRequest(credentials, body, source_of(flow), session_path, came_over_tls(flow), port, query)
        ticket = self.tickets[flow.id] = server.issue_ticket(pending)
        request.headers[TICKET_HEADER] = ticket
        request.headers["content-length"] = "0"
        for name in ("upgrade", "transfer-encoding"):
            request.headers.pop(name, None)
        # Set past mitmproxy's own setters, which would also rewrite the Host header.
        request.data.scheme, (request.data.host, request.data.port) = b"http", server.address
        connection_of(flow.client_conn).own_servers.add(server.address)

    @observing
    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """Stream the application's response to the client, with the security headers."""
        if flow.id in self.tickets and flow.response is not None:
            flow.response.stream = True
            for name, value in SECURITY_HEADERS.items():
                flow.response.headers.setdefault(name, value)
            # RFC 9110, 6.6.1; a developer machine's doctor compares its clock with it.
            flow.response.headers.setdefault("date", formatdate(services().clock() / 1000, usegmt=True))

    def call_ended(self, flow: http.HTTPFlow) -> None:
        """Drop what was kept for a request, and remove the secrets of its answer: the flow may still be printed or saved."""
        self.credentials.pop(flow.id, None)
        self.session_paths.pop(flow.id, None)
        self.queries.pop(flow.id, None)
        ticket = self.tickets.pop(flow.id, None)
        if ticket is not None and self.server is not None:
            self.server.revoke_ticket(ticket)
            flow.request.headers.pop(TICKET_HEADER, None)
            if flow.response is not None:
                for name in ("set-cookie", "location"):
                    flow.response.headers.pop(name, None)

    def done(self) -> None:
        """Stop the application's server."""
        if self.server is not None:
            self.server.stop()

    def refuse(self, flow: http.HTTPFlow, status: int, message: str) -> None:
        """Answer an administrative request that may not be served."""
        body = json.dumps(error_body("forbidden", message, status)).encode()
        flow.response = http.Response.make(status, body, {"content-type": "application/json", **SECURITY_HEADERS})


def came_over_tls(flow: http.HTTPFlow) -> bool:
    """Return whether a request's client spoke TLS, to us or to a proxy that policy trusts: one that passes on bytes ends TLS."""
    forwarded = getattr(flow.request, "is_forwarded", False) and flow.request.headers.get("x-forwarded-proto") == "https"
    return forwarded or connection_of(flow.client_conn).proxy is not None or flow.client_conn.tls_established


def is_own_host(host: str, listener: tuple[str, int] | None) -> bool:
    """Return whether a Host header names the gateway: loopback, the address it listens on, or a name the policy lists.

    ``listener`` is our end of the connection: who listens on every interface has several addresses, and in a cluster a
    new one at each start, by which Prometheus scrapes. A browser that a foreign name has led here (DNS rebinding) sends
    that name and is refused.
    """
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() and not host.endswith("]") else host
    name = normalize_host(name)
    if name == "localhost" or is_loopback(name) or name == ctx.options.listen_host or name in services().policy.server.hosts:
        return True
    return listener is not None and is_address(name) and name == normalize_host(listener[0])


def is_same_origin(request: http.Request) -> bool:
    """Return whether a write is from the gateway's own pages or from no browser."""
    origin, host = request.headers.get("origin"), request.host_header
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    return origin is None or origin in (f"http://{host}", f"https://{host}")


def refusal_of_write(request: http.Request) -> tuple[int, str] | None:
    """Return status and words for a write that another site may have sent, or whose body is not plain JSON; None if neither."""
    if not is_same_origin(request):
        return 403, "Writes from another origin are refused"
    if content_type_of(request) in body_types().get(request.path.partition("?")[0], ()):
        # Only with a credential in a header, which no other site can send along.
        return None
    if not has_json_body(request) and not has_form(request):
        return 415, "The body of a write must be application/json; set Content-Type"
    if request.headers.get("content-encoding", "").lower() not in ("", "identity"):
        return 415, "The body of a write must not be compressed; send it without Content-Encoding"
    return None


def content_type_of(request: http.Request) -> str:
    """Return a body's content type without its parameters."""
    return (request.headers.get("content-type") or "").partition(";")[0].strip().lower()


def has_json_body(request: http.Request) -> bool:
    """Return whether a write's body is JSON, which a form of another site cannot send.

    Without a body a write needs no type either, but it may have no other: a form always says one. A script of another site
    could send neither; it is known by its origin.
    """
    content_type = request.headers.get("content-type")
    is_empty = request.headers.get("content-length", "0") == "0" and "transfer-encoding" not in request.headers
    if is_empty and (content_type is None or request.method == "DELETE"):
        return True
    return (content_type or "").startswith("application/json")


def has_form(request: http.Request) -> bool:
    """Return whether a write's body is a form, to one of the few paths that take them: those check its origin themselves."""
    return (request.headers.get("content-type") or "").startswith(FORM) and request.path.partition("?")[0] in form_paths()


addons = [Admin()]
