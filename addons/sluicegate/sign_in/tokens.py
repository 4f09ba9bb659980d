"""Tokens and codes of sign-in: how they are made, by what they are known, and what only their holder can open."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sluicegate.credentials import ACCESS_TOKEN

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

ACCESS, REFRESH = ACCESS_TOKEN, "sgrt-"
"""How access and refresh tokens begin, so that people and scanners of secrets know one."""

TOKEN_BYTES = 32

LETTERS = "BCDFGHJKLMNPQRSTVWXZ"
"""Letters of user codes: without vowels no word is spelt, and none of them looks like a digit (RFC 8628, 6.1)."""

HALF_CODE_LENGTH = 4

_NONCE_BYTES = 12
_PURPOSE = b"sluicegate sign-in: refresh token of the identity provider"
_PAIR_PURPOSE = b"sluicegate sign-in: key pair of a device code"
_PUBLIC_KEY_BYTES = 32


def new_token(prefix: str = "") -> str:
    """Return a random token of 256 bits."""
    return prefix + secrets.token_urlsafe(TOKEN_BYTES)


def new_access_token(claims: Mapping[str, Any]) -> str:
    """Return a random token of 256 bits with claims in its middle, where clients that know JWTs read them.

    Claude Code takes from them who is signed in, for its telemetry and to know a renewal that another terminal has stored. They
    prove nothing, and the gateway does not read them: it knows the whole token by its hash.
    """
    middle = base64.urlsafe_b64encode(json.dumps(claims, separators=(",", ":")).encode()).rstrip(b"=").decode()
    return f"{new_token(ACCESS)}.{middle}.1"


def new_user_code() -> str:
    """Return a random user code such as ``BCDF-GHJK``, of 34 bits: guesses are limited."""
    half = ("".join(secrets.choice(LETTERS) for _ in range(HALF_CODE_LENGTH)) for _ in range(2))
    return "-".join(half)


def user_code_of(typed: str) -> str | None:
    """Return the user code that somebody has typed in any spelling; None where it can be none."""
    letters = "".join(c for c in typed.upper() if c.isalnum())
    if len(letters) != 2 * HALF_CODE_LENGTH or set(letters) - set(LETTERS):
        return None
    return f"{letters[:HALF_CODE_LENGTH]}-{letters[HALF_CODE_LENGTH:]}"


def digest_of(secret: str) -> bytes:
    """Return a secret's SHA-256, which is compared and stored instead of it."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def seal(text: str, token: str) -> bytes:
    """Return a text that only the holder of the token can read again, whoever has the file that it is kept in."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + _cipher_of(token).encrypt(nonce, text.encode(), _PURPOSE)


def unseal(sealed: bytes, token: str) -> str | None:
    """Return a sealed text; None where it was sealed for another token."""
    from cryptography.exceptions import InvalidTag

    try:
        return _cipher_of(token).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _PURPOSE).decode()
    except (InvalidTag, ValueError):
        return None


def public_key_of(token: str) -> str:
    """Return the key with which anybody can seal what only the holder of this token is to read (X25519)."""
    return _private_key_of(token).public_key().public_bytes_raw().hex()


def seal_for(text: str, public_key: str) -> bytes:
    """Return a text that only the holder of the token can read again whose public key this is."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

    ephemeral = X25519PrivateKey.generate()
    shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(bytes.fromhex(public_key)))
    return ephemeral.public_key().public_bytes_raw() + seal(text, shared.hex())


def unseal_own(sealed: bytes, token: str) -> str | None:
    """Return a text that was sealed with the token's public key; None where it was sealed with another."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

    try:
        other = X25519PublicKey.from_public_bytes(sealed[:_PUBLIC_KEY_BYTES])
        return unseal(sealed[_PUBLIC_KEY_BYTES:], _private_key_of(token).exchange(other).hex())
    except ValueError:
        return None


def _private_key_of(token: str) -> X25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return X25519PrivateKey.from_private_bytes(HKDF(SHA256(), 32, salt=None, info=_PAIR_PURPOSE).derive(token.encode()))


def _cipher_of(token: str) -> AESGCM:
    # Only where somebody signs in: the command line loads this module too.
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return AESGCM(HKDF(SHA256(), 32, salt=None, info=_PURPOSE).derive(token.encode()))
