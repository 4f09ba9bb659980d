"""Clients: who is recognised by which headers, and what is noted of them."""

from __future__ import annotations

import pytest

from sluicegate.calls.call import Call
from sluicegate.calls.clients import client_of, note_client

AGENTS = [
    ("claude-cli/2.1.332 (external, sdk-cli)", "claude-code"),
    ("claude-cli/2.1.332 (external, cli)", "claude-code"),
    ("claude-code/2.1.332", "claude-code"),
    ("codex_exec/0.171.0 (Debian 12.0.0; x86_64) xterm (codex_exec; 0.171.0)", "codex"),
    ("codex_cli_rs/0.171.0 (Mac OS 26.1.0; arm64) iTerm.app/3.6.6", "codex"),
    ("codex-tui/0.171.0 (Debian 12.0.0; x86_64) xterm-256color (codex-tui; 0.171.0)", "codex"),
    ("codex_vscode/0.171.0 (Windows 10.0.26100; x86_64) unknown", "codex"),
    ("Codex Desktop/26.1118.0 (darwin; arm64)", "codex"),
    ("GeminiCLI-tui/0.61.0/gemini-2.5-flash (linux; x64; terminal)", "gemini-cli"),
    ("GeminiCLI/0.17.1/gemini-2.5-pro (darwin; arm64)", "gemini-cli"),
    ("QwenCode/0.24.4 (linux; x64)", "qwen-code"),
    ("opencode/1.18.33 (linux 6.18.44; x64) ai-sdk/provider-utils/4.0.40 runtime/bun/1.3.14", "opencode"),
    # The providers' libraries, and what only looks like a client.
    ("Anthropic/Python 0.98.1", "other"),
    ("AsyncAnthropic/Python 0.98.1", "other"),
    ("Anthropic/JS 0.92.0", "other"),
    ("OpenAI/Python 2.33.0", "other"),
    ("AsyncOpenAI/Python 2.33.0", "other"),
    ("OpenAI/JS 6.37.0", "other"),
    ("google-genai-sdk/1.74.0 gl-python/3.13.0", "other"),
    ("google-genai-sdk/1.30.0 gl-node/v20.20.2", "other"),
    ("curl/8.14.1", "other"),
    ("Bun/1.4.6", "other"),
    ("my-claude-cli/1.0", "other"),
    ("", "other"),
]


@pytest.mark.parametrize(("agent", "client"), AGENTS)
def test_a_client_is_recognised_by_its_agent(agent, client):
    call = Call("call_1", 0, "anthropic", "messages")
    note_client(call, {"user-agent": [agent]})
    assert (call.client, call.user_agent) == (client, agent or None)


@pytest.mark.parametrize(
    ("headers", "client"),
    [
        ({"x-claude-code-session-id": ["0b5f"]}, "claude-code"),
        ({"originator": ["codex_sdk_ts"]}, "codex"),
        ({"originator": ["opencode"]}, "other"),
        ({"x-stainless-lang": ["python"], "x-app": ["cli"]}, "other"),
    ],
)
def test_a_client_without_an_agent_is_recognised_by_its_own_header(headers, client):
    assert client_of("Bun/1.4.6", headers) == client
    # An agent that is known comes first.
    assert client_of("QwenCode/0.24.4 (linux; x64)", headers) == "qwen-code"


def test_what_is_noted_is_bounded_and_printable():
    call = Call("call_1", 0, "openai", "messages")
    headers = {"user-agent": ["a\x1b[31m" + "b" * 500], "session-id": ["s-1"], "x-claude-code-agent-id": ["no spaces"]}
    note_client(call, headers | {"x-bf-user-id": ["alice@example.org"]})
    assert call.user_agent == "a[31m" + "b" * 250
    assert (call.session_id, call.agent_id, call.attribution) == ("s-1", None, {"user_id": "alice@example.org"})
