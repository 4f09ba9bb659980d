"""Sign-in for clients without a browser, as OAuth has it: discovery, device authorization (RFC 8628), tokens, revocation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, Response

from sluicegate.addresses import is_loopback
from sluicegate.policy.oidc import Oidc
from sluicegate.services import Services
from sluicegate.sign_in import members
from sluicegate.sign_in.device_requests import INTERVAL_S, LIFETIME_MS
from sluicegate.sign_in.errors import (
    InvalidGrantError,
    NotNowError,
    ProviderDownError,
    SignInsAwayError,
    TooManyError,
    UnknownTokenError,
)
from sluicegate.sign_in.identity import Identity
from sluicegate.sign_in.renewals import Issued
from sluicegate.web.endpoint import OPEN, ApiRequest, ApiResponse, Endpoint, read_endpoint
from sluicegate.web.errors import ApiError
from sluicegate.web.query import AnyQuery
from sluicegate.web.responses import ResponseModel
from sluicegate.web.routes.setup import public_url

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"

DISCOVERY, DEVICE_AUTHORIZATION, TOKEN, REVOCATION = (
    "/.well-known/oauth-authorization-server",
    "/oauth/device_authorization",
    "/oauth/token",
    "/oauth/revoke",
)

PAGE = "/device"
"""Where a person approves what a client asks for."""

RETRY_AFTER_S, AWAY_RETRY_AFTER_S = 30, 5
MAX_CLIENT_CHARACTERS = 120

_TOKEN_LENGTH: Any = Field(None, max_length=1_000)


class Form(BaseModel):
    """The base of forms: what a client sends besides what is asked is ignored, as OAuth demands."""

    model_config = ConfigDict(extra="ignore")


class DeviceForm(Form):
    """A client asks for a device code."""

    surface: str | None = Field(None, max_length=200, description="What asks, such as claude_code.")


class TokenForm(Form):
    """A client asks for tokens."""

    grant_type: str = Field("", max_length=200, description=f"{DEVICE_GRANT} or refresh_token.")
    device_code: str | None = _TOKEN_LENGTH
    refresh_token: str | None = _TOKEN_LENGTH


class RevocationForm(Form):
    """A client signs out."""

    token: str = Field("", max_length=1_000, description="An access or refresh token: its sign-in ends.")


class Discovery(ResponseModel):
    """Where a client signs in (RFC 8414)."""

    issuer: str
    device_authorization_endpoint: str
    token_endpoint: str
    revocation_endpoint: str
    grant_types_supported: list[str]
    response_types_supported: list[str] = Field(description="None: browsers are sent elsewhere.")
    token_endpoint_auth_methods_supported: list[str]


class DeviceAuthorization(ResponseModel):
    """The codes of a request that waits for a person."""

    device_code: str
    user_code: str
    verification_uri: str
    verification_uri_complete: str
    expires_in: int = Field(description="Seconds.")
    interval: int = Field(description="Seconds between two questions.")


class Tokens(ResponseModel):
    """The tokens of a sign-in."""

    access_token: str
    token_type: Literal["Bearer"]
    expires_in: int = Field(description="Seconds.")
    refresh_token: str
    email: str | None = None


def endpoints() -> list[Endpoint]:
    """Declare the paths; each answers 404 while the policy has no ``oidc``."""
    find, ask = "Where and how a client signs in", "Ask for a device code, which a person approves at /device"
    more: dict[str, Any] = {"roles": OPEN, "query": AnyQuery, "takes_form": True}
    take, end = "Exchange an approved device code, or a refresh token, for tokens", "End the sign-in of a token"
    return [
        read_endpoint(DISCOVERY, _discovery, find, Discovery, roles=OPEN, query=AnyQuery, errors=(404,)),
        Endpoint("POST", DEVICE_AUTHORIZATION, _authorize, ask, DeviceAuthorization, DeviceForm, errors=(404, 429, 503), **more),
        Endpoint("POST", TOKEN, _token, take, Tokens, TokenForm, errors=(404, 429, 503), **more),
        Endpoint("POST", REVOCATION, _revoke, end, None, RevocationForm, errors=(404, 429, 503), **more),
    ]


def oidc_of(request: ApiRequest) -> Oidc:
    """Return where people sign in. Raises ApiError where they cannot, or where tokens would cross the network in clear."""
    oidc = request.services.policy.oidc
    if oidc is None:
        raise ApiError(404, "not_found", "Nobody signs in here: the policy has no oidc")
    source = request.http.client.host if request.http.client else ""
    if request.http.url.scheme != "https" and source and not is_loopback(source):
        raise ApiError(400, "invalid_request", "Sign-in needs https: what was sent has crossed the network in clear")
    return oidc


def base_url(request: ApiRequest, oidc: Oidc) -> str:
    """Return the gateway's own URL, without a slash at its end."""
    return oidc.public_url or public_url(request.http, request.services.policy.server)


