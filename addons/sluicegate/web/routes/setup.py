"""What a developer machine needs to use the gateway: the commands to type and the gateway's certificate."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Literal

from pydantic import Field
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from sluicegate.authority.folder import AuthorityError, AuthorityFolder, Described
from sluicegate.machines.certificates import Fingerprint
from sluicegate.machines.setup_page import setup_page
from sluicegate.machines.variables import Machine, policy_variables
from sluicegate.policy.server_schema import Server
from sluicegate.web.endpoint import OPEN, ApiRequest, ApiResponse, Endpoint, read_endpoint
from sluicegate.web.errors import ApiError
from sluicegate.web.query import AnyQuery
from sluicegate.web.responses import ResponseModel

PEM = "application/x-pem-file"

HOST = re.compile(r"[A-Za-z0-9._-]+(:[0-9]+)?|\[[0-9A-Fa-f:.]+\](:[0-9]+)?")
"""A host and its port, without anything that a shell would read."""


class AuthorityValues(ResponseModel):
    """A CA that clients of the proxy are given to trust."""

    state: Literal["signing", "announced"]
    subject: str
    sha256: str = Field(description="In pairs of hex digits, as openssl prints it.")
    valid_until: str
    signs_from: str | None = Field(description="From when it signs; null for the first.")


class SetupValues(ResponseModel):
    """What a developer machine is set up with."""

    gateway: str = Field(description="The gateway's URL as this client knows it.")
    key_variables: list[str] = Field(description="Environment variables in which clients of the policy's providers take the key.")
    ca_sha256: str = Field(description="The fingerprint of the gateway's CA that signs now; empty if there is none yet.")
    authorities: list[AuthorityValues] = Field(
        description="The CAs that /ca.pem holds: the one that signs, and one that is announced to take its place."
    )


def endpoints(authority_folder: Path) -> list[Endpoint]:
    """Declare these paths; ``authority_folder`` is the folder of the gateway's certificate authorities."""
    folder = AuthorityFolder(authority_folder)

    async def ca_pem(request: ApiRequest) -> Response:
        try:
            found = await request.run_in_thread(lambda: folder.handed_out(request.services.clock()))
        except AuthorityError as e:
            raise ApiError(404, "not_found", str(e)) from e
        if not found:
            raise ApiError(404, "not_found", "There is no CA certificate yet; it is made when the gateway starts")
        return Response(found, media_type=PEM)

    async def handed_out(request: ApiRequest) -> list[Described]:
        try:
            found = await request.run_in_thread(lambda: folder.describe(request.services.clock()))
        except AuthorityError:
            # What /ca.pem answers too; the rest of the page is true all the same.
            return []
        return [authority for authority in found if authority.state != "retired"]

    async def page(request: ApiRequest) -> Response:
        text = setup_page(await machine_of(request), [named(a) for a in await handed_out(request)])
        if "text/html" in request.http.headers.get("accept", ""):
            return HTMLResponse(f"<!doctype html><title>sluicegate setup</title><pre>{html.escape(text)}</pre>")
        return PlainTextResponse(text)

    async def values(request: ApiRequest) -> ApiResponse:
        machine, found = await machine_of(request), await handed_out(request)
        return ApiResponse(
            {
                "gateway": machine.gateway,
                "key_variables": machine.key_variables,
                "ca_sha256": next((a.sha256 for a in found if a.state == "signing"), ""),
                "authorities": [{name: getattr(a, name) for name in AuthorityValues.model_fields} for a in found],
            }
        )

    summary, texts = "What to type on a developer machine, for each kind of shell", ("text/plain", "text/html")
    certificate = "The certificate that clients of the proxy must trust"
    short = "What the lines of /setup are made from"
    return [
        read_endpoint("/ca.pem", ca_pem, certificate, None, roles=OPEN, query=AnyQuery, media_types=(PEM,), errors=(404,)),
        read_endpoint("/setup", page, summary, None, roles=OPEN, query=AnyQuery, media_types=texts),
        read_endpoint("/setup.json", values, short, SetupValues, roles=OPEN, query=AnyQuery),
    ]


def named(authority: Described) -> Fingerprint:
    """Return a CA's fingerprint, and when it takes over if it has not."""
    return Fingerprint(authority.sha256, authority.signs_from if authority.state == "announced" else None)


async def machine_of(request: ApiRequest) -> Machine:
    """Return a developer machine that reaches the gateway as this request did."""
    policy = request.services.policy
    # Read from a file the first time.
    variables = await request.run_in_thread(lambda: policy_variables(policy))
    return Machine(public_url(request.http, policy.server), key_variables=variables)


def public_url(request: Request, server: Server) -> str:
    """Return the gateway's URL as the client knows it.

    A name of the policy on another port than ours is that of a proxy in front, which speaks TLS whether or not it says so.
    Of one that policy trusts the scheme is what it says (X-Forwarded-Proto), unless it passes on bytes, on a port of its own.
    """
    host, scheme = request.headers.get("host", ""), request.url.scheme
    if not HOST.fullmatch(host):
        # It becomes part of lines that somebody's shell reads.
        host = "127.0.0.1:8080"
    name, _, port = host.partition(":")
    listener = (request.scope.get("server") or ("", 0))[1]
    is_proxys_port = bool(server.trusted_proxies) and not port
    if name.lower() in server.hosts and port != str(listener) and not is_proxys_port:
        scheme = "https"
    return f"{scheme}://{host}"
