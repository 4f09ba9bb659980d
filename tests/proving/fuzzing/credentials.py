"""Credentials in several headers at once: the first known key in order names the caller, and none is forwarded."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from functools import partial

from hypothesis import strategies as st

from proving.fuzzing import wire
from proving.fuzzing.environment import Environment
from proving.fuzzing.target import batches, target
from proving.fuzzing.testbed import HEAD, KEYS, Testbed
from support.harness import ask

ORDER = ("x-bf-vk", "authorization", "x-api-key", "x-goog-api-key", "proxy-authorization")
"""The headers, in the order in which they are searched."""

SCHEMED = {
    "bearer": "Bearer {}",
    "BEARER": "BEARER   {} ",
    "basic user": "Basic {}:x",
    "basic password": "basic x:{}",
    "basic both": "Basic unknown:{}",
}
BARE = {"bare": "{}", "spaced": "  {}\t"}
JUNK = [
    "Basic %%%",
    "Basic " + base64.b64encode(b"\xff\xfe:\xff").decode(),
    "Basic",
    "Bearer",
    "Digest x=y",
    "ü",
    "",
    " ",
    "Basic Basic",
    "\x80\xff",
]


@dataclass(frozen=True)
class Credential:
    """One header. ``key`` is a virtual key's id, "unknown" for an unknown credential, "" for a value that is not a credential."""

    place: str
    key: str
    value: bytes


@st.composite
def headers(draw: st.DrawFn) -> Credential:
    """Return a credential in some form in some header, or something that only looks like one."""
    place = draw(st.sampled_from(ORDER))
    name = draw(st.sampled_from([*KEYS, "unknown", ""]))
    spelt = draw(st.sampled_from([place, place.title(), place.upper()]))
    if not name:
        value = draw(st.sampled_from(JUNK))
        shaped = place.endswith("authorization")
        given = bool(value.strip()) if not shaped else value.startswith("Basic " + base64.b64encode(b"\xff\xfe").decode()[:2])
        return Credential(spelt, "unknown" if given else "", value.encode("latin-1"))
    secret = KEYS.get(name, "sk-nobody")
    form = draw(st.sampled_from(sorted(SCHEMED if place.endswith("authorization") else BARE)))
    value = (SCHEMED | BARE)[form].format(secret)
    if "asic" in value.split(" ")[0]:
        scheme, _, pair = value.partition(" ")
        value = f"{scheme} {base64.b64encode(pair.encode()).decode()}"
    return Credential(spelt, name, value.encode())


@dataclass(frozen=True)
class Claim:
    """A call with credentials; ``tunnel`` is the proxy credential of its CONNECT, None for a call to the base URL."""

    given: tuple[Credential, ...]
    tunnel: str | None


claims = st.builds(
    Claim,
    st.lists(headers(), max_size=5).map(tuple),
    st.sampled_from([None, None, None, "", "unknown", "vk-soft", "vk-off", "vk-hard"]),
)


def caller(claim: Claim) -> tuple[str | None, bool]:
    """Return the caller by the documented order, and whether any credential was sent."""
    for place in ORDER:
        for credential in claim.given:
            if credential.place.lower() == place and credential.key in KEYS:
                return credential.key, True
    if claim.tunnel in KEYS:
        return claim.tunnel, True
    return None, bool(claim.tunnel) or any(c.key for c in claim.given)


def sent(testbed: Testbed, claim: Claim, session: str) -> bytes:
    """Make the call; return all that comes back."""
    body = ask()
    lines = [b"POST /v1/messages HTTP/1.1", b"Host: localhost", b"x-claude-code-session-id: " + session.encode()]
    lines += [c.place.encode() + b": " + c.value for c in claim.given]
    lines += [b"connection: close", b"content-length: %d" % len(body), b"", body]
    whole = b"\r\n".join(lines)
    if claim.tunnel is None:
        return wire.send_plain(testbed, whole)
    secret = KEYS.get(claim.tunnel, claim.tunnel)
    proxy = f"Proxy-Authorization: Basic {base64.b64encode(f'{secret}:'.encode()).decode()}\r\n" if secret else ""
    return wire.send_tunnelled(testbed, whole, more=proxy)


WANTED = {
    "vk-soft": (200, None),
    "vk-hard": (200, None),
    "vk-narrow": (400, "model_blocked"),
    "vk-off": (401, "virtual_key_blocked"),
    "vk-old": (401, "virtual_key_blocked"),
}


@target(
    "credentials",
    "the first known key in the documented order names the caller; no credential is forwarded",
    batches(claims),
    quick=12,
)
def conflicting(environment: Environment, example: list[Claim]) -> int:
    testbed = environment.testbed
    answers, rows = testbed.play([partial(sent, testbed, claim) for claim in example])
    for claim, answer, row in zip(example, answers, rows, strict=True):
        who, given = caller(claim)
        found = HEAD.match(answer)
        assert found, f"{claim} got no answer: {answer[:200]!r}"
        reason = re.search(rb"(?m)^x-sluicegate-reason: (\w+)", found[2])
        got = (int(found[1]), reason[1].decode() if reason else None)
        status, why = WANTED[who] if who else (401, "virtual_key_not_found" if given else "virtual_key_required")
        if why == "model_blocked" and claim.tunnel is None:
            # Claude Code by base URL would try a 400 six times.
            status = 409
        assert got == (status, why), f"{claim} is {who}'s and got {got}, not {(status, why)}"
        assert (row["virtual_key_id"] if row else None) == who, f"{claim} is {who}'s and on record as {row}"
    return len(example)
