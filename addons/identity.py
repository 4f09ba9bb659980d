"""Identity: which provider a request is meant for, who is calling, and no credential left on it afterwards.

The target is the connection's: its CONNECT, its absolute URI, or our own listener. A Host header or an SNI is a claim
by the party being governed and decides nothing.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence

from mitmproxy import http
from mitmproxy.net.http.url import hostport

from flow import (
    CREDENTIAL_HEADERS,
    Addon,
    ClientConnection,
    call_of,
    connection_of,
    deny,
    enforcing,
    new_call,
    observing,
    origin_form,
    services,
)
from sluicegate.addresses import is_loopback, normalize_host
from sluicegate.calls.call import Call
from sluicegate.policy.model import Policy, VirtualKey
from sluicegate.providers import provider_for_path
from sluicegate.values import Deny, Reason

OURS = ("x-bf-", "x-sluicegate-", "proxy-")
"""Prefixes of headers that are consumed here and never forwarded."""

_CREDENTIAL_HEADERS = frozenset(n.encode() for n in CREDENTIAL_HEADERS)
_OURS = tuple(n.encode() for n in OURS)

ATTRIBUTION = re.compile(r"[A-Za-z0-9._@-]{1,128}")
"""What an attribution header may hold; anything else is ignored, for it will be shown to people."""


def secrets_in(name: str, value: str) -> Iterator[str]:
    """The credentials a header's value may be hiding: itself, a bearer token, a Basic user or password."""
    value = value.strip()
    scheme, _, rest = value.partition(" ")
    rest = rest.strip()
    if name.endswith("authorization"):
        if scheme.lower() == "bearer" and rest:
            yield rest
        elif scheme.lower() == "basic":
            try:
                user, _, password = base64.b64decode(rest, validate=True).decode("utf-8", "replace").partition(":")
            except (binascii.Error, ValueError):
                return
            yield from (x for x in (user, password) if x)
    elif value:
        yield value


Named = Mapping[str, Sequence[str]]
"""Header values by lower-case name."""


def by_name(headers: http.Headers) -> Named:
    """All headers, read in one pass: asking mitmproxy's for one at a time reads them all at each question."""
    found: dict[str, list[str]] = {}
    for name, value in headers.fields:
        found.setdefault(name.lower().decode("latin-1"), []).append(value.decode("utf-8", "surrogateescape"))
    return found


def find_key(named: Named, policy: Policy) -> tuple[VirtualKey | None, bool]:
    """The first known virtual key, and whether any credential was given at all."""
    given = False
    for name in CREDENTIAL_HEADERS:
        for value in named.get(name, ()):
            for secret in secrets_in(name, value):
                given = True
                key = policy.key_by_value(secret)
                if key is not None:
                    return key, True
    return None, given


def strip(headers: http.Headers) -> None:
    """Delete every credential and everything that is ours, keeping the order of the rest."""
    headers.fields = tuple(
        f for f in headers.fields if (low := f[0].lower()) not in _CREDENTIAL_HEADERS and not low.startswith(_OURS)
    )


Fields = tuple[tuple[bytes, bytes], ...]


_UNREADABLE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_METHOD, _TARGET = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"), re.compile(rb"/[!-~]*")


def readable(flow: http.HTTPFlow, named: Named) -> bool:
    """Whether a request holds only what HTTP allows, so that every reader sees the same in it.

    A line end inside a header's value, folded or bare, would be a second header to some; a body in a transfer coding
    besides its chunks would be judged as it is and read as what is in it.
    """
    request = flow.request
    if any(v.lower() != "chunked" for v in named.get("transfer-encoding", ())):
        return False
    if flow.client_conn.alpn != b"h2" and request.http_version not in ("HTTP/1.1", "HTTP/1.0"):
        return False
    if _METHOD.fullmatch(request.data.method) is None or _TARGET.fullmatch(request.data.path) is None:
        return False
    return _UNREADABLE.search(b"\t".join(v for _, v in request.headers.fields)) is None


def rewritten(fields: Fields, changed: dict[bytes, bytes], needs_host: bool) -> Fields:
    """Header fields with these values, each at the place of its first mention, else at the end; names keep their spelling."""
    left, out = dict(changed), []
    for name, value in fields:
        low = name.lower()
        if low not in changed:
            out.append((name, value))
        elif low in left:
            out.append((name, left.pop(low)))
    return (*out, *((n, v) for n, v in left.items() if needs_host or n != b"host"))


