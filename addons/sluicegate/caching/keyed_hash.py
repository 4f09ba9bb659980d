"""The hash that answers are found by: keyed with a secret, and nearly as fast as memory is read.

It is GHASH, by way of AES-GCM: two different inputs have the same hash with a probability of some 2^-100, as long as nobody who
chooses inputs knows the secret or sees a hash. Neither is ever shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SECRET_BYTES = 32

HASH_BYTES = 16

SHORT_HASH_BYTES = 7
"""What an integer of 32 bytes holds."""

_NONCE = bytes(12)
"""The same each time: the tags are never shown, and equal inputs must have equal hashes."""

_LONG_BYTES = 512
"""Bytes of a part from which it is hashed by itself, so that it is not copied."""


class KeyedHash:
    """Hashes lists of parts. Another split into parts, or another order, is another input."""

    def __init__(self, secret: bytes) -> None:
        self._secret, half = secret, len(secret) // 2
        # Two secrets, because what the one has hashed is hashed again by the other.
        self._of_part, self._of_all = AESGCM(secret[:half]), AESGCM(secret[half:])

    def of(self, parts: Iterable[bytes | memoryview]) -> bytes:
        """Return the hash of some parts, ``HASH_BYTES`` long."""
        found: list[bytes | memoryview] = []
        for part in parts:
            size = len(part)
            if size < _LONG_BYTES:
                found += (b"%d:" % size, part)
            else:
                found += (b"%d#" % size, self._of_part.encrypt(_NONCE, b"", part))
        return self._of_all.encrypt(_NONCE, b"", b"".join(found))

    def of_short(self, part: bytes) -> bytes:
        """Return the hash of one short part, ``SHORT_HASH_BYTES`` long.

        It is BLAKE2b: of a few hundred bytes most of the time goes into fetching code, of which AES-GCM has more.
        """
        return blake2b(part, digest_size=SHORT_HASH_BYTES, key=self._secret).digest()
