"""Managed settings over HTTP, as Claude Code fetches them each hour once it is signed in."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from starlette.responses import Response

from sluicegate.policy.model import VirtualKey
from sluicegate.sign_in.managed_settings import document_of, settings_for
from sluicegate.sign_in.tokens import ACCESS, digest_of
from sluicegate.web.auth import count_wrong_credential, read_authorization
from sluicegate.web.endpoint import JSON, ApiRequest, Endpoint, read_endpoint
from sluicegate.web.errors import ApiError
from sluicegate.web.query import AnyQuery
from sluicegate.web.rendering import to_json
from sluicegate.web.responses import ResponseModel
from sluicegate.web.routes.setup import public_url
from sluicegate.web.routes.sign_in import base_url

PATH = "/managed/settings"


class ManagedSettings(ResponseModel):
    """The settings of who asks."""

    uuid: str
    checksum: str = Field(description="sha256: of the settings' JSON, keys sorted at every level, no white space; quoted the ETag.")
    settings: dict[str, Any]


def endpoints() -> list[Endpoint]:
    """Declare the path."""
    summary = "What Claude Code is to run with, for the key or sign-in that asks; 304 if it has that, 404 if there is nothing"
    more: dict[str, Any] = {"roles": ("developer",), "query": AnyQuery, "errors": (404,), "finds_caller": True}
    return [read_endpoint(PATH, _settings, summary, ManagedSettings, **more)]


def key_of_client(request: ApiRequest) -> VirtualKey:
    """Return the key that a Claude Code asks with, or that its sign-in has. Raises ApiError where there is none: 401, 429."""
    services = request.services
    key = services.policy.virtual_keys.get(request.caller.virtual_key_id or "")
    if key is not None:
        return key
    _, token = read_authorization(request.http.headers.get("authorization", ""))
    if token and not token.startswith(ACCESS):
        count_wrong_credential(services, request.http)
    # A sign-in that has ended is not an attempt to guess one: the client asks each hour.
    message = "The sign-in or key is not, or no longer, valid: sign in again (/login)"
    raise ApiError(401, "authentication_error", message, headers={"x-should-retry": "false", "www-authenticate": "Bearer"})


def _base_url(request: ApiRequest) -> str:
    policy = request.services.policy
    return base_url(request, policy.oidc) if policy.oidc is not None else public_url(request.http, policy.server)


async def _settings(request: ApiRequest) -> Response:
    services, key = request.services, key_of_client(request)
    _, token = read_authorization(request.http.headers.get("authorization", ""))
    settings = settings_for(services.policy, key, services.sign_ins.groups_of(digest_of(token)), lambda: _base_url(request))
    if settings is None:
        raise ApiError(404, "not_found_error", "There are no managed settings for you")
    document = document_of(settings)
    headers = {"etag": f'"{document["checksum"]}"', "cache-control": "no-store"}
    # An asterisk asks only whether there are any, and is answered as if it were not there.
    known = {tag.strip().removeprefix("W/") for tag in request.http.headers.get("if-none-match", "").split(",")}
    if headers["etag"] in known:
        return Response(status_code=304, headers=headers)
    return Response(to_json(document), headers=headers, media_type=JSON)
