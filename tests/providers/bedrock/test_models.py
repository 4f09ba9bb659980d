"""Names and ids of Bedrock's models: what they mean in a policy, what they cost, and what is called."""

from __future__ import annotations

import pytest

from sluicegate.model_names import canonical, is_bedrock_id, matches
from sluicegate.pricing.prices import Prices
from sluicegate.providers import PROTOCOLS
from sluicegate.providers.bedrock.models import IDS, BedrockIds
from sluicegate.providers.bedrock.request_body import as_invoke, as_messages
from sluicegate.providers.known import known_providers
from sluicegate.request_grammar import path_problem

ARN = "arn:aws:bedrock:us-east-1:123456789012:"


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("us.anthropic.claude-haiku-4-5-20251001-v1:0", "claude-haiku-4-5-20251001"),
        ("anthropic.claude-opus-4-6-v1", "claude-opus-4-6"),
        ("global.anthropic.claude-opus-5-5", "claude-opus-5-5"),
        ("us-gov.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4-5-20250929"),
        ("anthropic.claude-3-haiku-20240307-v1:0:200k", "claude-3-haiku-20240307"),
        ("US.Anthropic.Claude-Opus-5-5[1m]", "claude-opus-5-5"),
        (f"{ARN}inference-profile/eu.anthropic.claude-opus-5-5", "claude-opus-5-5"),
        (f"{ARN}foundation-model/anthropic.claude-opus-5-5".replace("123456789012", ""), "claude-opus-5-5"),
        # What says nothing of a model, or is somebody else's.
        (f"{ARN}application-inference-profile/abc123", f"{ARN}application-inference-profile/abc123"),
        ("xx.anthropic.claude-opus-5-5", "xx.anthropic.claude-opus-5-5"),
        ("us.anthropic.claude-opus-5-5/other", "us.anthropic.claude-opus-5-5/other"),
        ("us.amazon.nova-pro-v1:0", "us.amazon.nova-pro-v1:0"),
    ],
)
def test_an_id_means_the_model_in_it(model, name):
    assert canonical(model) == name
    assert is_bedrock_id(model.lower().removesuffix("[1m]")) == (name != model)


def test_lists_of_a_policy_mean_ids_too():
    assert matches("claude-haiku-4-5", "us.anthropic.claude-haiku-4-5-20251001-v1:0")
    assert matches("us.anthropic.claude-haiku-4-5-20251001-v1:0", "claude-haiku-4-5-20251001")
    assert not matches("claude-haiku-*", "us.anthropic.claude-opus-5-5")


