"""Signing in to the dashboard: a token or virtual key is exchanged for a cookie that no script and no other server can read."""

from __future__ import annotations

import logging

from pydantic import Field

from sluicegate.web.api import ANYBODY, EVERYONE, Ask, Endpoint, Refusal, Reply, shows
from sluicegate.web.auth import COOKIE, Caller, Role, digest_of, holder_of, is_here, place_of, session_of
from sluicegate.web.requests import Model
from sluicegate.web.responses import State
from sluicegate.web.session_path import new_place
from sluicegate.windows import iso

logger = logging.getLogger("sluicegate.api")

COOKIE_FOR = "; HttpOnly; SameSite=Strict; Path="


class Login(Model):
    """What is exchanged for a session."""

    token: str = Field(min_length=1, max_length=1_000, description="The admin token, an operator's, or a virtual key.")


class Identity(State):
    """Who is signed in."""

    role: Role
    name: str
    virtual_key_id: str | None = Field(description="The key whose own view it is; null for those who see everything.")


class SignedIn(Identity):
    """Who is signed in now, and where their pages ask from."""

    place: str = Field(description="What is to be put before `/api/...`: the cookie is sent to no other path.")


class SignedOut(State):
    """Nobody is signed in any more."""

    signed_in: bool


def endpoints() -> list[Endpoint]:
    """The rows of this room."""
    base = "/api/session"
    login, logout = "Sign in: a cookie for a token or virtual key", "Sign out"
    return [
        Endpoint("POST", f"{base}/login", _login, login, SignedIn, Login, roles=ANYBODY, errors=(429,)),
        Endpoint("POST", f"{base}/logout", _logout, logout, SignedOut, roles=ANYBODY),
        shows(base, _who, "Who is signed in", Identity, roles=EVERYONE),
    ]


async def _login(ask: Ask) -> Reply:
    services, now = ask.services, ask.services.clock()
    source = ask.request.client.host if ask.request.client else ""
    digest = digest_of(ask.body["token"])
    caller = holder_of(services, digest, is_here(ask.request))
    # Whoever has the right token is never kept out: others on the same machine may be guessing.
    if caller is None and (wait := services.attempts.delay_ms(source, now)):
        seconds = -(-wait // 1000)
        raise Refusal(429, "too_many_attempts", f"Too many wrong tokens from here; try again in {seconds} s", retry_after=seconds)
    if caller is None:
        services.attempts.failed(source, now)
        key = (iso(now // 60_000 * 60_000), source, "unauthorized")
        services.store.refusals[key] = services.store.refusals.get(key, 0) + 1
        services.flush_soon()
        raise Refusal(401, "unauthorized", "This is no admin token, no operator's and no virtual key that may be used", "token")
    logger.info("%s %s signed in from %s", caller.role, caller.name, source or "here")
    _end(ask)
    # Only where the page itself came over TLS, which somebody before us speaks: over plain HTTP it would be thrown away.
    secure = "; Secure" if ask.request.headers.get("origin", "").startswith("https://") else ""
    place = new_place()
    cookie = f"{COOKIE}={services.sessions.open(digest, now, place)}{COOKIE_FOR}{place}/{secure}"
    return Reply(_identity(caller) | {"place": place}, headers={"set-cookie": cookie})


async def _logout(ask: Ask) -> Reply:
    _end(ask)
    return Reply({"signed_in": False}, headers={"set-cookie": f"{COOKIE}={COOKIE_FOR}{place_of(ask.request)}/; Max-Age=0"})


async def _who(ask: Ask) -> Reply:
    return Reply(_identity(ask.caller))


def _end(ask: Ask) -> None:
    if session_id := session_of(ask.request):
        ask.services.sessions.close(session_id, place_of(ask.request))


def _identity(caller: Caller) -> dict[str, str | None]:
    return {"role": caller.role, "name": caller.name, "virtual_key_id": caller.virtual_key_id}
