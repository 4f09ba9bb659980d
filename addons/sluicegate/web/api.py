"""The API as a table: each row says method, path, who may, what is sent and what is answered; requests are held to it.

A room of the API writes its rows as ``Endpoint``s and hands them to ``mount``. What a row declares is what is checked
and what ``/api/openapi.json`` says (``openapi.py``), so the two cannot differ.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import anyio
import anyio.to_thread
import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from sluicegate.background import low_priority
from sluicegate.policy.audit_trail import AuditTrailError
from sluicegate.policy.editing.draft import Conflict, Draft, EditError, NotFound
from sluicegate.policy.editing.writer import NotWritable, PolicyLocked, RevisionMismatch
from sluicegate.policy.errors import describe_errors, did_you_mean
from sluicegate.policy.model import Policy
from sluicegate.policy.revisions import RevisionsError
from sluicegate.services import Services
from sluicegate.storage.errors import StoreError
from sluicegate.web.auth import Caller, Role, caller_of, refused
from sluicegate.yaml_document import dotted

logger = logging.getLogger("sluicegate.api")

MAX_NAME_LENGTH = 200
"""Characters of a name in a path."""

MAX_BODY_BYTES = 1 << 20
"""The largest body that is read."""

LONG = 500
"""Items of a list that are written where calls are not held up."""


ADMINS: tuple[Role, ...] = ("admin",)
STAFF: tuple[Role, ...] = ("admin", "viewer")
ALL_ROLES: tuple[Role, ...] = ("admin", "viewer", "developer")
OPEN: tuple[Role, ...] = ()
"""Also those who have not said who they are."""

ANONYMOUS = Caller("developer", "", "")
"""Who asks, where nobody has to say: the holder of no key, who sees nothing."""


class Query(BaseModel):
    """A request's query parameters. The base allows none."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Change(Query):
    """The query parameters of a write."""

    dry_run: bool = Field(False, description="Check everything and change nothing.")


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """One request as a handler gets it: known, allowed, and of the declared shape."""

    services: Services
    caller: Caller
    path: Mapping[str, str]
    query: Any
    body: dict[str, Any]
    """The JSON object that was sent, its numbers exact; only what was given."""
    if_match: Callable[[str], bool]
    http: Request
    """The HTTP request itself."""

    @property
    def dry_run(self) -> bool:
        """Everything is to be checked, nothing to be done."""
        return bool(getattr(self.query, "dry_run", False))

    async def run_in_thread[T](self, work: Callable[[], T]) -> T:
        """Run blocking or slow work in a worker thread."""
        return await anyio.to_thread.run_sync(work)

    async def edit_policy[T](self, work: Callable[[Draft], T], action: str = "update") -> tuple[T, Policy]:
        """Change the policy in the caller's name, one change at a time; calls are not held up by it."""

        def run() -> tuple[T, Policy]:
            who, write = self.caller.name, not self.dry_run
            return self.services.policy_writer.change(work, who=who, action=action, if_match=self.if_match, write=write)

        return await anyio.to_thread.run_sync(run, limiter=_writers)


_writers = anyio.CapacityLimiter(2)
"""Writers wait for each other, and do it here rather than in the threads that readers and calls need."""


@dataclass(frozen=True, slots=True)
class ApiResponse:
    """An answer: a JSON object, and what is not usual about it."""

    body: Mapping[str, Any]
    status: int = 200
    revision: str | None = None
    """The policy it was made with, sent as its ETag."""
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[[ApiRequest], Awaitable[ApiResponse | Response]]
"""What answers; with a ``Response`` of its own where that is no JSON object."""


class ApiError(Exception):
    """No, with the status, the kind and the field that is wrong."""

    def __init__(self, status: int, kind: str, message: str, field: str | None = None, **more: Any) -> None:
        super().__init__(message)
        self.status, self.kind, self.field, self.more = status, kind, field, more


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One row of the table. ``path`` is Starlette's; ``body``, ``query`` and ``answer`` are what passes."""

    method: str
    path: str
    run: Handler
    summary: str
    answer: type[BaseModel]
    body: type[BaseModel] | None = None
    query: type[Query] = Query
    roles: tuple[Role, ...] = STAFF
    errors: tuple[int, ...] = ()
    """Statuses it may refuse with, besides 400, 401 and 403."""
    edits: bool = False
    """It changes the policy, for the revision that If-Match names."""
    media: str = "application/json"
    max_body_bytes: int = MAX_BODY_BYTES


