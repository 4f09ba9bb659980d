"""Who is calling the gateway's own port: a role, and for developers the virtual key whose data they may see."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Literal

import anyio
from starlette.requests import Request

from sluicegate.addresses import limited_as
from sluicegate.dashboard_sessions import session_digest
from sluicegate.fleet.sign_in.sessions import FleetSessions
from sluicegate.policy.model import VirtualKey
from sluicegate.policy.source import refusal_of_copy
from sluicegate.services import Services
from sluicegate.sign_in.errors import TooManyError
from sluicegate.sign_in.identity import role_of
from sluicegate.sign_in.members import session_key_of
from sluicegate.web.errors import ApiError
from sluicegate.windows import iso

Role = Literal["admin", "viewer", "developer"]
"""``admin`` reads and writes everything, ``viewer`` reads everything, ``developer`` reads what belongs to one virtual key."""

COOKIE = "sluicegate_session"

SECURE_COOKIE = f"__Secure-{COOKIE}"
"""Its name over TLS: browsers take one of that name only from a server that speaks TLS.

Not ``__Host-``, which takes the path away: a cookie of a secret path can be planted by nobody, and no other server is sent it.
"""

CREDENTIAL_HEADERS = ("authorization", "x-bf-vk", "x-api-key", "x-goog-api-key")
"""Headers that may hold a token or a virtual key."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request. ``name`` is what the audit trail records."""

    role: Role
    name: str
    virtual_key_id: str | None = None
    """The only key whose calls and limits they may see; None for staff, who see everything."""


def read_authorization(authorization: str) -> tuple[str | None, str]:
    """Return user and token of an Authorization header; Bearer names no user, Basic does. The token is empty if there is none."""
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


def caller_of(request: Request, services: Services, *, is_recheck: bool = False) -> Caller | None:
    """Return the caller that a request's credentials name, the session cookie last; None if they name none.

    A recheck repeats an earlier check of the same request: it does not count as a use of the session.
    """
    if isinstance(known := request.scope.get("caller"), Caller):
        # Requests that the command line makes within this process carry their caller.
        return known
    user, token = read_authorization(request.headers.get("authorization", ""))
    from_here = is_local(request, services)
    virtual_key = request.headers.get("x-bf-vk")
    if virtual_key and (developer := _developer(services, digest_of(virtual_key), from_here)) is not None:
        # Before the admin token: curl-setup makes curl send that one by itself, but this header is sent on purpose.
        return developer
    if token and (staff := _staff(services, digest_of(token))) is not None and user in (None, staff.name):
        return staff
    for name in ("authorization", "x-api-key", "x-goog-api-key"):
        value = (token if user is None else "") if name == "authorization" else request.headers.get(name)
        if value and (developer := _developer(services, digest_of(value), from_here)) is not None:
            return developer
    session_id = session_id_of(request)
    if not session_id or not is_from_own_page(request):
        return None
    digest = services.sessions.find(session_id, services.clock(), session_path_of(request), use=not is_recheck)
    return caller_with(services, digest, from_here) if digest is not None else None


def staff_by_api_key(request: Request, services: Services) -> Caller | None:
    """Return who holds the administration's token in ``x-api-key``, found by its hash; None if nobody does."""
    token = request.headers.get("x-api-key")
    return _staff(services, digest_of(token)) if token else None


async def look_up(request: Request, services: Services) -> None:
    """Ask the store for a request's access token or session, which another process may have issued a moment ago.

    Raises SignInsAwayError, and ApiError, 429, for an address that has sent too many unknown ones.
    """
    if "caller" in request.scope:
        return
    following, source = services.sign_ins.following, request.client.host if request.client else ""
    if (digest := following.unknown(request.headers.raw, services.policy)) is not None:
        try:
            await anyio.to_thread.run_sync(following.look_up, digest, source)
        except TooManyError as e:
            raise ApiError(429, "too_many_attempts", "Too many unknown tokens from this address", retry_after=1) from e
    session_id, path = session_id_of(request), session_path_of(request)
    if not session_id or not services.sign_ins.store.is_shared or not is_from_own_page(request):
        return
    holder = services.sessions.find(session_id, services.clock(), path, use=False)
    if holder is None or caller_with(services, holder, from_here=True) is None:
        await anyio.to_thread.run_sync(_look_up_session, services, session_id, path, source)


