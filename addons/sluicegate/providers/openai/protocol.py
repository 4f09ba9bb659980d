"""OpenAI's APIs, as Codex and Qwen Code use them: read requests and answers, write errors."""

from __future__ import annotations

import orjson

from sluicegate.providers import endpoint_table
from sluicegate.providers.answers.usage_reader import UsageReader
from sluicegate.providers.answers.usage_rules import NO_RULES, UsageRules
from sluicegate.providers.base import AuthForm, ProtocolName
from sluicegate.providers.openai.answer import OpenAIUsage
from sluicegate.providers.openai.request import read_request
from sluicegate.providers.requests.earlier import EarlierBody
from sluicegate.values import RequestFacts


class OpenAI:
    """The API of api.openai.com."""

    name: ProtocolName = "openai"
    auth: AuthForm = "bearer"
    endpoints = endpoint_table.OPENAI

    def read_request(self, body: bytes, path: str, earlier: EarlierBody | None = None) -> RequestFacts | str:
        """Read the facts of a chat or responses body."""
        return read_request(body, path)

    def usage_reader(self, rules: UsageRules = NO_RULES, model: str = "") -> UsageReader:
        """Return a reader for one answer."""
        return OpenAIUsage(rules)

    def error_body(self, family: str, message: str, status: int, code: str | None = None) -> bytes:
        """Return an error body in OpenAI's form."""
        return orjson.dumps({"error": {"type": family, "code": code or family, "message": message, "param": None}})
