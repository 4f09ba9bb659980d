"""The web application on the gateway's own port. What is open holds no secrets; everything else needs the admin token."""

from __future__ import annotations

import html
from pathlib import Path

import anyio.to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from sluicegate import __version__
from sluicegate.policy import Provider
from sluicegate.services import Services
from sluicegate.usage import usage_rows
from sluicegate.web import logs
from sluicegate.web.who import caller_of, error, needs
from sluicegate.windows import iso

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
    "/api/openapi.json",
)

SAFE = {
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
}


def is_ours(path: str) -> bool:
    """Whether a path of our own port is administration."""
    bare = path.partition("?")[0]
    return bare in PATHS or any(bare == p or bare.startswith(p + "/") for p in PREFIXES)


def build(house: Services, ca: Path) -> Starlette:
    """The application for one gateway; ``ca`` is its certificate, public part only."""

    guarded = needs("admin", "viewer", house=house)

    def healthy() -> bool:
        return not (house.source.error or house.store_error or house.audit_error)

    def provider_health(provider: Provider) -> dict[str, object]:
        now = house.clock()
        resting = {k.name: house.keyring.aside_until(provider, k, now) for k in provider.keys}
        return {
            "simulate": provider.simulate,
            "keys": [
                {
                    "name": k.name,
                    "source": k.source,
                    "usable": bool(k.value),
                    "set_aside_until": iso(until) if (until := resting[k.name]) else None,
                }
                for k in provider.keys
            ],
        }

    async def health(request: Request) -> Response:
        said: dict[str, object] = {"status": "ok" if healthy() else "degraded", "same-user": "cooperative"}
        if (caller := caller_of(request, house)) is not None and caller.role != "developer":
            policy = house.policy
            said |= {
                "version": __version__,
                "policy": {
                    "revision": policy.revision,
                    "loaded_at": iso(policy.loaded_at),
                    "source": policy.source,
                    "error": house.source.error,
                    "warnings": policy.warnings,
                },
                "ledger": {"error": house.store_error, "reservations": len(house.ledger.open)},
                "audit": {"mode": policy.audit, "error": house.audit_error},
                "content": {"error": house.content.error, "dropped": house.content.dropped},
                "recovered": house.recovered,
                "providers": {p.name: provider_health(p) for p in policy.providers.values()},
            }
        return JSONResponse(said)

    async def ready(_: Request) -> Response:
        up = not house.draining and not house.store_error and (house.policy.audit != "required" or not house.audit_error)
        return JSONResponse({"ready": up}, 200 if up else 503)

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

    async def metrics(_: Request) -> Response:
        body = await anyio.to_thread.run_sync(house.metrics.render)
        return Response(body, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def usage(_: Request) -> Response:
        return JSONResponse({"usage": usage_rows(house.policy, house.ledger, house.clock())})

    async def overview(_: Request) -> Response:
        rows = "".join(
            f"<tr><td>{html.escape(r['kind'])} {html.escape(r['id'])}<td>{html.escape(r['window'] or '')}"
            f"<td align=right>{r['used_usd'] or r['used']}<td align=right>{r['limit_usd'] or r['limit']}<td>{r['resets_at'] or ''}"
            for r in usage_rows(house.policy, house.ledger, house.clock())
        )
        style = "<style>body{font:14px system-ui;margin:2rem}td,th{padding:.2rem 1rem;text-align:left}</style>"
        head = "<tr><th>scope<th>window<th>used<th>limit<th>resets"
        return HTMLResponse(f"<!doctype html><title>sluicegate</title>{style}<h1>sluicegate</h1><table>{head}{rows}</table>")

    async def nothing(_: Request) -> Response:
        return JSONResponse(error("not_found", "There is nothing here"), 404)

    app = Starlette(
        routes=[
            Route("/health", health),
            Route("/ready", ready),
            Route("/ca.pem", ca_pem),
            Route("/setup", setup),
            Route("/metrics", guarded(metrics)),
            Route("/api/usage", guarded(usage)),
            *logs.routes(house),
            Route("/", guarded(overview)),
            Route("/{path:path}", guarded(nothing), methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]),
        ]
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
