"""Routes made from the endpoint table: authentication, roles, parameters, body, handler, response or error, in this order."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from sluicegate.services import Services
from sluicegate.web.auth import Caller, authorize, caller_of, look_up, staff_by_api_key
from sluicegate.web.endpoint import ALL_ROLES, ANONYMOUS, MAX_NAME_LENGTH, OPEN, STAFF, ApiRequest, Endpoint
from sluicegate.web.errors import ApiError, api_error_of
from sluicegate.web.rendering import render, render_error
from sluicegate.web.request_body import create_only_of, if_match_of, read_body

logger = logging.getLogger("sluicegate.api")


class ApiRoute(Route):
    """One path with all its endpoints."""

    def __init__(self, path: str, endpoints: Sequence[Endpoint], services: Services) -> None:
        super().__init__(path, _Dispatcher(endpoints, services))
        self.endpoints = endpoints


def build_routes(endpoints: Iterable[Endpoint], services: Services) -> list[ApiRoute]:
    """Return the routes of some endpoints, in their order."""
    by_path: dict[str, list[Endpoint]] = {}
    for endpoint in endpoints:
        by_path.setdefault(endpoint.path, []).append(endpoint)
    return [ApiRoute(path, rows, services) for path, rows in by_path.items()]


def unknown_path(services: Services) -> ApiRoute:
    """Return the route for every other path; only staff learn that there is no endpoint."""
    return ApiRoute("/{path:path}", (), services)


@dataclass
class _Dispatcher:
    """The ASGI application behind one path."""

    endpoints: Sequence[Endpoint]
    services: Services
    by_method: dict[str, Endpoint] = field(init=False)

    def __post_init__(self) -> None:
        self.by_method = {endpoint.method: endpoint for endpoint in self.endpoints}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self.respond(Request(scope, receive))
        await response(scope, receive, send)

    async def respond(self, request: Request) -> Response:
        """Return the response to a request, and an error response if anything fails."""
        try:
            return await self._call_handler(request)
        except Exception as e:
            error = api_error_of(e)
            if error is None:
                logger.exception("%s %s failed", request.method, request.url.path)
                error = ApiError(500, "api_error", "The gateway failed to answer; its log says why")
            form = next((e.error_form for e in self.endpoints if e.error_form is not None), None)
            return render_error(error) if form is None else form.render(error)

    async def _call_handler(self, request: Request) -> Response:
        endpoint = self.by_method.get("GET" if request.method == "HEAD" else request.method)
        await look_up(request, self.services)
        caller = self._authorize(request, endpoint)
        if not self.endpoints:
            raise ApiError(404, "not_found", "There is no endpoint at this path")
        if any(len(value) > MAX_NAME_LENGTH for value in request.path_params.values()):
            raise ApiError(404, "not_found", f"There is nothing at this path: a name has at most {MAX_NAME_LENGTH} characters")
        if endpoint is None:
            allowed = ", ".join(self.by_method)
            message = f"{request.method} is not allowed at this path; allowed: {allowed}"
            raise ApiError(405, "method_not_allowed", message, headers={"allow": allowed})
        query = endpoint.query.parse(request.query_params.multi_items())
        body = await read_body(request, endpoint, self.services)
        preconditions = if_match_of(request), create_only_of(request)
        response = await endpoint.handler(
            ApiRequest(self.services, caller, request.path_params, query, body, *preconditions, request)
        )
        return response if isinstance(response, Response) else await render(response)

    def _authorize(self, request: Request, endpoint: Endpoint | None) -> Caller:
        caller = caller_of(request, self.services)
        candidates = self.endpoints if endpoint is None else (endpoint,)
        if caller is None and any(candidate.takes_api_key for candidate in candidates):
            caller = staff_by_api_key(request, self.services)
        if any(candidate.roles == OPEN for candidate in candidates):
            return caller or ANONYMOUS
        if caller is None and endpoint is not None and endpoint.finds_caller:
            return ANONYMOUS
        # Only callers who may use a path learn whether it exists; an open path is not a secret.
        roles = endpoint.roles if endpoint is not None else ALL_ROLES if self.endpoints else STAFF
        return authorize(caller, roles, request, self.services)
