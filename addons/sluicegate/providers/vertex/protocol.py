"""Vertex AI's API: a publisher's own requests and answers, and errors that the clients of either publisher read."""

from __future__ import annotations

import orjson

from sluicegate.providers import endpoint_table
from sluicegate.providers.answers.usage_reader import UsageReader
from sluicegate.providers.answers.usage_rules import NO_RULES, UsageRules
from sluicegate.providers.anthropic.answer import MessagesUsage
from sluicegate.providers.anthropic.request import read_request as read_messages
from sluicegate.providers.base import AuthForm, ProtocolName
from sluicegate.providers.gemini.answer import GeminiUsage
from sluicegate.providers.gemini.request import read_request as read_generate_content
from sluicegate.providers.requests.earlier import EarlierBody
from sluicegate.providers.vertex.paths import COUNT, Named, named_in, publisher_of
from sluicegate.providers.vertex.request_body import with_model
from sluicegate.values import RequestFacts

STREAMING = "streamRawPredict"


class Vertex:
    """The API of aiplatform.googleapis.com, for the models of Anthropic and Google."""

    name: ProtocolName = "vertex"
    auth: AuthForm = "bearer"
    endpoints = endpoint_table.VERTEX

    def read_request(self, body: bytes, path: str, earlier: EarlierBody | None = None) -> RequestFacts | str:
        """Read model and method from the path, the rest from the body, as the publisher's own API has it."""
        named = named_in(path)
        if named is None:
            return "the path of a model call ends in /publishers/PUBLISHER/models/MODEL:METHOD"
        if named.publisher == "anthropic" and named.model == COUNT:
            return read_messages(body)
        if publisher_of(named.model) != named.publisher:
            return f"'{named.model[:100]}' is not a model of the publisher '{named.publisher}', which the path names"
        return read_generate_content(body, path) if named.publisher == "google" else _read_raw_predict(body, named)

    def usage_reader(self, rules: UsageRules = NO_RULES, model: str = "") -> UsageReader:
        """Return a reader for one answer of a model."""
        return MessagesUsage() if publisher_of(model) == "anthropic" else GeminiUsage()

    def error_body(self, family: str, message: str, status: int, code: str | None = None) -> bytes:
        """Return an error body that is in Anthropic's form and in Google's."""
        error = {"type": family, "message": message, "code": status, "status": family.upper()}
        return orjson.dumps({"type": "error", "error": error})


def _read_raw_predict(body: bytes, named: Named) -> RequestFacts | str:
    if not body.lstrip(b" \t\r\n").startswith(b"{"):
        return "the body of a model call is a JSON object"
    facts = read_messages(with_model(named.model, body))
    if isinstance(facts, str):
        return facts
    if facts.stream != (named.method == STREAMING):
        return f"'stream' in the body and '{named.method}' in the path say two things about the answer"
    return facts._replace(body_bytes=len(body))
