"""Amazon Bedrock on the wire: as the provider of calls that are signed anew, and as the API that a client speaks."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError
from botocore.session import get_session

from support.aws_signatures import ACCESS_KEY, SECRET_KEY, SESSION_TOKEN
from support.fake_bedrock import BEARER, REGION, FakeBedrock, exception, frames, read_events
from support.fake_provider import FakeProvider, plain, sse, streamed
from support.harness import Gateway, Reply, ask, eventually, policy_text

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
    {"id": "vk-spare", "content": "full"},
]
BOTH = [{"provider": "bedrock"}, {"provider": "anthropic", "weight": 0}]
ROUTES = [
    {"name": "elsewhere", "when": {"virtual_key": "vk-elsewhere"}, "targets": [{"provider": "anthropic"}]},
    {"name": "spare", "when": {"virtual_key": "vk-spare"}, "targets": BOTH},
]


@dataclass
class Lab:
    """One gateway, and the two providers behind it."""

    gateway: Gateway
    bedrock: FakeBedrock
    aws: FakeProvider
    anthropic: FakeProvider
    made: int = 0
    """Calls that were made so far."""

    def invoke(self, model: str = OPUS, key: str = "vk-dev", method: str = "invoke-with-response-stream", **fields: Any) -> Reply:
        """Make a call as a client of Bedrock's."""
        return self.post(body(**fields), f"/bedrock/model/{model}/{method}", authorization=f"Bearer {key}")

    def post(self, sent: bytes, path: str = "/v1/messages", **headers: str) -> Reply:
        """Make a call by which its record can be found."""
        self.made += 1
        return self.gateway.post(sent, None, path, **{"user_agent": f"test/{self.made}", **headers})

    def last(self) -> dict[str, Any]:
        """Return the record of the call that was made last, once it is there."""
        rows = eventually(lambda: self.gateway.rows(f"SELECT * FROM calls WHERE user_agent = 'test/{self.made}'"))
        return rows[0]


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


def test_a_whole_answer_is_metered(lab):
    reply = lab.invoke(method="invoke")
    assert reply.json["content"] == [{"type": "text", "text": "Hello"}]
    call = lab.last()
    assert (call["input_tokens"], call["output_tokens"], call["stream"]) == (100, 50, 0)
    assert call["cost_nano"] == 100 * 4_400 + 50 * 22_000


@pytest.mark.parametrize(
    ("asked", "sent", "recorded"),
    [
        (HAIKU, HAIKU, HAIKU),
        (HAIKU.replace(":", "%3A"), HAIKU.replace(":", "%3A"), HAIKU),
        ("claude-opus-5-5", OPUS, OPUS),
        ("claude-sonnet-5-5", ARN.replace("/", "%2F"), "claude-sonnet-5-5"),
        (ARN.replace("/", "%2F"), ARN.replace("/", "%2F"), "claude-sonnet-5-5"),
        ("global.anthropic.claude-opus-5-5", "global.anthropic.claude-opus-5-5", "global.anthropic.claude-opus-5-5"),
    ],
)
def test_a_model_is_an_id_a_profile_a_deployment_or_a_name(lab, asked, sent, recorded):
    assert lab.invoke(asked).status == 200
    assert lab.aws.seen[-1].target.split("/")[2] == sent
    call = lab.last()
    assert call["model_requested"] == recorded
    # Each has a price of its own: that of the global profile is without the region's surcharge.
    prices = {HAIKU: (1_100, 5_500), OPUS: (4_400, 22_000), "claude-sonnet-5-5": (2_200, 11_000)}
    given, written = prices.get(recorded, (4_000, 20_000))
    assert (call["cost_nano"], call["estimated"]) == (100 * given + 50 * written, 0)


SIGNED = f"AWS4-HMAC-SHA256 Credential=%s/20261127/eu-central-1/bedrock/aws4_request, SignedHeaders=host, Signature={'0' * 64}"


