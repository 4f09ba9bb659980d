"""The shape of ``server.otlp``: where metrics and spans are exported to."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, WithJsonSchema, field_validator

from sluicegate.policy.fields import Duration, Model, SecretText, Text, check_webhook_url
from sluicegate.windows import parse_period, period_ms

OtlpSignal = Literal["metrics", "traces"]

_FRAMING_HEADERS = frozenset({"host", "content-length", "content-type", "content-encoding", "transfer-encoding", "connection"})


def check_otlp_endpoint(value: str) -> str:
    """Return a receiver's URL. Raises ValueError for what is none."""
    problem = "write a URL such as http://collector:4318, without user, query or fragment"
    try:
        check_webhook_url(value)
    except ValueError as e:
        raise ValueError(problem) from e
    if "?" in value:
        raise ValueError(problem)
    return value


def check_header_name(value: str) -> str:
    """Return the name of a header that a request may have besides its own. Raises ValueError for any other."""
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}", value):
        raise ValueError("write the name of a header, such as authorization")
    if value.lower() in _FRAMING_HEADERS:
        raise ValueError("is a header that the gateway writes itself")
    return value


OtlpEndpoint = Annotated[
    str, AfterValidator(check_otlp_endpoint), WithJsonSchema({"type": "string", "examples": ["http://collector:4318"]})
]
HeaderName = Annotated[str, AfterValidator(check_header_name)]


class Otlp(Model):
    """Where metrics and spans are exported to by OTLP. What is absent comes from OpenTelemetry's environment variables."""

    endpoint: OtlpEndpoint | None = Field(
        None, description="The receiver's URL; /v1/traces and /v1/metrics are added to it. Default: http://localhost:4318."
    )
    headers: dict[HeaderName, SecretText] = Field(
        default_factory=dict, description="Headers of each request, such as authorization; env.NAME or file:PATH.", repr=False
    )
    protocol: Literal["http/protobuf", "http/json"] | None = Field(None, description="The form of requests; default http/protobuf.")
    compression: Literal["none", "gzip"] | None = Field(None, description="Whether requests are compressed; default none.")
    interval: Duration | None = Field(None, description="Time between two exports of metrics, from 1s to 1h; default 1m.")
    signals: tuple[OtlpSignal, ...] = Field(("metrics", "traces"), description="What is exported.", min_length=1)
    resource_attributes: dict[Text, Text] = Field(
        default_factory=dict, description="Attributes of the gateway, such as deployment.environment.name."
    )

    @field_validator("interval")
    @classmethod
    def _check_interval(cls, value: str | None) -> str | None:
        # "1m" is a minute and "1M" a month.
        if value is not None and not 1_000 <= (period_ms(parse_period(value)) or 0) <= 3_600_000:
            raise ValueError("write a time from 1s to 1h")
        return value