def _look_up_session(services: Services, session_id: str, path: str, source: str) -> None:
    """Learn of a session, and of whose it is."""
    sessions, sign_ins, now = services.sessions, services.sign_ins, services.clock()
    looks, key = sign_ins.following.look_ups, session_digest(session_id, path)
    holder = sessions.find(session_id, now, path, use=False)
    if holder is None and isinstance(sessions, FleetSessions) and not looks.is_unknown(key) and looks.may_ask(source):
        sessions.look_up(session_id, path)
        holder = sessions.find(session_id, now, path, use=False)
        if holder is None:
            looks.note_unknown(key)
    if holder is None or looks.is_unknown(holder) or caller_with(services, holder, from_here=True) is not None:
        return
    if not sign_ins.look_up_person(holder):
        # The credential that it stands for is no longer valid.
        looks.note_unknown(holder)


def key_asking(request: Request, services: Services) -> VirtualKey:
    """Return the virtual key in a request's headers, perhaps inactive, beside which staff may send a token of their own.

    Raises ApiError: 401 where there is none or it is unknown, 403 where it has expired, 429.
    """
    user, token = read_authorization(request.headers.get("authorization", ""))
    sent = [request.headers.get(name) for name in ("x-bf-vk", "x-api-key", "x-goog-api-key")] + [token if user is None else ""]
    digests = [digest_of(value) for value in sent if value]
    found = (_usable_here(services, digest, is_local(request, services)) for digest in digests)
    key = next((key for key in found if key is not None), None)
    if key is None:
        if all(_staff(services, digest) is not None for digest in digests):
            raise ApiError(401, "unauthorized", "Missing virtual key: send the one that it is asked for in x-bf-vk")
        count_wrong_credential(services, request)
        raise ApiError(401, "unauthorized", "Virtual key not found")
    if key.expires_at is not None and services.clock() >= key.expires_at:
        raise ApiError(403, "forbidden", f"Virtual key has expired, at {iso(key.expires_at)[:19]}Z")
    return key


def session_id_of(request: Request) -> str | None:
    """Return the session id in a request's cookies.

    The first one counts: a browser sends the cookies with the longest path first, and other servers under this host
    name may set cookies too but do not know our path.
    """
    found: dict[str, str] = {}
    for part in "; ".join(request.headers.getlist("cookie")).split(";"):
        name, _, value = part.strip().partition("=")
        found.setdefault(name, value)
    # What a server that speaks no TLS has set is nothing here where we do.
    return found.get(SECURE_COOKIE, None if request.url.scheme == "https" else found.get(COOKIE))


def session_cookie(session_id: str, session_path: str, *, is_secure: bool = False) -> str:
    """Return the header that gives a browser its session, or with an empty id takes it."""
    name, secure = (SECURE_COOKIE, "; Secure") if is_secure else (COOKIE, "")
    return f"{name}={session_id}; HttpOnly; SameSite=Strict; Path={session_path}/{secure}"


def session_path_of(request: Request) -> str:
    """Return the session path of a request; its cookie is accepted only under that path, because any server may set one."""
    return str(request.scope.get("session_path", ""))


def caller_with(services: Services, digest: bytes, from_here: bool) -> Caller | None:
    """Return who holds the token or virtual key with this SHA-256 under the policy in force."""
    return _staff(services, digest) or _developer(services, digest, from_here) or _person(services, digest)


def _staff(services: Services, digest: bytes) -> Caller | None:
    if services.is_admin(digest):
        return Caller("admin", "admin")
    if refusal_of_copy(services.policy_watcher.source) is not None:
        return None
    operator = services.policy.operator_by_digest(digest)
    return Caller(operator.role, operator.id) if operator is not None else None