@pytest.mark.parametrize(
    "headers",
    [
        {"x_bf_vk": "vk-dev"},
        {"x_api_key": "vk-dev"},
        {"authorization": SIGNED % "vk-dev"},
        {
            "x_bf_vk": "vk-dev",
            "authorization": SIGNED % "AKIAMINE",
            "x_amz_security_token": "my token",
            "x_amz_date": "20200101T000000Z",
        },
    ],
)
def test_the_virtual_key_stands_where_clients_can_put_it_and_no_credential_of_theirs_is_sent(lab, headers):
    reply = lab.post(body(), f"/bedrock/model/{OPUS}/invoke", x_amz_content_sha256="0" * 64, **headers)
    assert reply.status == 200
    assert lab.last()["virtual_key_id"] == "vk-dev"
    head = lab.aws.seen[-1].head
    assert b"vk-dev" not in head
    assert b"AKIAMINE" not in head
    assert b"my token" not in head


def test_a_key_of_bedrocks_own_is_a_bearer_token(lab):
    assert lab.invoke(key="vk-bearer").status == 200
    assert lab.aws.seen[-1].header("authorization") == f"Bearer {BEARER}"
    assert lab.aws.seen[-1].header("x-amz-date") is None


def test_refusals_are_in_the_form_of_aws(lab):
    blocked = lab.invoke(key="vk-haiku")
    assert (blocked.status, blocked.reason) == (403, "model_blocked")
    assert blocked.json["message"].startswith(f"Model '{OPUS}' is not allowed for this virtual key. Allowed: claude-haiku-*")
    assert blocked.json["__type"] == "AccessDeniedException"
    assert lab.invoke(HAIKU, key="vk-haiku").status == 200
    spent = lab.invoke(key="vk-spent")
    assert (spent.status, spent.json["__type"]) == (402, "ServiceQuotaExceededException")
    assert spent.json["message"].startswith("Budget exceeded: VK budget exceeded")
    unknown = lab.post(body(), f"/bedrock/model/{OPUS}/invoke")
    assert (unknown.status, unknown.json["__type"]) == (401, "AccessDeniedException")
    assert (
        "AWS_BEARER_TOKEN_BEDROCK" in lab.post(body(), f"/bedrock/model/{OPUS}/invoke", user_agent="claude-cli/2.1").json["message"]
    )


