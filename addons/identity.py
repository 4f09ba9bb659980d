"""Identity: which provider a request is for and who is calling; it removes every credential from the request.

The connection decides the target: its CONNECT, its absolute URI, or our own listener. A Host header or an SNI is a claim
by the party being governed and decides nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable

from mitmproxy import http
from mitmproxy.net.http.status_codes import RESPONSES as STATUS_TEXTS
from mitmproxy.net.http.url import hostport

from flow import (
    Addon,
    call_begun,
    call_of,
    connection_of,
    count_refusal,
    deny,
    enforcing,
    is_decided,
    limit_body,
    new_call,
    observing,
    origin_form,
    services,
    source_of,
)
from sluicegate.addresses import is_loopback, normalize_host, split_port
from sluicegate.calls.call import Call, new_call_id
from sluicegate.calls.client_login import ClientLogin
from sluicegate.calls.clients import OTHER, is_websocket, note_client, values_of
from sluicegate.calls.demo_keys import demo_key_refusal
from sluicegate.calls.destination import Destination, fields_onward, outer_path
from sluicegate.calls.refusal import no_page_message, render
from sluicegate.calls.second_credential import refusal_of_second
from sluicegate.calls.unknown_caller import ENDED, LOCAL_ANSWERS, PROXY, UNSURE, refusal_of_unknown
from sluicegate.calls.usual_head import Head, usual_head
from sluicegate.credentials import Reading, TooManyPartsError
from sluicegate.network.egress.connection import ClientConnection
from sluicegate.policy.model import Policy, VirtualKey
from sluicegate.policy.source import refusal_of_copy
from sluicegate.providers import PROTOCOLS
from sluicegate.providers.account_headers import billing_problem
from sluicegate.providers.base import ProtocolName
from sluicegate.providers.known import known_provider
from sluicegate.request_grammar import (
    BODILESS_METHODS,
    HeaderValues,
    Problem,
    first_problem,
    removed_headers,
)
from sluicegate.routing.offered_models import note_models_of_all, provider_of_path
from sluicegate.values import Deny, Reason


def is_own_address(flow: http.HTTPFlow, policy: Policy) -> bool:
    """Return whether a request names the gateway's own address as its target."""
    listener, host = flow.client_conn.sockname, normalize_host(flow.request.host)
    if not listener or flow.request.port != listener[1]:
        return False
    names = ("localhost", normalize_host(listener[0]), *policy.server.hosts)
    return host in names or is_loopback(host)


def head_of(flow: http.HTTPFlow, connection: ClientConnection) -> Head:
    """Return all that a request is judged by before its body has come, besides the policy."""
    data, request = flow.request.data, flow.request
    circumstances = (
        *(data.method, data.http_version, origin_form(request), getattr(request, "named_authority", ""), source_of(flow)),
        *(connection.target, connection.provider, connection.refusal, connection.project),
        *(connection.sent_credential, connection.sent_former),
    )
    target = Destination(data.scheme, data.host, data.port, data.authority, data.path)
    return Head(target, circumstances, connection.key, data.headers.fields)


def decline_websocket(flow: http.HTTPFlow, protocol: ProtocolName) -> None:
    """Answer 426 to an attempt at WebSocket, whoever makes it: Codex then makes its call over HTTP, which is judged.

    It is not a call, so it leaves no record: a healthy run of Codex begins with one. It is counted.
    """
    flow.metadata.setdefault("sluicegate", "refused")
    _, headers, body = render(Deny(Reason.UNSUPPORTED, "WebSocket is not supported; use plain HTTP"), protocol, OTHER)
    flow.response = http.Response.make(426, body, dict(headers))
    services().metrics.declined_websockets += 1


