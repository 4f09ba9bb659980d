"""What may travel on the provider's key, through a real gateway: the table, its limits, and where the paths of our port lead."""

from __future__ import annotations

import gzip
import json

import pytest

from support.fake_provider import FakeProvider, message, plain
from support.harness import OPUS, PROVIDER_KEY, VK, Gateway, ask, eventually, policy_text

pytestmark = pytest.mark.wire

HAIKU_ONLY = {
    "id": "vk-haiku",
    "provider_configs": [
        {"provider": name, "allowed_models": [model]}
        for name, model in (("anthropic", "claude-haiku-*"), ("openai", "gpt-mini*"), ("gemini", "gemini-flash*"))
    ],
    "budget": {"max_limit": 0, "reset_duration": "1d"},
}
SOME = {
    "id": "vk-some",
    "provider_configs": [
        {"provider": "anthropic", "allowed_models": ["claude-haiku-*"]},
        {"provider": "openai", "blacklisted_models": ["gpt-big*"]},
        {"provider": "gemini", "allowed_models": ["gemini-flash*"]},
    ],
}
EVERY = {"id": "vk-every"}
ONCE = {"id": "vk-once", "rate_limit": {"request_max_limit": 1, "request_reset_duration": "1h"}}
IDLE = {"id": "vk-idle"}
FREE_LIMIT = 12


@pytest.fixture(scope="module")
def gate(tmp_path_factory):
    """One gateway before three providers, which answer every request."""
    with (
        FakeProvider(plain(b'{"ok":true}')) as anthropic,
        FakeProvider(plain(b"{}")) as openai,
        FakeProvider(plain(b"{}")) as gemini,
    ):
        fakes = {"anthropic": anthropic, "openai": openai, "gemini": gemini}
        keys = [{"name": "key-1", "value": "env.PROVIDER_KEY"}]
        providers = {name: {"base_url": fake.url, "keys": keys} for name, fake in fakes.items()}
        providers["anthropic"]["allow_paths"] = ["POST /v1/files", "GET /v1/files/{id}/content"]
        providers["openai"] |= {"base_url": openai.url + "/compatible-mode", "allow_paths": ["POST /v1/images/generations"]}
        policy = policy_text(
            providers=providers,
            virtual_keys=[{"id": VK}, HAIKU_ONLY, SOME, EVERY, ONCE, IDLE],
            free_request_max_limit=FREE_LIMIT,
            customers=[],
            teams=[],
            users=[],
        )
        with Gateway(tmp_path_factory.mktemp("gate"), policy) as gw:
            gw.fakes = fakes
            yield gw


def seen(gate):
    return {name: len(fake.seen) for name, fake in gate.fakes.items()}


def call(gate, asked, key=VK, body=None, **headers):
    """Send a request and return its reply with the provider that it reached."""
    method, path = asked.split(" ")
    before = seen(gate)
    sent = {"x-api-key": key} | headers if key else headers
    reply = gate.request(method, path, body if body is not None else (b"{}" if method == "POST" else None), sent)
    went = [name for name, count in seen(gate).items() if count > before[name]]
    return reply, (went or [None])[0]


REFUSED = [
    "POST /v1/agents",
    "POST /v1/sessions",
    "POST /v1/organizations/api_keys",
    "POST /v1/experimental/generate_prompt",
    "POST /v1/messages/batches",
    "GET /v1/files/file_1",
    "DELETE /v1/files/file_1",
    "GET /v1/messages",
    "POST /anthropic/api/v1/messages",
    "POST /anthropic/v1/Messages",
    "POST /anthropic/v1/complete",
    "POST /openai/v1/batches",
    "POST /openai/v1/threads/t/runs",
    "POST /openai/v1/realtime/client_secrets",
    "POST /openai/v1/fine_tuning/jobs",
    "POST /openai/v1/images/edits",
    "POST /genai/v1beta/models/g:batchGenerateContent",
    "GET /v1beta/models/gemini-flash:generateContent",
    "POST /genai/v1alpha/auth_tokens",
]


@pytest.mark.parametrize("asked", REFUSED)
def test_what_no_table_lists_is_refused_recorded_and_never_sent(gate, asked):
    reply, went = call(gate, asked, "vk-haiku")
    assert (reply.status, reply.reason, reply.headers["x-should-retry"], went) == (400, "unsupported", "false", None)
    path = asked.split(" ")[1]
    assert f"{path.removeprefix('/anthropic').removeprefix('/openai').removeprefix('/genai')} is not supported" in reply.message
    (row,) = eventually(lambda: gate.rows("SELECT * FROM calls ORDER BY rowid DESC LIMIT 1"))
    assert (row["outcome"], row["reason"], row["cost_nano"], row["virtual_key_id"]) == ("denied", "unsupported", 0, "vk-haiku")


