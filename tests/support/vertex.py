"""Vertex AI and Google's token endpoint on loopback: both refuse whatever the real ones would."""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from sluicegate.providers.vertex.request_body import BETAS
from support import model_apis
from support.fake_provider import FakeProvider, Peer, Seen, event, message, plain, sse, streamed

PROJECT, REGION = "acme-models", "us-east5"
EMAIL = f"gateway@{PROJECT}.iam.gserviceaccount.com"
AUDIENCE = "https://oauth2.googleapis.com/token"
"""Whom google-auth means an assertion for, wherever it is sent."""

GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_PATH = re.compile(r"/(v1|v1beta1)/projects/([^/]+)/locations/([^/]+)/publishers/(anthropic|google)/models/([^/:]+):([A-Za-z]+)")
_TAKEN = {
    *("anthropic_version", "max_tokens", "messages", "metadata", "output_config", "stop_sequences", "stream", "system"),
    *("temperature", "thinking", "tool_choice", "tools", "top_k", "top_p"),
}
"""Fields of Claude's body: others are extra inputs, which are not permitted."""


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


class TokenEndpoint(FakeProvider):
    """Gives tokens for assertions that are signed with the key of its one service account."""

    def __init__(self, **fields: Any) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.given: list[str] = []
        self.lasts_s = 3600
        self.hold: Callable[[], object] = bool
        """Called before each answer."""
        super().__init__(self._answer, **fields)

    def account(self) -> str:
        """Return the account's key file."""
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        private = self.key.private_bytes(*form).decode()
        fields = {"type": "service_account", "project_id": PROJECT, "private_key_id": "k1", "private_key": private}
        return json.dumps(fields | {"client_email": EMAIL, "client_id": "1", "token_uri": f"{self.url}/token"}, indent=2)

    def problem(self, seen: Seen) -> str | None:
        """Return what Google would not accept of a request."""
        form = {name: values[0] for name, values in parse_qs(seen.body.decode()).items()}
        if seen.target != "/token" or form.get("grant_type") != GRANT:
            return "unsupported_grant_type"
        head, claims, signature = form["assertion"].split(".")
        try:
            self.key.public_key().verify(_decoded(signature), f"{head}.{claims}".encode(), padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            return "invalid_grant"
        said = json.loads(_decoded(claims))
        if said["iss"] != EMAIL or said["aud"] != AUDIENCE or not said["iat"] - 60 <= time.time() <= said["exp"]:
            return "invalid_grant"
        return None if said["scope"] == "https://www.googleapis.com/auth/cloud-platform" else "invalid_scope"

    def _answer(self, peer: Peer, seen: Seen) -> None:
        self.hold()
        if (problem := self.problem(seen)) is not None:
            plain(json.dumps({"error": problem}).encode(), 400)(peer, seen)
            return
        self.given.append(f"ya29.fake-{len(self.given) + 1}")
        fields = {"access_token": self.given[-1], "expires_in": self.lasts_s, "token_type": "Bearer"}
        plain(json.dumps(fields).encode())(peer, seen)


class FakeVertex(FakeProvider):
    """Serves Claude and Gemini of one project in one region to whoever has a token of an endpoint."""

    has_length = False
    """Whether streams of Claude's come with their length, as through some proxies."""

    def __init__(self, tokens: TokenEndpoint, **fields: Any) -> None:
        self.tokens = tokens
        self.refusals: list[str] = []
        self.error: tuple[int, dict[str, Any]] | None = None
        """An answer in place of the next ones."""
        self._lock = threading.Lock()
        super().__init__(self._answer, **fields)

    def problem(self, seen: Seen) -> tuple[int, str] | None:
        """Return the status and the words with which Vertex would refuse a request."""
        credentials = [
            (n.lower(), v) for n, v in seen.headers if n.lower() in ("authorization", "x-api-key", "x-goog-api-key", "x-bf-vk")
        ]
        if credentials not in [[("authorization", f"Bearer {token}")] for token in self.tokens.given]:
            return 401, "Request had invalid authentication credentials."
        named = _PATH.fullmatch(seen.target.partition("?")[0])
        if named is None or (named[2], named[3]) != (PROJECT, REGION):
            return 404, f"The requested URL {seen.target} was not found on this server."
        if named[4] == "google":
            return None
        body = json.loads(seen.body)
        if named[5] == "count-tokens":
            return None if "model" in body else (400, "model: Field required")
        if body.get("anthropic_version") != "vertex-2023-10-16":
            return 400, "anthropic_version: Field required"
        if extra := sorted(set(body) - _TAKEN):
            return 400, f"{extra[0]}: Extra inputs are not permitted"
        betas = {b.strip() for b in (seen.header("anthropic-beta") or "").split(",")} - {""}
        if unknown := sorted(betas - BETAS):
            return 400, f"Unexpected value(s) `{unknown[0]}` for the `anthropic-beta` header"
        return None if (named[6] == "streamRawPredict") == bool(body.get("stream")) else (400, "stream: does not fit the method")

    def _answer(self, peer: Peer, seen: Seen) -> None:
        problem = self.problem(seen)
        if problem is not None:
            self.refusals.append(f"{problem[1]} {seen.target}")
            plain(json.dumps({"error": {"code": problem[0], "message": problem[1], "status": "ERROR"}}).encode(), problem[0])(
                peer, seen
            )
        elif self.error is not None:
            plain(json.dumps(self.error[1]).encode(), self.error[0])(peer, seen)
        else:
            self.serve(peer, seen)

    def serve(self, peer: Peer, seen: Seen) -> None:
        """Answer a request that is well made."""
        named = _PATH.fullmatch(seen.target.partition("?")[0])
        assert named is not None
        model = named[5].replace("@", "-")
        if named[4] == "google":
            model_apis.answer(peer, seen)
        elif model == "count-tokens":
            plain(b'{"input_tokens": 11}')(peer, seen)
        elif named[6] == "rawPredict":
            plain(message(model))(peer, seen)
        else:
            own = event("vertex_event", usage={"input_tokens": 100})
            events = [own, *sse(model_apis.ANSWER, model), own]
            if self.has_length:
                whole = b"".join(events)
                peer.head(200, "content-type: text/event-stream", f"content-length: {len(whole)}")
                peer.send(whole)
            else:
                streamed(events)(peer, seen)
