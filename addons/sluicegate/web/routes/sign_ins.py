"""Sign-ins over REST: who is signed in on which machine, and ending that."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from sluicegate.policy.audit_trail import AuditEntry
from sluicegate.policy.fields import Instant
from sluicegate.sign_in.kept import SignIn
from sluicegate.web.endpoint import ADMINS, ALL_ROLES, ApiRequest, ApiResponse, Endpoint, read_endpoint
from sluicegate.web.errors import ApiError
from sluicegate.web.query import Query
from sluicegate.web.responses import ResponseModel
from sluicegate.windows import iso

BASE = "/api/sign-ins"


class SignInState(ResponseModel):
    """One sign-in: a person on one machine."""

    id: str
    user_id: str
    virtual_key_id: str
    email: str | None
    name: str | None
    source: str = Field(description="The address that the client asked from.")
    client: str = Field(description="What the client called itself.")
    began_at: Instant
    renewed_at: Instant
    checked_at: Instant = Field(description="When the identity provider last vouched for the person.")
    ends_at: Instant = Field(description="When the person has to sign in again at the latest.")


class SignInList(ResponseModel):
    """Those that have not ended, the newest first."""

    sign_ins: list[SignInState]


class SignInsEnded(ResponseModel):
    """Sign-ins that were ended."""

    message: str
    ended: list[str]


class OfUser(Query):
    """Whose sign-ins."""

    user: str | None = Field(None, max_length=200, description="Those of this user only.")


class EndOfUser(Query):
    """Whose sign-ins are ended."""

    user: str = Field(max_length=200, description="The user's id.")


def endpoints() -> list[Endpoint]:
    """Declare ``/api/sign-ins``."""
    end = "End a sign-in: its tokens are refused at once"
    return [
        read_endpoint(BASE, _list, "Who is signed in, on which machine", SignInList, query=OfUser, roles=ALL_ROLES, errors=(503,)),
        Endpoint(
            "DELETE", BASE, _end_of_user, "End every sign-in of a user", SignInsEnded, query=EndOfUser, roles=ADMINS, errors=(503,)
        ),
        Endpoint("DELETE", f"{BASE}/{{id}}", _end, end, SignInsEnded, roles=("admin", "developer"), errors=(404, 503)),
    ]


async def _list(request: ApiRequest) -> ApiResponse:
    found = await request.run_in_thread(request.services.sign_ins.current)
    wanted = request.query.user
    return ApiResponse({"sign_ins": [_shown(s) for s in found if _may_see(request, s) and wanted in (None, s.user_id)]})


async def _end(request: ApiRequest) -> ApiResponse:
    found = await request.run_in_thread(request.services.sign_ins.current)
    wanted = [s for s in found if s.id == request.path["id"] and _may_see(request, s)]
    if not wanted:
        raise ApiError(404, "not_found", f"There is no sign-in '{request.path['id']}'")
    return await _ended(request, wanted)


async def _end_of_user(request: ApiRequest) -> ApiResponse:
    found = await request.run_in_thread(request.services.sign_ins.current)
    await request.run_in_thread(lambda: request.services.sign_ins.end_all_of(request.query.user))
    return await _ended(request, [s for s in found if s.user_id == request.query.user])


async def _ended(request: ApiRequest, wanted: list[SignIn]) -> ApiResponse:
    services, who, revision, ids = request.services, request.caller.name, request.services.policy.revision, [s.id for s in wanted]
    entries = [AuditEntry("end_sign_in", "user", s.user_id, {"sign_in": s.id, "source": s.source}, None) for s in wanted]

    def work() -> None:
        services.sign_ins.end(ids)
        if entries:
            services.audit_trail.write(entries, at=iso(services.clock()), who=who, before=revision, after=revision)

    await request.run_in_thread(work)
    message = f"{len(ids)} sign-in{'' if len(ids) == 1 else 's'} ended"
    return ApiResponse({"message": message, "ended": ids})


def _may_see(request: ApiRequest, sign_in: SignIn) -> bool:
    """Return whether the caller is staff, or the holder of the key that the sign-in has."""
    return request.caller.role != "developer" or request.caller.virtual_key_id == sign_in.virtual_key_id


def _shown(sign_in: SignIn) -> dict[str, Any]:
    texts = {name: getattr(sign_in, name) for name in ("id", "user_id", "virtual_key_id", "email", "name", "source", "client")}
    return texts | {name: iso(getattr(sign_in, name)) for name in ("began_at", "renewed_at", "checked_at", "ends_at")}
