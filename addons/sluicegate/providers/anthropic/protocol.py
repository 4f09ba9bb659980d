"""Anthropic's API: read requests and answers, write errors."""

from __future__ import annotations

import orjson

from sluicegate.providers import endpoint_table
from sluicegate.providers.answers.usage_reader import UsageReader
from sluicegate.providers.answers.usage_rules import NO_RULES, UsageRules
from sluicegate.providers.anthropic.answer import MessagesUsage
from sluicegate.providers.anthropic.continued import read_continued
from sluicegate.providers.anthropic.request import read_request
from sluicegate.providers.base import AuthForm, ProtocolName
from sluicegate.providers.requests.earlier import EarlierBody
from sluicegate.values import RequestFacts


class Anthropic:
    """The API of api.anthropic.com."""

    name: ProtocolName = "anthropic"
    auth: AuthForm = "x-api-key"
    endpoints = endpoint_table.ANTHROPIC

    def read_request(self, body: bytes, path: str, earlier: EarlierBody | None = None) -> RequestFacts | str:
        """Read the facts of a Messages body."""
        return read_request(body) if earlier is None else read_continued(body, earlier)

    def usage_reader(self, rules: UsageRules = NO_RULES, model: str = "") -> UsageReader:
        """Return a reader for one answer."""
        return MessagesUsage()

    def error_body(self, family: str, message: str, status: int, code: str | None = None) -> bytes:
        """Return an error body in Anthropic's form."""
        return orjson.dumps({"type": "error", "error": {"type": family, "message": message}})
