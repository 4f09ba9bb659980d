"""The web application on the gateway's own port. What is open holds no secrets; everything else needs the admin token."""

from __future__ import annotations

import functools
import html
from pathlib import Path

import anyio.to_thread
import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from sluicegate.services import Services
from sluicegate.web import pages
from sluicegate.web.api import build_routes
from sluicegate.web.auth import error, needs
from sluicegate.web.openapi import document
from sluicegate.web.routes import (
    alerts,
    events,
    governance,
    health,
    logs,
    metrics,
    policy,
    prices,
    providers,
    quota,
    revisions,
    session,
)
from sluicegate.web.routes import audit_trail as record
from sluicegate.web.routes import replay as rehearsal

OPEN = ("/health", "/ready", "/ca.pem", "/setup")
"""Paths without secrets, for everyone who can reach the port."""

PATHS = (*OPEN, "/metrics", "/")
PREFIXES = (
    "/api/governance",
    "/api/logs",
    "/api/config",
    "/api/providers",
    "/api/alerts",
    "/api/usage",
    "/api/audit",
    "/api/openapi.json",
    "/api/session",
    "/api/prices",
    "/api/events",
    "/api/policy",
    "/api/health",
    "/static",
)

SAFE = {
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}


def is_ours(path: str) -> bool:
    """Whether a path of our own port is administration."""
    bare = path.partition("?")[0]
    return bare in PATHS or any(bare == p or bare.startswith(p + "/") for p in PREFIXES)


def build(services: Services, ca: Path) -> Starlette:
    """The application for one gateway; ``ca`` is its certificate, public part only."""

    guarded = needs("admin", "viewer", services=services)

    async def ca_pem(_: Request) -> Response:
        try:
            return Response(ca.read_bytes(), media_type="application/x-pem-file")
        except OSError:
            return JSONResponse(error("not_found", "There is no CA certificate yet"), 404)

    async def setup(request: Request) -> Response:
        text = setup_text(f"http://{request.headers.get('host', '127.0.0.1:8080')}")
        if "text/html" in request.headers.get("accept", ""):
            return HTMLResponse(f"<!doctype html><title>sluicegate setup</title><pre>{html.escape(text)}</pre>")
        return PlainTextResponse(text)

    async def nothing(_: Request) -> Response:
        return JSONResponse(error("not_found", "There is nothing here"), 404)

    @functools.cache
    def described() -> bytes:
        return orjson.dumps(document(row for room in rooms for row in room.rows))

    async def openapi(_: Request) -> Response:
        return Response(await anyio.to_thread.run_sync(described), media_type="application/json")

    async def unheard_of(_: Request, said: Exception) -> Response:
        status = said.status_code if isinstance(said, HTTPException) else 500
        return JSONResponse(error("not_found", "There is nothing here"), status)

    rooms = build_routes(
        [
            *session.endpoints(),
            *health.endpoints(),
            *events.endpoints(),
            *record.endpoints(),
            *policy.endpoints(),
            *revisions.endpoints(),
            *rehearsal.endpoints(),
            *providers.endpoints(),
            *quota.endpoints(),
            *prices.endpoints(),
            *governance.endpoints(),
            *alerts.endpoints(),
        ],
        services,
    )
    app = Starlette(
        exception_handlers={HTTPException: unheard_of},
        routes=[
            *health.routes(services),
            Route("/ca.pem", ca_pem),
            Route("/setup", setup),
            *metrics.routes(services),
            *logs.routes(services),
            *rooms,
            Route("/api/openapi.json", guarded(openapi)),
            *pages.routes(),
            Route("/{path:path}", guarded(nothing), methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]),
        ],
    )
    return app


def setup_text(url: str) -> str:
    """What to type on a developer machine, per client."""
    host = url.removeprefix("http://")
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

# The virtual key in the proxy URL names the caller on every connection, also of the agent's own shell commands
export HTTPS_PROXY=http://<virtual key>:@{host}

# Shell tools that the agent runs
export SSL_CERT_FILE=~/.sluicegate-ca.pem CURL_CA_BUNDLE=~/.sluicegate-ca.pem GIT_SSL_CAINFO=~/.sluicegate-ca.pem
"""
