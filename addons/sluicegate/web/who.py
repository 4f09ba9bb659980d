"""Who asks the gateway's own port for something: a role, and for developers the virtual key whose own view it is."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sluicegate.addresses import is_loopback
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


def token_of(authorization: str) -> tuple[str | None, str]:
    """User and token in an Authorization header: a Bearer token names no user, Basic does. Empty where there is none."""
    scheme, _, rest = authorization.strip().partition(" ")
    if scheme.lower() == "bearer":
        return None, rest.strip()
    if scheme.lower() == "basic":
        try:
            user, _, password = base64.b64decode(rest.strip(), validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            return None, ""
        return user, password
    return None, ""


def caller_of(request: Request, house: Services) -> Caller | None:
    """Who a request's credentials name; None for nobody we know. A request made in this process may say who makes it."""
    if isinstance(known := request.scope.get("caller"), Caller):
        return known
    user, token = token_of(request.headers.get("authorization", ""))
    if token and user in (None, "admin") and house.is_admin(token):
        return Caller("admin", "admin")
    operator = house.policy.operator_for(token) if token else None
    if operator is not None and user in (None, operator.id):
        return Caller(operator.role, operator.id)
    here = request.client is None or not request.client.host or is_loopback(request.client.host)
    for name in ("x-bf-vk", "authorization", "x-api-key", "x-goog-api-key"):
        value = (token if user is None else "") if name == "authorization" else request.headers.get(name)
        key = house.policy.key_for(value) if value else None
        if key is None or key.refusal(house.clock()) is not None:
            continue
        if here or not key.is_demo or house.policy.server.allow_id_as_value:
            return Caller("developer", key.id, key.id)
    return None


def refused(caller: Caller | None, roles: tuple[Role, ...]) -> Response | None:
    """The answer to somebody who is not of these roles; None for those who are."""
    if caller is None:
        headers = {"www-authenticate": 'Basic realm="sluicegate", Bearer'}
        words = "This needs the admin token or an operator's"
        if "developer" in roles:
            words += ", or a virtual key for what is its own"
        return JSONResponse(error("unauthorized", words), 401, headers)
    if caller.role not in roles:
        return JSONResponse(error("forbidden", f"This is not for the role {caller.role}"), 403)
    return None


def needs(*roles: Role, house: Services) -> Callable[[Handler], Handler]:
    """For handlers that only these roles may reach; ``request.state.caller`` is who it is."""

    def wrap(handler: Handler) -> Handler:
        async def checked(request: Request) -> Response:
            caller = caller_of(request, house)
            if (no := refused(caller, roles)) is not None:
                return no
            request.state.caller = caller
            return await handler(request)

        return checked

    return wrap
