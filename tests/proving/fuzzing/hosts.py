"""Hosts in every notation: of a provider, of this gateway, and of a machine that agents may not reach."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

from hypothesis import strategies as st

from proving.fuzzing import wire
from proving.fuzzing.environment import Environment
from proving.fuzzing.target import batches, target
from proving.fuzzing.testbed import KEY, Testbed

NOTATIONS = ("{}", "0x{:x}", "0{:o}", "0X{:X}", "00{:o}")
WRAPPERS = (
    "[::ffff:{}]",
    "[::{}]",
    "[64:ff9b::{}]",
    "[::FFFF:{}%lo]",
    "{}.",
    "{}..",
    "localhost",
    "LocalHost.",
    "[::1]",
    "[::]",
    "0",
)


@dataclass(frozen=True)
class Aim:
    """A host, in some notation, and how it is asked for."""

    host: str
    port: Literal["provider", "trap", "own"]
    way: Literal["CONNECT", "absolute"]


def notation(number: int, parts: list[str], count: int) -> str:
    """Return an IPv4 address as one to four numbers, each in a notation of its own."""
    numbers = [(number >> (24 - 8 * i)) & 0xFF for i in range(count - 1)] + [number & ((1 << (8 * (5 - count))) - 1)]
    return ".".join(part.format(n) for part, n in zip(parts, numbers, strict=False))


loopback = st.sampled_from([0x7F000001, 0x7F000001, 0x7F000002, 0x7FFFFFFE, 0])
written = st.builds(notation, loopback, st.lists(st.sampled_from(NOTATIONS), min_size=4, max_size=4), st.integers(1, 4))
wrapped = st.builds(str.format, st.sampled_from(WRAPPERS), st.sampled_from(["127.0.0.1", "127.0.0.2", "0.0.0.0"]))
aims = st.builds(
    Aim,
    st.one_of(written, wrapped),
    st.sampled_from(["provider", "trap", "own"]),
    st.sampled_from(["CONNECT", "absolute"]),
)


def sent(testbed: Testbed, aim: Aim, session: str) -> bytes:
    """Ask for the host; return all that comes back."""
    port = {"provider": testbed.provider.port, "trap": testbed.trap.port, "own": testbed.gateway.port}[aim.port]
    authority = f"{aim.host}:{port}"
    head = f"Host: {authority}\r\nx-api-key: {KEY}\r\nx-claude-code-session-id: {session}\r\nConnection: close\r\n\r\n"
    if aim.way == "absolute":
        return wire.send_plain(testbed, f"GET http://{authority}/v1/models HTTP/1.1\r\n{head}".encode())
    return wire.send_tunnelled(testbed, f"GET /v1/models HTTP/1.1\r\n{head}".encode(), target=authority, tls=False)


@target(
    "hosts",
    "governed as the provider's address that they are, or refused, however they are spelled",
    batches(aims),
    quick=6,
)
def spelled_hosts(environment: Environment, example: list[Aim]) -> int:
    testbed = environment.testbed
    testbed.play([partial(sent, testbed, aim) for aim in example])
    return len(example)
