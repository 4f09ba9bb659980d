"""Who asks the gateway's own port for something: a role, and for developers the virtual key whose own view it is."""

from __future__ import annotations

import base64
import binascii
import hashlib
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


COOKIE = "sluicegate_session"


def caller_of(request: Request, services: Services, *, again: bool = False) -> Caller | None:
    """Who a request's credentials name, a session's cookie last; None for nobody we know.

    With ``again`` it is the same request as before, which is still being answered: nobody is using the session.
    """
    if isinstance(known := request.scope.get("caller"), Caller):
        # A request made within this process says who makes it.
        return known
    user, token = token_of(request.headers.get("authorization", ""))
    here = is_local(request)
    asking_as = request.headers.get("x-bf-vk")
    if asking_as and (developer := _developer(services, digest_of(asking_as), here)) is not None:
        # Said on purpose, also by somebody whose curl sends the admin token by itself.
        return developer
    if token and (staff := _staff(services, digest_of(token))) is not None and user in (None, staff.name):
        return staff
    for name in ("authorization", "x-api-key", "x-goog-api-key"):
        value = (token if user is None else "") if name == "authorization" else request.headers.get(name)
        if value and (developer := _developer(services, digest_of(value), here)) is not None:
            return developer
    session_id = session_id_of(request)
    if not session_id or not is_from_own_page(request):
        return None
    holder = services.sessions.find(session_id, services.clock(), session_path_of(request), use=not again)
    return caller_with(services, holder, here) if holder is not None else None


def session_id_of(request: Request) -> str | None:
    """The id of the session in a request's cookies.

    The first of them: a browser sends those with the longest path first, and who else under this host name may set
    cookies does not know the path of ours.
    """
    for part in "; ".join(request.headers.getlist("cookie")).split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE:
            return value
    return None


def session_path_of(request: Request) -> str:
    """Where a page asks from: the only place at which its cookie is believed, whoever set it there."""
    return str(request.scope.get("place", ""))


def caller_with(services: Services, digest: bytes, here: bool) -> Caller | None:
    """Who has the token or virtual key with this SHA-256, as the policy stands now."""
    return _staff(services, digest) or _developer(services, digest, here)


def _staff(services: Services, digest: bytes) -> Caller | None:
    if services.is_admin(digest):
        return Caller("admin", "admin")
    operator = services.policy.operator_by_digest(digest)
    return Caller(operator.role, operator.id) if operator is not None else None


def _developer(services: Services, digest: bytes, here: bool) -> Caller | None:
    key = services.policy.key_by_digest(digest)
    if key is None or key.refusal(services.clock()) is not None:
        return None
    if not here and key.is_demo and not services.policy.server.allow_id_as_value:
        return None
    return Caller("developer", key.id, key.id)


def digest_of(secret: str) -> bytes:
    """A credential's SHA-256: what is compared and kept instead of it."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def is_local(request: Request) -> bool:
    """Whether it comes from this machine."""
    return request.client is None or not request.client.host or is_loopback(request.client.host)


def is_from_own_page(request: Request) -> bool:
    """Whether a cookie that came along may be believed.

    Cookies know neither ports nor schemes: a page of any other server on this machine sends ours along, SameSite or
    not. What only reads may lack the browser's word on where it comes from, what writes may not.
    """
    site, origin, host = (request.headers.get(name) for name in ("sec-fetch-site", "origin", "host"))
    if site not in (None, "same-origin", "none") or (origin is not None and origin not in (f"http://{host}", f"https://{host}")):
        return False
    return request.method in ("GET", "HEAD") or site == "same-origin" or origin is not None


def refused(caller: Caller | None, roles: tuple[Role, ...], request: Request) -> Response | None:
    """The answer to somebody who is not of these roles; None for those who are."""
    if caller is None:
        # A browser asks for a password by itself when a page's script is told Basic.
        script = "mozilla" in request.headers.get("user-agent", "").lower() and "text/html" not in request.headers.get("accept", "")
        headers = {"www-authenticate": 'Bearer realm="sluicegate"' if script else 'Basic realm="sluicegate", Bearer'}
        words = "This needs the admin token or an operator's"
        if "developer" in roles:
            words += ", or a virtual key for what is its own"
        return JSONResponse(error("unauthorized", words), 401, headers)
    if caller.role not in roles:
        return JSONResponse(error("forbidden", f"This is not for the role {caller.role}"), 403)
    return None


def needs(*roles: Role, services: Services) -> Callable[[Handler], Handler]:
    """For handlers that only these roles may reach; ``request.state.caller`` is who it is."""

    def wrap(handler: Handler) -> Handler:
        async def checked(request: Request) -> Response:
            caller = caller_of(request, services)
            if (no := refused(caller, roles, request)) is not None:
                return no
            request.state.caller = caller
            return await handler(request)

        return checked

    return wrap
