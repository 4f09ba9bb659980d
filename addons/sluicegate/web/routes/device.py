"""The pages at ``/device``: a person signs in at the identity provider, to approve what a client asks for, or to the dashboard.

Nothing is approved by a link alone: the code is sent by a click, from a page of our own, and after signing in the person is
shown who asks. What comes back from the identity provider counts only in the browser that was sent there, known by a cookie.
"""

from __future__ import annotations

import functools
import hmac
import logging
from typing import Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from sluicegate.addresses import limited_as
from sluicegate.policy.oidc import Oidc
from sluicegate.sign_in import members
from sluicegate.sign_in.browser_sign_ins import LIFETIME_MS, BrowserSignIn
from sluicegate.sign_in.errors import (
    InvalidTokenError,
    NotAllowedError,
    NotNowError,
    ProviderDownError,
    ProviderRefusedError,
    SignInsAwayError,
    TooManyError,
)
from sluicegate.sign_in.identity import Identity, identity_of
from sluicegate.sign_in.tokens import new_token, user_code_of
from sluicegate.web.auth import caller_with, is_from_own_page, session_cookie
from sluicegate.web.endpoint import OPEN, ApiRequest, ApiResponse, Endpoint, Handler, read_endpoint
from sluicegate.web.errors import ApiError
from sluicegate.web.query import AnyQuery
from sluicegate.web.routes.sign_in import PAGE, Form, base_url, count_unknown, oidc_of, source_of
from sluicegate.web.session_path import new_session_path
from sluicegate.web.sign_in_pages import approval_page, code_page, dashboard_page, message_page

logger = logging.getLogger("sluicegate")

CALLBACK, DECISION, DASHBOARD = f"{PAGE}/callback", f"{PAGE}/decision", f"{PAGE}/dashboard"

SECRET_QUERIES = frozenset({PAGE, CALLBACK})
"""Paths whose query holds a code: it is neither printed nor saved."""

COOKIE = "sluicegate_sign_in"

HOST_COOKIE = f"__Host-{COOKIE}"
"""Its name over TLS: browsers take one of that name from this host alone, so that no other host can plant one."""

_AGAIN = "Go back to your terminal and start to sign in again."


class CodeForm(Form):
    """A person has entered a code."""

    user_code: str = Field("", max_length=100)


class DecisionForm(Form):
    """A person has decided."""

    approval: str = Field("", max_length=100)
    decision: str = Field("", max_length=20, description="approve or deny.")


def page_of(handler: Handler) -> Handler:
    """Return a page's handler that says what to do where the store of the sign-ins is away."""

    @functools.wraps(handler)
    async def shown(request: ApiRequest) -> ApiResponse | Response:
        if not request.services.sign_ins.following.look_ups.has_left(source_of(request)):
            return _too_many()
        try:
            return await handler(request)
        except SignInsAwayError as e:
            logger.error("Nobody can sign in: %s", e)
            return message_page("Not now", "The store of the sign-ins cannot be reached: try again in a moment.", 503)

    return shown


def endpoints() -> list[Endpoint]:
    """Declare the pages."""
    html: dict[str, Any] = {"roles": OPEN, "query": AnyQuery, "media_types": ("text/html",)}
    enter, back = "The page that asks for a client's code", "Where the identity provider sends a browser back to"
    send, decide = "Sign in at the identity provider to approve the client with this code", "Approve or deny a client"
    return [
        read_endpoint(PAGE, _enter, enter, None, errors=(404,), **html),
        Endpoint("POST", PAGE, page_of(_send), send, None, CodeForm, errors=(404, 429, 503), takes_form=True, **html),
        read_endpoint(CALLBACK, page_of(_back), back, None, errors=(404, 503), **html),
        read_endpoint(DASHBOARD, page_of(_to_dashboard), "Sign in to the dashboard", None, errors=(404, 429, 503), **html),
        Endpoint("POST", DECISION, page_of(_decide), decide, None, DecisionForm, errors=(404, 503), takes_form=True, **html),
    ]


async def _enter(request: ApiRequest) -> Response:
    oidc_of(request)
    sent = request.http.query_params.get("user_code", "")
    return code_page(user_code_of(sent) or "")


