"""Identity: which provider a request is for and who is calling; it removes every credential from the request.

The connection decides the target: its CONNECT, its absolute URI, or our own listener. A Host header or an SNI is a claim
by the party being governed and decides nothing.
"""

from __future__ import annotations

from mitmproxy import http
from mitmproxy.net.http.status_codes import RESPONSES as STATUS_TEXTS
from mitmproxy.net.http.url import hostport

from flow import (
    Addon,
    call_of,
    connection_of,
    count_refusal,
    deny,
    enforcing,
    limit_body,
    new_call,
    observing,
    origin_form,
    services,
    source_of,
)
from sluicegate.addresses import is_loopback, normalize_host, split_port
from sluicegate.calls.call import Call
from sluicegate.calls.client_login import ClientLogin
from sluicegate.calls.clients import OTHER, is_websocket, note_client
from sluicegate.calls.refusal import no_page_message, render
from sluicegate.calls.second_credential import refusal_beside
from sluicegate.calls.unknown_caller import PROXY, refusal_of_unknown
from sluicegate.credentials import Reading, TooManyPartsError
from sluicegate.network.egress.connection import ClientConnection
from sluicegate.policy.model import Policy, VirtualKey
from sluicegate.providers import PROTOCOLS
from sluicegate.providers.account_headers import billing_problem, without_account_choice
from sluicegate.providers.base import ProtocolName
from sluicegate.providers.known import known_provider
from sluicegate.request_grammar import (
    BODILESS_METHODS,
    HeaderValues,
    Problem,
    first_problem,
    removed_headers,
    replace_fields,
)
from sluicegate.routing.offered_models import note_models_of_all, provider_of_path
from sluicegate.values import Deny, Reason

LOCAL_ANSWERS = {"/api/hello": b"{}", "/inference-profiles": b'{"inferenceProfileSummaries":[]}'}
"""Paths that clients ask without a credential, and what they are answered here.

Claude Code asks Bedrock for its profiles first; where there is none, it takes the ids that it knows.
"""


def header_values(headers: http.Headers) -> HeaderValues:
    """Return all header values by name, read in one pass: each look-up in mitmproxy's headers reads all of them."""
    found: dict[str, list[str]] = {}
    for name, value in headers.fields:
        found.setdefault(name.lower().decode("latin-1"), []).append(value.decode("utf-8", "surrogateescape"))
    return found


def refuse_body(flow: http.HTTPFlow) -> None:
    """Refuse a request whose method has no body, when one begins."""
    deny(flow, Deny(Reason.INVALID_REQUEST, f"Invalid request: a {flow.request.method} has no body"))


def demo_key_refusal(flow: http.HTTPFlow, key: VirtualKey, policy: Policy) -> str | None:
    """Return why a key without a secret value may not be used from another machine; None if it may."""
    listener, server = flow.client_conn.sockname, policy.server
    if not key.is_demo or server.allow_id_as_value or not listener:
        return None
    if server.trusts(listener[0]) and server.trusts(source_of(flow)):
        return None
    where = (
        "so it can be used on the gateway's own machine only"
        if server.trusts("127.0.0.1")
        else "and this gateway asks everyone for one"
    )
    return f"Virtual key '{key.id}' has no secret value, {where}"


def is_own_address(flow: http.HTTPFlow, policy: Policy) -> bool:
    """Return whether a request names the gateway's own address as its target."""
    listener, host = flow.client_conn.sockname, normalize_host(flow.request.host)
    if not listener or flow.request.port != listener[1]:
        return False
    names = ("localhost", normalize_host(listener[0]), *policy.server.hosts)
    return host in names or is_loopback(host)


