"""Fetching a provider's report from its admin API: page by page, with bounded retries, in words when it fails. Blocking."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from sluicegate.http_client.errors import UnreachableError
from sluicegate.http_client.exchange import request
from sluicegate.http_client.response import Response
from sluicegate.reconciliation.reports import Report, ReportError, add_page
from sluicegate.windows import DAY_MS, iso

TIMEOUT_S = 30.0
"""Time to connect, between bytes, and for the whole body of one page."""

ATTEMPTS = 4
"""How often a page is asked for while the provider answers 429 or 5xx, or does not answer."""

MAX_WAIT_S = 20.0
"""The longest wait before another attempt, whatever ``retry-after`` says."""

MAX_PAGES = 400
"""Pages read of one report: a year of days, 31 on each page, has twelve."""

DAYS_PER_PAGE = 31

_ANTHROPIC_VERSION = "2023-06-01"


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose usage counts: everyone's in the organisation, or that of some API keys or workspaces (OpenAI: projects)."""

    api_keys: tuple[str, ...] = ()
    workspaces: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AdminApi:
    """A provider's admin API: where it is, and the key for it, which no message contains."""

    provider: str
    base_url: str
    key: str = field(repr=False)
    wait: Callable[[float], None]
    """Waits some seconds."""

    def fetch(self, start: int, end: int, scope: Scope) -> Report:
        """Return what the provider reports for ``[start, end)``, epoch milliseconds at midnight UTC. Raises ReportError."""
        report = Report()
        for path, parameters, counts_workspaces in _requests(self.provider, start, end, scope):
            wanted = frozenset(scope.workspaces) if counts_workspaces else frozenset()
            self._fetch_pages(path, parameters, report, wanted)
        return report

    def _fetch_pages(self, path: str, parameters: Sequence[tuple[str, str]], report: Report, workspaces: frozenset[str]) -> None:
        page: str | None = None
        for _ in range(MAX_PAGES):
            query = [*parameters, *([("page", page)] if page else [])]
            body = self._get(f"{self.base_url}{path}?{urlencode(query)}", path)
            add_page(self.provider, body, report, workspaces)
            following = body.get("next_page")
            if not body.get("has_more"):
                return
            if not following or following == page:
                raise ReportError(f"{path} says that there is more, but not where")
            page = str(following)
        raise ReportError(f"{path} has more than {MAX_PAGES} pages: ask for fewer days")

    def _get(self, url: str, path: str) -> Any:
        failure = ""
        for attempt in range(ATTEMPTS):
            try:
                answer = request("GET", url, headers=self._headers(), timeout_s=TIMEOUT_S)
            except UnreachableError as e:
                failure, pause = f"{self.base_url} does not answer: {e}", 2.0**attempt
            else:
                if answer.status == 200:
                    return _json(answer, path)
                failure = self._words(answer, path)
                if answer.status != 429 and answer.status < 500:
                    raise ReportError(failure)
                pause = 2.0**attempt
            if attempt < ATTEMPTS - 1:
                self.wait(min(pause, MAX_WAIT_S))
        raise ReportError(f"{failure} (after {ATTEMPTS} attempts)")

    def _headers(self) -> Mapping[str, str]:
        if self.provider == "anthropic":
            return {"x-api-key": self.key, "anthropic-version": _ANTHROPIC_VERSION}
        return {"authorization": f"Bearer {self.key}"}

    def _words(self, answer: Response, path: str) -> str:
        """Return what an error answer says, on one line, without the key."""
        try:
            message = str(answer.json()["error"]["message"])
        except (ValueError, KeyError, TypeError):
            message = ""
        message = re.sub(r"\s+", " ", message.replace(self.key, "********"))[:200]
        what = {
            401: f"does not accept the admin key: providers.{self.provider}.admin_key must be an organisation's admin key",
            403: "does not let this admin key read usage and costs",
            404: "is not there: the admin API is the provider's own, so base_url must lead to it",
            429: "asks for fewer requests",
        }.get(answer.status, "failed")
        return f"{self.provider}'s {path} {what} ({answer.status}{': ' + message if message else ''})"


def _json(answer: Response, path: str) -> Any:
    try:
        body = answer.json()
    except ValueError as e:
        raise ReportError(f"{path} answered something that is not JSON: base_url must lead to the provider itself") from e
    if not isinstance(body, dict) or not isinstance(body.get("data"), list):
        raise ReportError(f"{path} answered something that is not a page of a report")
    return body


def _requests(provider: str, start: int, end: int, scope: Scope) -> list[tuple[str, list[tuple[str, str]], bool]]:
    """Return path and parameters of each report, and whether its lines are still to be narrowed to the workspaces."""
    limit = [("bucket_width", "1d"), ("limit", str(min(DAYS_PER_PAGE, (end - start) // DAY_MS)))]
    keys = [("api_key_ids[]", k) for k in scope.api_keys]
    if provider == "anthropic":
        span = [("starting_at", iso(start)[:19] + "Z"), ("ending_at", iso(end)[:19] + "Z"), *limit]
        # Narrowed here and not by the provider: costs can't be, and the default workspace has no id to ask for.
        narrows = bool(scope.workspaces)
        spaces = [("group_by[]", "workspace_id")] if narrows else []
        groups = [("group_by[]", "model"), ("group_by[]", "service_tier"), *spaces]
        usage = ("/v1/organizations/usage_report/messages", [*span, *groups, *keys], narrows)
        costs = ("/v1/organizations/cost_report", [*span, ("group_by[]", "description"), *spaces], narrows)
    else:
        span = [("start_time", str(start // 1000)), ("end_time", str(end // 1000)), *limit]
        projects = [("project_ids[]", p) for p in scope.workspaces]
        groups = [("group_by[]", g) for g in ("model", "batch", "service_tier")]
        usage = ("/v1/organization/usage/completions", [*span, *groups, *keys, *projects], False)
        costs = ("/v1/organization/costs", [*span, ("group_by[]", "line_item"), *projects], False)
    # Costs are not reported by API key; they are computed from the tokens then.
    return [usage] if scope.api_keys else [usage, costs]
