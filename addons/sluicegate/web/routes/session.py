"""Dashboard sessions: a token or virtual key is exchanged for a cookie that no script and no other server can read."""

from __future__ import annotations

import logging
from typing import Literal

from pydantic import Field, model_validator

from sluicegate.policy.editing.permission import why_read_only
from sluicegate.policy.fields import Model
from sluicegate.services import Services
from sluicegate.web.auth import (
    Caller,
    Role,
    caller_with,
    count_wrong_credential,
    digest_of,
    is_local,
    session_cookie,
    session_id_of,
    session_path_of,
)
from sluicegate.web.endpoint import ALL_ROLES, OPEN, ApiRequest, ApiResponse, Endpoint, read_endpoint
from sluicegate.web.errors import ApiError
from sluicegate.web.responses import ResponseModel
from sluicegate.web.routes.device import DASHBOARD
from sluicegate.web.session_path import new_session_path

logger = logging.getLogger("sluicegate.api")


class Login(Model):
    """The credential to exchange for a session."""

    token: str | None = Field(None, min_length=1, max_length=1_000, description="The admin token, an operator's, or a virtual key.")
    username: str | None = Field(None, max_length=200, description="As Bifrost has it: admin, or the operator's id.")
    password: str | None = Field(None, max_length=1_000, description="The token, where there is a username.")

    @model_validator(mode="after")
    def _require_one(self) -> Login:
        if (self.token is None) == (self.password is None) or (self.password is None) != (self.username is None):
            raise ValueError("send a token, or username and password")
        return self


class Identity(ResponseModel):
    """The caller who is signed in."""

    role: Role
    name: str
    virtual_key_id: str | None = Field(
        description="The only key whose calls and limits they see; null for staff, who see everything."
    )


class Session(Identity):
    """Who is signed in, and what their pages may offer."""

    read_only: str | None = Field(description="Why nobody can change the policy here, and what to do instead; null: admins can.")


class SignedIn(Session):
    """The caller who has signed in, and the session path of their pages."""

    message: str
    place: str = Field(description="A path to put before `/api/...`: the cookie is sent to no other path.")


class SignedOut(ResponseModel):
    """The session has ended."""

    signed_in: bool
    message: str


class AuthState(ResponseModel):
    """Whether the administration needs a credential, and whether the caller has one."""

    is_auth_enabled: bool
    has_valid_token: bool
    auth_type: Literal["password"]
    sign_in_url: str | None = Field(description="Where a browser signs in at the identity provider; null: nowhere.")


def endpoints() -> list[Endpoint]:
    """Declare everything under ``/api/session``."""
    base = "/api/session"
    login, logout = "Sign in: exchange a token or virtual key for a cookie", "Sign out"
    return [
        Endpoint("POST", f"{base}/login", _login, login, SignedIn, Login, roles=OPEN, errors=(429, 503)),
        Endpoint("POST", f"{base}/logout", _logout, logout, SignedOut, roles=OPEN, errors=(503,)),
        read_endpoint(f"{base}/is-auth-enabled", _auth, "Whether the API needs a credential", AuthState, roles=OPEN),
        read_endpoint(base, _session, "Who is signed in", Session, roles=ALL_ROLES),
    ]


async def _login(request: ApiRequest) -> ApiResponse:
    services, now = request.services, request.services.clock()
    name, token = request.body.get("username"), request.body.get("token") or request.body.get("password") or ""
    digest = digest_of(token)
    caller = caller_with(services, digest, is_local(request.http, services))
    if caller is None or name not in (None, caller.name):
        count_wrong_credential(services, request.http)
        raise ApiError(401, "unauthorized", "This is not the admin token, an operator's token or an active virtual key", "token")
    source = request.http.client.host if request.http.client else ""
    logger.info("%s %s signed in from %s", caller.role, caller.name, source or "here")
    await _close_session(request)
    session_path, is_secure = new_session_path(), _came_over_tls(request)
    session_id = await request.run_in_thread(lambda: services.sessions.open(digest, now, session_path))
    cookie = session_cookie(session_id, session_path, is_secure=is_secure)
    return ApiResponse(
        _session_of(services, caller) | {"place": session_path, "message": "Login successful"}, headers={"set-cookie": cookie}
    )


async def _logout(request: ApiRequest) -> ApiResponse:
    await _close_session(request)
    taken = session_cookie("", session_path_of(request.http), is_secure=_came_over_tls(request))
    return ApiResponse({"signed_in": False, "message": "Logout successful"}, headers={"set-cookie": f"{taken}; Max-Age=0"})


def _came_over_tls(request: ApiRequest) -> bool:
    """Return whether the page came over TLS, of ours or of a proxy in front: browsers drop a secure cookie that did not."""
    return request.http.url.scheme == "https" or request.http.headers.get("origin", "").startswith("https://")


async def _session(request: ApiRequest) -> ApiResponse:
    return ApiResponse(_session_of(request.services, request.caller))


async def _auth(request: ApiRequest) -> ApiResponse:
    has_one = bool(request.caller.name)
    url = DASHBOARD if request.services.policy.oidc is not None else None
    return ApiResponse({"is_auth_enabled": True, "has_valid_token": has_one, "auth_type": "password", "sign_in_url": url})


async def _close_session(request: ApiRequest) -> None:
    session_id, path, services = session_id_of(request.http), session_path_of(request.http), request.services
    if not session_id:
        return
    is_known = services.sessions.find(session_id, services.clock(), path, use=False) is not None
    source = request.http.client.host if request.http.client else ""
    # Anybody can make one up, and one that is not known here is asked for in the store.
    if is_known or services.sign_ins.following.look_ups.may_ask(source):
        await request.run_in_thread(lambda: services.sessions.close(session_id, path))


def _session_of(services: Services, caller: Caller) -> dict[str, str | None]:
    why = why_read_only(services.policy_watcher, over_http=True) if caller.role != "developer" else None
    return {"role": caller.role, "name": caller.name, "virtual_key_id": caller.virtual_key_id, "read_only": why}