async def judge_when_looked_up(identity: Identity, flow: http.HTTPFlow, access: bytes) -> None:
    """Judge a request whose access token may have been issued elsewhere a moment ago, once the store has been asked."""
    shared, connection = services(), connection_of(flow.client_conn)
    connection.is_unsure = not await shared.sign_ins.following.looked_up(access, source_of(flow))
    if not is_decided(flow):
        identity.judge_head(flow, connection, shared.policy, head_of(flow, connection))
    connection.is_unsure = False


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
    def requestheaders(self, flow: http.HTTPFlow) -> Awaitable[None] | None:
        """Make the call of a request that begins, name its caller and remove its credentials."""
        if flow.metadata.get("sluicegate") is not None:
            return None
        shared, connection = services(), connection_of(flow.client_conn)
        # Looked at once: a reload in between would have the call judged by two policies.
        policy, came = shared.policy, head_of(flow, connection)
        if self.repeat_head(flow, connection, policy, came):
            return None
        if (unknown := shared.sign_ins.following.unknown(came.fields, policy)) is not None:
            return judge_when_looked_up(self, flow, unknown)
        self.judge_head(flow, connection, policy, came)
        return None

    def judge_head(self, flow: http.HTTPFlow, connection: ClientConnection, policy: Policy, came: Head) -> None:
        """Judge a request by its head, and remember that of a call that may go for the next one on its connection."""
        values = values_of(came.fields)
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
            decline_websocket(flow, policy.providers[provider].protocol)
            return
        served, is_whole = policy.providers[provider], connection.target is not None or not origin_form(flow.request)
        if (path := served.inner_path(flow.request.path, is_whole=is_whole)) != flow.request.path:
            flow.request.path = path
        call = new_call(flow, provider, policy)
        note_models_of_all(call, "" if is_whole else asked, policy)
        shown = {n: v for n, v in values.items() if n.encode() not in reading.hidden} if reading.hidden else values
        note_client(call, shown, connection.project or reading.project)
        # The connection's credential, looked up again: the key may have been changed or revoked since the CONNECT.
        key = reading.key or (policy.key_by_digest(connection.key.digest) if connection.key is not None else None)
        missing = [h for h in policy.required_headers if not any(values.get(h.lower(), ()))]
        if reading.login is not None and key is not None and is_whole and not is_own_address(flow, policy):
            call.offered_login = ClientLogin(reading.login)
        if self.name_caller(flow, call, policy, key, reading) and not self.refuse_malformed(flow, call, values, missing):
            call.identified = True
            to = self.direct_to_provider(flow, call, policy, removed_headers(values))
            connection.usual_head = usual_head(call, came, to, flow.request.headers.fields, reading)

    def repeat_head(self, flow: http.HTTPFlow, connection: ClientConnection, policy: Policy, came: Head) -> bool:
        """Do for a request what was done for the last one on its connection, if it has the same head; return whether it has."""
        shared, usual = services(), connection.usual_head
        now = shared.clock()
        fields = usual.fields_of(came, policy, shared.credentials(policy), now) if usual is not None else None
        if usual is None or fields is None:
            return False
        flow.request.headers.fields = fields
        usual.destination.put_on(flow.request.data)
        call_begun(flow, usual.call(new_call_id(now), now))
        return True

    def name_caller(
        self, flow: http.HTTPFlow, call: Call, policy: Policy, key: VirtualKey | None, reading: Reading[VirtualKey]
    ) -> bool:
        """Note whose call it is, and return True; refuse one that needs a key if there is none that may be used."""
        unconfirmed = refusal_of_copy(services().policy_watcher.source)
        if key is None and call.kind == "keyless" and unconfirmed is None:
            return True
        if key is None or unconfirmed is not None:
            deny(flow, unconfirmed) if unconfirmed is not None else self.refuse_unknown(flow, call, reading)
            return False
        call.principal = policy.principal_of(key, call.attribution.get("user_id"), call.attribution.get("project"))
        now, connection = services().clock(), connection_of(flow.client_conn)
        why = (
            key.refusal(now)
            or policy.user_refusal(call.principal)
            or demo_key_refusal(key, policy.server, flow.client_conn.sockname, source_of(flow))
        )
        why = why or refusal_of_second(reading, policy, connection.key, connection.sent_former, now)
        if why is not None:
            deny(flow, Deny(Reason.VIRTUAL_KEY_BLOCKED, why, scope=key.id))
            return False
        return True

    def refuse_unknown(self, flow: http.HTTPFlow, call: Call, reading: Reading[VirtualKey]) -> None:
        """Refuse a call whose caller nobody knows, in words that fit what it has sent."""
        in_url = (connection := connection_of(flow.client_conn)).sent_credential and PROXY not in reading.sent
        # A provider that only policy knows is called with the client of its protocol.
        provider = call.provider if known_provider(call.provider) is not None else call.protocol
        passes = call.policy is not None and call.policy.providers[call.provider].passes_subscriptions
        sent, logins = (*reading.sent, *((PROXY,) if in_url else ())), {"is_login": reading.is_login, "passes_logins": passes}
        ended = UNSURE if connection.is_unsure else ENDED
        refusal = ended if reading.has_ended else refusal_of_unknown(call.client, provider, sent, **logins)
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
        line = request.data.method, request.data.path, version, getattr(request, "named_authority", "")
        is_model_call = call.kind in ("messages", "count_tokens")
        problem = first_problem(*line, request.headers.fields, values, is_model_call=is_model_call)
        if problem is None and (why := billing_problem(values) or call.malformed) is not None:
            problem = Problem(why)
        if problem is None:
            if version is None and request.method in BODILESS_METHODS:
                # Only HTTP/2 begins a body without a word about it in the headers.
                has_body = Deny(Reason.INVALID_REQUEST, f"Invalid request: a {request.method} has no body")
                limit_body(flow, 0, lambda late: deny(late, has_body))
            return False
        deny(flow, Deny(problem.reason, problem.message))
        if problem.status is not None and flow.response is not None:
            flow.response.status_code, flow.response.reason = problem.status, STATUS_TEXTS.get(problem.status, "")
        return True

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
                    decline_websocket(flow, connection.envelope)
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
        host, path = b"" if is_call else request.data.host.encode(), reading.target.partition(b"?")[0]
        if credentials.shows_secret(b" ".join((request.data.method, host, path))):
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

    def direct_to_provider(self, flow: http.HTTPFlow, call: Call, policy: Policy, removed: frozenset[bytes]) -> Destination:
        """Send the request to the provider's base URL, path and query unchanged, without these headers; return where that is."""
        served, data = policy.providers[call.provider], flow.request.data
        target = services().target(served)
        host = hostport(target.scheme, target.host, target.port).encode()
        # In HTTP/1 only a proxy takes a target that names its host, and the provider is not one.
        authority = host if data.authority and flow.request.is_http2 else b""
        path = outer_path(served, target.prefix, flow.request.path)
        to = Destination(target.scheme.encode(), target.host, target.port, authority, path)
        to.put_on(data)
        flow.request.headers.fields = fields_onward(call, data.headers.fields, host, removed, needs_host=not authority)
        return to

    @observing
    def error(self, flow: http.HTTPFlow) -> None:
        """Remove the credentials from a request that broke off, perhaps before its headers were judged."""
        if call_of(flow) is None and flow.metadata.get("sluicegate") is None:
            self.take_credentials(flow)


addons = [Identity()]