async def _send(request: ApiRequest) -> Response:
    oidc, services, now = oidc_of(request), request.services, request.services.clock()
    _require_own_page(request)
    source, code = source_of(request), user_code_of(request.body.get("user_code") or "")
    waiting = await request.run_in_thread(lambda: services.sign_ins.devices.guess(code, source, now, oidc.client_secret))
    if waiting is None or isinstance(waiting, int):
        count_unknown(request)
    if isinstance(waiting, int):
        seconds = -(-waiting // 1000)
        found = code_page("", f"Too many wrong codes came from this address: try again in {seconds} s.", 429)
        found.headers["retry-after"] = str(seconds)
        return found
    if waiting is None:
        return code_page("", "No client is waiting with this code. Codes are valid for ten minutes.", 400)
    return await send_away(request, oidc, BrowserSignIn(waiting, f"{base_url(request, oidc)}{CALLBACK}", source, now, code or ""))


async def send_away(request: ApiRequest, oidc: Oidc, attempt: BrowserSignIn) -> Response:
    """Send a browser to the identity provider, with a cookie by which it is known when it comes back."""
    services, browser = request.services, new_token()

    def leave() -> str:
        state = services.sign_ins.browsers.begin(attempt, browser, services.clock())
        secrets = {"state": state, "nonce": attempt.nonce, "verifier": attempt.verifier}
        return services.sign_ins.provider.authorization_url(oidc, redirect_uri=attempt.redirect_uri, **secrets)

    try:
        url = await request.wait_in_thread(leave)
    except TooManyError:
        count_unknown(request)
        return _too_many()
    except ProviderDownError as e:
        logger.error("Nobody can sign in: %s", e)
        return message_page("Not now", f"Nobody can sign in now: {e}.", 503)
    # With a body: the cookie is taken out of the flow when that ends, and of an answer without one before it is sent.
    headers = {"location": url, "set-cookie": _cookie(request.http, browser, LIFETIME_MS // 1000)}
    return PlainTextResponse("You sign in at the identity provider.\n", 303, headers)


async def _back(request: ApiRequest) -> Response:
    oidc, services, query = oidc_of(request), request.services, request.http.query_params
    browser = browser_of(request.http)
    browsers, state = services.sign_ins.browsers, query.get("state", "")
    attempt = await request.run_in_thread(lambda: browsers.take(state, browser, services.clock()))
    if attempt is None or attempt.identity is not None:
        count_unknown(request)
        message = f"This sign-in was begun in another browser, or too long ago. {_AGAIN}"
        return message_page("Signing in has failed", message, 400)
    issuer = query.get("iss")
    if issuer is not None and not hmac.compare_digest(issuer.encode(), oidc.issuer.encode()):
        return message_page("Signing in has failed", f"The answer came from another identity provider. {_AGAIN}", 400)
    if "code" not in query:
        return message_page("Signing in has failed", f"The identity provider has sent you back without a code. {_AGAIN}", 400)
    proofs = {"nonce": attempt.nonce, "verifier": attempt.verifier, "redirect_uri": attempt.redirect_uri}
    try:
        verified = await request.wait_in_thread(lambda: services.sign_ins.provider.exchange(oidc, code=query["code"], **proofs))
        identity = identity_of(verified.claims or {}, oidc, verified.refresh_token)
    except ProviderDownError as e:
        logger.error("Nobody can sign in: %s", e)
        return message_page("Not now", f"Nobody can sign in now: {e}.", 503)
    except (ProviderRefusedError, InvalidTokenError) as e:
        logger.warning("A sign-in from %s has failed: %s", attempt.source, e)
        return message_page("Signing in has failed", f"The identity provider's answer cannot be verified. {_AGAIN}", 400)
    except NotAllowedError as e:
        return await _not_allowed(request, attempt, e)
    if attempt.request is None:
        return await _open_dashboard(request, oidc, attempt, identity)
    come_back = attempt.by(identity)
    try:
        approval = await request.run_in_thread(lambda: browsers.begin(come_back, browser, services.clock()))
    except TooManyError:
        return _too_many()
    elsewhere = attempt.source if attempt.limited_as != limited_as(attempt.request.source) else None
    return approval_page(identity, attempt.request, attempt.user_code, approval, elsewhere)


async def _to_dashboard(request: ApiRequest) -> Response:
    oidc = oidc_of(request)
    redirect_uri = f"{base_url(request, oidc)}{CALLBACK}"
    return await send_away(request, oidc, BrowserSignIn(None, redirect_uri, source_of(request), request.services.clock()))


async def _open_dashboard(request: ApiRequest, oidc: Oidc, attempt: BrowserSignIn, identity: Identity) -> Response:
    """Begin a dashboard session of whoever has signed in: with the role of their groups, else for their own key."""
    services = request.services

    def admit() -> None:
        if identity.role is None:
            members.admit(services.policy_writer, services.policy, oidc, identity)

    try:
        await request.run_in_thread(lambda: services.sign_ins.admitted(identity, oidc, admit))
    except NotAllowedError as e:
        return await _not_allowed(request, attempt, e)
    except NotNowError as e:
        return _not_now(e)
    digest = await request.run_in_thread(lambda: services.sign_ins.enter(identity, oidc.provider))
    caller = caller_with(services, digest, from_here=False)
    # A gateway hears of what it has written itself as of another's, and forgets whom it knew by this hash until it asks.
    if caller is None and await request.run_in_thread(lambda: services.sign_ins.look_up_person(digest)):
        caller = caller_with(services, digest, from_here=False)
    if caller is None:
        return await _not_allowed(request, attempt, NotAllowedError(f"the user '{identity.user_id}' is disabled: {members.ASK}"))
    logger.info("%s %s signed in from %s", caller.role, caller.name, attempt.source)
    session_path = new_session_path()
    session_id = await request.run_in_thread(lambda: services.sessions.open(digest, services.clock(), session_path))
    page = _last(request, dashboard_page(session_path))
    page.headers.append("set-cookie", session_cookie(session_id, session_path, is_secure=request.http.url.scheme == "https"))
    return page


async def _decide(request: ApiRequest) -> Response:
    oidc, services, form = oidc_of(request), request.services, request.body
    _require_own_page(request)
    sign_ins, approval, browser = services.sign_ins, form.get("approval") or "", browser_of(request.http)
    attempt = await request.run_in_thread(lambda: sign_ins.browsers.take(approval, browser, services.clock()))
    waiting, identity = (attempt.request, attempt.identity) if attempt is not None else (None, None)
    if attempt is None or waiting is None or identity is None:
        count_unknown(request)
        return message_page("Too late", f"This sign-in was begun in another browser, or too long ago. {_AGAIN}", 400)
    if form.get("decision") != "approve":
        await request.run_in_thread(lambda: sign_ins.devices.deny(waiting))
        logger.warning("%s has denied a client at %s", identity.user_id, waiting.source)
        return _last(request, message_page("Denied", "The client gets nothing. If you did not start it, tell your administrator."))

    def admit() -> str:
        return members.admit(services.policy_writer, services.policy, oidc, identity)

    try:
        key_id = await request.run_in_thread(lambda: sign_ins.admitted(identity, oidc, admit))
    except NotAllowedError as e:
        return await _not_allowed(request, attempt, e)
    except NotNowError as e:
        return _not_now(e)
    if not await request.run_in_thread(lambda: sign_ins.devices.approve(waiting, identity, key_id, services.clock())):
        return message_page("Too late", f"The client no longer waits. {_AGAIN}", 400)
    logger.info("%s has signed in for a client at %s", identity.user_id, waiting.source)
    return _last(request, message_page("You are signed in", "Go back to your terminal; this page can be closed."))


def _not_now(error: NotNowError) -> Response:
    logger.error("Nobody new can sign in: %s", error)
    return message_page(
        "Not now", "The gateway's policy cannot be changed now: open the link again in a minute, and try again.", 503
    )


def _too_many() -> Response:
    return message_page("Not now", "Too many people are signing in from this address: try again in a minute.", 429)


async def _not_allowed(request: ApiRequest, attempt: BrowserSignIn, error: NotAllowedError) -> Response:
    if (waiting := attempt.request) is not None:
        await request.run_in_thread(lambda: request.services.sign_ins.devices.deny(waiting))
    logger.warning("A sign-in from %s is refused: %s", attempt.source, error)
    return message_page("You may not sign in", f"{str(error)[:1].upper()}{str(error)[1:]}.", 403)


def _require_own_page(request: ApiRequest) -> None:
    """Refuse a form that another site may have sent. Raises ApiError."""
    if not is_from_own_page(request.http):
        raise ApiError(403, "forbidden", "This form must be sent from the gateway's own page")


def browser_of(request: Request) -> str:
    """Return the secret by which a browser is known; empty where it has none, and then it has begun nothing."""
    return request.cookies.get(HOST_COOKIE if request.url.scheme == "https" else COOKIE, "")


def _cookie(request: Request, value: str, max_age_s: int) -> str:
    # Lax: the browser comes back by a link from the identity provider's site.
    is_secure = request.url.scheme == "https"
    name, where = (HOST_COOKIE, "/; Secure") if is_secure else (COOKIE, PAGE)
    return f"{name}={value}; HttpOnly; SameSite=Lax; Max-Age={max_age_s}; Path={where}"


def _last(request: ApiRequest, page: Response) -> Response:
    page.headers["set-cookie"] = _cookie(request.http, "", 0)
    return page
