"""Calls on a kept connection: each is judged as if it were the first, also where its head is nearly that of the one before."""

from __future__ import annotations

import http.client

import pytest

from support.fake_provider import FakeProvider, plain
from support.harness import VK, Gateway, ask, eventually, policy_text

pytestmark = pytest.mark.wire

SECOND = "vk-dev-bob"
USUAL = {
    "x-api-key": VK,
    "user-agent": "claude-cli/2.1.330 (external, cli)",
    "content-type": "application/json",
    "x-client-request-id": "0a1b",
}
VARIED = {
    "the same": {},
    "another key": {"x-api-key": SECOND},
    "an unknown key": {"x-api-key": "sk-nobody"},
    "no key": {"x-api-key": None},
    "a key beside it": {"authorization": f"Bearer {SECOND}"},
    "another request id": {"x-client-request-id": "ffff"},
    "a key in the request id": {"x-client-request-id": SECOND},
    "another session": {"x-claude-code-session-id": "s-2"},
    "another client": {"user-agent": "codex_cli_rs/0.1"},
    "another content type": {"content-type": "application/x-www-form-urlencoded"},
    "a header that changes the method": {"x-http-method-override": "GET"},
    "an account": {"openai-organization": "org-1"},
}
FACTS = ("virtual_key_id", "user_id", "session_id", "user_agent", "outcome", "reason", "request_bytes", "cost_nano")


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Yield a gateway and its provider."""
    with FakeProvider() as provider:
        provider.script = plain()
        policy = policy_text(
            provider.url,
            users=[{"id": "alice"}, {"id": "bob"}],
            virtual_keys=[{"id": VK, "user_id": "alice"}, {"id": SECOND, "user_id": "bob"}],
        )
        with Gateway(tmp_path_factory.mktemp("kept"), policy) as gw:
            yield gw, provider


def made(connection: http.client.HTTPConnection, body: bytes, changes: dict[str, str | None]) -> int:
    headers = {name: value for name, value in (USUAL | changes).items() if value is not None}
    connection.request("POST", "/v1/messages", body, headers)
    answer = connection.getresponse()
    answer.read()
    return answer.status


def seen(served, connection: http.client.HTTPConnection, changes: dict[str, str | None]):
    """Make a call; return its status, what reached the provider, and what is on record of it, if anything."""
    gw, provider = served
    recorded, sent = gw.recorded(), len(provider.seen)
    status = made(connection, ask("a body of another length"), changes)
    gw.recorded()
    rows = [{name: row[name] for name in FACTS} for row in gw.rows()[recorded:]]
    return status, [(x.head, x.body) for x in provider.seen[sent:]], rows


@pytest.mark.parametrize("changes", VARIED.values(), ids=VARIED)
def test_a_call_is_judged_on_a_kept_connection_as_on_a_new_one(served, changes):
    kept, new = (http.client.HTTPConnection("127.0.0.1", served[0].port) for _ in range(2))
    for _ in range(2):
        assert made(kept, ask(), {}) == 200
    assert seen(served, kept, changes) == seen(served, new, changes)
    # And what came in between has changed nothing for the usual call.
    assert made(kept, ask(), {}) == 200


def test_a_key_that_is_switched_off_ends_its_calls_on_a_kept_connection(served):
    gw, _ = served
    kept = http.client.HTTPConnection("127.0.0.1", gw.port)
    assert made(kept, ask(), {}) == 200
    text = gw.policy.read_text()
    try:
        gw.govern(text.replace(f'"id": "{VK}",', f'"id": "{VK}", "is_active": false,'))
        eventually(lambda: made(kept, ask(), {}) != 200)
    finally:
        gw.govern(text)
    eventually(lambda: made(kept, ask(), {}) == 200)
