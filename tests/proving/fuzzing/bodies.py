"""Request bodies: one that is not a model call is refused, and a model call is read as every provider would read it."""

from __future__ import annotations

import gzip
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from hypothesis import strategies as st

from proving.fuzzing import jsontext, wire
from proving.fuzzing.environment import Environment
from proving.fuzzing.jsontext import Pairs, Spelling
from proving.fuzzing.target import batches, target
from proving.fuzzing.testbed import HEAD, KEYS, Testbed
from sluicegate.providers import PROTOCOLS
from sluicegate.values import RequestFacts
from support.harness import OPUS, ask

GEMINI = "/v1beta/models/gemini-2.5-flash:generateContent"


@target(
    "bodies, spelt",
    "read in bounded time; the same body is judged alike in every spelling",
    st.tuples(jsontext.calls(), jsontext.spellings),
    quick=30,
)
def spelt(_: Environment, example: tuple[Pairs, Spelling]) -> int:
    made, way = example
    for provider, path in (("anthropic", "/v1/messages"), ("openai", "/v1/responses"), ("gemini", GEMINI)):
        began = time.process_time()
        one, other = (judged(provider, path, jsontext.written(made, w)) for w in (Spelling(), way))
        took = time.process_time() - began
        # A spelling in which input could hide may be judged to hide some, never the other way round.
        if one is not None and other is not None and way.escaped and not other.is_text_only:
            one = one._replace(is_text_only=False)
        assert one == other, f"{provider} reads {one}, and spelt otherwise {other}"
        assert took < 2, f"{provider} takes {took:.1f} s to read it"
    return 2


def judged(provider: str, path: str, text: str) -> RequestFacts | None:
    """Return the facts of a body that must not depend on its spelling; None if it is refused."""
    facts = PROTOCOLS[provider].read_request(text.encode("utf-8", "surrogatepass"), path)
    if isinstance(facts, RequestFacts):
        return facts._replace(body_bytes=0, text_bytes=0, images=0, members=None)
    assert isinstance(facts, str), f"read as {facts!r}"
    return None


@dataclass(frozen=True)
class Call:
    """A body and how it is sent."""

    data: bytes
    path: str = "/v1/messages"
    way: str = "base URL"
    key: str = "vk-soft"
    codings: tuple[str, ...] = ()
    """Values of content-encoding headers."""
    chunks: int = 0
    """Bytes per chunk; 0 for a length."""
    kind: str = "application/json"


def sent(testbed: Testbed, call: Call, session: str) -> bytes:
    """Send it; return all that comes back."""
    lines = [
        f"POST {call.path} HTTP/1.1",
        "Host: localhost",
        f"x-claude-code-session-id: {session}",
        f"x-api-key: {KEYS[call.key]}",
    ]
    lines += [f"content-encoding: {c}" for c in call.codings] + [f"content-type: {call.kind}", "connection: close"]
    if call.chunks:
        lines.append("transfer-encoding: chunked")
        pieces = [call.data[i : i + call.chunks] for i in range(0, len(call.data), call.chunks)]
        data = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"
    else:
        lines.append(f"content-length: {len(call.data)}")
        data = call.data
    whole = "\r\n".join([*lines, "", ""]).encode() + data
    return wire.send_plain(testbed, whole) if call.way == "base URL" else wire.send_tunnelled(testbed, whole)


def answered(call: Call, answer: bytes, row: dict[str, Any] | None) -> None:
    """Check that each whole call has an answer and a record that agree. Raises AssertionError."""
    found = HEAD.match(answer)
    assert found, f"no answer: {answer[:200]!r}"
    assert row is not None, f"no record of a call that was answered {found[1].decode()}"
    assert row["status"] == int(found[1]), f"answered {found[1].decode()}, on record as {row['status']}"
    assert row["virtual_key_id"] == call.key, f"on record as {row['virtual_key_id']}'s"


def packed(data: bytes, how: str) -> bytes:
    """Return a body in a content encoding."""
    compressors: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}
    return compressors.get(how, bytes)(data)


PATHS = ["/v1/messages"] * 6 + [
    "/anthropic/v1/messages?beta=true",
    "/v1/messages/count_tokens",
    "/v1/complete",
    "/v1/messages/batches",
]
PATHS += ["/v1/chat/completions", "/openai/v1/responses", f"/genai{GEMINI}", "/v1/models"]
CODINGS = [
    "gzip",
    "deflate",
    "identity",
    "Identity",
    "",
    " ",
    "br",
    "gzip, gzip",
    "identity, identity",
    "x" * 500,
    "ü",
    ",",
    "chunked",
]
KINDS = ["application/json"] * 4 + ["", "text/plain", "application/json; charset=utf-16", "multipart/form-data; boundary=x"]

