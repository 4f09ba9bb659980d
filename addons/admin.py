"""Admin: requests addressed to the gateway itself. Origin-form on our own port only, never through the proxy.

The agents being governed can reach this port, so nothing here is open but what holds no secret.
"""

from __future__ import annotations

from pathlib import Path

from mitmproxy import ctx, http
from starlette.types import ASGIApp

from adapter import CREDENTIALS, Addon, enforcing, link_of, observing, origin_form, services
from sluicegate.addresses import is_loopback, normal
from sluicegate.web import app as web
from sluicegate.web.asgi import call

SECRET = (*CREDENTIALS, "cookie")
"""Headers taken off before anything prints or saves the flow; the application gets what it needs of them."""

WRITES = ("POST", "PUT", "PATCH", "DELETE")


class Cookies:
    """Stands in mitmproxy's own chain, behind what prints and saves answers: puts on the cookies that come with them."""

    name = "cookies"

    def __init__(self) -> None:
        self.held: dict[str, list[str]] = {}

    def response(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: the answer is about to be sent."""
        if self.held and flow.response is not None and (cookies := self.held.pop(flow.id, None)):
            flow.response.headers.set_all("set-cookie", cookies)


class Admin(Addon):
    """First of the chain to see a request: what is for the gateway itself must never meet identity."""

    def __init__(self) -> None:
        self._app: ASGIApp | None = None
        self._credentials: dict[str, list[tuple[bytes, bytes]]] = {}
        self._cookies = Cookies()

    def running(self) -> None:
        """mitmproxy: the proxy is up, and its own addons are in their places."""
        super().running()
        if (there := ctx.master.addons.get("cookies")) is None:
            ctx.master.addons.add(self._cookies)
        else:
            self._cookies = there

    @enforcing
    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: a request begins; claim it if it is ours, and take its credentials off the flow."""
        request = flow.request
        if not origin_form(request) or link_of(flow.client_conn).target is not None or not web.is_ours(request.path):
            return
        flow.metadata["sluicegate"] = "admin"
        self._credentials[flow.id] = [(n, v) for n, v in request.headers.fields if n.lower().decode("latin-1") in SECRET]
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

    @enforcing
    async def request(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: the request is complete; answer it from the application."""
        if flow.metadata.get("sluicegate") != "admin":
            return
        if self._app is None:
            self._app = web.build(services(), Path(ctx.options.confdir).expanduser() / "mitmproxy-ca-cert.pem")
        headers = [*flow.request.headers.fields, *self._credentials.get(flow.id, ())]
        source = flow.client_conn.peername[0] if flow.client_conn.peername else ""
        # A body may hold a provider's key; like the credentials it is nobody's to print or save.
        body, flow.request.raw_content = flow.request.raw_content or b"", b""
        answer = await call(self._app, flow.request.method, flow.request.path, headers, body, source, {})
        flow.response = http.Response.make(answer.status, answer.body, http.Headers(answer.headers))
        for name, value in web.SAFE.items():
            flow.response.headers.setdefault(name, value)
        if cookies := flow.response.headers.get_all("set-cookie"):
            self._cookies.held[flow.id] = cookies
            del flow.response.headers["set-cookie"]

    @observing
    def response(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: answered; forget its credentials."""
        self._credentials.pop(flow.id, None)

    @observing
    def error(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: broken off; forget its credentials."""
        self._credentials.pop(flow.id, None)
        self._cookies.held.pop(flow.id, None)

    def ours(self, host: str) -> bool:
        """Whether a Host header names us: loopback, the address we listen on, or a name the policy lists."""
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() and not host.endswith("]") else host
        name = normal(name)
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
