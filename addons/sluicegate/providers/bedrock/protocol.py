"""Bedrock's InvokeModel, with the bodies of Anthropic's Messages: read requests and answers, write errors."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from sluicegate.providers import endpoint_table
from sluicegate.providers.answers.usage_reader import UsageReader
from sluicegate.providers.answers.usage_rules import NO_RULES, UsageRules
from sluicegate.providers.base import AuthForm, ProtocolName
from sluicegate.providers.bedrock.answer import BedrockUsage
from sluicegate.providers.bedrock.request import read_request
from sluicegate.providers.requests.earlier import EarlierBody
from sluicegate.values import RequestFacts

_TYPES: Mapping[int, str] = {
    400: "ValidationException",
    401: "AccessDeniedException",
    402: "ServiceQuotaExceededException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    408: "ModelTimeoutException",
    409: "ValidationException",
    413: "ValidationException",
    429: "ThrottlingException",
    500: "InternalServerException",
}


class Bedrock:
    """The API of bedrock-runtime.REGION.amazonaws.com."""

    name: ProtocolName = "bedrock"
    auth: AuthForm = "bearer"
    endpoints = endpoint_table.BEDROCK

    def read_request(self, body: bytes, path: str, earlier: EarlierBody | None = None) -> RequestFacts | str:
        """Read model and streaming from the path, the rest from the body, which is one of Messages."""
        return read_request(body, path)

    def usage_reader(self, rules: UsageRules = NO_RULES, model: str = "") -> UsageReader:
        """Return a reader for one answer."""
        return BedrockUsage()

    def error_body(self, family: str, message: str, status: int, code: str | None = None) -> bytes:
        """Return an error body in AWS's form, with the type that its SDKs look for in a header or here."""
        return orjson.dumps({"message": message, "__type": _TYPES.get(status, "ServiceUnavailableException")})
