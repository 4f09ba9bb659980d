"""The client of the identity provider (OpenID Connect): authorization code with PKCE, ID tokens, renewals. Blocking."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import quote_plus, urlencode, urlsplit

from sluicegate.addresses import is_loopback
from sluicegate.http_client import exchange
from sluicegate.http_client.errors import UnreachableError
from sluicegate.http_client.response import Response
from sluicegate.policy.oidc import Oidc
from sluicegate.sign_in.errors import InvalidTokenError, ProviderDownError, ProviderRefusedError, UnknownKeyError

TIMEOUT_S = 10.0
MAX_ANSWER_BYTES = 1 << 20

KEPT_S = 3_600.0
"""How long the provider's description and keys are taken for current."""

KEYS_AGAIN_S = 30.0
"""How long after they were read unknown keys do not make us read them again: tokens may name any key."""


class Verified(NamedTuple):
    """What the provider has said: verified claims, None where it repeated none, and its refresh token if it gave one."""

    claims: dict[str, Any] | None
    refresh_token: str | None


@dataclass(slots=True)
class _Known:
    """The provider's description, and its keys."""

    issuer: str
    read_at: float
    metadata: dict[str, Any]
    keys: dict[str, Any] = field(default_factory=dict)
    keys_read_at: float = float("-inf")


def challenge_of(verifier: str) -> str:
    """Return the PKCE challenge of a verifier (RFC 7636, S256)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


class OidcClient:
    """Asks the identity provider that the policy names; any thread may use it."""

    def __init__(self, clock: Callable[[], int], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._monotonic = clock, monotonic
        self._known: _Known | None = None
        self._lock = threading.Lock()

    def authorization_url(self, oidc: Oidc, *, redirect_uri: str, state: str, nonce: str, verifier: str) -> str:
        """Return where the browser is sent to sign in. Raises ProviderDownError."""
        endpoint = _endpoint(self._describe(oidc).metadata, "authorization_endpoint")
        query = {
            "response_type": "code",
            "client_id": oidc.client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(oidc.scopes),
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge_of(verifier),
            "code_challenge_method": "S256",
        }
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}"

    def exchange(self, oidc: Oidc, *, code: str, redirect_uri: str, nonce: str, verifier: str) -> Verified:
        """Return what a code proves. Raises ProviderDownError, ProviderRefusedError or InvalidTokenError."""
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri, "code_verifier": verifier}
        answer = self._ask_for_tokens(oidc, form)
        if not isinstance(token := answer.get("id_token"), str):
            raise InvalidTokenError("the identity provider has sent no ID token")
        return Verified(self._verify(oidc, token, nonce), _text(answer.get("refresh_token")))

    def renew(self, oidc: Oidc, refresh_token: str, subject: str) -> Verified:
        """Ask whether a person may still sign in. Raises what ``exchange`` does: ProviderRefusedError means no."""
        answer = self._ask_for_tokens(oidc, {"grant_type": "refresh_token", "refresh_token": refresh_token})
        claims = self._verify(oidc, token, None) if isinstance(token := answer.get("id_token"), str) else None
        if claims is not None and claims.get("sub") != subject:
            raise InvalidTokenError("it is about another person")
        return Verified(claims, _text(answer.get("refresh_token")) or refresh_token)

    def _verify(self, oidc: Oidc, token: str, nonce: str | None) -> dict[str, Any]:
        # Only where somebody signs in: it takes a fifth of a second to load.
        from sluicegate.sign_in.id_token import ALGORITHMS, verified_claims

        known = self._describe(oidc)
        offered = known.metadata.get("id_token_signing_alg_values_supported")
        algorithms = [a for a in offered if a in ALGORITHMS] if isinstance(offered, list) else list(ALGORITHMS)
        rules: dict[str, Any] = {"issuer": oidc.issuer, "client_id": oidc.client_id, "nonce": nonce, "algorithms": algorithms}
        try:
            return verified_claims(token, self._keys(known), now=self._clock(), **rules)
        except UnknownKeyError:
            if self._monotonic() - known.keys_read_at < KEYS_AGAIN_S:
                raise
            # The provider may have begun to sign with a new one.
            return verified_claims(token, self._keys(known, again=True), now=self._clock(), **rules)

    def _describe(self, oidc: Oidc) -> _Known:
        with self._lock:
            known = self._known
            if known is not None and known.issuer == oidc.issuer and self._monotonic() - known.read_at < KEPT_S:
                return known
            metadata = _get_json(f"{oidc.issuer.rstrip('/')}/.well-known/openid-configuration")
            if metadata.get("issuer") != oidc.issuer:
                raise ProviderDownError("the identity provider calls itself by another issuer than oidc.issuer: write that exactly")
            self._known = _Known(oidc.issuer, self._monotonic(), metadata)
            return self._known

    def _keys(self, known: _Known, *, again: bool = False) -> dict[str, Any]:
        with self._lock:
            if again or self._monotonic() - known.keys_read_at > KEPT_S:
                known.keys, known.keys_read_at = _get_json(_endpoint(known.metadata, "jwks_uri")), self._monotonic()
            return known.keys

    def _ask_for_tokens(self, oidc: Oidc, form: Mapping[str, str]) -> dict[str, Any]:
        if oidc.client_secret is None:
            raise ProviderDownError("the gateway's client secret cannot be read (oidc.client_secret)")
        metadata = self._describe(oidc).metadata
        headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
        methods = metadata.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        if "client_secret_basic" in methods:
            # Both are form-encoded before they are joined (RFC 6749, 2.3.1).
            pair = f"{quote_plus(oidc.client_id)}:{quote_plus(oidc.client_secret)}"
            headers["authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        else:
            form = {**form, "client_id": oidc.client_id, "client_secret": oidc.client_secret}
        answer = _send("POST", _endpoint(metadata, "token_endpoint"), headers, urlencode(form).encode())
        found = _json_of(answer)
        if answer.status == 400 and found.get("error") == "invalid_grant":
            raise ProviderRefusedError("the identity provider has refused it")
        if answer.status != 200:
            error = found.get("error")
            detail = f" ({error})" if isinstance(error, str) and error.isidentifier() and len(error) < 60 else ""
            raise ProviderDownError(f"the identity provider's token endpoint answered {answer.status}{detail}")
        return found


def _endpoint(metadata: Mapping[str, Any], name: str) -> str:
    url = metadata.get(name)
    parts = urlsplit(url) if isinstance(url, str) else None
    host = (parts.hostname or "") if parts is not None else ""
    if parts is None or not host or (parts.scheme != "https" and not is_loopback(host) and host != "localhost"):
        raise ProviderDownError(f"the identity provider describes no usable {name}")
    return str(url)


def _get_json(url: str) -> dict[str, Any]:
    answer = _send("GET", url, {"accept": "application/json"})
    if answer.status != 200:
        raise ProviderDownError(f"{urlsplit(url).path} of the identity provider answered {answer.status}")
    return _json_of(answer)


def _json_of(answer: Response) -> dict[str, Any]:
    try:
        found = json.loads(answer.body or b"{}")
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ProviderDownError("the identity provider's answer is no JSON object")
    return found


def _send(method: str, url: str, headers: Mapping[str, str], body: bytes | None = None) -> Response:
    try:
        return exchange.request(method, url, headers=headers, body=body, timeout_s=TIMEOUT_S, max_bytes=MAX_ANSWER_BYTES)
    except UnreachableError as e:
        # Its text may quote what was sent.
        raise ProviderDownError(f"the identity provider cannot be reached ({type(e.__cause__ or e).__name__})") from e


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) < 16_384 else None
