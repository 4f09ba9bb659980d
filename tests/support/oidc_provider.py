"""An identity provider (OpenID Connect) on loopback that is strict: it takes only what the standards let a client send.

It signs with real keys. Browsers are signed in as ``person`` at once, without a form.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote_plus, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

CLIENT_ID, CLIENT_SECRET = "sluicegate", "the+secret/of:the gateway"

Key = RSAKey | ECKey

_SIGNING = RSAKey.generate_key(2048, {"kid": "rsa-1", "use": "sig"})
_OTHER = ECKey.generate_key("P-256", {"kid": "ec-1", "use": "sig"})


class OidcProvider:
    """The provider. Tests set ``person`` to whoever signs in next, and the other attributes to what goes wrong."""

    def __init__(
        self, redirect_uri: str = "", clock: Callable[[], int] | None = None, listener: socket.socket | None = None
    ) -> None:
        """Serve on ``listener``, such as a socket of another network namespace, or else on loopback."""
        self.redirect_uri = redirect_uri
        """The only one that is registered."""
        self.clock = clock or (lambda: time.time_ns() // 1_000_000)
        self.person: dict[str, Any] = {}
        self.changes: dict[str, Any] = {}
        """Claims of ID tokens that are put in the place of the true ones; None leaves one out."""
        self.key: Key = _SIGNING
        self.header: dict[str, Any] = {"alg": "RS256", "kid": "rsa-1"}
        self.listed: list[Key] = [_SIGNING, _OTHER]
        self.unsigned = False
        self.secret: bytes | None = None
        """With what an ID token is signed instead of a key, by HMAC."""
        self.left: set[str] = set()
        """The subjects of people who have left: their refresh tokens are refused."""
        self.is_down = False
        self.gives_refresh_tokens = self.repeats_claims = True
        self.complaints: list[str] = []
        """What clients have done wrong."""
        self.asked: list[str] = []
        self._codes: dict[str, dict[str, Any]] = {}
        self._refresh: dict[str, dict[str, Any]] = {}
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider._get(self)

            def do_POST(self) -> None:
                provider._post(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler, bind_and_activate=listener is None)
        if listener is not None:
            self.server.socket.close()
            self.server.socket, self.server.server_port = listener, listener.getsockname()[1]

    def __enter__(self) -> OidcProvider:
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def policy(self, **more: Any) -> dict[str, Any]:
        """Return the section ``oidc`` of a policy that names it."""
        return {"issuer": self.issuer, "client_id": CLIENT_ID, "client_secret": "env.OIDC_SECRET"} | more

    def as_usual(self) -> None:
        """Forget what a test has set."""
        self.changes, self.left, self.is_down, self.unsigned = {}, set(), False, False
        self.secret = None
        self.key, self.header, self.listed = _SIGNING, {"alg": "RS256", "kid": "rsa-1"}, [_SIGNING, _OTHER]
        self.gives_refresh_tokens = self.repeats_claims = True
        self.complaints.clear()
        self.asked.clear()

    def sign_with_elliptic_curve(self) -> None:
        """Sign with the other of its keys."""
        self.key, self.header = _OTHER, {"alg": "ES256", "kid": "ec-1"}

    # -- what it serves -------------------------------------------------------------------------------------------------

    def _get(self, request: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(request.path)
        self.asked.append(parts.path)
        if self.is_down:
            return _answer(request, 503, {"error": "down"})
        if parts.path == "/.well-known/openid-configuration":
            described = {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/keys",
                "id_token_signing_alg_values_supported": ["RS256", "ES256", "HS256", "none"],
                "token_endpoint_auth_methods_supported": ["client_secret_basic"],
            }
            return _answer(request, 200, described)
        if parts.path == "/keys":
            return _answer(request, 200, {"keys": [key.as_dict(private=False) for key in self.listed]})
        if parts.path == "/authorize":
            return self._authorize(request, {name: values for name, values in parse_qs(parts.query).items()})
        return _answer(request, 404, {})

    def _authorize(self, request: BaseHTTPRequestHandler, query: dict[str, list[str]]) -> None:
        sent = {name: values[0] for name, values in query.items()}
        wrong = [name for name, values in query.items() if len(values) != 1]
        wrong += [] if sent.get("client_id") == CLIENT_ID else ["client_id"]
        wrong += [] if sent.get("redirect_uri") == self.redirect_uri else ["redirect_uri"]
        wrong += [] if sent.get("response_type") == "code" else ["response_type"]
        wrong += [] if "openid" in sent.get("scope", "").split() else ["scope"]
        wrong += [] if len(sent.get("code_challenge", "")) == 43 and sent.get("code_challenge_method") == "S256" else ["challenge"]
        wrong += [name for name in ("nonce", "state") if len(sent.get(name, "")) < 32]
        if wrong:
            # Never back to an address that is not known: that would be an open redirect.
            self.complaints.append(f"authorize: {', '.join(wrong)}")
            return _answer(request, 400, {"error": "invalid_request"})
        code = secrets.token_urlsafe(24)
        self._codes[code] = {"claims": dict(self.person), **sent}
        back = urlencode({"code": code, "state": sent["state"], "iss": self.issuer})
        request.send_response(302)
        request.send_header("location", f"{self.redirect_uri}?{back}")
        request.send_header("content-length", "0")
        request.end_headers()
        return None

    def _post(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["content-length"]))
        self.asked.append(request.path)
        if self.is_down:
            return _answer(request, 503, {"error": "down"})
        form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        scheme, _, pair = (request.headers["authorization"] or "").partition(" ")
        user, _, password = base64.b64decode(pair or "").decode().partition(":")
        if scheme != "Basic" or (unquote_plus(user), unquote_plus(password)) != (CLIENT_ID, CLIENT_SECRET):
            self.complaints.append("token: client authentication")
            return _answer(request, 401, {"error": "invalid_client"})
        if form.get("grant_type") == "authorization_code":
            return self._exchange(request, form)
        return self._renew(request, form)

    def _exchange(self, request: BaseHTTPRequestHandler, form: dict[str, str]) -> None:
        begun = self._codes.pop(form.get("code", ""), None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = _base64(digest)
        if begun is None or form.get("redirect_uri") != begun["redirect_uri"] or challenge != begun["code_challenge"]:
            self.complaints.append("token: code, redirect_uri or code_verifier")
            return _answer(request, 400, {"error": "invalid_grant"})
        return self._give(request, begun["claims"], begun["nonce"], has_claims=True)

    def _renew(self, request: BaseHTTPRequestHandler, form: dict[str, str]) -> None:
        claims = self._refresh.pop(form.get("refresh_token", ""), None)
        if claims is None or claims["sub"] in self.left:
            return _answer(request, 400, {"error": "invalid_grant"})
        # What it knows of the person today.
        claims = claims | (self.person if self.person.get("sub") == claims["sub"] else {})
        return self._give(request, claims, None, has_claims=self.repeats_claims)

    def _give(self, request: BaseHTTPRequestHandler, claims: dict[str, Any], nonce: str | None, *, has_claims: bool) -> None:
        now = self.clock() // 1000
        whole = {"iss": self.issuer, "aud": CLIENT_ID, "iat": now, "exp": now + 300, **claims}
        whole |= {"nonce": nonce} if nonce is not None else {}
        whole = {name: value for name, value in (whole | self.changes).items() if value is not None}
        answer: dict[str, Any] = {"access_token": secrets.token_urlsafe(16), "token_type": "Bearer", "expires_in": 300}
        if has_claims:
            answer["id_token"] = self._signed(whole)
        if self.gives_refresh_tokens:
            answer["refresh_token"] = secrets.token_urlsafe(24)
            self._refresh[answer["refresh_token"]] = claims
        return _answer(request, 200, answer)

    def _signed(self, claims: dict[str, Any]) -> str:
        if not self.unsigned and self.secret is None:
            return jwt.encode(self.header, claims, self.key, [self.header["alg"]])
        # The library refuses to make such tokens.
        header = {"alg": "none"} if self.unsigned else {"alg": "HS256", "kid": "rsa-1"}
        signed = ".".join(_base64(json.dumps(part).encode()) for part in (header, claims))
        return f"{signed}.{_base64(hmac.digest(self.secret, signed.encode(), 'sha256')) if self.secret else ''}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _answer(request: BaseHTTPRequestHandler, status: int, body: dict[str, Any]) -> None:
    data = json.dumps(body).encode()
    request.send_response(status)
    request.send_header("content-type", "application/json")
    request.send_header("content-length", str(len(data)))
    request.end_headers()
    request.wfile.write(data)
