"""ID tokens: what the identity provider has signed about a person, checked before anything in it is believed."""

from __future__ import annotations

import hmac
from collections.abc import Collection, Mapping
from typing import Any

from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError, MissingKeyError
from joserfc.jwk import JWKRegistry, KeySet

from sluicegate.sign_in.errors import InvalidTokenError, UnknownKeyError

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519", "EdDSA")
"""Signatures by a private key. A shared secret would let whoever knows the client's secret sign, and ``none`` everybody."""

LEEWAY_S = 60
"""How far the provider's clock may be from ours."""

MAX_TOKEN_BYTES = 32 << 10


def verified_claims(
    token: str,
    keys: Mapping[str, Any],
    *,
    issuer: str,
    client_id: str,
    nonce: str | None,
    now: int,
    algorithms: Collection[str] = ALGORITHMS,
) -> dict[str, Any]:
    """Return the claims of an ID token that this provider has signed for this client, for this attempt to sign in.

    ``keys`` is the provider's JWK set; ``nonce`` is None for one that comes with a renewal. ``now`` is in epoch milliseconds.
    Raises InvalidTokenError.
    """
    if len(token) > MAX_TOKEN_BYTES:
        raise InvalidTokenError("it is too long")
    listed = keys.get("keys")
    known = KeySet([key for written in (listed if isinstance(listed, list) else ()) if (key := _key_for_signatures(written))])
    try:
        decoded = jwt.decode(token, known, algorithms=[a for a in algorithms if a in ALGORITHMS])
        claims = dict(decoded.claims)
        rules = jwt.JWTClaimsRegistry(
            now=now // 1000,
            leeway=LEEWAY_S,
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": client_id},
            sub={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
        )
        rules.validate(claims)
    except (InvalidKeyIdError, MissingKeyError) as e:
        raise UnknownKeyError("it is signed with a key that the identity provider does not list") from e
    except JoseError as e:
        raise InvalidTokenError(e.error) from e
    except (ValueError, KeyError, TypeError) as e:
        raise InvalidTokenError(type(e).__name__) from e
    audience = claims["aud"]
    if isinstance(audience, list) and len(audience) > 1 and claims.get("azp") != client_id:
        raise InvalidTokenError("it is for several clients, and was issued to another")
    if "azp" in claims and claims["azp"] != client_id:
        raise InvalidTokenError("it was issued to another client")
    if nonce is not None:
        claimed = claims.get("nonce")
        if not isinstance(claimed, str) or not hmac.compare_digest(claimed.encode(), nonce.encode()):
            raise InvalidTokenError("its nonce is not that of this attempt")
    return claims


def _key_for_signatures(written: Any) -> Any:
    """Return a key of the set; None for one that is not for signatures, or of a kind that is not known (RFC 7517, 5)."""
    if not isinstance(written, dict) or written.get("kty") not in ("RSA", "EC", "OKP") or written.get("use", "sig") != "sig":
        return None
    try:
        return JWKRegistry.import_key(written)
    except (JoseError, ValueError, KeyError, TypeError):
        return None