@pytest.mark.parametrize(
    ("region", "name", "model"),
    [
        ("us-east-1", "claude-opus-5-5", "us.anthropic.claude-opus-5-5"),
        ("eu-west-3", "claude-haiku-4-5", "eu.anthropic.claude-haiku-4-5-20251001-v1:0"),
        ("eu-west-3", "claude-haiku-4-5-20251001", "eu.anthropic.claude-haiku-4-5-20251001-v1:0"),
        ("us-gov-west-1", "claude-sonnet-4-5", "us-gov.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("ap-northeast-1", "claude-opus-5", "jp.anthropic.claude-opus-5"),
        ("ap-southeast-2", "claude-opus-5", "au.anthropic.claude-opus-5"),
        ("sa-east-1", "claude-opus-4-6", "global.anthropic.claude-opus-4-6-v1"),
        ("us-east-1", "us.anthropic.claude-opus-5-5", "us.anthropic.claude-opus-5-5"),
        ("us-east-1", f"{ARN}provisioned-model/x", f"{ARN}provisioned-model/x"),
        ("us-east-1", "amazon.nova-pro-v1:0", "amazon.nova-pro-v1:0"),
        ("us-east-1", "claude-readable", "global.anthropic.claude-opus-5"),
        ("us-east-1", "claude-opaque-2", "claude-opaque-2"),
    ],
)
def test_a_name_is_called_by_its_regions_profile_or_as_policy_deploys_it(region, name, model):
    deployments = {"claude-readable": "global.anthropic.claude-opus-5", "claude-opaque-*": f"{ARN}application-inference-profile/a"}
    assert BedrockIds(region, deployments).id_of(name) == model


def test_a_deployment_without_a_name_of_its_own_is_called_by_its_arn_and_judged_by_its_name():
    profile = f"{ARN}application-inference-profile/a"
    ids = BedrockIds("us-east-1", {"claude-mine": profile})
    written = f"/model/{profile.replace('/', '%2F')}/invoke"
    assert ids.inner_path(written) == "/model/claude-mine/invoke"
    assert ids.outer_path("/model/claude-mine/invoke") == written
    assert ids.outer_path(written) == written
    assert ids.inner_path("/model/us.anthropic.claude-opus-5/invoke") == "/model/us.anthropic.claude-opus-5/invoke"
    assert ids.inner_path("/other") == "/other"
    assert BedrockIds("us-east-1").inner_path(written) == written


def test_every_id_has_a_price_of_bedrocks_and_the_name_that_it_stands_for():
    prices = Prices.load().sold_by(known_providers()["bedrock"].seller)
    for name, model in IDS.items():
        assert matches(name, model)
        found = prices.price(f"us.{model}", by_family=False)
        assert found is not None
        assert not found.is_estimated


@pytest.mark.parametrize(
    ("path", "is_fine"),
    [
        ("/model/us.anthropic.claude-haiku-4-5-20251001-v1:0/invoke", True),
        ("/model/us.anthropic.claude-haiku-4-5-20251001-v1%3A0/invoke", True),
        ("/bedrock/model/arn:aws:bedrock:us-east-1:1:application-inference-profile%2fa/invoke-with-response-stream", True),
        ("/model/a%2E%2E/invoke", False),
        ("/model/a..%2Fb/invoke", False),
        ("/model/%2Fa/invoke", False),
        ("/model/a%252Fb/invoke", False),
        ("/model/a%2Fb/other", False),
        ("/v1/messages%2Fx", False),
    ],
)
def test_only_ids_may_be_encoded_in_a_path(path, is_fine):
    assert (path_problem(path.encode()) is None) == is_fine


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/model/us.anthropic.claude-haiku-4-5-20251001-v1:0/invoke", "messages"),
        ("/model/arn:aws:bedrock:us-east-1:1:application-inference-profile%2Fa/invoke-with-response-stream", "messages"),
        ("/model/a/converse", "unsupported"),
        ("/model/a/b/invoke", "unsupported"),
        ("/model/a/async-invoke", "unsupported"),
        ("/guardrail/a/version/1/apply", "unsupported"),
    ],
)
def test_what_may_be_sent_on_its_keys(path, kind):
    assert PROTOCOLS["bedrock"].endpoints.kind("POST", path) == kind


def test_a_body_becomes_one_of_messages_and_back():
    sent = b'{"messages": [{"role":"user","content":"\\u00e4"}], "anthropic_version":"bedrock-2023-05-31","anthropic_beta":["a",1],"max_tokens":5}'
    body, betas = as_messages("claude-opus-5-5", sent, is_stream=True)
    assert body == b'{"model":"claude-opus-5-5","messages":[{"role":"user","content":"\\u00e4"}],"max_tokens":5,"stream":true}'
    assert betas == ["a"]
    back, is_stream = as_invoke(body, ["context-1m-2025-08-07", "unknown", "context-1m-2025-08-07"])
    assert is_stream
    assert back == (
        b'{"anthropic_version":"bedrock-2023-05-31","anthropic_beta":["context-1m-2025-08-07"],'
        b'"messages":[{"role":"user","content":"\\u00e4"}],"max_tokens":5}'
    )


def test_a_request_says_which_model_reads_how_much():
    facts = PROTOCOLS["bedrock"].read_request(
        b'{"anthropic_version":"bedrock-2023-05-31","anthropic_beta":[],"max_tokens":5,"messages":[{"role":"user","content":"hi"}]}',
        "/model/us.anthropic.claude-haiku-4-5-20251001-v1%3A0/invoke-with-response-stream",
    )
    assert not isinstance(facts, str)
    assert (facts.model, facts.stream, facts.max_tokens) == ("us.anthropic.claude-haiku-4-5-20251001-v1:0", True, 5)
    assert facts.is_text_only
    assert isinstance(PROTOCOLS["bedrock"].read_request(b"{}", "/model/a%20b/invoke"), str)
    assert isinstance(PROTOCOLS["bedrock"].read_request(b"{}", "/elsewhere"), str)