@pytest.mark.parametrize(
    ("asked", "headers", "provider"),
    [
        ("GET /v1/models", {}, "anthropic"),
        ("GET /v1/models/gpt-x", {"authorization": f"Bearer {VK}"}, "openai"),
        ("GET /v1/models", {"x-goog-api-key": VK}, "gemini"),
        ("GET /v1/models", {"authorization": f"Bearer {VK}", "anthropic-version": "2023-06-01"}, "anthropic"),
        ("POST /v1/files", {}, "anthropic"),
        ("POST /v1/images/generations", {}, "openai"),
        ("GET /api/claude_code/settings", {}, "anthropic"),
    ],
)
def test_a_path_at_the_root_goes_to_its_own_provider(gate, asked, headers, provider):
    reply, went = call(gate, asked, None if headers else VK, **headers)
    assert (reply.status, went) == (200, provider)
    sent = gate.fakes[provider].seen[-1]
    assert PROVIDER_KEY in sent.head.decode()
    assert VK not in sent.head.decode()
    assert sent.target == {"openai": "/compatible-mode"}.get(provider, "") + asked.split(" ")[1]


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ("POST /v1/moderations", "unsupported"),
        ("POST /v1/models/gemini-flash:generateContent", "invalid_request"),
        ("POST /v1/audio/speech", "unsupported"),
        ("POST /v1/other", None),
        ("POST /v1/compatible-mode/v1/chat/completions", None),
        ("GET /", "x"),
    ],
)
def test_a_path_of_another_provider_never_reaches_the_first_one(gate, asked, reason):
    reply, went = call(gate, asked, body=b"[]" if asked.startswith("POST") else None)
    assert went is None
    if reason != "x":
        assert (reply.status, reply.reason) == ((404, None) if reason is None else (400, reason))


SPEND_LIMITS = "/v1/organizations/spend_limits"


def test_spend_limits_are_the_gateways_own_on_its_port_and_the_providers_behind_its_name_and_the_proxy(gate):
    listed, went = call(gate, f"GET {SPEND_LIMITS}?limit=5", gate.token)
    assert (listed.status, went) == (200, None)
    assert json.loads(listed.body)["data"] == []
    # As clients write it, brackets and all.
    assert call(gate, f"GET {SPEND_LIMITS}/effective?user_ids[]=a&user_ids[]=b&period[]=daily", gate.token)[0].status == 200
    own, went = call(gate, f"GET {SPEND_LIMITS}")
    assert (own.status, went, json.loads(own.body)["error"]["type"]) == (403, None, "permission_error")
    foreign, went = call(gate, f"GET {SPEND_LIMITS}", gate.token, host="elsewhere.example")
    assert (foreign.status, went) == (421, None)
    # Never on the provider's key, whoever asks.
    for path in (f"/anthropic{SPEND_LIMITS}", "/v1/organizations/spend_limit_increase_requests", "/v1/organizations/users"):
        for key in (VK, gate.token):
            refused, went = call(gate, f"GET {path}", key)
            assert (refused.status, went) == (400 if key == VK else 401, None)
    url = gate.fakes["anthropic"].url
    for key in (VK, gate.token):
        head = [
            f"GET {url}{SPEND_LIMITS} HTTP/1.1",
            f"Host: {url.removeprefix('http://')}",
            f"x-api-key: {key}",
            "Connection: close",
        ]
        answer = gate.send_raw("\r\n".join([*head, "", ""]).encode())
        assert (b"x-sluicegate-reason: unsupported" if key == VK else b"x-sluicegate-reason: virtual_key") in answer
    assert all(SPEND_LIMITS not in sent.target for sent in gate.fakes["anthropic"].seen)


def test_the_path_of_the_base_url_is_not_doubled_for_a_client_behind_the_proxy(gate):
    """Qwen Code writes its provider's whole path, and so does every client that does not know of the gateway."""
    url = gate.fakes["openai"].url
    host = url.removeprefix("http://")
    head = [f"GET {url}/compatible-mode/v1/models HTTP/1.1", f"Host: {host}", f"authorization: Bearer {VK}", "Connection: close"]
    assert b" 200 " in gate.send_raw("\r\n".join([*head, "", ""]).encode())
    assert gate.fakes["openai"].seen[-1].target == "/compatible-mode/v1/models"


