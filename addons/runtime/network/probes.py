"""Probes: load balancers ask for the gateway's health in HTTP/1.0 and name no host.

mitmproxy refuses such a request before any hook sees it, because it could not tell where to send it. This one is for us.
"""

from __future__ import annotations

from mitmproxy.connection import Client
from mitmproxy.http import Request
from mitmproxy.net.http.url import hostport

PROBED_PATHS = (b"/health", b"/ready")


def name_host(request: Request, client: Client) -> None:
    """Add the address that a probe has come to as its host; leave every other request as it is."""
    data = request.data
    is_asking = data.path in PROBED_PATHS and data.method in (b"GET", b"HEAD") and data.http_version == b"HTTP/1.0"
    if is_asking and not data.host and "host" not in request.headers and client.sockname:
        request.headers["host"] = hostport("http", *client.sockname[:2])
