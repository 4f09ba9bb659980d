"""The endpoint table: each row declares method, path, roles, parameters, body and response of one operation.

Each module in ``routes/`` declares its rows as ``Endpoint``s. ``routing.py`` checks requests against their row and
``openapi.py`` describes it, so what is served and what is documented cannot differ.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.to_thread
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from sluicegate.policy.editing.draft import Draft
from sluicegate.policy.model import Policy
from sluicegate.services import Services
from sluicegate.web.auth import Caller, Role
from sluicegate.web.errors import ApiError
from sluicegate.web.query import Query, QueryParser, WriteQuery

MAX_NAME_LENGTH = 200
"""Characters of a name in a path."""

MAX_BODY_BYTES = 1 << 20
"""The largest body of an endpoint that declares no limit of its own."""

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"

ADMINS: tuple[Role, ...] = ("admin",)
STAFF: tuple[Role, ...] = ("admin", "viewer")
ALL_ROLES: tuple[Role, ...] = ("admin", "viewer", "developer")
OPEN: tuple[Role, ...] = ()
"""Open to everyone who can reach the port, without a credential."""

ANONYMOUS = Caller("developer", "", "")
"""The caller at an open endpoint who sent no valid credential: holds no key and so sees nothing."""

_provider_waiters = anyio.CapacityLimiter(10)
"""Who waits for the identity provider, or for another's renewal, does so here: a provider that hangs must not take every thread."""

_policy_writers = anyio.CapacityLimiter(2)
"""Writers wait for each other here rather than in the worker threads that readers and calls need."""


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """One request to a handler: authenticated, authorized and of the declared shape."""

    services: Services
    caller: Caller
    path: Mapping[str, str]
    """The names in the path."""
    query: Any
    """What the endpoint's query parser returned."""
    body: dict[str, Any]
    """The JSON object that was sent, with exact numbers and only the fields that were given."""
    if_match: Callable[[str], bool]
    """Whether the request was made for this policy revision; without the header, any."""
    create_only: bool
    """Whether an entity that exists already must not be changed."""
    http: Request
    """The HTTP request itself."""

    @property
    def dry_run(self) -> bool:
        """Whether to check everything and change nothing."""
        return bool(getattr(self.query, "dry_run", False))

    async def run_in_thread[T](self, work: Callable[[], T]) -> T:
        """Run blocking or slow work in a worker thread."""
        return await anyio.to_thread.run_sync(work)

    async def wait_in_thread[T](self, work: Callable[[], T]) -> T:
        """Run work that may wait for the identity provider in one of a few threads."""
        return await anyio.to_thread.run_sync(work, limiter=_provider_waiters)

    @property
    def is_over_http(self) -> bool:
        """Whether it came over HTTP; the command line makes requests within its own process, as the files' owner."""
        return "caller" not in self.http.scope

    async def edit_policy[T](
        self, work: Callable[[Draft], T], action: str = "update", created: Collection[str] = ()
    ) -> tuple[T, Policy]:
        """Change the policy in the caller's name, one change at a time, without delaying calls.

        ``created`` are references that were made for this change; over HTTP no other reference can be added.
        """

        def run() -> tuple[T, Policy]:
            who, write = self.caller.name, not self.dry_run
            more: dict[str, Any] = {"secrets_stay": self.is_over_http, "created": created}
            return self.services.policy_writer.change(work, who=who, action=action, if_match=self.if_match, write=write, **more)

        return await anyio.to_thread.run_sync(run, limiter=_policy_writers)


@dataclass(frozen=True, slots=True)
class ApiResponse:
    """A JSON object to answer with, and what is unusual about the response."""

    body: Mapping[str, Any]
    status: int = 200
    revision: str | None = None
    """The policy revision it was made with, sent as its ETag."""
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[[ApiRequest], Awaitable[ApiResponse | Response]]
"""Answers a request, with a Starlette ``Response`` where the answer is not a small JSON object."""


Shown = Callable[[Services, Mapping[str, str]], Mapping[str, Any]]
"""Returns an entity as GET shows it, by the names in the path. Raises EditError where there is none."""


@dataclass(frozen=True, slots=True)
class ErrorForm:
    """What errors look like where that is not as everywhere else."""

    model: type[BaseModel]
    render: Callable[[ApiError], Response]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One row of the table. ``path`` is in Starlette's notation."""

    method: str
    path: str
    handler: Handler
    summary: str
    response: type[BaseModel] | None
    """The shape of a JSON answer; None for text, or for JSON that no model describes."""
    body: type[BaseModel] | None = None
    query: QueryParser = Query
    roles: tuple[Role, ...] = STAFF
    errors: tuple[int, ...] = ()
    """Error statuses besides 400, 401 and 403 that it may answer with."""
    other_responses: Mapping[int, type[BaseModel]] = field(default_factory=dict)
    """Answers with a status of their own that are not errors."""
    edits_policy: bool = False
    """Whether it changes the policy, for the revision that If-Match names."""
    creates: bool = False
    """Whether it may create an entity, and only that where If-None-Match says so."""
    media_types: tuple[str, ...] = (JSON,)
    max_body_bytes: int = MAX_BODY_BYTES
    is_documented: bool = True
    """Whether OpenAPI lists it; the dashboard's files are not part of the API, nor is what there is not."""
    shown: Shown | None = None
    """What GET answers at this path: what a PUT repeats of it is left out of its body before that is checked."""
    takes_form: bool = False
    """Whether the body is a form, as OAuth has it, and not JSON; fields that the model does not know are ignored."""
    takes_any_body: bool = False
    """Whether a body is left to the handler, which may leave it unread."""
    body_types: tuple[str, ...] = ()
    """Content types of a body that is no JSON object; it may be compressed, and no browser sends such a type by itself."""
    finds_caller: bool = False
    """Whether the handler looks itself for who asks, where nobody who is valid does."""
    takes_api_key: bool = False
    """Whether staff may send their token in ``x-api-key`` as well, as clients of Anthropic's Admin API do."""
    error_form: ErrorForm | None = None
    """Its errors in another API's form; the same for every method of a path."""


def read_endpoint(path: str, handler: Handler, summary: str, response: type[BaseModel] | None, **more: Any) -> Endpoint:
    """Declare an operation that only reads."""
    return Endpoint("GET", path, handler, summary, response, **more)


def write_endpoint(
    method: str,
    path: str,
    handler: Handler,
    summary: str,
    response: type[BaseModel],
    body: type[BaseModel] | None = None,
    **more: Any,
) -> Endpoint:
    """Declare an operation that changes the policy: for administrators, with the errors that every change may cause."""
    declared: dict[str, Any] = {"query": WriteQuery} | more
    return Endpoint(method, path, handler, summary, response, body, roles=ADMINS, errors=(404, 409), edits_policy=True, **declared)
