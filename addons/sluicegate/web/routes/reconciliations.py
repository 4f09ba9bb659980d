"""Reconciliations over REST: our records compared with a provider's bill, fetched with its admin key or sent in the request."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Literal

import anyio
from pydantic import ConfigDict, Field

from sluicegate.policy.errors import did_you_mean
from sluicegate.policy.fields import Instant, Model
from sluicegate.policy.provider import Provider
from sluicegate.reconciliation.booked_usage import read_booked
from sluicegate.reconciliation.compare import compare
from sluicegate.reconciliation.fetching import AdminApi, Scope
from sluicegate.reconciliation.reports import PROVIDERS, Report, ReportError, read_report
from sluicegate.storage.call_reader import deleted_before
from sluicegate.web.endpoint import ADMINS, STAFF, ApiRequest, ApiResponse, Endpoint, read_endpoint
from sluicegate.web.errors import ApiError
from sluicegate.web.query import Query
from sluicegate.web.responses import ResponseModel
from sluicegate.windows import DAY_MS, iso, parse_iso

BASE = "/api/reconciliations"

MAX_BODY_BYTES = 32 << 20
"""The largest report that is accepted; a year of a large organisation is some megabytes."""

MAX_DAYS = 366


class ReconciliationBody(Model):
    """Which bill to compare with."""

    provider: str
    first_day: str = Field(alias="from", description="The first day, UTC, such as 2026-11-01.")
    last_day: str = Field(alias="to", description="The last day.")
    report: dict[str, Any] | list[Any] | None = Field(
        None, description="Pages of the provider's usage and cost reports; absent: fetched with the admin key."
    )
    api_key_ids: list[str] = Field([], max_length=100, description="Only usage of these keys of the provider.")
    workspace_ids: list[str] = Field([], max_length=100, description="Only these workspaces (OpenAI: projects).")


class ReconciledRow(ResponseModel):
    """One model on one day; drift is the provider's figure less ours."""

    day: str
    model: str
    calls: int
    ours: dict[str, Any]
    provider: dict[str, Any]
    drift: dict[str, Any]
    service_tiers: list[str]
    causes: list[dict[str, Any]]


class ReconciledTotals(ResponseModel):
    """Sums; the shares compare all rows' drifts, each without its sign, with what the provider reports."""

    calls: int
    ours_usd: str
    provider_usd: str
    drift_usd: str
    ours_tokens: int
    provider_tokens: int
    drift_tokens: int
    cost_drift_share: float
    token_drift_share: float


class Reconciliation(ResponseModel):
    """Our records and a provider's bill, side by side."""

    model_config = ConfigDict(extra="forbid", defer_build=True, populate_by_name=True)

    at: Instant
    provider: str
    actor: str
    first_day: str = Field(alias="from")
    last_day: str = Field(alias="to")
    source: Literal["api", "file"]
    rows: list[ReconciledRow]
    missing_days: list[str] = Field(description="Days that the report does not have.")
    deleted_before: Instant | None = Field(
        None, description="Our calls from before were deleted for their age, so what the bill has of them is drift; null: none was."
    )
    costs_reported: bool = Field(description="False: dollars of the provider were computed from its tokens at our prices.")
    totals: ReconciledTotals


class ReconciliationList(ResponseModel):
    """Reconciliations, newest first."""

    reconciliations: list[Reconciliation]


class ReconciliationPage(Query):
    """Which of the reconciliations to return."""

    limit: int = Field(10, ge=1, le=100)
    provider: str | None = Field(None, max_length=200)


def endpoints() -> list[Endpoint]:
    """Declare ``/api/reconciliations``."""
    make = Endpoint(
        "POST",
        BASE,
        _Reconciling().make,
        "Compare our records with a provider's bill",
        Reconciliation,
        ReconciliationBody,
        roles=ADMINS,
        errors=(409, 502, 503),
        max_body_bytes=MAX_BODY_BYTES,
    )
    listing = "Reconciliations with providers' bills, newest first"
    return [read_endpoint(BASE, _list, listing, ReconciliationList, query=ReconciliationPage, roles=STAFF, errors=(503,)), make]


async def _list(request: ApiRequest) -> ApiResponse:
    page = request.query
    found = await request.run_in_thread(lambda: request.services.reconciliations.newest(page.limit, page.provider))
    return ApiResponse({"reconciliations": found})


class _Reconciling:
    """The handler. One reconciliation at a time: it holds a thread while the provider is asked."""

    def __init__(self) -> None:
        self.turn = anyio.Lock()

    async def make(self, request: ApiRequest) -> ApiResponse:
        """Answer with the comparison, and keep it."""
        body, services = request.body, request.services
        provider = _provider(services.policy.providers, str(body["provider"]))
        start, end = _span(body, services.clock())
        document = body.get("report")
        if document is None and provider.admin_key is None:
            message = f"providers.{provider.name}.admin_key is not set or not usable: name an admin key there, or send a report"
            raise ApiError(409, "conflict", message)
        scope = Scope(tuple(body.get("api_key_ids", ())), tuple(body.get("workspace_ids", ())))

        def work() -> dict[str, Any]:
            report = read_report(provider.name, document) if document is not None else _fetch(provider, start, end, scope)
            booked = read_booked(services.reconciliations.path, provider.name, start, end)
            # After the calls: what is deleted in between is said, too.
            deleted = deleted_before(services.reconciliations.path)
            made = {
                "at": iso(services.clock()),
                "provider": provider.name,
                "actor": request.caller.name,
                "from": iso(start)[:10],
                "to": iso(end - DAY_MS)[:10],
                "source": "api" if document is None else "file",
                **compare(report, booked, services.prices, start, end, deleted),
            }
            services.reconciliations.add(made)
            return made

        async with self.turn:
            try:
                return ApiResponse(await request.run_in_thread(work))
            except ReportError as e:
                raise ApiError(400 if document is not None else 502, "report_unusable", str(e)) from e


def _fetch(provider: Provider, start: int, end: int, scope: Scope) -> Report:
    assert provider.admin_key is not None
    return AdminApi(provider.name, provider.base_url, provider.admin_key, time.sleep).fetch(start, end, scope)


def _provider(known: Mapping[str, Provider], name: str) -> Provider:
    if name not in PROVIDERS:
        near = "" if name in known else did_you_mean(name, PROVIDERS)
        message = f"provider: bills of '{name}' cannot be compared; known are {', '.join(PROVIDERS)}{near}"
        raise ApiError(400, "invalid_request", message, "provider")
    return known[name]


def _span(body: Mapping[str, Any], now: int) -> tuple[int, int]:
    """Return the range of days in epoch milliseconds, the end excluded. Raises ApiError."""
    start, last = (_day(body, name) for name in ("from", "to"))
    if start > last:
        raise ApiError(400, "invalid_request", f"from: {body['from']} is after {body['to']}", "from")
    if last > now:
        raise ApiError(400, "invalid_request", f"to: {body['to']} has not begun yet", "to")
    if last - start >= MAX_DAYS * DAY_MS:
        raise ApiError(400, "invalid_request", f"from: at most {MAX_DAYS} days are compared at once", "from")
    return start, last + DAY_MS


def _day(body: Mapping[str, Any], name: str) -> int:
    text = str(body[name])
    try:
        at = parse_iso(text)
    except ValueError:
        at = -1
    if at < 0 or at % DAY_MS or len(text) != len("2026-11-01"):
        raise ApiError(400, "invalid_request", f"{name}: '{text[:40]}' is not a day such as 2026-11-01", name)
    return at
