"""What a developer machine needs to use the gateway: the commands to type and the gateway's certificate."""

from __future__ import annotations

import html
from pathlib import Path

from starlette.responses import HTMLResponse, PlainTextResponse, Response

from sluicegate.web.endpoint import OPEN, ApiRequest, Endpoint, read_endpoint
from sluicegate.web.errors import ApiError
from sluicegate.web.query import AnyQuery

PEM = "application/x-pem-file"


def endpoints(ca_certificate: Path) -> list[Endpoint]:
    """Declare ``/setup`` and ``/ca.pem``; ``ca_certificate`` is the public part of the gateway's certificate authority."""

    async def ca_pem(_: ApiRequest) -> Response:
        try:
            return Response(ca_certificate.read_bytes(), media_type=PEM)
        except OSError as e:
            raise ApiError(404, "not_found", "There is no CA certificate yet; mitmproxy creates it when it starts") from e

    summary, texts = "What to type on a developer machine, per client", ("text/plain", "text/html")
    certificate = "The certificate that clients of the proxy must trust"
    return [
        read_endpoint("/ca.pem", ca_pem, certificate, None, roles=OPEN, query=AnyQuery, media_types=(PEM,), errors=(404,)),
        read_endpoint("/setup", _setup, summary, None, roles=OPEN, query=AnyQuery, media_types=texts),
    ]


async def _setup(request: ApiRequest) -> Response:
    headers = request.http.headers
    text = setup_text(f"{request.http.url.scheme}://{headers.get('host', '127.0.0.1:8080')}")
    if "text/html" in headers.get("accept", ""):
        return HTMLResponse(f"<!doctype html><title>sluicegate setup</title><pre>{html.escape(text)}</pre>")
    return PlainTextResponse(text)


def setup_text(url: str) -> str:
    """Return what to type on a developer machine to use the gateway at ``url``, per client."""
    scheme, _, host = url.partition("://")
    return f"""\
# Fetch the gateway's certificate once:
curl -sf {url}/ca.pem -o ~/.sluicegate-ca.pem

# Claude Code, through the proxy
export HTTPS_PROXY={url}
export NODE_EXTRA_CA_CERTS=~/.sluicegate-ca.pem
export ANTHROPIC_API_KEY=<virtual key>

# Claude Code, without the proxy
export ANTHROPIC_BASE_URL={url}
export ANTHROPIC_API_KEY=<virtual key>

# The virtual key in the proxy URL names the caller on every connection, also of the agent's own shell commands;
# the x is a password that nobody reads, without which some clients would not send the key
export HTTPS_PROXY={scheme}://<virtual key>:x@{host}

# Shell tools that the agent runs
export SSL_CERT_FILE=~/.sluicegate-ca.pem CURL_CA_BUNDLE=~/.sluicegate-ca.pem GIT_SSL_CAINFO=~/.sluicegate-ca.pem
"""