def source_of(request: ApiRequest) -> str:
    """Return the address that a request comes from."""
    return (request.http.client.host if request.http.client else "") or "this machine"


def count_unknown(request: ApiRequest) -> None:
    """Count an unknown token or code against its sender's address: the store was asked in vain, and others wait for it."""
    request.services.sign_ins.following.look_ups.may_ask(source_of(request))


async def _discovery(request: ApiRequest) -> ApiResponse:
    base = base_url(request, oidc_of(request))
    return ApiResponse(
        {
            "issuer": base,
            "device_authorization_endpoint": f"{base}{DEVICE_AUTHORIZATION}",
            "token_endpoint": f"{base}{TOKEN}",
            "revocation_endpoint": f"{base}{REVOCATION}",
            "grant_types_supported": [DEVICE_GRANT, "refresh_token"],
            "response_types_supported": [],
            "token_endpoint_auth_methods_supported": ["none"],
        }
    )


async def _authorize(request: ApiRequest) -> ApiResponse | Response:
    oidc, services = oidc_of(request), request.services
    client = "".join(c for c in request.http.headers.get("user-agent", "") if c.isascii() and c.isprintable())
    source, devices = source_of(request), services.sign_ins.devices
    if not _has_left(request):
        return _too_many_unknown()
    asked = source, client[:MAX_CLIENT_CHARACTERS], services.clock(), oidc.client_secret
    try:
        codes = await request.run_in_thread(lambda: devices.begin(*asked))
    except TooManyError:
        count_unknown(request)
        return oauth_error(429, "slow_down", "Too many clients are waiting to sign in", {"retry-after": str(RETRY_AFTER_S)})
    except SignInsAwayError:
        return _away()
    page = f"{base_url(request, oidc)}{PAGE}"
    return ApiResponse(
        {
            "device_code": codes.device_code,
            "user_code": codes.user_code,
            "verification_uri": page,
            "verification_uri_complete": f"{page}?user_code={codes.user_code}",
            "expires_in": LIFETIME_MS // 1000,
            "interval": INTERVAL_S,
        }
    )


async def _token(request: ApiRequest) -> ApiResponse | Response:
    oidc, form = oidc_of(request), request.body
    if not _has_left(request):
        return _too_many_unknown()
    match form.get("grant_type"):
        case "refresh_token":
            return await _renew(request, oidc, form.get("refresh_token") or "")
        case grant if grant == DEVICE_GRANT:
            return await _issue(request, oidc, form.get("device_code") or "")
    return oauth_error(400, "unsupported_grant_type", f"grant_type is {DEVICE_GRANT} or refresh_token")


async def _issue(request: ApiRequest, oidc: Oidc, device_code: str) -> ApiResponse | Response:
    try:
        found = await request.run_in_thread(lambda: _begun(request.services, oidc, device_code))
    except SignInsAwayError:
        return _away()
    if found in ("expired_token", "slow_down"):
        count_unknown(request)
    return oauth_error(400, found) if isinstance(found, str) else ApiResponse(_tokens(found))


