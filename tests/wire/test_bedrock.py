"""Amazon Bedrock on the wire: as the provider of calls that are signed anew, and as the API that a client speaks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from support.aws_signatures import ACCESS_KEY, SECRET_KEY, SESSION_TOKEN
from support.fake_bedrock import BEARER, REGION, FakeBedrock, frames
from support.fake_provider import FakeProvider, sse, streamed
from support.harness import Gateway, Reply, policy_text

pytestmark = pytest.mark.wire

OPUS, HAIKU = "eu.anthropic.claude-opus-5-5", "us.anthropic.claude-haiku-4-5-20251001-v1:0"
ARN = "arn:aws:bedrock:eu-central-1:123456789012:application-inference-profile/abc123"
SIGNING = {
    "region": REGION,
    "access_key": "env.THE_ACCESS_KEY",
    "secret_key": "env.THE_SECRET_KEY",
    "session_token": "env.THE_SESSION_TOKEN",
    "deployments": {"claude-sonnet-5-5": ARN},
}
ENV = {"THE_ACCESS_KEY": ACCESS_KEY, "THE_SECRET_KEY": SECRET_KEY, "THE_SESSION_TOKEN": SESSION_TOKEN, "THE_BEARER": BEARER}
KEYS: list[dict[str, Any]] = [
    {"id": "vk-dev"},
    {"id": "vk-bearer", "provider_configs": [{"provider": "bedrock", "key_names": ["bearer"]}]},
    {"id": "vk-haiku", "provider_configs": [{"provider": "bedrock", "allowed_models": ["claude-haiku-*"]}]},
    {"id": "vk-spent", "budget": {"max_limit": 0, "reset_duration": "1M"}},
    {"id": "vk-elsewhere"},
]
ROUTES = [{"name": "elsewhere", "when": {"virtual_key": "vk-elsewhere"}, "targets": [{"provider": "anthropic"}]}]


@dataclass
class Lab:
    """One gateway, and the two providers behind it."""

    gateway: Gateway
    bedrock: FakeBedrock
    aws: FakeProvider
    anthropic: FakeProvider

    def invoke(self, model: str = OPUS, key: str = "vk-dev", method: str = "invoke-with-response-stream", **fields: Any) -> Reply:
        """Make a call as a client of Bedrock's."""
        return self.gateway.post(body(**fields), None, f"/bedrock/model/{model}/{method}", authorization=f"Bearer {key}")

    def last(self) -> dict[str, Any]:
        """Return the call that was recorded last."""
        return self.gateway.rows("SELECT * FROM calls ORDER BY rowid DESC LIMIT 1")[0]


def body(**fields: Any) -> bytes:
    """Return the body of a client of Bedrock's."""
    given = {"max_tokens": 1024, "messages": [{"role": "user", "content": "hi"}], "anthropic_version": "bedrock-2023-05-31"}
    return json.dumps(given | fields, indent=1).encode()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    bedrock = FakeBedrock()
    with FakeProvider(bedrock) as aws, FakeProvider(streamed()) as anthropic:
        providers = {
            "bedrock": {
                "base_url": aws.url,
                "keys": [
                    {"name": "signed", "bedrock_key_config": SIGNING},
                    {"name": "bearer", "value": "env.THE_BEARER", "weight": 0.000001, "bedrock_key_config": {"region": REGION}},
                ],
            },
            "anthropic": {"base_url": anthropic.url, "keys": [{"name": "k", "value": "sk-real"}]},
        }
        policy = policy_text(providers=providers, virtual_keys=KEYS, routes=ROUTES)
        with Gateway(tmp_path_factory.mktemp("bedrock"), policy, env=ENV) as gateway:
            yield Lab(gateway, bedrock, aws, anthropic)


@pytest.fixture(autouse=True)
def _accepted(lab: Lab) -> Iterator[None]:
    """Require that Bedrock has accepted every request of a test."""
    lab.bedrock.answer = lambda body: frames(sse())
    yield
    assert lab.bedrock.complaints == []


def test_a_stream_of_frames_passes_through_and_is_metered(lab):
    reply = lab.invoke()
    assert (reply.status, reply.headers["content-type"]) == (200, "application/vnd.amazon.eventstream")
    assert reply.body == b"".join(frames(sse()))
    assert lab.aws.seen[-1].body == body()
    assert lab.aws.seen[-1].target == f"/model/{OPUS}/invoke-with-response-stream"
    call = lab.last()
    assert (call["provider"], call["model_requested"], call["outcome"]) == ("bedrock", OPUS, "completed")
    assert (call["input_tokens"], call["output_tokens"], call["estimated"], call["stream"]) == (100, 50, 0, 1)
    # At the price of the region's profile: 4.40 and 22 dollars for a million tokens.
    assert call["cost_nano"] == 100 * 4_400 + 50 * 22_000