class Identity(Addon):
    """Makes the call, names the caller, removes the credentials and directs the request to its provider."""

    @enforcing
    def http_connect(self, flow: http.HTTPFlow) -> None:
        """Note a CONNECT's target and virtual key. One to a provider is never refused: clients show only the answers to calls."""
        shared, connection, reading = services(), connection_of(flow.client_conn), self.take_credentials(flow)
        if connection.target is not None:
            deny(flow, Deny(Reason.BLOCKED_BY_POLICY, "A tunnel inside a tunnel is not allowed"))
        if reading is None or flow.response is not None:
            return
        connection.key, connection.sent_credential, connection.project = reading.key, bool(reading.sent), reading.project
        connection.sent_former, connection.connect_id = reading.former, flow.id
        connection.target = normalize_host(flow.request.host), flow.request.port
        provider = shared.policy.provider_of_host(*connection.target)
        connection.provider = provider.name if provider else None
        if provider is not None:
            connection.envelope = provider.protocol

    @observing
    def http_connect_error(self, flow: http.HTTPFlow) -> None:
        """Forget a CONNECT that was refused: its client may send another on this connection, now with its credential."""
        connection = connection_of(flow.client_conn)
        if connection.connect_id == flow.id:
            connection.target = connection.provider = connection.refusal = None

    @enforcing
    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Make the call of a request that begins, name its caller and remove its credentials."""
        if flow.metadata.get("sluicegate") is not None:
            return
        shared, connection = services(), connection_of(flow.client_conn)
        values = header_values(flow.request.headers)
        # Looked at once: a reload in between would have the call judged by two policies.
        policy = shared.policy
        asked = flow.request.path
        provider = self.provider_of(flow, connection, values, policy)
        if provider is None:
            if flow.response is not None:
                # Marked, so that no later addon makes a call of it: unknown senders could fill the records.
                flow.metadata.setdefault("sluicegate", "refused")
                self.take_credentials(flow)
            else:
                self.strip_foreign_request(flow, connection)
            return
        reading = self.take_credentials(flow, is_call=True)
        if reading is None:
            flow.metadata["sluicegate"] = "refused"
            return
        if is_websocket(values):
            self.decline_websocket(flow, policy.providers[provider].protocol)
            return
        served = policy.providers[provider]
        is_whole = connection.target is not None or not origin_form(flow.request)
        if (path := served.inner_path(flow.request.path, is_whole=is_whole)) != flow.request.path:
            flow.request.path = path
        call = new_call(flow, provider, policy)
        note_models_of_all(call, "" if is_whole else asked, policy)
        shown = {n: v for n, v in values.items() if n.encode() not in reading.hidden} if reading.hidden else values
        note_client(call, shown, connection.project or reading.project)
        key = reading.key
        if key is None and connection.key is not None:
            # The connection's credential, looked up again: the key may have been changed or revoked since the CONNECT.
            key = policy.key_by_digest(connection.key.digest)
        missing = [h for h in policy.required_headers if not any(values.get(h.lower(), ()))]
        if reading.login is not None and key is not None and is_whole and not is_own_address(flow, policy):
            call.offered_login = ClientLogin(reading.login)
        if self.name_caller(flow, call, policy, key, reading) and not self.refuse_malformed(flow, call, values, missing):
            call.identified = True
            self.direct_to_provider(flow, call, policy, removed_headers(values))

    def name_caller(
        self, flow: http.HTTPFlow, call: Call, policy: Policy, key: VirtualKey | None, reading: Reading[VirtualKey]
    ) -> bool:
        """Note whose call it is, and return True; refuse one that needs a key if there is none that may be used."""
        if key is None:
            if call.kind == "keyless":
                return True
            self.refuse_unknown(flow, call, reading)
            return False
        call.principal = policy.principal_of(key, call.attribution.get("user_id"), call.attribution.get("project"))
        now, connection = services().clock(), connection_of(flow.client_conn)
        why = key.refusal(now) or policy.user_refusal(call.principal) or demo_key_refusal(flow, key, policy)
        why = why or refusal_beside(reading, policy, connection.key, connection.sent_former, now)
        if why is not None:
            deny(flow, Deny(Reason.VIRTUAL_KEY_BLOCKED, why, scope=key.id))
            return False
        return True

    def refuse_unknown(self, flow: http.HTTPFlow, call: Call, reading: Reading[VirtualKey]) -> None:
        """Refuse a call whose caller nobody knows, in words that fit what it has sent."""
        of_connection = (PROXY,) if connection_of(flow.client_conn).sent_credential and PROXY not in reading.sent else ()
        # A provider that only policy knows is called with the client of its protocol.
        provider = call.provider if known_provider(call.provider) is not None else call.protocol
        passes = call.policy is not None and call.policy.providers[call.provider].passes_subscriptions
        sent = (*reading.sent, *of_connection)
        refusal = refusal_of_unknown(call.client, provider, sent, is_login=reading.is_login, passes_logins=passes)
        count_refusal(flow, call, refusal.reason)
        deny(flow, refusal)

    def refuse_malformed(self, flow: http.HTTPFlow, call: Call, values: HeaderValues, missing: list[str]) -> bool:
        """Refuse a request that lacks required headers, is ambiguous or asks to leave HTTP; return whether it did."""
        if missing and call.kind != "keyless":
            deny(flow, Deny(Reason.MISSING_REQUIRED_HEADERS, f"missing required headers: {', '.join(missing)}"))
            return True
        request = flow.request
        # HTTP/2 is recognised by what TLS negotiated: the version in a request line is only a claim by the client.
        version = None if flow.client_conn.alpn == b"h2" else request.http_version
        problem = first_problem(
            request.data.method,
            request.data.path,
            version,
            getattr(request, "named_authority", ""),
            request.headers.fields,
            values,
            is_model_call=call.kind in ("messages", "count_tokens"),
        )
        if problem is None and (why := billing_problem(values) or call.malformed) is not None:
            problem = Problem(why)
        if problem is None:
            if version is None and request.method in BODILESS_METHODS:
                # Only HTTP/2 begins a body without a word about it in the headers.
                limit_body(flow, 0, refuse_body)
            return False
        deny(flow, Deny(problem.reason, problem.message))
        if problem.status is not None and flow.response is not None:
            flow.response.status_code, flow.response.reason = problem.status, STATUS_TEXTS.get(problem.status, "")
        return True

    def decline_websocket(self, flow: http.HTTPFlow, protocol: ProtocolName) -> None:
        """Answer 426 to an attempt at WebSocket, whoever makes it: Codex then makes its call over HTTP, which is judged.

        It is no call, so it leaves no record: a healthy run of Codex begins with one. It is counted.
        """
        flow.metadata.setdefault("sluicegate", "refused")
        _, headers, body = render(Deny(Reason.UNSUPPORTED, "WebSocket is not supported; use plain HTTP"), protocol, OTHER)
        flow.response = http.Response.make(426, body, dict(headers))
        services().metrics.declined_websockets += 1

    def provider_of(self, flow: http.HTTPFlow, connection: ClientConnection, values: HeaderValues, policy: Policy) -> str | None:
        """Return the provider whose call this is, and remove our prefix from its path; None for no call or a refused one."""
        request = flow.request
        name, port = split_port(request.authority or ", ".join(values.get("host", ())))
        claimed = policy.provider_of_host(name, port)
        # In this order: a CONNECT has fixed the target, and what a request inside claims no longer matters.
        if connection.target is not None:
            if connection.provider is not None:
                return connection.provider
            if connection.refusal is not None:
                if is_websocket(values):
                    self.decline_websocket(flow, connection.envelope)
                else:
                    deny(flow, connection.refusal)
                return None
        elif origin_form(request):
            if claimed is None:
                return self.route_origin_form(flow, values, policy)
        else:
            provider = policy.provider_of_host(normalize_host(request.host), request.port)
            if provider is not None:
                return provider.name
            if is_own_address(flow, policy):
                # A client whose proxy and base URL are both the gateway names it in full. Administration is never so reached.
                return self.route_origin_form(flow, values, policy)
        sni = policy.provider_of_host(flow.client_conn.sni or "")
        if claimed is not None or sni is not None or connection.target is not None:
            # A tunnel to another host is only decrypted because it named a provider in its first bytes.
            message = "The connection's target is not the provider it claims to be for; nothing was sent"
            deny(flow, Deny(Reason.BLOCKED_BY_POLICY, message))
        return None

    def take_credentials(
        self, flow: http.HTTPFlow, *, is_foreign: bool = False, is_call: bool = False
    ) -> Reading[VirtualKey] | None:
        """Read a request's credentials and remove them, and our headers with them; None if it had to be refused.

        From another host's request only what is ours is removed.
        """
        request, shared = flow.request, services()
        credentials = shared.credentials(shared.policy)
        read = credentials.read_foreign if is_foreign else credentials.read
        try:
            reading = read(request.headers.fields, request.data.path)
        except TooManyPartsError:
            request.headers.fields, request.data.path = (), b"/"
            message = "Invalid request: its headers and query have too many parts to be searched for keys"
            deny(flow, Deny(Reason.INVALID_REQUEST, message))
            return None
        request.headers.fields, request.data.path = reading.fields, reading.target
        host = b"" if is_call else request.data.host.encode()
        shown = b" ".join((request.data.method, host, reading.target.partition(b"?")[0]))
        if credentials.shows_secret(shown):
            # It would be printed, recorded and sent on.
            request.data.method, request.data.path, request.data.host = b"GET", b"/", ""
            deny(flow, Deny(Reason.INVALID_REQUEST, "Invalid request: its method, host or path holds a key; send that in a header"))
            return None
        return reading

    def strip_foreign_request(self, flow: http.HTTPFlow, connection: ClientConnection) -> None:
        """Remove our headers and virtual keys from a request to another host; its own credentials stay."""
        reading = self.take_credentials(flow, is_foreign=True)
        # On a kept connection to the proxy itself, each request names its caller; in a tunnel the CONNECT did.
        if reading is not None and (reading.sent or connection.target is None):
            connection.key, connection.sent_credential = reading.key, bool(reading.sent)

    def route_origin_form(self, flow: http.HTTPFlow, values: HeaderValues, policy: Policy) -> str | None:
        """Return the provider that a request to our own port is for, by method and path; answer 404 if it is for none."""
        found = provider_of_path(flow.request.method, flow.request.path, values, policy)
        if found is None:
            flow.metadata["sluicegate"] = "local"
            body = PROTOCOLS["anthropic"].error_body("not_found_error", no_page_message(flow.request.path.partition("?")[0]), 404)
            flow.response = http.Response.make(404, body, {"content-type": "application/json"})
            return None
        if (answer := LOCAL_ANSWERS.get(found[1].partition("?")[0])) is not None:
            flow.metadata["sluicegate"] = "local"
            flow.response = http.Response.make(200, answer, {"content-type": "application/json"})
            return None
        flow.request.path = found[1]
        return found[0]

    def direct_to_provider(self, flow: http.HTTPFlow, call: Call, policy: Policy, removed: frozenset[bytes]) -> None:
        """Set the request's target to the provider's base URL, leaving path and query unchanged, and remove these headers."""
        target, request = services().target(policy.providers[call.provider]), flow.request
        host = hostport(target.scheme, target.host, target.port).encode()
        changed = {b"host": host}
        if call.kind == "messages":
            # A compressed answer would have to be decompressed to be metered; the client gets the same text either way.
            changed[b"accept-encoding"] = b"identity"
        # Set on the data itself: each of mitmproxy's own setters rewrites the Host header.
        data = request.data
        data.scheme, data.host, data.port = target.scheme.encode(), target.host, target.port
        if data.authority:
            # In HTTP/1 only a proxy takes a target that names its host, and the provider is not one.
            data.authority = host if request.is_http2 else b""
        fields = replace_fields(request.headers.fields, changed, not data.authority, removed)
        # The provider's key may reach several accounts; which of them pays is not the caller's to say.
        request.headers.fields = without_account_choice(fields)
        path = target.prefix + policy.providers[call.provider].outer_path(request.path)
        if path != request.path:
            request.path = path

    @observing
    def error(self, flow: http.HTTPFlow) -> None:
        """Remove the credentials from a request that broke off, perhaps before its headers were judged."""
        if call_of(flow) is None and flow.metadata.get("sluicegate") is None:
            self.take_credentials(flow)


addons = [Identity()]
