"""What the gateway must know of a protocol: the API that a provider speaks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Protocol, get_args

from sluicegate.providers.answers.usage_reader import UsageReader
from sluicegate.providers.answers.usage_rules import NO_RULES, UsageRules
from sluicegate.providers.endpoints import Endpoints
from sluicegate.providers.requests.earlier import EarlierBody
from sluicegate.values import RequestFacts

ProtocolName = Literal["anthropic", "openai", "gemini", "vertex", "bedrock"]

AuthForm = Literal["bearer", "x-api-key", "api-key", "x-goog-api-key", "none"]
"""How a request carries its provider's key: as a bearer token, in the header of that name, or not at all."""

AUTH_FORMS: tuple[AuthForm, ...] = get_args(AuthForm)


class ProtocolAdapter(Protocol):
    """One protocol: which requests it has, how to read one and its answer, and write what the client expects."""

    name: ProtocolName
    auth: AuthForm
    """How keys are carried where a provider's data or policy does not say otherwise."""
    endpoints: Endpoints
    """Which requests may travel on a provider's key."""

    def read_request(self, body: bytes, path: str, earlier: EarlierBody | None = None) -> RequestFacts | str:
        """Return the facts of a model call's body, or a sentence that says why it is not one.

        ``earlier`` is the last body on its connection, for protocols that do not read again what comes again.
        """

    def usage_reader(self, rules: UsageRules = NO_RULES, model: str = "") -> UsageReader:
        """Return a reader for one answer of a model, of a provider that reports its usage by these rules."""

    def error_body(self, family: str, message: str, status: int, code: str | None = None) -> bytes:
        """Return an error body as an API of this protocol would write it; ``code`` is the exact reason, where it has a place."""


def auth_headers(form: AuthForm, key: str) -> Iterable[tuple[str, str]]:
    """Return the headers that carry a provider's key. Anthropic takes OAuth tokens as bearer tokens alone."""
    if form == "none":
        return ()
    if form == "x-api-key" and key.startswith("sk-ant-oat"):
        form = "bearer"
    return (("authorization", f"Bearer {key}"),) if form == "bearer" else ((form, key),)
