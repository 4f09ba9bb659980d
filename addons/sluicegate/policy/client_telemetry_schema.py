"""The shape of ``client_telemetry``: what signed-in clients are told to send of themselves, and where that is forwarded to."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sluicegate.policy.fields import Model, SecretText
from sluicegate.policy.otlp_schema import HeaderName, OtlpEndpoint

ClientSignal = Literal["metrics", "logs", "traces"]


class Forward(Model):
    """A collector that gets what clients send, under the names of those whose credential it came with."""

    endpoint: OtlpEndpoint = Field(description="The collector's URL; /v1/metrics, /v1/logs and /v1/traces are added to it.")
    headers: dict[HeaderName, SecretText] = Field(
        default_factory=dict, description="Headers of each request, such as authorization; env.NAME or file:PATH.", repr=False
    )
    compression: Literal["none", "gzip"] = Field("none", description="Whether requests are compressed.")
    signals: tuple[ClientSignal, ...] = Field(("metrics", "logs", "traces"), description="What is forwarded.", min_length=1)


class ClientTelemetry(Model):
    """What Claude Code sends of itself to this gateway (OTLP), to be compared with the gateway's own records."""

    signals: tuple[ClientSignal, ...] = Field(
        ("metrics", "logs"),
        description="What those who have signed in are told to send.",
        min_length=1,
    )
    forward: Forward | None = Field(None, description="Where it is forwarded to; absent: nowhere.")