def _developer(services: Services, digest: bytes, from_here: bool) -> Caller | None:
    key = _usable_here(services, digest, from_here)
    return Caller("developer", key.id, key.id) if key is not None and key.refusal(services.clock()) is None else None


def _person(services: Services, digest: bytes) -> Caller | None:
    """Return who has signed in to the dashboard at the identity provider: with the role that their groups have today."""
    now, policy = services.clock(), services.policy
    identity = services.sign_ins.people.find(digest, policy.oidc.provider, now) if policy.oidc is not None else None
    if identity is None or policy.oidc is None or identity.user_id in policy.disabled_users:
        return None
    if (role := role_of(identity.groups, policy.oidc)) is not None:
        return Caller(role, identity.user_id)
    key = policy.virtual_keys.get(session_key_of(policy, identity.user_id) or "")
    return Caller("developer", key.id, key.id) if key is not None and key.refusal(now) is None else None


def _usable_here(services: Services, digest: bytes, from_here: bool) -> VirtualKey | None:
    """Return the key whose value has this SHA-256; None for one whose id is its value, from elsewhere than this machine."""
    key = services.policy.key_by_digest(digest)
    if refusal_of_copy(services.policy_watcher.source) is not None:
        return None
    is_open = key is not None and key.is_demo and not from_here and not services.policy.server.allow_id_as_value
    return None if is_open else key


def digest_of(secret: str) -> bytes:
    """Return a credential's SHA-256, which is compared and stored instead of it."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def is_local(request: Request, services: Services) -> bool:
    """Return whether a request comes from this machine, where that is enough."""
    return request.client is None or not request.client.host or services.policy.server.trusts(request.client.host)


def is_from_own_page(request: Request) -> bool:
    """Return whether a request's cookie may be accepted.

    Cookies ignore ports and schemes: a page of any other server on this machine sends ours along, even with SameSite.
    A read may lack the header by which the browser names the page it comes from; a write may not.
    """
    site, origin, host = (request.headers.get(name) for name in ("sec-fetch-site", "origin", "host"))
    if site not in (None, "same-origin", "none") or (origin is not None and origin not in (f"http://{host}", f"https://{host}")):
        return False
    return request.method in ("GET", "HEAD") or site == "same-origin" or origin is not None


def count_wrong_credential(services: Services, request: Request) -> None:
    """Count a wrong token or virtual key by its sender's address. Raises ApiError, 429, where too many came before.

    A right one is accepted without delay: the wrong ones may be those of others on the same machine.
    """
    source, now = request.client.host if request.client else "", services.clock()
    counted = limited_as(source)
    if delay_ms := services.attempts.delay_ms(counted, now):
        seconds = -(-delay_ms // 1000)
        message = f"Too many wrong tokens from this address; try again in {seconds} s"
        raise ApiError(429, "too_many_attempts", message, retry_after=seconds)
    services.attempts.failed(counted, now)
    services.writer.count_refusal(now, source, "unauthorized")
    services.writer.flush_soon()


def authorize(caller: Caller | None, roles: tuple[Role, ...], request: Request, services: Services) -> Caller:
    """Return the caller if they have one of these roles. Raises ApiError, 401, 403 or 429, if not."""
    if caller is None:
        if any(request.headers.get(name) for name in CREDENTIAL_HEADERS):
            count_wrong_credential(services, request)
        # A browser answers Basic with a password prompt of its own, which a page's script must not cause.
        is_page = "text/html" in request.headers.get("accept", "")
        is_script = "mozilla" in request.headers.get("user-agent", "").lower() and not is_page
        headers = {"www-authenticate": 'Bearer realm="sluicegate"' if is_script else 'Basic realm="sluicegate", Bearer'}
        message = "Unauthorized: send the admin token (sluicegate admin token prints it) or an operator's token"
        if "developer" in roles:
            message += ", or a virtual key to see what belongs to it,"
        message += " as Authorization: Bearer TOKEN"
        raise ApiError(401, "unauthorized", message, headers=headers)
    if caller.role not in roles:
        raise ApiError(403, "forbidden", f"The role {caller.role} may not do this; it takes {' or '.join(roles)}")
    return caller
