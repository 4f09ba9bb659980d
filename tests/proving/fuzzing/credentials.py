"""Credentials in several places at once: the first known key in order names the caller, and none is forwarded.

A key that must not be used any more refuses the call wherever it stands, and so do several keys in one place.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from functools import partial

from hypothesis import strategies as st

from proving.fuzzing import wire
from proving.fuzzing.environment import Environment
from proving.fuzzing.target import batches, target
from proving.fuzzing.testbed import FORMER, HEAD, KEYS, Testbed
from support.harness import ask

ORDER = (
    "x-bf-vk",
    "authorization",
    "x-api-key",
    "api-key",
    "x-goog-api-key",
    "query",
    "sec-websocket-protocol",
    "proxy-authorization",
)
"""The places, headers and the query, in the order in which they are searched."""

UNUSABLE = {"vk-off", "vk-old", *FORMER}
"""Keys that refuse a call wherever they stand in it, beside one that may be used."""

SCHEMED = {
    "bearer": "Bearer {}",
    "BEARER": "BEARER   {} ",
    "basic user": "Basic {}:x",
    "basic password": "basic x:{}",
    "basic both": "Basic unknown:{}",
}
BARE = {"bare": "{}", "spaced": "  {}\t"}
QUERIES = {"key": "key={}", "api_key": "api_key={}", "access_token": "access%5Ftoken={}", "later": "beta=true&key={}"}
PROTOCOLS = {"alone": "openai-insecure-api-key.{}", "in a list": "realtime, openai-insecure-api-key.{}"}
FORMS = dict.fromkeys(ORDER, BARE) | {
    "authorization": SCHEMED,
    "proxy-authorization": SCHEMED,
    "query": QUERIES,
    "sec-websocket-protocol": PROTOCOLS,
}
"""How one key is written in each place."""

PAIRED = {"authorization": "Basic {}:{}", "proxy-authorization": "basic {}:{}", "x-api-key": "{}, {}", "api-key": "{},{}"}
"""How two keys stand in one value of a place."""

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
    """One header, or one pair of the query.

    ``keys`` are the ids of the virtual keys in it, "unknown" for an unknown credential; none in a value that is not a credential.
    """

    place: str
    keys: tuple[str, ...]
    value: bytes


def encoded(value: str) -> bytes:
    """Return a value with what follows Basic in base64."""
    scheme, _, pair = value.partition(" ")
    return f"{scheme} {base64.b64encode(pair.encode()).decode()}".encode() if scheme.lower() == "basic" else value.encode()


NAMES = [*KEYS, *FORMER, "unknown"]


@st.composite
def credentials(draw: st.DrawFn) -> Credential:
    """Return a credential, or two, in some form in some place, or something that only looks like one."""
    place = draw(st.sampled_from(ORDER))
    names = draw(st.one_of(st.just(()), *[st.tuples(st.sampled_from(NAMES))] * 6, st.tuples(*[st.sampled_from(NAMES)] * 2)))
    spelt = draw(st.sampled_from([place, place.title(), place.upper()]))
    if not names and place not in ("query", "sec-websocket-protocol"):
        value = draw(st.sampled_from(JUNK))
        shaped = place.endswith("authorization")
        given = bool(value.strip()) if not shaped else value.startswith("Basic " + base64.b64encode(b"\xff\xfe").decode()[:2])
        return Credential(spelt, ("unknown",) if given else (), value.encode("latin-1"))
    if len(names) != 2 or place not in PAIRED:
        names = names[:1] or ("unknown",)
    form = PAIRED[place] if len(names) == 2 else FORMS[place][draw(st.sampled_from(sorted(FORMS[place])))]
    return Credential(spelt, names, encoded(form.format(*((KEYS | FORMER).get(n, "sk-nobody") for n in names))))


@dataclass(frozen=True)
class Claim:
    """A call with credentials; ``tunnel`` is the proxy credential of its CONNECT, None for a call to the base URL."""

    given: tuple[Credential, ...]
    tunnel: str | None


claims = st.builds(
    Claim,
    st.lists(credentials(), max_size=5).map(tuple),
    st.sampled_from([None, None, None, "", "unknown", "vk-soft", "vk-off", "vk-hard", "vk-gone"]),
)


@dataclass(frozen=True)
class Judgement:
    """What the documented rules say of a claim."""

    callers: frozenset[str]
    """Whose call it may be: several only where one value holds several keys, which is refused. Empty: nobody's."""
    is_refused: bool
    """Whether something in it refuses the call whoever the caller is."""
    given: bool
    """Whether any credential was sent."""


