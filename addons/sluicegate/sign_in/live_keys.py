"""Virtual keys by the hashes of their values: those of the policy, and for keys of the kind ``session`` the access tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from sluicegate.policy.model import VirtualKey
from sluicegate.sign_in.kept import Token


class LiveKeys(Mapping[bytes, VirtualKey]):
    """A policy's keys, with the access tokens that are valid at each moment."""

    def __init__(self, written: Mapping[bytes, VirtualKey], keys: Mapping[str, VirtualKey], tokens: Mapping[bytes, Token]) -> None:
        self._written, self._keys, self._tokens = written, keys, tokens
        self._made: dict[bytes, VirtualKey] = {}

    def get(self, digest: bytes, default: Any = None) -> Any:
        """Return the key whose value, or one of whose access tokens, has this hash."""
        found = self._written.get(digest)
        if found is not None:
            return found
        token = self._tokens.get(digest)
        if token is None:
            return default
        made = self._made.get(digest)
        if made is None:
            key = self._keys.get(token.virtual_key_id)
            if key is None or key.kind != "session" or key.user_id != token.user_id:
                # Deleted, or given a value or to somebody else: whoever has signed in has it no longer.
                return default
            ends = token.ends_at if key.expires_at is None else min(key.expires_at, token.ends_at)
            made = self._made[digest] = replace(key, digest=digest, expires_at=ends)
        return made

    def __getitem__(self, digest: bytes) -> VirtualKey:
        found: VirtualKey | None = self.get(digest)
        if found is None:
            raise KeyError
        return found

    def __contains__(self, digest: object) -> bool:
        return isinstance(digest, bytes) and self.get(digest) is not None

    def __iter__(self) -> Iterator[bytes]:
        yield from self._written
        yield from (digest for digest in list(self._tokens) if self.get(digest) is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)
