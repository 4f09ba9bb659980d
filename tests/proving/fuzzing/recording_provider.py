"""A provider as an adversary of the gateway: reads requests as laxly as any might, and reports what it should not see."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from proving.billing import BillingProvider, Entry, counted
from support.fake_provider import Peer, Seen, usage
from support.harness import PROVIDER_KEY

NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
OURS = ("x-bf-", "x-sluicegate-", "proxy-")
PLACES = ("x-api-key", "authorization", "x-goog-api-key")
SESSION = re.compile(r"[A-Za-z0-9._@-]{1,128}")
HOP_BY_HOP = ("connection", "keep-alive", "te", "trailer", "upgrade", "http2-settings", "expect")
CLAIMS = ("forwarded", "x-host", "x-original-url", "x-original-uri", "x-rewrite-url", "x-forwarded-host", "x-forwarded-prefix")
OVERRIDES = ("x-http-method-override", "x-http-method", "x-method-override", "x-original-method")
ONCE = ("content-type", "content-encoding")
PLAIN_PATH = re.compile(rb"[A-Z]+ (/|(/(?!\.\.?[/? ])[A-Za-z0-9._~!$&'()*+,=:@-]+)+)(\?[!-~]*)? ")
KEYLESS = re.compile(rb"(GET|HEAD) (/api/hello|/api/web/domain_info|/api/directory/[a-z-]+|/mcp-registry/v0/servers)[? ]")
"""Requests that clients make without a credential: they get none on their way."""
GOVERNED = ("model", "stream", "max_tokens", "speed", "mcp_servers", "container")


def lenient_path(path: str) -> str:
    """Return a path as the most forgiving server might read it."""
    text = path.partition("?")[0].partition("#")[0]
    for _ in range(3):
        text = unquote(text)
    parts: list[str] = []
    for part in re.split(r"[/\\]+", text.lower()):
        part = part.partition(";")[0].strip()
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def parse_both_ways(body: bytes) -> tuple[Any, Any]:
    """Return a JSON body as read by parsers that take the last and the first of two equal keys; None where it is none."""

    def first(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        return dict(reversed(pairs))

    try:
        text = body.decode("utf-8-sig", "replace")
        return json.loads(text, parse_int=float), json.loads(text, parse_int=float, object_pairs_hook=first)
    except (ValueError, RecursionError):
        return None, None


def governed(body: dict[str, Any]) -> list[Any]:
    """Return what determines a call's cost: some fields, and where each tool runs."""
    tools = body.get("tools")
    kinds = [t.get("type") for t in tools if isinstance(t, dict)] if isinstance(tools, list) else []
    return [*(body.get(n) for n in GOVERNED[:4]), *(bool(body.get(n)) for n in GOVERNED[4:]), *kinds]


@dataclass
class ReceivedRequest(Entry):
    """One request as it arrived."""

    call: bool = False
    """A provider might have run a model for it."""
    method: str = ""
    path: str = ""
    """As it arrived, without its query."""
    body: dict[str, Any] = field(default_factory=dict)
    billed: bool = True
    """Its cost is known here; a target that answers in its own way compares the cost itself."""


@dataclass
class RecordingProvider(BillingProvider):
    """Bills whatever might be a model call. ``wrong`` is what a provider should never have been sent."""

    secrets: Iterable[str] = ()
    """Virtual keys, which a provider must never see."""
    wrong: list[str] = field(default_factory=list)
    anthropic: bool = True
    """Requests to the address, not to the name, are for the one provider whose calls are billed exactly."""

    def take(self, peer: Peer, seen: Seen) -> None:
        """Look at the request, note it, then answer it."""
        named = [n.lower() for n, _ in seen.headers]
        session = seen.header("x-claude-code-session-id") or ""
        if named.count("x-claude-code-session-id") != 1 or not SESSION.fullmatch(session):
            session = ""
        entry = ReceivedRequest(session, usage(), False)
        method, _, target = seen.lines[0].decode("latin-1").rpartition(" ")[0].partition(" ")
        path = lenient_path(target)
        mine = self.anthropic and not (seen.header("host") or "").startswith("localhost")
        entry.method, entry.path = method, target.partition("?")[0]
        entry.call = mine and path.endswith("/v1/messages") and method not in ("HEAD", "GET")
        one, other = parse_both_ways(seen.body)
        if entry.call:
            entry.usage = counted(session)
            if not isinstance(one, dict) or governed(one) != governed(other):
                self.report(f"a model call whose body reads in two ways: {seen.body[:200]!r}")
            else:
                entry.body = one
                entry.streamed = one.get("stream") is True
        for what in suspicious(seen, self.port, self.secrets):
            self.report(f"{what}: {seen.head[:600]!r}")
        with self.lock:
            self.bill.setdefault(session, []).append(entry)
        self.seen.clear()
        if entry.call:
            self.answer(peer, entry)
        else:
            empty = b"" if method == "HEAD" else b'{"data":[]}'
            peer.head(200, "content-type: application/json", "content-length: 11")
            peer.send(empty)
        entry.whole = True

    def report(self, what: str) -> None:
        """Remember what a provider should not have been sent."""
        with self.lock:
            self.wrong.append(what)

    def take_reports(self) -> list[str]:
        """Return and forget what has been reported since the last time."""
        with self.lock:
            reports = list(self.wrong)
            self.wrong.clear()
        return reports


def suspicious(seen: Seen, port: int, secrets: Iterable[str]) -> list[str]:
    """Return what about a request's head no provider should ever see."""
    lines = seen.lines[1:]
    hosts = ([f"127.0.0.1:{port}"], [f"localhost:{port}"])
    named = [n.lower() for n, _ in seen.headers]
    text = seen.head.decode("latin-1")
    dashed = [n.replace("_", "-") for n in named]
    credentials = [v.removeprefix("Bearer ") for n, v in seen.headers if n.lower() in PLACES]
    wanted = [] if KEYLESS.match(seen.head) else [PROVIDER_KEY]
    checks = {
        "a header for one connection, or named like one": any(n in HOP_BY_HOP for n in dashed),
        "another target or method in a header": any(n in (*CLAIMS, *OVERRIDES) for n in dashed),
        "one header twice": any(dashed.count(n) > 1 for n in ONCE),
        "a length that is named otherwise": named.count("content-length") != dashed.count("content-length"),
        "a method or path that reads in two ways": not PLAIN_PATH.match(seen.lines[0]),
        "a target that is not a path": not re.fullmatch(rb"[!-~]+ /[!-~]* HTTP/1\.[01]", seen.lines[0]),
        "a header line that reads in two ways": any(
            not NAME.fullmatch(x.partition(b":")[0]) or re.search(rb"[\r\n\0]", x) for x in lines
        ),
        "not one Host, or another's": [v for n, v in seen.headers if n.lower() == "host"] not in hosts,
        "a length in two ways": named.count("content-length") + named.count("transfer-encoding") > 1,
        "not the provider key, once, where it needs one": credentials != wanted,
        "the provider key where it does not belong": text.count(PROVIDER_KEY) > len(wanted),
        "a virtual key": any(s in text for s in secrets),
        "a header that is the gateway's own": any(n.startswith(OURS) for n in named),
    }
    return [what for what, bad in checks.items() if bad]