@pytest.mark.parametrize("key", [None, "nobody", VK])
@pytest.mark.parametrize("path", ["/api/web/domain_info?domain=example.org", "/api/directory/server-urls"])
def test_what_clients_ask_without_a_credential_passes_without_any(gate, path, key):
    before = len(gate.fakes["anthropic"].seen)
    headers = {} if key is None else {"x-api-key": key, "authorization": f"Bearer {key}"}
    assert gate.request("GET", path, headers=headers).status == 200
    (sent,) = gate.fakes["anthropic"].seen[before:]
    assert sent.target == path
    for name in ("x-api-key", "authorization", "x-goog-api-key"):
        assert sent.header(name) is None
    assert gate.request("POST", path.partition("?")[0], b"{}", headers).reason in (
        "unsupported",
        "virtual_key_required",
        "virtual_key_not_found",
    )
    assert len(gate.fakes["anthropic"].seen) == before + 1


BEARER = {"authorization": "Bearer vk-some"}
GOOGLE = {"x-goog-api-key": "vk-some"}


@pytest.mark.parametrize(
    ("asked", "headers", "words"),
    [
        ("GET /v1/models/claude-opus-5", {"x-api-key": "vk-some"}, {"type": "not_found_error"}),
        ("GET /openai/v1/models/gpt-big-1", BEARER, {"type": "invalid_request_error", "code": "model_not_found", "param": "model"}),
        ("GET /v1beta/models/gemini-pro", GOOGLE, {"code": 404, "status": "NOT_FOUND"}),
    ],
)
def test_a_model_that_a_key_may_not_use_is_unknown_to_it(gate, asked, headers, words):
    reply, went = call(gate, asked, None, **headers)
    assert (reply.status, reply.reason, went) == (404, "model_blocked", None)
    assert "is not allowed for this virtual key" in reply.message
    assert words.items() <= reply.json["error"].items()
    path = asked.split(" ")[1].removeprefix("/openai")
    (row,) = eventually(lambda: gate.rows(f"SELECT * FROM calls WHERE path = '{path}'"))
    assert (row["outcome"], row["reason"], row["status"], row["virtual_key_id"]) == ("denied", "model_blocked", 404, "vk-some")


def test_a_model_that_a_key_may_use_is_asked_about(gate):
    assert call(gate, "GET /v1/models/claude-haiku-5", "vk-some")[1] == "anthropic"
    assert call(gate, "GET /openai/v1/models/gpt-mini", None, **BEARER)[1] == "openai"


@pytest.mark.parametrize(
    ("body", "headers", "said"),
    [
        (b"<html>later</html>", ["content-type: text/html"], "it is no JSON"),
        (b'{"data": [{"id": "gpt-big"}]}', ["content-encoding: gzip"], "content-encoding"),
        (b'{"data": [{"id": "gpt-big"}]}', ["content-encoding: rot13"], "content-encoding"),
        (b'{"data": {"gpt-big": {}}}', [], "'data' is not a list"),
        (b'{"data": [{"id": "gpt-big"}], "a": ' + b"[" * 300 + b"]" * 300 + b"}", [], "it is nested too deeply"),
        (
            gzip.compress(b'{"data": [{"id": "gpt-big"}], "a": "' + b" " * (20 << 20) + b'"}'),
            ["content-encoding: gzip"],
            "too long",
        ),
        (b'{"entries": ["gpt-big"]}', [], "it has no list of models"),
    ],
)
def test_a_list_of_models_that_cannot_be_read_is_not_shown_to_who_may_not_use_all(gate, body, headers, said):
    fake = gate.fakes["openai"]
    fake.script, before = plain(body, 200, *headers), fake.script
    try:
        reply, _ = call(gate, "GET /openai/v1/models", None, **BEARER)
        assert (reply.status, reply.reason, said in reply.message) == (503, "gateway_error", True), reply
        assert b"gpt-big" not in reply.body
        unread = "SELECT * FROM calls WHERE virtual_key_id = 'vk-some' AND reason = 'gateway_error'"
        assert {(r["outcome"], r["status"]) for r in eventually(lambda: gate.rows(unread))} == {("failed", 503)}
        # Who may use all of them gets it as it is.
        assert call(gate, "GET /openai/v1/models", None, authorization="Bearer vk-every")[0].body == body
    finally:
        fake.script = before
    assert "Traceback" not in "\n".join(gate.output)


def test_a_list_of_models_behind_a_path_of_the_base_url_is_without_what_is_blacklisted(gate):
    fake = gate.fakes["openai"]
    fake.script, before = plain(b'{"data": [{"id": "gpt-big-1"}, {"id": "gpt-mini"}]}'), fake.script
    try:
        reply, _ = call(gate, "GET /openai/v1/models", None, **BEARER)
    finally:
        fake.script = before
    assert reply.json == {"data": [{"id": "gpt-mini"}]}


