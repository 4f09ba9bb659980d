"""Google's Gemini API, in which the path names the model: read requests and answers, write errors."""

from __future__ import annotations

import orjson

from sluicegate.providers import endpoint_table
from sluicegate.providers.answers.usage_reader import UsageReader
from sluicegate.providers.answers.usage_rules import NO_RULES, UsageRules
from sluicegate.providers.base import AuthForm, ProtocolName
from sluicegate.providers.gemini.answer import GeminiUsage
from sluicegate.providers.gemini.request import read_request
from sluicegate.providers.requests.earlier import EarlierBody
from sluicegate.values import RequestFacts


class Gemini:
    """The API of generativelanguage.googleapis.com."""

    name: ProtocolName = "gemini"
    auth: AuthForm = "x-goog-api-key"
    endpoints = endpoint_table.GEMINI

    def read_request(self, body: bytes, path: str, earlier: EarlierBody | None = None) -> RequestFacts | str:
        """Read model and streaming from the path, the output cap from ``generationConfig``."""
        return read_request(body, path)

    def usage_reader(self, rules: UsageRules = NO_RULES, model: str = "") -> UsageReader:
        """Return a reader for one answer."""
        return GeminiUsage()

    def error_body(self, family: str, message: str, status: int, code: str | None = None) -> bytes:
        """Return an error body in Google's form."""
        return orjson.dumps({"error": {"code": status, "message": message, "status": family.upper()}})
