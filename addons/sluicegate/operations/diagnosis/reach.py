"""A gateway as a developer machine reaches it: its answer, its clock, the key, and TLS through its proxy."""

from __future__ import annotations

import base64
import socket
import ssl
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from sluicegate.http_client.errors import UnreachableError
from sluicegate.http_client.exchange import request
from sluicegate.http_client.response import Response
from sluicegate.operations.diagnosis.finding import Finding, fail, ok, warn

TIMEOUT_S = 10.0

CLOCK_OFF_S = 60.0
"""How far two clocks may be apart before somebody should look at them."""

GOVERNED_HOST = "api.anthropic.com"
"""A host that every gateway opens and answers itself, so that nothing leaves it."""

MAX_HEAD_BYTES = 16_384


def check_reach(gateway: str) -> tuple[bool, list[Finding]]:
    """Return whether a gateway answers, and what is to be said of it."""
    try:
        ready = request("GET", f"{gateway}/ready", timeout_s=TIMEOUT_S)
        found = ready.json()
    except UnreachableError as e:
        if "CERTIFICATE_VERIFY_FAILED" in str(e) or "certificate" in str(e):
            mend = "have its port's certificate signed by an authority of this machine, or add that authority to the system's"
            return False, [fail("gateway", f"{gateway}: its certificate is not trusted: {e}", mend)]
        return False, [
            fail("gateway", f"{gateway} cannot be reached: {e}", "see that it runs, and that no firewall stands between")
        ]
    except ValueError:
        found = None
    if not isinstance(found, dict) or "ready" not in found:
        return False, [fail("gateway", f"what answers at {gateway} is not sluicegate", "give the gateway's own URL")]
    findings = [_clock(ready)]
    if found["ready"]:
        findings.insert(0, ok("gateway", f"{gateway} takes calls"))
    else:
        mend = "ask its operator: sluicegate doctor on its machine says why"
        findings.insert(0, fail("gateway", f"{gateway} answers and takes no calls now", mend))
    return True, findings


def _clock(answer: Response) -> Finding:
    try:
        theirs = parsedate_to_datetime(answer.headers.get("date", "")).timestamp()
    except ValueError:
        return ok("clock", "the gateway does not say what time it is")
    apart = time.time() - theirs
    if abs(apart) > CLOCK_OFF_S:
        words = f"is {abs(apart):.0f} s {'ahead of' if apart > 0 else 'behind'} the gateway's"
        return warn("clock", words, "set it: certificates and expiries go by it")
    return ok("clock", "agrees with the gateway's")


def check_key(gateway: str, key: str) -> Finding:
    """Ask the gateway whether it knows a key, and whether it is active."""
    try:
        answer = request("GET", f"{gateway}/api/session", headers={"authorization": f"Bearer {key}"}, timeout_s=TIMEOUT_S)
    except UnreachableError as e:
        return fail("key", f"the gateway does not answer: {e}", "try again")
    try:
        body = answer.json()
    except ValueError:
        body = {}
    if answer.status == 200 and body.get("virtual_key_id"):
        return ok("key", f"is {body['virtual_key_id']}, and active")
    if answer.status == 200:
        return warn("key", "is an administrator's token, which no agent should have", "use a virtual key")
    if answer.status == 429:
        return warn("key", "too many wrong keys came from this machine", "wait half a minute and try again")
    return fail("key", "is unknown to the gateway, disabled or expired", "ask its administrator: sluicegate key show ID says which")


def fetch_authority(gateway: str) -> bytes | None:
    """Return the gateway's certificate authority in PEM; None where it has none to give."""
    try:
        answer = request("GET", f"{gateway}/ca.pem", timeout_s=TIMEOUT_S)
    except UnreachableError:
        return None
    return answer.body if answer.status == 200 and b"BEGIN CERTIFICATE" in answer.body else None


def check_proxy(gateway: str, key: str | None, authority: bytes) -> Iterator[Finding]:
    """Open a governed host through the gateway's proxy, and see that its certificate is from the gateway's authority."""
    parts = urlsplit(gateway)
    inside = ssl.create_default_context(cadata=authority.decode("ascii", "replace"))
    try:
        with socket.create_connection((parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)), TIMEOUT_S) as plain:
            proxy = plain
            if parts.scheme == "https":
                proxy = ssl.create_default_context().wrap_socket(plain, server_hostname=parts.hostname)
            status = _connect(proxy, key)
            if status != 200:
                yield fail("proxy", f"CONNECT is answered with {status}", "give the key with --key, and see that it is active")
                return
            _shake_hands(proxy, inside, GOVERNED_HOST)
            yield ok("proxy", f"opens {GOVERNED_HOST} with the gateway's certificate")
    except ssl.SSLError as e:
        yield fail("proxy", f"its certificate for {GOVERNED_HOST} is not its authority's: {e.reason}", "restart the gateway")
    except OSError as e:
        yield fail("proxy", f"the connection broke off: {e.strerror or type(e).__name__}", "see that no other proxy stands between")


def _shake_hands(tunnel: socket.socket, context: ssl.SSLContext, host: str) -> None:
    """Complete a TLS handshake in a tunnel, which may be TLS itself: no socket of ``ssl`` wraps another. Raises OSError."""
    received, to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
    inner = context.wrap_bio(received, to_send, server_hostname=host)
    while True:
        try:
            inner.do_handshake()
            tunnel.sendall(to_send.read())
            return
        except ssl.SSLWantReadError:
            tunnel.sendall(to_send.read())
        if not (piece := tunnel.recv(16_384)):
            raise ConnectionResetError("the tunnel was closed")
        received.write(piece)


def _connect(server: socket.socket, key: str | None) -> int:
    """Ask a proxy to open a host; return its status, 0 where it gives none."""
    credential = f"Proxy-Authorization: Basic {base64.b64encode(f'{key}:x'.encode()).decode()}\r\n" if key else ""
    server.sendall(f"CONNECT {GOVERNED_HOST}:443 HTTP/1.1\r\nHost: {GOVERNED_HOST}:443\r\n{credential}\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head and len(head) < MAX_HEAD_BYTES:
        if not (piece := server.recv(4096)):
            break
        head += piece
    words = head.split(b" ", 2)
    return int(words[1]) if len(words) > 2 and words[1].isdigit() else 0