def test_what_is_blacklisted_alone_is_judged_in_every_request_that_a_policy_allows(gate):
    for model, status, provider in (("gpt-big-1", 403, None), ("gpt-mini", 200, "openai")):
        body = json.dumps({"model": model, "prompt": "x"}).encode()
        reply, went = call(gate, "POST /openai/v1/images/generations", None, body, **BEARER)
        assert (reply.status, went) == (status, provider)


def test_strangers_are_limited_by_address_without_filling_the_records(gate):
    statuses = [gate.request("GET", "/api/directory/server-urls").status for _ in range(FREE_LIMIT + 3)]
    assert statuses[-2:] == [429, 429]
    assert not [r for r in gate.rows() if r["virtual_key_id"] is None and r["outcome"] == "denied"]


def test_free_requests_have_a_limit_of_their_own(gate):
    gate.fakes["anthropic"].script = plain(message())
    try:
        # A key that may make one call an hour still counts its tokens, and the call is left for the call.
        counts = [call(gate, "POST /v1/messages/count_tokens", "vk-once", ask())[0] for _ in range(FREE_LIMIT + 1)]
        assert [r.status for r in counts] == [200] * FREE_LIMIT + [429]
        refused = counts[-1]
        assert (refused.reason, 0 < int(refused.headers["retry-after"]) <= 60) == ("request_limited", True)
        assert (
            f"[request limit exceeded ({FREE_LIMIT + 1}/{FREE_LIMIT}, resets every 1m)] for free requests of VK" in refused.message
        )
        assert call(gate, "GET /v1/models", "vk-once")[0].status == 429
        assert call(gate, "POST /v1/messages", "vk-once", ask())[0].status == 200
        # What the policy allows counts like a call.
        allowed = call(gate, "POST /v1/files", "vk-once", b"x")[0]
        assert (allowed.reason, "(2/1, resets every 1h)" in allowed.message) == ("request_limited", True)
    finally:
        gate.fakes["anthropic"].script = plain(b'{"ok":true}')


def test_an_allowed_path_is_recorded_and_its_slot_is_kept(gate):
    for _ in range(2):
        assert call(gate, "GET /v1/files/file_1/content?x=1")[0].status == 200
    (row,) = eventually(lambda: gate.rows("SELECT * FROM calls WHERE path = '/v1/files/file_1/content' LIMIT 1"))
    assert (row["outcome"], row["model_requested"], row["cost_nano"]) == ("completed", None, 0)
    assert call(gate, "POST /v1/files", "vk-idle", b"multipart")[0].status == 200


@pytest.mark.parametrize(
    ("asked", "body", "reason"),
    [
        ("POST /v1/messages", ask(model="claude-haiku-5-5", tools=[{"type": "advisor_20260301", "name": "a", "model": OPUS}]), "model_blocked"),
        ("POST /v1/messages", ask(model="claude-haiku-5-5", fallbacks=[{"model": OPUS}]), "model_blocked"),
        ("POST /v1/messages", ask(model="claude-haiku-5-5", odd={"deep": [{"model": OPUS}]}), "model_blocked"),
        ("POST /v1/messages/count_tokens", ask(model="claude-haiku-5-5", models=[OPUS]), "model_blocked"),
        ("POST /v1/responses", json.dumps({"model": "gpt-mini", "input": "x", "tools": [{"type": "image_generation", "model": "gpt-image-1"}]}).encode(), "model_blocked"),
        ("POST /v1beta/models/gemini-pro:generateContent", b'{"contents":[]}', "model_blocked"),
        ("POST /v1beta/models/gemini-flash:generateContent", b'{"model":"models/gemini-pro","contents":[]}', "model_blocked"),
        ("POST /v1/images/generations", b'{"model":"gpt-image-1","prompt":"x"}', "model_blocked"),
        ("POST /v1/images/generations", b"--x\r\nmultipart", "unsupported"),
        ("POST /v1/messages", ask(model="openai/gpt-4.1"), "model_blocked"),
        ("POST /v1/messages", ask(model="gemini/gemini-2.5-pro"), "model_blocked"),
    ],
)  # fmt: skip
def test_every_model_that_a_request_names_is_judged(gate, asked, body, reason):
    reply, went = call(gate, asked, "vk-haiku", body)
    assert (reply.reason, went) == (reason, None)


def test_what_a_policy_allows_is_shown(gate):
    assert gate.admin("/api/providers/openai").json["allow_paths"] == ["POST /v1/images/generations"]
    assert gate.admin("/api/config").json["free_request_max_limit"] == FREE_LIMIT
