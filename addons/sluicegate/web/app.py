"""The web application on the gateway's own port: every endpoint in one table. Open endpoints hold no secrets."""

from __future__ import annotations

import functools
from pathlib import Path

from starlette.applications import Starlette

from sluicegate.services import Services
from sluicegate.web import pages
from sluicegate.web.endpoint import Endpoint
from sluicegate.web.openapi import described
from sluicegate.web.routes import (
    adjustments,
    alerts,
    audit_trail,
    budget_override,
    cache,
    catalog,
    client_telemetry,
    device,
    erasure,
    erasures,
    events,
    features,
    governance,
    health,
    key_test,
    logs,
    managed_settings,
    metrics,
    nodes,
    oauth_usage,
    policy,
    prices,
    prompt_cache,
    providers,
    quota,
    reconciliations,
    replay,
    revisions,
    roster,
    routes,
    routing_rules,
    session,
    settings,
    setup,
    sign_in,
    sign_ins,
    unsupported,
    usage,
)
from sluicegate.web.routing import build_routes, unknown_path
from sluicegate.web.spend_limits import routes as spend_limits

SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}


def endpoints(authority_folder: Path) -> list[Endpoint]:
    """Return the whole table. A path of fixed names comes before one that would take such a name for an id."""
    return described(
        [
            *oauth_usage.endpoints(),
            *unsupported.endpoints(),
            *health.endpoints(),
            *setup.endpoints(authority_folder),
            *metrics.endpoints(),
            *logs.endpoints(),
            *session.endpoints(),
            *sign_in.endpoints(),
            *device.endpoints(),
            *sign_ins.endpoints(),
            *managed_settings.endpoints(),
            *client_telemetry.endpoints(),
            *events.endpoints(),
            *audit_trail.endpoints(),
            *usage.endpoints(),
            *adjustments.endpoints(),
            *cache.endpoints(),
            *reconciliations.endpoints(),
            *policy.endpoints(),
            *revisions.endpoints(),
            *replay.endpoints(),
            *settings.endpoints(),
            *features.endpoints(),
            *catalog.endpoints(),
            *key_test.endpoints(),
            *providers.endpoints(),
            *routes.endpoints(),
            *routing_rules.endpoints(),
            *quota.endpoints(),
            *prices.endpoints(),
            *prompt_cache.endpoints(),
            *roster.endpoints(),
            *erasure.endpoints(),
            *erasures.endpoints(),
            *budget_override.endpoints(),
            *governance.endpoints(),
            *nodes.endpoints(),
            *spend_limits.endpoints(),
            *alerts.endpoints(),
            *pages.endpoints(),
        ]
    )


@functools.cache
def own_paths() -> tuple[frozenset[str], tuple[str, ...]]:
    """Return the paths of the gateway's own port, those below ``/api`` and ``/static`` by their first names, and the prefixes."""
    paths = {endpoint.path for endpoint in endpoints(Path())}
    prefixes = {"/".join(path.split("/")[:3]) for path in paths if path.startswith("/api/")} | {"/static", spend_limits.BASE}
    others = {path for path in paths if not path.startswith(("/api/", "/static/"))}
    return frozenset(others | prefixes), tuple(f"{prefix}/" for prefix in sorted(prefixes))


@functools.cache
def form_paths() -> frozenset[str]:
    """Return the paths that take forms."""
    return frozenset(endpoint.path for endpoint in endpoints(Path()) if endpoint.takes_form)


@functools.cache
def body_types() -> dict[str, tuple[str, ...]]:
    """Return the paths whose bodies have content types of their own, with those."""
    return {endpoint.path: endpoint.body_types for endpoint in endpoints(Path()) if endpoint.body_types}


def is_own_path(path: str) -> bool:
    """Return whether a path of the gateway's own port is administration rather than a provider's API."""
    bare = path.partition("?")[0]
    exact, prefixes = own_paths()
    return bare in exact or bare.startswith(prefixes)


def build(services: Services, authority_folder: Path) -> Starlette:
    """Return the application of one gateway."""
    return Starlette(routes=[*build_routes(endpoints(authority_folder), services), unknown_path(services)])
