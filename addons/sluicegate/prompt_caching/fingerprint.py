"""A prompt's fingerprint: a keyed hash and the size of each of its blocks, in the order in which providers cache them."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

DIGEST_BYTES = 8
"""Bytes of a block's hash: among the thousand blocks of a session two that differ look alike once in 10^13 sessions."""

NAME_BYTES = 4
"""Bytes of the hash of a tool's name, which tells a tool that was changed from one that was exchanged."""

KEY_BYTES = 32

MAX_BLOCKS = 4096
"""Blocks of a prompt that is followed; a million tokens of an agent's turns are some two thousand."""

BREAKPOINT_5M, BREAKPOINT_1H, IMAGE, ASSISTANT, IGNORED = 1, 2, 4, 8, 16
"""What is known of a block besides its content, as bits. An ignored one is left out of the cached prefix by its provider."""

BREAKPOINT = BREAKPOINT_5M | BREAKPOINT_1H

_ONLY_BREAKPOINTS = bytes(1 if flags & BREAKPOINT else 0 for flags in range(256))


def last_breakpoint(flags: bytes | bytearray) -> int:
    """Return the last block with a breakpoint, by the blocks' flags; -1 for none."""
    return flags.translate(_ONLY_BREAKPOINTS).rfind(1)


class Anchor(msgspec.Struct, array_like=True, frozen=True):
    """A place in the list of messages, up to which a later request of the conversation is likely to be the same."""

    size: int
    """Bytes of the list before it."""
    digest: bytes
    """Their hash."""
    head: bytes
    """Hash of the first of them, to tell other conversations at once."""
    begin: int
    """The number of the list's first block."""
    block: int
    """The number of the first block behind the anchor."""


class Fingerprint(msgspec.Struct, array_like=True):
    """A prompt by its hashes. Blocks are numbered from 0 through tools, system and messages."""

    digests: bytes = b""
    sizes: bytes = b""
    """Bytes of each block as it was sent, four-byte integers."""
    flags: bytes = b""
    names: bytes = b""
    """Hashes of the tools' names."""
    tools: int = 0
    """How many blocks are tools; those of the system prompt follow."""
    system: int = 0
    fields: dict[str, bytes] = {}
    """Hashes of the request's other fields that matter to a cache, by name; an absent one is missing."""
    is_marked: bool = False
    """Whether this API caches only up to breakpoints that the request sets, as Anthropic's does."""
    edits_context: bool = False
    """Whether the provider was asked to edit the conversation itself."""
    tools_hash: bytes = b""
    """Of the list of tools as it was written: a later request with the same list need not be read there."""
    anchor: Anchor | None = None

    @property
    def count(self) -> int:
        """Return the number of blocks."""
        return len(self.flags)

    def digest(self, block: int) -> bytes:
        """Return the hash of a block."""
        return self.digests[block * DIGEST_BYTES : (block + 1) * DIGEST_BYTES]

    def split(self) -> list[bytes]:
        """Return the hashes of all blocks."""
        whole = self.digests
        return [whole[i : i + DIGEST_BYTES] for i in range(0, len(whole), DIGEST_BYTES)]

    def name(self, block: int) -> bytes:
        """Return the hash of a tool's name."""
        return self.names[block * NAME_BYTES : (block + 1) * NAME_BYTES]

    def block_sizes(self) -> array[int]:
        """Return the bytes of each block."""
        return array("I", self.sizes)

    def level(self, block: int) -> str:
        """Return which part of the prompt a block is in."""
        return "tools" if block < self.tools else "system" if block < self.tools + self.system else "messages"

    def position(self, block: int) -> int:
        """Return a block's number within its part, from 1."""
        level = self.level(block)
        return block + 1 - (0 if level == "tools" else self.tools if level == "system" else self.tools + self.system)

    def breakpoints(self) -> list[int]:
        """Return the blocks that end a prefix that is to be cached."""
        return [i for i, flags in enumerate(self.flags) if flags & BREAKPOINT]

    def shared_prefix(self, other: Fingerprint) -> int:
        """Return how many blocks two prompts have in common from their beginning."""
        low, high = 0, min(self.count, other.count)
        while low < high:
            middle = (low + high + 1) // 2
            if self.digests[: middle * DIGEST_BYTES] == other.digests[: middle * DIGEST_BYTES]:
                low = middle
            else:
                high = middle - 1
        return low


