"""Signing in to the dashboard: a token or virtual key is exchanged for a cookie that no script and no other server can read."""

from __future__ import annotations

import logging

from pydantic import Field

from sluicegate.web.auth import COOKIE, Caller, Role, caller_with, digest_of, is_local, session_id_of, session_path_of
from sluicegate.web.endpoint import ALL_ROLES, OPEN, ApiRequest, ApiResponse, Endpoint, read_endpoint
from sluicegate.web.errors import ApiError
from sluicegate.web.requests import Model
from sluicegate.web.responses import ResponseModel
from sluicegate.web.session_path import new_session_path

logger = logging.getLogger("sluicegate.api")

COOKIE_FOR = "; HttpOnly; SameSite=Strict; Path="


class Login(Model):
    """What is exchanged for a session."""

    token: str = Field(min_length=1, max_length=1_000, description="The admin token, an operator's, or a virtual key.")


class Identity(ResponseModel):
    """Who is signed in."""

    role: Role
    name: str
    virtual_key_id: str | None = Field(description="The key whose own view it is; null for those who see everything.")


class SignedIn(Identity):
    """Who is signed in now, and where their pages ask from."""

    place: str = Field(description="What is to be put before `/api/...`: the cookie is sent to no other path.")


class SignedOut(ResponseModel):
    """Nobody is signed in any more."""

    signed_in: bool


def endpoints() -> list[Endpoint]:
    """Declare the endpoints of this module."""
    base = "/api/session"
    login, logout = "Sign in: a cookie for a token or virtual key", "Sign out"
    return [
        Endpoint("POST", f"{base}/login", _login, login, SignedIn, Login, roles=OPEN, errors=(429,)),
        Endpoint("POST", f"{base}/logout", _logout, logout, SignedOut, roles=OPEN),
        read_endpoint(base, _who, "Who is signed in", Identity, roles=ALL_ROLES),
    ]


async def _login(request: ApiRequest) -> ApiResponse:
    services, now = request.services, request.services.clock()
    source = request.http.client.host if request.http.client else ""
    digest = digest_of(request.body["token"])
    caller = caller_with(services, digest, is_local(request.http))
    # Whoever has the right token is never kept out: others on the same machine may be guessing.
    if caller is None and (wait := services.attempts.delay_ms(source, now)):
        seconds = -(-wait // 1000)
        raise ApiError(429, "too_many_attempts", f"Too many wrong tokens from here; try again in {seconds} s", retry_after=seconds)
    if caller is None:
        services.attempts.failed(source, now)
        services.writer.count_refusal(now, source, "unauthorized")
        services.writer.flush_soon()
        raise ApiError(401, "unauthorized", "This is no admin token, no operator's and no virtual key that may be used", "token")
    logger.info("%s %s signed in from %s", caller.role, caller.name, source or "here")
    _end(request)
    # Only where the page itself came over TLS, which somebody before us speaks: over plain HTTP it would be thrown away.
    secure = "; Secure" if request.http.headers.get("origin", "").startswith("https://") else ""
    place = new_session_path()
    cookie = f"{COOKIE}={services.sessions.open(digest, now, place)}{COOKIE_FOR}{place}/{secure}"
    return ApiResponse(_identity(caller) | {"place": place}, headers={"set-cookie": cookie})


async def _logout(request: ApiRequest) -> ApiResponse:
    _end(request)
    return ApiResponse(
        {"signed_in": False}, headers={"set-cookie": f"{COOKIE}={COOKIE_FOR}{session_path_of(request.http)}/; Max-Age=0"}
    )


async def _who(request: ApiRequest) -> ApiResponse:
    return ApiResponse(_identity(request.caller))


def _end(request: ApiRequest) -> None:
    if session_id := session_id_of(request.http):
        request.services.sessions.close(session_id, session_path_of(request.http))


def _identity(caller: Caller) -> dict[str, str | None]:
    return {"role": caller.role, "name": caller.name, "virtual_key_id": caller.virtual_key_id}
