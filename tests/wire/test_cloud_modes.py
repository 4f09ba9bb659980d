"""The real Claude Code in the modes of clouds: it sends its calls unsigned, and the gateway adds the credential."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from support import model_apis
from support.claude_session import ClaudeSession, Turn
from support.fake_provider import FakeProvider
from support.harness import OPUS, Gateway, eventually, policy_text
from support.real_clients import TIMEOUT_S, isolated_network, listener_in, program
from support.vertex import PROJECT, REGION, FakeVertex, TokenEndpoint

pytestmark = [pytest.mark.wire, pytest.mark.client, pytest.mark.timeout(600)]

QUIET = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}
ONE_CALL = {"max_limit": 0.0001, "reset_duration": "1M"}
"""The call that crosses it passes, and the next is refused."""

FOUNDRY = {"CLAUDE_CODE_USE_FOUNDRY": "1", "ANTHROPIC_FOUNDRY_API_KEY": "vk-foundry"}
VERTEX = {"CLAUDE_CODE_USE_VERTEX": "1", "CLAUDE_CODE_SKIP_VERTEX_AUTH": "1", "ANTHROPIC_VERTEX_PROJECT_ID": "mine"}
MODES = {
    "foundry": lambda url: FOUNDRY | {"ANTHROPIC_FOUNDRY_BASE_URL": f"{url}/foundry"},
    "vertex": lambda url: (
        VERTEX | {"CLOUD_ML_REGION": "global", "ANTHROPIC_VERTEX_BASE_URL": f"{url}/vertex", "ANTHROPIC_AUTH_TOKEN": "vk-vertex"}
    ),
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    program("claude-code")
    folder = tmp_path_factory.mktemp("clouds")
    with contextlib.ExitStack() as stack:
        netns = stack.enter_context(isolated_network())
        tokens = stack.enter_context(TokenEndpoint(listener=listener_in(netns)))
        vertex = stack.enter_context(FakeVertex(tokens, listener=listener_in(netns)))
        foundry = stack.enter_context(FakeProvider(model_apis.answer, listener=listener_in(netns)))
        (folder / "account.json").write_text(tokens.account())
        config = {"project_id": PROJECT, "region": REGION, "auth_credentials": f"file:{folder / 'account.json'}"}
        providers = {
            "foundry": {"base_url": f"{foundry.url}/anthropic", "keys": [{"name": "k", "value": "foundry-key"}]},
            "vertex": {"base_url": vertex.url, "keys": [{"name": "k", "vertex_key_config": config}]},
        }
        allowed = [{"provider": "vertex", "allowed_models": ["claude-haiku-*"]}]
        keys = [*({"id": f"vk-{mode}", "budget": ONE_CALL} for mode in MODES), {"id": "vk-haiku", "provider_configs": allowed}]
        policy = policy_text(providers=providers, virtual_keys=keys, customers=[], teams=[], users=[])
        gateway = Gateway(folder, policy, netns=netns)
        stack.callback(gateway.stop)
        gateway.start()
        gateway.fakes = {"foundry": foundry, "vertex": vertex}
        yield gateway


@pytest.fixture(scope="module", params=MODES)
def turns(lab: Gateway, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> tuple[str, list[Turn]]:
    """Two prompts to one client in the mode of a cloud: the second is over the budget."""
    mode: str = request.param
    session = ClaudeSession(str(lab.netns), tmp_path_factory.mktemp(mode), QUIET | MODES[mode](lab.url), "--model", OPUS)
    try:
        first = session.ask("say hi")
        eventually(lambda: calls(lab, f"vk-{mode}"))
        return mode, [first, session.ask("say hi again")]
    finally:
        session.end()


def calls(lab: Gateway, key: str) -> list[dict[str, Any]]:
    return lab.rows(f"SELECT * FROM calls WHERE virtual_key_id = '{key}' ORDER BY rowid")


def test_a_turn_is_answered_by_the_cloud_with_the_gateway_s_credential(lab, turns):
    mode, (first, _) = turns
    assert (first.shown, first.is_error) == (model_apis.ANSWER, False)
    record = calls(lab, f"vk-{mode}")[0]
    assert (record["provider"], record["model_requested"], record["outcome"]) == (mode, OPUS, "completed")
    assert (record["output_tokens"], record["estimated"]) == (50, 0)
    assert record["session_id"]
    (seen,) = lab.fakes[mode].seen
    assert b"vk-" not in seen.head + seen.body
    if mode == "foundry":
        assert (seen.target, seen.header("x-api-key")) == ("/anthropic/v1/messages?beta=true", "foundry-key")
    assert not lab.fakes["vertex"].refusals


def test_a_used_up_budget_is_shown_in_one_try(lab, turns):
    mode, (_, second) = turns
    assert second.is_error
    assert second.shown.startswith("API Error: 409 Budget exceeded: VK budget exceeded: ")
    assert not second.waits
    denied = [(r["status"], r["reason"]) for r in calls(lab, f"vk-{mode}")[1:]]
    assert denied == [(409, "budget_exceeded")]


def test_a_model_that_is_not_allowed_is_shown_in_one_try_through_the_proxy(lab, tmp_path):
    """With the virtual key in the proxy URL, and Google's own host, which nothing here could reach."""
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "TERM": "xterm", "LANG": "C.UTF-8"}
    env |= {"HTTPS_PROXY": f"http://vk-haiku:x@127.0.0.1:{lab.port}", "NODE_EXTRA_CA_CERTS": str(lab.ca)}
    env |= QUIET | VERTEX | {"CLOUD_ML_REGION": "europe-west1"}
    command = ["ip", "netns", "exec", str(lab.netns), str(program("claude-code")), "-p", "say hi", "--model", OPUS]
    done = subprocess.run(
        command, env=env, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    shown = f"API Error: 409 Model '{OPUS}' is not allowed for this virtual key. Allowed: claude-haiku-*"
    assert (done.returncode, shown in done.stdout) == (1, True), done
    assert [(r["status"], r["reason"]) for r in calls(lab, "vk-haiku")] == [(409, "model_blocked")]