texts = st.builds(jsontext.written, jsontext.calls(), jsontext.spellings).map(lambda t: t.encode("utf-8", "surrogatepass"))


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Return a body, intact or damaged."""
    data: bytes = draw(st.one_of(texts, texts, texts, st.binary(max_size=60)))
    match draw(st.sampled_from(["none", "none", "none", "none", "bom", "cut", "insert", "twice", "utf-16", "tail"])):
        case "bom":
            return b"\xef\xbb\xbf" + data
        case "cut":
            return data[: draw(st.integers(0, max(0, len(data) - 1)))]
        case "insert":
            at = draw(st.integers(0, min(len(data), 300)))
            return (
                data[:at]
                + draw(st.sampled_from([b"\xff", b"\xc0\xae", b"\xed\xa0\x80", b"\0", b"\n", b"\xf4\x90\x80\x80"]))
                + data[at:]
            )
        case "twice":
            return data + data
        case "utf-16":
            return data.decode("utf-8", "replace").encode(draw(st.sampled_from(["utf-16", "utf-16-le", "utf-32-be", "utf-8-sig"])))
        case "tail":
            return data + draw(st.sampled_from([b"\n", b"\0", b" \t\r\n", b"}", b"//", b"x" * 3000]))
    return data


@st.composite
def ways(draw: st.DrawFn) -> Call:
    """Return a body and how it is sent."""
    data = draw(bodies())
    codings: tuple[str, ...] = ()
    if not draw(st.integers(0, 3)):
        codings = tuple(draw(st.lists(st.sampled_from(CODINGS), max_size=2)))
    if codings and bool(draw(st.booleans())):
        data = packed(data, codings[0])
    return Call(
        data,
        draw(st.sampled_from(PATHS)),
        draw(st.sampled_from(["base URL", "base URL", "proxy"])),
        draw(st.sampled_from(["vk-soft", "vk-hard", "vk-narrow"])),
        codings,
        draw(st.sampled_from([0, 0, 0, 1000, 7])) if len(data) < 5000 else 0,
        draw(st.sampled_from(KINDS)),
    )


@target("bodies", "refused in the provider's form, or forwarded as judged; one record each", batches(ways()), quick=6)
def sent_bodies(environment: Environment, example: list[Call]) -> int:
    testbed = environment.testbed
    answers, rows = testbed.play([partial(sent, testbed, call) for call in example])
    for call, answer, row in zip(example, answers, rows, strict=True):
        answered(call, answer, row)
    return len(example)


LARGE: dict[str, Callable[[int], bytes]] = {
    "a long text": lambda n: ask("w" * n, stream=True),
    "spaces": lambda n: ask() + b" " * n,
    "one number": lambda n: b'{"model":"%s","messages":[],"x":%s}' % (OPUS.encode(), b"9" * n),
    "many keys": lambda n: b'{"model":"%s",%s"z":1}' % (OPUS.encode(), b"".join(b'"k%d":1,' % i for i in range(n // 12))),
    "many messages": lambda n: ask()[:-2] + b',{"role":"user","content":"x"}' * (n // 30) + b"]}",
    "deep": lambda n: b'{"model":"%s","x":%s}' % (OPUS.encode(), b"[" * (n // 2) + b"]" * (n // 2)),
    "no JSON": lambda n: b"\xff" * n,
    "base64": lambda n: ask([{"type": "image", "source": {"type": "base64", "data": "A" * n}}]),  # type: ignore[arg-type]
    "escapes": lambda n: b'{"model":"%s","messages":[{"content":"%s"}]}' % (OPUS.encode(), b"\\ud83d" * (n // 6)),
}
"""Large bodies by kind, each made with about the given number of bytes."""

MEGABYTE = 1 << 20


@target(
    "bodies of 50 MB",
    "judged and forwarded, or refused; meanwhile others are answered",
    st.tuples(st.sampled_from(list(LARGE)), st.sampled_from([50, 1, 66])),
    quick=1,
)
def large(environment: Environment, example: tuple[str, int]) -> int:
    kind, megabytes = example
    testbed = environment.testbed
    data = LARGE[kind](megabytes * MEGABYTE)
    slowest = 0.0

    def others(_: str) -> bytes:
        nonlocal slowest
        for _turn in range(10):
            began = time.monotonic()
            assert testbed.gateway.request("GET", "/health").status == 200
            slowest = max(slowest, time.monotonic() - began)
            time.sleep(0.02)
        return b""

    answers, _ = testbed.play([lambda name: sent(testbed, Call(data), name), others])
    status = HEAD.match(answers[0])
    assert status or megabytes > 64, f"no answer: {answers[0][:200]!r}"
    assert slowest < 8, f"/health took {slowest:.1f} s meanwhile"
    return 1