def _begun(services: Services, oidc: Oidc, device_code: str) -> Issued | str:
    """Begin the sign-in of an approved device code, or return the error for its client (RFC 8628, 3.5)."""
    sign_ins = services.sign_ins
    answer = sign_ins.devices.poll(device_code, services.clock())
    if isinstance(answer, str):
        return answer
    request, identity, key_id = answer
    key = services.policy.virtual_keys.get(key_id)
    if key is None or key.refusal(services.clock()) is not None:
        # It may just have been made, or its user let in again, at another gateway.
        sign_ins.following.find_key()
        key = services.policy.virtual_keys.get(key_id)
    if key is None or key.refusal(services.clock()) is not None:
        sign_ins.devices.forget(request)
        return "access_denied"
    asked = {"source": request.source, "client": request.client}
    return sign_ins.begin(identity, key.id, oidc, device=request.device, **asked) or "expired_token"


async def _renew(request: ApiRequest, oidc: Oidc, refresh_token: str) -> ApiResponse | Response:
    services = request.services

    def admit(identity: Identity) -> None:
        members.admit(services.policy_writer, services.policy, oidc, identity)

    sender = {"source": source_of(request), "client": request.http.headers.get("user-agent", "")}
    try:
        issued = await request.wait_in_thread(lambda: services.sign_ins.renew(refresh_token, services.policy, admit, **sender))
    except InvalidGrantError as e:
        if isinstance(e, UnknownTokenError):
            count_unknown(request)
        # 401 and not 400: by it the client knows that its person has to sign in again.
        return oauth_error(401, "invalid_grant", str(e))
    except TooManyError:
        return oauth_error(429, "slow_down", "This sign-in has too many access tokens already", {"retry-after": str(RETRY_AFTER_S)})
    except (ProviderDownError, NotNowError) as e:
        why = str(e) if isinstance(e, ProviderDownError) else "not now: try again"
        return oauth_error(503, "temporarily_unavailable", why, {"retry-after": str(RETRY_AFTER_S)})
    except SignInsAwayError:
        return _away()
    return ApiResponse(_tokens(issued))


async def _revoke(request: ApiRequest) -> Response:
    oidc_of(request)
    token = request.body.get("token") or ""
    if not _has_left(request):
        return _too_many_unknown()
    try:
        if not await request.run_in_thread(lambda: request.services.sign_ins.revoke(token)):
            count_unknown(request)
    except SignInsAwayError:
        return _away()
    # Whether or not there was such a token (RFC 7009, 2.2).
    return JSONResponse({})


def _tokens(issued: Issued) -> dict[str, Any]:
    found = {
        "access_token": issued.access_token,
        "token_type": "Bearer",
        "expires_in": issued.expires_in_s,
        "refresh_token": issued.refresh_token,
    }
    return found | ({"email": issued.email} if issued.email is not None else {})


def _has_left(request: ApiRequest) -> bool:
    """Return whether an address may send another token or code that may be unknown."""
    return request.services.sign_ins.following.look_ups.has_left(source_of(request))


def _too_many_unknown() -> Response:
    return oauth_error(429, "slow_down", "Too many unknown tokens and codes came from this address", {"retry-after": "1"})


def _away() -> Response:
    """Ask the client to try again: it takes any other error for the end of its sign-in."""
    why = "the store of the sign-ins cannot be reached now: try again"
    return oauth_error(503, "temporarily_unavailable", why, {"retry-after": str(AWAY_RETRY_AFTER_S)})


def oauth_error(status: int, error: str, description: str = "", headers: Mapping[str, str] | None = None) -> Response:
    """Return an error as OAuth clients read it."""
    body = {"error": error} | ({"error_description": description} if description else {})
    return JSONResponse(body, status, dict(headers or {}))