def judge(claim: Claim) -> Judgement:
    """Return whose call it is: that of the first key in order, unless a key is unusable or one place holds several."""
    values = [c.keys for place in ORDER for c in claim.given if c.place.lower() == place]
    several = any(len({k for c in claim.given if c.place.lower() == place for k in c.keys if k in KEYS}) > 1 for place in ORDER)
    values += [(claim.tunnel,)] if claim.tunnel else []
    everything = {key for keys in values for key in keys}
    callers = next((known for keys in values if (known := frozenset(keys) & KEYS.keys())), frozenset())
    return Judgement(callers, several or not everything.isdisjoint(UNUSABLE), bool(everything))


def sent(testbed: Testbed, claim: Claim, session: str) -> bytes:
    """Make the call; return all that comes back."""
    body = ask()
    pairs = b"&".join(c.value for c in claim.given if c.place.lower() == "query")
    path = b"/v1/messages" + (b"?" + pairs if pairs else b"")
    lines = [b"POST " + path + b" HTTP/1.1", b"Host: localhost", b"x-claude-code-session-id: " + session.encode()]
    lines += [c.place.encode() + b": " + c.value for c in claim.given if c.place.lower() != "query"]
    lines += [b"connection: close", b"content-length: %d" % len(body), b"", body]
    whole = b"\r\n".join(lines)
    if claim.tunnel is None:
        return wire.send_plain(testbed, whole)
    secret = (KEYS | FORMER).get(claim.tunnel, claim.tunnel)
    proxy = f"Proxy-Authorization: Basic {base64.b64encode(f'{secret}:'.encode()).decode()}\r\n" if secret else ""
    return wire.send_tunnelled(testbed, whole, more=proxy)


def wanted(claim: Claim, judged: Judgement) -> tuple[int, str | None]:
    """Return the status of the answer to a claim, and the reason of a refusal."""
    if not judged.callers:
        return 401, "virtual_key_not_found" if judged.given else "virtual_key_required"
    if judged.is_refused:
        return 401, "virtual_key_blocked"
    if judged.callers == {"vk-narrow"}:
        # Claude Code by base URL would try a 400 six times.
        return 409 if claim.tunnel is None else 400, "model_blocked"
    return 200, None


@target(
    "credentials",
    "the first known key in the documented order names the caller, an unusable one anywhere and two in one place refuse the call; "
    "no credential is forwarded",
    batches(claims),
    quick=6,
)
def conflicting(environment: Environment, example: list[Claim]) -> int:
    testbed = environment.testbed
    answers, rows = testbed.play([partial(sent, testbed, claim) for claim in example])
    for claim, answer, row in zip(example, answers, rows, strict=True):
        judged = judge(claim)
        found = HEAD.match(answer)
        assert found, f"{claim} got no answer: {answer[:200]!r}"
        reason = re.search(rb"(?m)^x-sluicegate-reason: (\w+)", found[2])
        got, right = (int(found[1]), reason[1].decode() if reason else None), wanted(claim, judged)
        assert got == right, f"{claim} is judged as {judged} and got {got}, not {right}"
        who = row["virtual_key_id"] if row else None
        assert who in (judged.callers or {None}), f"{claim} is judged as {judged} and on record as {row}"
    return len(example)
