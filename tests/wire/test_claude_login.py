"""The real Claude Code with a subscription login and a virtual key in the proxy URL, before a provider that knows that login only."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.claude_session import ClaudeSession
from support.fake_provider import FakeProvider, Peer, Seen, plain, sse, streamed
from support.harness import VK, Gateway, eventually, policy_text
from support.real_clients import isolated_network, listener_in, program

pytestmark = [pytest.mark.wire, pytest.mark.client, pytest.mark.timeout(600)]

LOGIN = "sk-ant-oat01-a-developers-own-login-0123456789"
ANSWER = "Hello from your own subscription."
RELOAD_TIMEOUT_S = 60
NOT_FOUND = b'{"type":"error","error":{"type":"not_found_error","message":"nothing here"}}'
NO_LOGIN = b'{"type":"error","error":{"type":"authentication_error","message":"no login"}}'


def strict(peer: Peer, seen: Seen) -> None:
    """Answer model calls with the login, and refuse all others."""
    is_model_call = seen.target.startswith("/v1/messages")
    if seen.header("authorization") != f"Bearer {LOGIN}" or seen.header("x-api-key"):
        plain(NO_LOGIN if is_model_call else NOT_FOUND, 401 if is_model_call else 404)(peer, seen)
    elif is_model_call:
        streamed(sse(ANSWER))(peer, seen)
    else:
        plain(NOT_FOUND, 404)(peer, seen)


@dataclass
class Lab:
    gw: Gateway
    provider: FakeProvider
    client: ClaudeSession


def lab_policy(provider: FakeProvider, rule: str) -> str:
    keys = [{"name": "key-1", "value": "env.PROVIDER_KEY"}]
    return policy_text(providers={"anthropic": {"base_url": provider.url, "keys": keys, "subscriptions": rule}})


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    program("claude-code")
    folder = tmp_path_factory.mktemp("login")
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(isolated_network())
        provider = stack.enter_context(FakeProvider(strict, listener=listener_in(network)))
        options = ("-v", "--set", "flow_detail=4", "-w", str(folder / "flows"))
        gw = stack.enter_context(Gateway(folder, lab_policy(provider, "pass"), *options, netns=network))
        env = {"HTTPS_PROXY": f"http://{VK}:x@127.0.0.1:{gw.port}", "NODE_EXTRA_CA_CERTS": str(gw.ca)}
        client = ClaudeSession(network, tmp_path_factory.mktemp("home"), env | {"CLAUDE_CODE_OAUTH_TOKEN": LOGIN})
        stack.callback(client.end)
        yield Lab(gw, provider, client)


def model_calls(lab: Lab) -> list[dict]:
    return lab.gw.rows("SELECT * FROM calls WHERE path = '/v1/messages' ORDER BY rowid")


def test_a_turn_is_finished_with_the_clients_own_login(lab):
    turn = lab.client.ask("say hi")
    assert (turn.is_error, turn.shown) == (False, ANSWER)
    (row,) = eventually(lambda: model_calls(lab))
    assert (row["virtual_key_id"], row["outcome"], row["cost_nano"]) == (VK, "completed", 0)
    assert row["shadow_nano"] > 0
    assert {s.header("x-api-key") for s in lab.provider.seen} == {None}
    assert {s.header("authorization") for s in lab.provider.seen} <= {None, f"Bearer {LOGIN}"}
    assert not [r for r in lab.gw.rows() if r["outcome"] == "denied"]


def test_where_logins_are_refused_the_client_shows_why_in_one_try(lab):
    printed, before = len(lab.gw.output), len(model_calls(lab))
    lab.gw.policy.write_text(lab_policy(lab.provider, "refuse"))
    eventually(lambda: any("is in force and replaces" in line for line in lab.gw.output[printed:]), RELOAD_TIMEOUT_S)
    turn = lab.client.ask("say hi again")
    assert turn.is_error
    assert turn.waits == []
    assert "this gateway passes none on: log out (/logout, or unset CLAUDE_CODE_OAUTH_TOKEN)" in turn.shown
    rows = eventually(lambda: model_calls(lab)[before:])
    assert [(r["outcome"], r["reason"], r["shadow_nano"]) for r in rows] == [("denied", "blocked_by_policy", None)]


def test_the_login_is_kept_nowhere(lab):
    lab.client.end()
    lab.gw.stop()
    files: list[Path] = [p for p in lab.gw.folder.rglob("*") if p.is_file()]
    assert any(p.name == "flows" and p.stat().st_size > 10_000 for p in files)
    assert [p.name for p in files if LOGIN.encode() in p.read_bytes()] == []
    assert LOGIN not in "\n".join(lab.gw.output)