def host_and_port(header: str) -> tuple[str, int | None]:
    """A Host header's name, normalised, and its port if it names one."""
    name, _, port = header.rpartition(":")
    # Other scripts' digits are digits as well to Python, and not all of them numbers.
    told = name and not name.endswith(":") and re.fullmatch(r"[0-9]{1,5}", port)
    return (normalize_host(name), int(port)) if told else (normalize_host(header), None)


class Identity(Addon):
    """Makes the call, names the caller, strips the credentials and points the request at its provider."""

    @enforcing
    def http_connect(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: a CONNECT; remember its target and whom its credential names. Never refused for a provider."""
        shared, connection = services(), connection_of(flow.client_conn)
        if connection.target is not None:
            deny(flow, Deny(Reason.BLOCKED_BY_POLICY, "A tunnel inside a tunnel is not allowed"))
            return
        connection.key, _ = find_key(by_name(flow.request.headers), shared.policy)
        strip(flow.request.headers)
        connection.target = (normalize_host(flow.request.host), flow.request.port)
        provider = shared.policy.provider_of_host(*connection.target)
        connection.provider = provider.name if provider else None

    @enforcing
    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: a request begins; from here on it is a call, somebody's, and without credentials."""
        if flow.metadata.get("sluicegate") is not None:
            return
        shared, connection = services(), connection_of(flow.client_conn)
        headers = flow.request.headers
        named = by_name(headers)
        found = self.governed(flow, connection, named)
        if found is None:
            if flow.response is not None:
                # Nobody's call: a stranger's request is not to be put on record as one by those who come after.
                flow.metadata.setdefault("sluicegate", "refused")
                strip(headers)
            else:
                self.pass_by(flow, connection)
            return
        call = new_call(flow, found)
        self.describe(call, named)
        policy = shared.policy
        call.policy = policy
        key, given = find_key(named, policy)
        if key is None and connection.key is not None:
            # The connection's credential, looked up again: key or value may have been changed since the CONNECT.
            key, given = policy.key_by_digest(connection.key.digest), True
        missing = [h for h in policy.required_headers if not any(named.get(h.lower(), ()))]
        strip(headers)
        now = shared.clock()
        if key is None:
            reason = Reason.VIRTUAL_KEY_NOT_FOUND if given else Reason.VIRTUAL_KEY_REQUIRED
            words = (
                "The key that was sent is no known virtual key: it may have been revoked or mistyped"
                if given
                else "No virtual key was sent: set ANTHROPIC_API_KEY to yours, or put it into the proxy URL"
            )
            self.count(flow, call, reason)
            deny(flow, Deny(reason, words))
            return
        call.principal = policy.principal_of(key, call.attribution.get("user_id"))
        why = key.refusal(now) or self.exposed(flow, key, policy)
        if why is not None:
            deny(flow, Deny(Reason.VIRTUAL_KEY_BLOCKED, why, scope=key.id))
            return
        if missing:
            deny(flow, Deny(Reason.MISSING_REQUIRED_HEADERS, f"missing required headers: {', '.join(missing)}"))
            return
        if not readable(flow, named):
            deny(
                flow, Deny(Reason.INVALID_REQUEST, "Invalid request: its method, path, version or a header is not what HTTP allows")
            )
            return
        # An offer of cleartext HTTP/2 may be ignored, and mitmproxy does; any other upgrade would leave HTTP.
        if any(v.lower() != "h2c" for v in named.get("upgrade", ())):
            deny(flow, Deny(Reason.UNSUPPORTED, "Upgrades such as WebSocket are not supported; use plain HTTP"))
            if flow.response is not None:
                flow.response.status_code, flow.response.reason = 426, "Upgrade Required"
            return
        call.identified = True
        self.point(flow, call, policy)

    def governed(self, flow: http.HTTPFlow, connection: ClientConnection, named: Named) -> str | None:
        """The provider whose call this is, its path freed of our prefix; None if it is not, or has been refused."""
        request, policy = flow.request, services().policy
        name, port = host_and_port(request.authority or ", ".join(named.get("host", ())))
        claimed = policy.provider_of_host(name, port)
        sni = policy.provider_of_host(normalize_host(flow.client_conn.sni or ""))
        if connection.target is not None:
            if connection.provider is not None:
                return connection.provider
        elif origin_form(request):
            if claimed is None:
                return self.routed(flow)
        else:
            provider = policy.provider_of_host(normalize_host(request.host), request.port)
            if provider is not None:
                return provider.name
        if claimed is not None or sni is not None or connection.target is not None:
            # Whatever is read inside a tunnel to somebody else is read because it named a provider at its beginning.
            deny(
                flow,
                Deny(
                    Reason.BLOCKED_BY_POLICY,
                    "The connection's target is not the provider it claims to be for; nothing was sent",
                ),
            )
        return None

    def pass_by(self, flow: http.HTTPFlow, connection: ClientConnection) -> None:
        """Another host's request: its own credentials are its business; ours, virtual keys included, go no further."""
        headers, policy = flow.request.headers, services().policy
        proxy = http.Headers([f for f in headers.fields if f[0].lower() == b"proxy-authorization"])
        found, given = find_key(by_name(proxy), policy)
        if given or connection.target is None:
            connection.key = found

        def ours(name: str, value: str) -> bool:
            mine = name in CREDENTIAL_HEADERS and any(policy.key_by_value(s) for s in secrets_in(name, value))
            return mine or name.startswith(OURS)

        headers.fields = tuple(
            (n, v) for n, v in headers.fields if not ours(n.lower().decode("latin-1"), v.decode("utf-8", "surrogateescape"))
        )

    def routed(self, flow: http.HTTPFlow) -> str | None:
        """A request to our own port: a provider's by its path, or nobody's."""
        found = provider_for_path(flow.request.path)
        if found is None:
            flow.metadata["sluicegate"] = "local"
            body = b'{"type":"error","error":{"type":"not_found_error","message":"There is nothing here"}}'
            flow.response = http.Response.make(404, body, {"content-type": "application/json"})
            return None
        if found[1].partition("?")[0] == "/api/hello":
            flow.metadata["sluicegate"] = "local"
            flow.response = http.Response.make(200, b"{}", {"content-type": "application/json"})
            return None
        flow.request.path = found[1]
        return found[0]

    def exposed(self, flow: http.HTTPFlow, key: VirtualKey, policy: Policy) -> str | None:
        """Why a key without a secret may not be used from another machine, if it may not."""
        here = flow.client_conn.sockname
        if not key.is_demo or policy.server.allow_id_as_value or not here or is_loopback(here[0]):
            return None
        return f"Virtual key '{key.id}' has no secret value, so it can be used on the gateway's own machine only"

    def describe(self, call: Call, named: Named) -> None:
        """Note what the client says of itself, bounded and printable."""

        def said(name: str) -> str:
            return ", ".join(named.get(name, ()))

        agent = said("user-agent")[:256]
        call.user_agent = (agent if agent.isprintable() else "".join(c for c in agent if c.isprintable())) or None
        session = said("x-claude-code-session-id") or said("session-id")
        call.session_id = session if ATTRIBUTION.fullmatch(session) else None
        worker = said("x-claude-code-agent-id")
        call.agent_id = worker if ATTRIBUTION.fullmatch(worker) else None
        if "x-claude-code-session-id" in named or agent.startswith("claude-cli/"):
            call.client = "claude-code"
        elif agent.startswith(("codex", "Codex")) or said("originator").startswith("codex"):
            call.client = "codex"
        user = said("x-bf-user-id")
        if ATTRIBUTION.fullmatch(user):
            call.attribution["user_id"] = user

    def point(self, flow: http.HTTPFlow, call: Call, policy: Policy) -> None:
        """Send the request where the provider's base URL says, path and query as they were."""
        target, request = services().target(policy.providers[call.provider]), flow.request
        host = hostport(target.scheme, target.host, target.port).encode()
        changed = {b"host": host}
        if call.kind == "messages":
            # What the provider compresses we would have to undo to meter; the client asked for text either way.
            changed[b"accept-encoding"] = b"identity"
        # Set all at once: each of mitmproxy's own setters writes the Host header anew.
        data = request.data
        data.scheme, data.host, data.port = target.scheme.encode(), target.host, target.port
        if data.authority:
            # In HTTP/1 a target that names its host is for proxies, and the provider is none.
            data.authority = host if request.is_http2 else b""
        request.headers.fields = rewritten(request.headers.fields, changed, needs_host=not data.authority)
        if target.prefix:
            request.path = target.prefix + request.path

    def count(self, flow: http.HTTPFlow, call: Call, reason: Reason) -> None:
        """Strangers get a count per source and minute instead of a record each: they could fill the disk with them."""
        shared = services()
        source = flow.client_conn.peername[0] if flow.client_conn.peername else "?"
        shared.writer.count_refusal(call.started_at, source, reason.value)
        shared.metrics.count_refusal(reason.value)
        call.recorded = True
        shared.writer.flush_soon(1.0)

    @observing
    def error(self, flow: http.HTTPFlow) -> None:
        """mitmproxy: a request broke off, perhaps before its headers were judged; nothing secret stays on the flow."""
        if call_of(flow) is None and flow.metadata.get("sluicegate") is None:
            strip(flow.request.headers)


addons = [Identity()]
