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
    asking_as = _key_in(request.headers.get("x-bf-vk"), request, house)
    if asking_as is not None:
        # Said on purpose, also by somebody whose curl sends the admin token by itself.
        return asking_as
    if token and user in (None, "admin") and house.is_admin(token):
        return Caller("admin", "admin")
    operator = house.policy.operator_for(token) if token else None
    if operator is not None and user in (None, operator.id):
        return Caller(operator.role, operator.id)
    given = (token if user is None else None, request.headers.get("x-api-key"), request.headers.get("x-goog-api-key"))
    return next((found for value in given if (found := _key_in(value, request, house)) is not None), None)


def _key_in(value: str | None, request: Request, house: Services) -> Caller | None:
    """The holder of the virtual key with this value, if it may be used from where the request comes."""
    key = house.policy.key_for(value) if value else None
    if key is None or key.refusal(house.clock()) is not None:
        return None
    here = request.client is None or not request.client.host or is_loopback(request.client.host)
    if key.is_demo and not here and not house.policy.server.allow_id_as_value:
        return None
    return Caller("developer", key.id, key.id)


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
