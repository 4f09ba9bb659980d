"""Unknown callers: what a request without a known virtual key is told, in the words of its client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sluicegate.providers.known import known_provider
from sluicegate.values import Deny, Reason

LOCAL_ANSWERS = {"/api/hello": b"{}", "/inference-profiles": b'{"inferenceProfileSummaries":[]}'}
"""Paths that clients ask without a credential, and what they are answered here.

Claude Code asks Bedrock for its profiles first; where there is none, it takes the ids that it knows.
"""

PROXY = "proxy-authorization"

ENDED = Deny(Reason.VIRTUAL_KEY_NOT_FOUND, "Your sign-in at this gateway has ended: sign in again (/login)")
"""The refusal of an access token that is not valid any more."""

UNSURE = Deny(Reason.GATEWAY_ERROR, "The store of the sign-ins cannot be asked now whether yours is valid; try again shortly")
"""The refusal of an access token that is not known here while nobody can say whether it is valid: no reason to sign in again."""

_BY_CLIENT: Mapping[str, str] = {
    "claude-code": "ANTHROPIC_API_KEY",
    # Codex sends no key that stands in OPENAI_API_KEY alone.
    "codex": "CODEX_API_KEY",
    "gemini-cli": "GEMINI_API_KEY",
    "qwen-code": "OPENAI_API_KEY",
}

_CLOUD_VARIABLES: Mapping[str, str] = {
    "bedrock": "AWS_BEARER_TOKEN_BEDROCK",
    "foundry": "ANTHROPIC_FOUNDRY_API_KEY",
    "vertex": "ANTHROPIC_AUTH_TOKEN",
}
"""The variable of Claude Code's that a virtual key goes in where it speaks a cloud's API."""

_IN_PROXY_URL = "put it into the proxy URL (HTTPS_PROXY=http://KEY:x@HOST:PORT)"


def variable_of(client: str, provider: str, sent: Sequence[str] = ()) -> str:
    """Return the environment variable from which a client takes the key it sends."""
    if client == "claude-code" and "authorization" in sent and "x-api-key" not in sent:
        return "ANTHROPIC_AUTH_TOKEN"
    known = known_provider(provider)
    if client == "claude-code" and provider in _CLOUD_VARIABLES:
        return _CLOUD_VARIABLES[provider]
    if provider == "vertex":
        # Its libraries send an API key of this name in place of a log-in's token.
        return "GOOGLE_API_KEY"
    return _BY_CLIENT.get(client) or (known.variable if known is not None else None) or "OPENAI_API_KEY"


def refusal_of_unknown(client: str, provider: str, sent: Sequence[str], *, is_login: bool, passes_logins: bool = False) -> Deny:
    """Return the refusal of a call whose credentials, in the places ``sent``, are not a known virtual key.

    ``is_login`` says that a Claude login is among them, ``passes_logins`` that the policy would let it pass beside a virtual key.
    """
    others = [place for place in sent if place != PROXY]
    if is_login and others == ["authorization"]:
        variable, in_url = variable_of(client, provider), PROXY in sent
        text = "A Claude login was sent, and this gateway asks for a virtual key: "
        if passes_logins:
            text += f"{_IN_PROXY_URL}, where it works beside the login, or set {variable} to yours"
        else:
            text += f"set {variable} to yours in place of the login"
        text += "; the one in the proxy URL is not known" if in_url else ""
        return Deny(Reason.VIRTUAL_KEY_NOT_FOUND if in_url else Reason.VIRTUAL_KEY_REQUIRED, text)
    variable = variable_of(client, provider, sent)
    unknown = "is not a known virtual key: it may have been revoked or mistyped"
    if others:
        which = f"The key that was sent {unknown}"
        also = "; nor is the one in the proxy URL known" if PROXY in sent else ""
        return Deny(Reason.VIRTUAL_KEY_NOT_FOUND, f"{which}; set {variable} to yours, or {_IN_PROXY_URL}{also}")
    if sent:
        return Deny(
            Reason.VIRTUAL_KEY_NOT_FOUND, f"The key in the proxy URL {unknown}; correct it there, or set {variable} to yours"
        )
    return Deny(Reason.VIRTUAL_KEY_REQUIRED, f"No virtual key was sent: set {variable} to yours, or {_IN_PROXY_URL}")


def refusal_at_proxy(*, has_credential: bool) -> Deny:
    """Return the refusal of a connection to a host of no provider, whose user may see it in a shell tool."""
    if has_credential:
        text = "The key in the proxy URL is not a known virtual key: it may have been revoked or mistyped; correct it there"
        return Deny(Reason.VIRTUAL_KEY_REQUIRED, text)
    text = "This proxy asks for a virtual key: put it into the proxy URL as the user (http://KEY:x@HOST:PORT)"
    return Deny(Reason.VIRTUAL_KEY_REQUIRED, text)