@pytest.mark.parametrize(
    ("path", "given", "words"),
    [
        (f"/model/{OPUS}/invoke", {"model": HAIKU}, "leave 'model' out"),
        (f"/model/{OPUS}/invoke", {"stream": True}, "leave 'stream' out"),
        ("/model/..%2Fadmin/invoke", {}, "percent-encoded"),
        (f"/model/{OPUS}/converse", {}, "is not supported"),
        (f"/model/{OPUS}/invoke?model={HAIKU}", {}, "names a model"),
        ("/model/a%2F%2Fb/invoke", {}, "the path's model cannot be judged"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(lab, path, given, words):
    before = len(lab.aws.seen)
    reply = lab.post(body(**given), f"/bedrock{path}", x_bf_vk="vk-dev")
    assert reply.status == 400
    assert words in reply.json["message"]
    assert len(lab.aws.seen) == before


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        ("x_amzn_bedrock_service_tier", "priority", 400),
        ("x_amzn_bedrock_service_tier", "default", 200),
        ("x_amzn_bedrock_guardrailidentifier", "abc", 400),
        ("x_amzn_bedrock_performanceconfig_latency", "optimized", 400),
    ],
)
def test_headers_that_change_the_price_unseen_are_refused(lab, name, value, status):
    reply = lab.post(body(), f"/bedrock/model/{OPUS}/invoke", x_bf_vk="vk-dev", **{name: value})
    assert reply.status == status
    assert status == 200 or "changes what the call costs" in reply.json["message"]


def test_a_large_body_is_signed_too(lab):
    assert lab.invoke(messages=[{"role": "user", "content": "x" * 300_000}]).status == 200


def counting(sent: bytes) -> bytes:
    """Return the body of a request for a count."""
    return json.dumps({"input": {"invokeModel": {"body": base64.b64encode(sent).decode()}}}).encode()


def test_tokens_are_counted_by_bedrock_and_estimated_where_another_would_answer(lab):
    path = f"/bedrock/model/{HAIKU}/count-tokens"
    counted = lab.post(counting(body()), path, x_bf_vk="vk-haiku")
    assert counted.json == {"inputTokens": 12}
    assert lab.last()["cost_nano"] == 0
    refused = lab.post(counting(body()), f"/bedrock/model/{OPUS}/count-tokens", x_bf_vk="vk-haiku")
    assert (refused.status, refused.reason) == (403, "model_blocked")
    estimated = lab.post(counting(body()), path, x_bf_vk="vk-elsewhere")
    assert estimated.headers["x-sluicegate-estimated"] == "true"
    assert 0 < estimated.json["inputTokens"] < 20
    for wrong in (b"{}", b'{"input":{"converse":{}}}', b'{"input":{"invokeModel":{"body":"!"}}}'):
        reply = lab.post(wrong, path, x_bf_vk="vk-dev")
        assert (reply.status, "tokens are counted of input.invokeModel.body" in reply.json["message"]) == (400, True)


def test_profiles_are_listed_as_none_so_that_clients_take_the_ids_they_know(lab):
    reply = lab.gateway.request("GET", "/bedrock/inference-profiles?type=SYSTEM_DEFINED")
    assert (reply.status, reply.json) == (200, {"inferenceProfileSummaries": []})


def test_a_client_of_messages_is_answered_by_bedrock(lab):
    sent = ask(model="bedrock/claude-opus-5-5", stream=True, metadata={"user_id": "u"}, service_tier="auto")
    reply = lab.post(
        sent, x_api_key="vk-dev", anthropic_beta="context-1m-2025-08-07,not-for-bedrock", anthropic_version="2023-06-01"
    )
    assert (reply.status, reply.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    events = [json.loads(e.partition(b"data: ")[2]) for e in reply.body.split(b"\n\n") if e]
    assert [e["type"] for e in events] == [json.loads(e.partition(b"data: ")[2])["type"] for e in sse()]
    assert events[2]["delta"] == {"type": "text_delta", "text": "Hello"}
    model, got = lab.bedrock.asked[-1]
    assert model == OPUS
    assert got == {
        "anthropic_version": "bedrock-2023-05-31",
        "anthropic_beta": ["context-1m-2025-08-07"],
        "max_tokens": 1024,
        "messages": [{"role": "user", "content": "hi"}],
        "metadata": {"user_id": "u"},
    }
    call = lab.last()
    assert (call["provider"], call["model_requested"], call["input_tokens"], call["output_tokens"]) == ("bedrock", OPUS, 100, 50)
    assert call["cost_nano"] == 100 * 4_400 + 50 * 22_000


def test_a_client_of_messages_gets_a_whole_answer_and_errors_in_its_own_form(lab):
    whole = lab.post(ask(model="bedrock/claude-opus-5-5"), x_api_key="vk-dev")
    assert whole.json["content"] == [{"type": "text", "text": "Hello"}]
    lab.bedrock.answer = lambda body: [*frames(sse())[:3], exception("throttlingException", "Too many tokens")]
    broken = lab.post(ask(model="bedrock/claude-opus-5-5", stream=True), x_api_key="vk-dev")
    last = broken.body.strip().split(b"\n\n")[-1]
    error = {"type": "rate_limit_error", "message": "Too many tokens"}
    assert json.loads(last.partition(b"data: ")[2]) == {"type": "error", "error": error}
    assert lab.last()["outcome"] == "failed"


def test_a_client_of_chat_completions_is_answered_by_bedrock(lab):
    sent = json.dumps({"model": "bedrock/claude-opus-5-5", "messages": [{"role": "user", "content": "hi"}], "stream": True})
    reply = lab.post(sent.encode(), "/v1/chat/completions", authorization="Bearer vk-dev")
    assert b'"content":"Hello"' in reply.body
    assert reply.body.endswith(b"data: [DONE]\n\n")
    assert lab.bedrock.asked[-1][0] == OPUS


def test_a_client_of_bedrocks_is_answered_by_another_provider_in_frames(lab):
    reply = lab.invoke(HAIKU, key="vk-elsewhere", anthropic_beta=["interleaved-thinking-2025-05-14"])
    assert (reply.status, reply.headers["content-type"]) == (200, "application/vnd.amazon.eventstream")
    assert read_events(reply.body) == [json.loads(e.partition(b"data: ")[2]) for e in sse()]
    seen = lab.anthropic.seen[-1]
    given = json.loads(seen.body)
    assert seen.target == "/v1/messages"
    assert seen.header("anthropic-beta") == "interleaved-thinking-2025-05-14"
    assert (given.pop("model"), given.pop("stream")) == ("claude-haiku-4-5-20251001", True)
    assert given == {"max_tokens": 1024, "messages": [{"role": "user", "content": "hi"}]}
    call = lab.last()
    assert (call["provider"], call["model_requested"]) == ("anthropic", "claude-haiku-4-5-20251001")
    assert call["output_tokens"] == 50


def test_a_client_of_bedrocks_gets_the_errors_of_another_provider_in_its_own_form(lab):
    before = lab.anthropic.script
    error = {"type": "error", "error": {"type": "invalid_request_error", "message": "max_tokens: too large"}}
    try:
        lab.anthropic.script = plain(json.dumps(error).encode(), 400)
        reply = lab.invoke(HAIKU, key="vk-elsewhere")
        assert (reply.status, reply.json) == (400, {"message": "max_tokens: too large", "__type": "ValidationException"})
        lab.anthropic.script = streamed(sse()[:3])
        cut = read_events(lab.invoke(HAIKU, key="vk-elsewhere").body)
        assert cut[-1] == {"exception": "internalServerException", "message": "The provider's answer broke off."}
    finally:
        lab.anthropic.script = before


def test_a_key_that_signs_is_added_over_http_and_its_secrets_are_kept_apart(lab):
    admin = {"authorization": f"Bearer {lab.gateway.token}", "content-type": "application/json"}
    signing = {"region": REGION, "access_key": ACCESS_KEY, "secret_key": SECRET_KEY, "session_token": SESSION_TOKEN}
    key = {"name": "sent", "weight": 0, "bedrock_key_config": signing}
    added = lab.gateway.request("POST", "/api/providers/bedrock/keys", json.dumps(key).encode(), admin)
    assert added.status == 200
    assert added.json["usable"]
    files = added.json["value"].split(", ")
    assert len(files) == 3
    written = lab.gateway.policy.read_text()
    assert SECRET_KEY not in written
    assert SESSION_TOKEN not in written
    assert [Path(name.removeprefix("file:")).read_text().strip() for name in files] == [ACCESS_KEY, SECRET_KEY, SESSION_TOKEN]
    shown = lab.gateway.request("GET", "/api/providers/bedrock", None, admin).json
    assert shown["base_url"] == lab.aws.url
    wrong = {"name": "other", "bedrock_key_config": {"access_key": ACCESS_KEY}}
    refused = lab.gateway.request("POST", "/api/providers/bedrock/keys", json.dumps(wrong).encode(), admin)
    assert refused.status == 400
    assert "access_key and secret_key belong together" in refused.json["error"]["message"]
    assert lab.gateway.request("DELETE", "/api/providers/bedrock/keys/sent", None, admin).status == 200
    assert not [name for name in files if Path(name.removeprefix("file:")).exists()]


def test_a_client_of_the_real_host_is_governed_through_the_proxy(lab):
    host = f"bedrock-runtime.{REGION}.amazonaws.com"
    mine = {"authorization": SIGNED % "AKIAMINE", "x_amz_security_token": "my token"}
    reply = lab.gateway.proxied(body(), None, f"/model/{OPUS}/invoke", host, "vk-dev", **mine)
    assert reply.status == 200
    assert lab.aws.seen[-1].header("x-amz-security-token") == SESSION_TOKEN


@pytest.fixture(scope="module")
def sdk(lab) -> Any:
    """AWS's own SDK, whose access key is the virtual key."""

    def make(key: str) -> Any:
        return get_session().create_client(
            "bedrock-runtime",
            region_name=REGION,
            endpoint_url=f"{lab.gateway.url}/bedrock",
            aws_access_key_id=key,
            aws_secret_access_key="unused",
            config=Config(retries={"total_max_attempts": 1}),
        )

    return make


@pytest.mark.parametrize("key", ["vk-dev", "vk-elsewhere"])
def test_the_sdk_of_aws_reads_streams_of_bedrock_and_of_others(lab, sdk, key):
    answer = sdk(key).invoke_model_with_response_stream(modelId=HAIKU, body=body())
    events = [json.loads(event["chunk"]["bytes"]) for event in answer["body"]]
    assert [e["type"] for e in events] == [json.loads(e.partition(b"data: ")[2])["type"] for e in sse()]
    whole = sdk("vk-dev").invoke_model(modelId=ARN, body=body())
    assert json.loads(whole["body"].read())["content"] == [{"type": "text", "text": "Hello"}]


def test_the_sdk_of_aws_reads_refusals_and_streams_that_fail(lab, sdk):
    with pytest.raises(ClientError) as refused:
        sdk("vk-spent").invoke_model(modelId=OPUS, body=body())
    error = refused.value.response["Error"]
    assert (error["Code"], error["Message"].partition(":")[0]) == ("ServiceQuotaExceededException", "Budget exceeded")
    script = lab.anthropic.script
    lab.anthropic.script = streamed(sse()[:3])
    try:
        answer = sdk("vk-elsewhere").invoke_model_with_response_stream(modelId=OPUS, body=body())
        with pytest.raises(EventStreamError, match="The provider's answer broke off"):
            list(answer["body"])
    finally:
        lab.anthropic.script = script


@pytest.mark.parametrize("failures", [0, 1])
def test_another_provider_takes_over_where_bedrock_fails_and_the_content_is_kept_as_text(lab, failures):
    lab.bedrock.failures = failures
    reply = lab.invoke(HAIKU, key="vk-spare")
    assert [e["type"] for e in read_events(reply.body)] == [json.loads(e.partition(b"data: ")[2])["type"] for e in sse()]
    target = "anthropic/claude-haiku-4-5-20251001" if failures else f"bedrock/{HAIKU}"
    assert reply.headers["x-sluicegate-route"] == f"{target}; attempt={failures + 1}"
    call = lab.last()
    assert (call["provider"], call["output_tokens"]) == (target.partition("/")[0], 50)
    found = eventually(lambda: lab.gateway.admin(f"/api/logs/{call['id']}").json["content"])
    assert found["response"].startswith("event: message_start\ndata: {")


def test_over_http_neither_a_variable_nor_the_machine_s_account_can_be_asked_for(lab):
    admin = {"authorization": f"Bearer {lab.gateway.token}", "content-type": "application/json"}

    def add(config: dict[str, Any], **fields: Any) -> Reply:
        provider = {"provider": "mine", "protocol": "bedrock", "keys": [{"name": "k", "bedrock_key_config": config}], **fields}
        return lab.gateway.request("POST", "/api/providers", json.dumps(provider).encode(), admin)

    own = {"access_key": "AKIDMINE", "secret_key": "a-secret-of-their-own"}
    for reply in (add({**own, "region": "env.THE_SECRET_KEY"}), add({**own, "region": f"file:{lab.gateway.policy}"})):
        assert reply.status == 400
        assert SECRET_KEY not in reply.message
        assert "version" not in reply.message
    # The machine's own account goes to AWS alone: whoever gets the token of its session could use it.
    assert add({"region": REGION}, base_url=lab.anthropic.url).status == 400