@dataclass(slots=True)
class FingerprintBuilder:
    """Makes a fingerprint block by block; ``key`` is the gateway's own, so that nobody else can look for a content's hash."""

    key: bytes
    digests: bytearray = field(default_factory=bytearray)
    sizes: array[int] = field(default_factory=lambda: array("I"))
    flags: bytearray = field(default_factory=bytearray)
    names: list[bytes] = field(default_factory=list)
    tools_hash: bytes = b""
    anchor: Anchor | None = None
    fields: dict[str, bytes] = field(default_factory=dict)
    _begun: dict[bytes, hashlib.blake2b] = field(default_factory=dict)
    """Hashes that have taken in the key, by role: copying one costs half as much as beginning anew."""

    def add(self, content: bytes, flags: int = 0, role: bytes = b"") -> None:
        """Add a block."""
        made = self._begin(role)()
        made.update(content)
        self.digests += made.digest()
        self.sizes.append(len(content))
        self.flags.append(flags)

    def add_all(self, contents: Sequence[bytes], flags: int, role: bytes) -> None:
        """Add blocks that all have the same flags."""
        begin = self._begin(role)
        digests: list[bytes] = []
        for content in contents:
            made = begin()
            made.update(content)
            digests.append(made.digest())
        self.digests += b"".join(digests)
        self.sizes.extend(map(len, contents))
        self.flags += bytes((flags,)) * len(contents)

    def _begin(self, role: bytes) -> Callable[[], hashlib.blake2b]:
        """Return what begins a block's hash."""
        made = self._begun.get(role)
        if made is None:
            # The role is a part of what is cached, and in most APIs stands outside the block.
            made = self._begun[role] = hashlib.blake2b(digest_size=DIGEST_BYTES, key=self.key, person=role[:16])
        return made.copy

    def take(self, earlier: Fingerprint, start: int, end: int) -> None:
        """Add blocks that are the same in an earlier prompt."""
        self.digests += earlier.digests[start * DIGEST_BYTES : end * DIGEST_BYTES]
        self.sizes.frombytes(earlier.sizes[start * self.sizes.itemsize : end * self.sizes.itemsize])
        self.flags += earlier.flags[start:end]

    def add_ignored(self) -> None:
        """Add a block that is not part of the cached prefix, so that those after it keep their numbers."""
        self.digests += bytes(DIGEST_BYTES)
        self.sizes.append(0)
        self.flags.append(IGNORED)

    def add_tool(self, content: bytes, name: str, flags: int = 0) -> None:
        """Add the definition of a tool."""
        self.add(content, flags)
        self.names.append(hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=NAME_BYTES, key=self.key).digest())

    def add_field(self, name: str, content: bytes) -> None:
        """Add a field of the request; an empty one is absent."""
        if content and content != b"null":
            self.fields[name] = hashlib.blake2b(content, digest_size=DIGEST_BYTES, key=self.key).digest()

    def mark_last(self, flag: int) -> None:
        """Set a breakpoint on the last block that can carry one."""
        for block in range(len(self.flags) - 1, -1, -1):
            if not self.flags[block] & IGNORED:
                self.flags[block] |= flag
                return

    def finish(self, tools: int, system: int, *, is_marked: bool, edits_context: bool = False) -> Fingerprint:
        """Return the fingerprint, of which so many blocks are tools and the system prompt."""
        return Fingerprint(
            bytes(self.digests),
            self.sizes.tobytes(),
            bytes(self.flags),
            b"".join(self.names),
            tools,
            system,
            self.fields,
            is_marked,
            edits_context,
            self.tools_hash,
            self.anchor,
        )
