"""The gateway's own port: no request, from any caller, makes it fail or reveal a secret."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hypothesis import strategies as st

from proving.fuzzing import wire
from proving.fuzzing.environment import Environment
from proving.fuzzing.jsontext import ODD
from proving.fuzzing.target import batches, target
from proving.fuzzing.testbed import HEAD, KEYS, Testbed
from sluicegate.web.app import endpoints, own_paths
from sluicegate.web.endpoint import OPEN

VALUES = [
    b"x",
    b"",
    b"..",
    b"%2e%2e%2f",
    b"%00",
    b"%ff",
    b"\xff",
    b"%",
    b"%zz",
    b"'%20OR%201=1--",
    b"%F0%9F%98%80",
    b"-1",
    b"1e999",
    b"9" * 40,
]
VALUES += [b"a" * 5000, b"%0d%0aSet-Cookie:x", b"{x}", b"<script>", b"vk-nobody", b"2026-01-01", b"null", b"[]", b"*", b"true"]
NAMES = [
    b"limit",
    b"offset",
    b"from",
    b"to",
    b"start",
    b"end",
    b"virtual_key_id",
    b"model",
    b"q",
    b"sort",
    b"order",
    b"format",
    b"window",
    b"",
    b"a[]",
    b"\xff",
]
BODIES = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"{}",
    b'{"id":"x"}',
    b"\xff\xfe",
    b"[" * 5000,
    b'{"a":' * 5000,
    b"a=b",
    b'{"id":1,"id":2}',
    b"\x00",
]
TYPES = [
    b"application/json",
    b"application/json",
    b"application/json; charset=\xff",
    b"text/plain",
    b"",
    b"multipart/form-data; boundary=x",
]


@dataclass(frozen=True)
class Question:
    """One request to the port itself; ``place`` chooses among what the gateway says it serves."""

    method: bytes
    place: int
    parts: tuple[bytes, ...]
    query: tuple[tuple[bytes, bytes], ...]
    who: str
    host: bytes
    body: bytes
    kind: bytes
    more: bytes


fields = st.sampled_from(ODD).map(
    lambda v: b'{"id":"x","name":%s,"budget":%s}' % (v.encode("utf-8", "replace"), v.encode("utf-8", "replace"))
)
questions = st.builds(
    Question,
    st.sampled_from([*(b"GET",) * 6, b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE", b"BREW"]),
    st.integers(0, 200),
    st.lists(st.sampled_from(VALUES), max_size=3).map(tuple),
    st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)), max_size=3).map(tuple),
    st.sampled_from(["admin", "admin", "admin", "basic", "vk-soft", "vk-off", "nobody", "garbage"]),
    st.sampled_from(
        [*(b"localhost",) * 5, b"127.0.0.1:{own}", b"evil.test", b"", b"\xff", b"localhost:x", b"[::1]", b"a:\xc2\xb2"]
    ),
    st.sampled_from(BODIES) | fields,
    st.sampled_from(TYPES),
    st.sampled_from(
        [
            b"",
            b"",
            b"Accept: text/html\r\n",
            b"Origin: http://evil.test\r\n",
            b"Accept: \xff\r\n",
            b"If-None-Match: *\r\nRange: bytes=0-\r\n",
        ]
    ),
)


def places(testbed: Testbed) -> list[str]:
    """Return the paths the gateway serves, by its own OpenAPI document if it has one."""
    document = testbed.gateway.admin("/api/openapi.json")
    described = sorted(document.json["paths"]) if document.status == 200 else []
    return [*sorted(own_paths()[0]), *described]


def sent(testbed: Testbed, question: Question, served: list[str], session: str) -> bytes:
    """Send the request; return all that comes back."""
    parts = iter(question.parts)
    place = served[question.place % len(served)]
    path = re.sub(rb"\{[^}]*\}", lambda _: next(parts, b"x"), place.encode())
    path = b"/".join([path.rstrip(b"/") or b"", *parts]) or b"/"
    query = b"&".join(n + b"=" + v for n, v in question.query)
    token = testbed.gateway.token
    credential = {
        "admin": f"Authorization: Bearer {token}",
        "nobody": "X-Nobody: 1",
        "garbage": "Authorization: Basic \xff%%",
        "basic": "Authorization: Basic !",
    }.get(question.who) or f"x-api-key: {KEYS[question.who]}"
    lines = [
        question.method + b" " + path + (b"?" + query if query else b"") + b" HTTP/1.1",
        b"Host: " + question.host.replace(b"{own}", b"%d" % testbed.gateway.port),
        b"x-claude-code-session-id: " + session.encode(),
        credential.encode("latin-1"),
        b"connection: close",
        b"content-type: " + question.kind,
        b"content-length: %d" % len(question.body),
    ]
    return wire.send_plain(testbed, b"\r\n".join(lines) + b"\r\n" + question.more + b"\r\n" + question.body)


@target("own port", "no 5xx, no secret; what is not open needs the token", batches(questions), quick=3)
def own_port(environment: Environment, example: list[Question]) -> int:
    testbed = environment.testbed
    served = places(testbed)
    open_paths = {endpoint.path for endpoint in endpoints(Path()) if endpoint.roles == OPEN}
    answers, _ = testbed.play([partial(sent, testbed, question, served) for question in example])
    for question, answer in zip(example, answers, strict=True):
        found = HEAD.match(answer)
        assert found, f"{question} got no answer: {answer[:200]!r}"
        closed = served[question.place % len(served)] not in open_paths or any(question.parts)
        if closed and question.who in ("nobody", "garbage", "basic", "vk-off"):
            assert found[1] != b"200" or question.method == b"OPTIONS", f"{question} got {answer[:200]!r}"
    return len(example)