def read_endpoint(path: str, run: Handler, summary: str, answer: type[BaseModel], **more: Any) -> Endpoint:
    """A row that reads."""
    return Endpoint("GET", path, run, summary, answer, **more)


def write_endpoint(
    method: str, path: str, run: Handler, summary: str, answer: type[BaseModel], body: type[BaseModel] | None = None, **more: Any
) -> Endpoint:
    """A row that writes: for administrators, and what it names may not be there or not fit."""
    declared: dict[str, Any] = {"query": Change} | more
    return Endpoint(method, path, run, summary, answer, body, roles=ADMINS, errors=(404, 409), edits=True, **declared)


class ApiRoute(Route):
    """A path of the API with all its rows."""

    def __init__(self, path: str, rows: Sequence[Endpoint], services: Services) -> None:
        super().__init__(path, _Answers(rows, services))
        self.rows = rows


def build_routes(endpoints: Iterable[Endpoint], services: Services) -> list[ApiRoute]:
    """Routes for a room's rows, in their order."""
    by_path: dict[str, list[Endpoint]] = {}
    for endpoint in endpoints:
        by_path.setdefault(endpoint.path, []).append(endpoint)
    return [ApiRoute(path, rows, services) for path, rows in by_path.items()]


@dataclass
class _Answers:
    """The ASGI application behind one path."""

    rows: Sequence[Endpoint]
    services: Services
    by_method: dict[str, Endpoint] = field(init=False)

    def __post_init__(self) -> None:
        self.by_method = {row.method: row for row in self.rows}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self.answer(Request(scope, receive))
        await response(scope, receive, send)

    async def answer(self, request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        row = self.by_method.get(method)
        caller = caller_of(request, self.services)
        if row is not None and row.roles == OPEN:
            caller = caller or ANONYMOUS
        else:
            no = refused(caller, row.roles if row else ALL_ROLES, request)
            if no is not None or caller is None:
                return no or Response(status_code=401)
        try:
            if any(len(value) > MAX_NAME_LENGTH for value in request.path_params.values()):
                raise ApiError(404, "not_found", f"There is nothing here: a name has at most {MAX_NAME_LENGTH} characters")
            if row is None:
                allowed = ", ".join(self.by_method)
                raise ApiError(405, "method_not_allowed", f"{request.method} is not for this path; it takes {allowed}")
            query = _query(request, row.query)
            body = await _body(request, row)
            api_request = ApiRequest(
                self.services, caller, request.path_params, query, body, _if_match(request.headers.get("if-match")), request
            )
            reply = await row.run(api_request)
        except Exception as e:
            refusal = refusal_of(e)
            if refusal is None:
                logger.exception("%s %s failed", request.method, request.url.path)
                refusal = ApiError(500, "api_error", "The gateway could not do this; its log says why")
            response = _refusing(refusal)
            if row is None:
                response.headers["allow"] = ", ".join(self.by_method)
            return response
        if isinstance(reply, Response):
            return reply
        long = any(isinstance(v, list) and len(v) > LONG for v in reply.body.values())
        content = await anyio.to_thread.run_sync(_paced, reply.body) if long else dumped(reply.body)
        headers = {**_tagged(reply.revision), **reply.headers}
        return Response(content, reply.status, headers, media_type="application/json")


def refusal_of(error: Exception) -> ApiError | None:
    """What an expected failure is to the one who asked; None for what should not have happened."""
    match error:
        case ApiError():
            return error
        case NotFound():
            return ApiError(404, "not_found", str(error), error.field, **error.details)
        case Conflict():
            return ApiError(409, "conflict", str(error), error.field, **error.details)
        case EditError():
            return ApiError(400, "invalid_request", str(error), error.field)
        case RevisionMismatch():
            return ApiError(412, "precondition_failed", str(error), revision=error.revision)
        case NotWritable():
            return ApiError(409 if error.lasting else 503, "policy_not_writable", str(error))
        case PolicyLocked() | AuditTrailError() | RevisionsError():
            return ApiError(503, "unavailable", str(error))
        case StoreError():
            return ApiError(503, "unavailable", "The ledger cannot be written right now; try again")
    return None


def _refusing(refusal: ApiError) -> Response:
    said: dict[str, Any] = {"type": refusal.kind, "message": str(refusal)}
    if refusal.field is not None:
        said["field"] = refusal.field
    headers = _tagged(refusal.more.get("revision"))
    if "retry_after" in refusal.more:
        headers["retry-after"] = str(refusal.more["retry_after"])
    content = dumped({"type": "error", "error": said | refusal.more})
    return Response(content, refusal.status, headers, media_type="application/json")


def dumped(value: Any) -> bytes:
    """A value as JSON."""
    try:
        return orjson.dumps(value, default=_plain)
    except TypeError:
        # Somebody's half a character, quoted in a refusal.
        return json.dumps(value, default=_plain).encode()


def _paced(body: Mapping[str, Any]) -> bytes:
    """The same, a list's items one by one: orjson lets nobody else run until it is done."""
    with low_priority():
        parts = [
            dumped(name) + b":" + (b"[" + b",".join(map(dumped, value)) + b"]" if isinstance(value, list) else dumped(value))
            for name, value in body.items()
        ]
    return b"{" + b",".join(parts) + b"}"


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return float(value)
    raise TypeError(f"{type(value).__name__} is no JSON")


def _tagged(revision: str | None) -> dict[str, str]:
    return {"etag": f'"{revision}"'} if revision is not None else {}


def _if_match(header: str | None) -> Callable[[str], bool]:
    """Whether a revision is one that the request was made for; without the header any is."""
    if header is None or header.strip() == "*":
        return lambda _: True
    tags = {tag.strip() for tag in header.split(",")}
    return lambda revision: f'"{revision}"' in tags


def _query(request: Request, model: type[Query]) -> Query:
    given: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in given:
            raise ApiError(400, "invalid_request", f"{name}: is given twice", name)
        if name not in model.model_fields:
            known = ", ".join(model.model_fields) or "none"
            near = did_you_mean(name, model.model_fields)
            raise ApiError(400, "invalid_request", f"'{name}' is no parameter here{near}; there are: {known}", name)
        given[name] = value
    try:
        return model.model_validate(given)
    except ValidationError as e:
        raise _invalid(e, model) from e


async def _body(request: Request, row: Endpoint) -> dict[str, Any]:
    raw, model = await request.body(), row.body
    if model is None:
        if raw.strip() and request.method not in ("GET", "HEAD"):
            raise ApiError(400, "invalid_request", "This takes no body")
        return {}
    if len(raw) > row.max_body_bytes:
        raise ApiError(413, "request_too_large", f"A body may have {row.max_body_bytes} bytes, this one has {len(raw)}")
    # A small body is read sooner than a thread is found.
    return _parsed(raw, model) if len(raw) < 20_000 else await anyio.to_thread.run_sync(_parsed, raw, model)


def _parsed(raw: bytes, model: type[BaseModel]) -> dict[str, Any]:
    try:
        # orjson is the stricter reader, the other the one that keeps numbers as they were written.
        orjson.loads(raw or b"{}")
        body = json.loads(raw or b"{}", parse_float=_decimal, object_pairs_hook=_once)
    except (ValueError, RecursionError) as e:
        raise ApiError(400, "invalid_request", "Invalid JSON: " + (str(e) or "nested too deeply")[:200]) from e
    if not isinstance(body, dict):
        raise ApiError(400, "invalid_request", "Invalid JSON: the body is to be an object")
    try:
        model.model_validate(body)
    except ValidationError as e:
        raise _invalid(e, model) from e
    return body


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except ArithmeticError as e:
        raise ValueError(f"{text[:40]} has an exponent that is too long") from e


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ApiError(400, "invalid_request", f"{twice[:80]}: is given twice", twice[:80])
    return found


def _invalid(error: ValidationError, model: type[BaseModel]) -> ApiError:
    found = [(dotted(place), words) for place, words in describe_errors(error, model)]
    where, words = found[0]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    problems = [{"field": f, "message": w} for f, w in found]
    return ApiError(400, "invalid_request", f"{where}: {words}{more}" if where else words + more, where or None, problems=problems)
