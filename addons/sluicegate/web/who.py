"""Who asks the gateway's own port for something: a role, and for developers the virtual key whose own view it is."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sluicegate.services import Services

Role = Literal["admin", "viewer", "developer"]
"""``admin`` reads and writes everything, ``viewer`` reads everything, ``developer`` reads what is of one virtual key."""

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is asking. ``name`` is what the audit trail calls them."""

    role: Role
    name: str
    virtual_key_id: str | None = None
    """The key whose own view this is; None for those who see everything."""


def error(kind: str, message: str) -> dict[str, object]:
    """The body of an answer that says no."""
    return {"type": "error", "error": {"type": kind, "message": message}}


def token_of(authorization: str) -> str | None:
    """The token in an Authorization header: Bearer, or Basic as user admin."""
    scheme, _, rest = authorization.strip().partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    if scheme.lower() == "basic":
        try:
            user, _, password = base64.b64decode(rest.strip(), validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            return None
        return password if user == "admin" else None
    return None


def caller_of(request: Request, house: Services) -> Caller | None:
    """Who a request's credentials name; None for nobody we know."""
    token = token_of(request.headers.get("authorization", ""))
    if token is not None and house.is_admin(token):
        return Caller("admin", "admin")
    for value in (request.headers.get("x-bf-vk"), token, request.headers.get("x-api-key")):
        key = house.policy.key_for(value) if value else None
        if key is not None and key.refusal(house.clock()) is None:
            return Caller("developer", key.id, key.id)
    return None


def needs(*roles: Role, house: Services) -> Callable[[Handler], Handler]:
    """For handlers that only these roles may reach; ``request.state.caller`` is who it is."""

    def wrap(handler: Handler) -> Handler:
        async def checked(request: Request) -> Response:
            caller = caller_of(request, house)
            if caller is None:
                headers = {"www-authenticate": 'Basic realm="sluicegate", Bearer'}
                return JSONResponse(error("unauthorized", "This needs the admin token"), 401, headers)
            if caller.role not in roles:
                return JSONResponse(error("forbidden", f"This is not for the role {caller.role}"), 403)
            request.state.caller = caller
            return await handler(request)

        return checked

    return wrap
