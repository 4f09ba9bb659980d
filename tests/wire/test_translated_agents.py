"""Real agents finish a task with a tool, on providers whose API is not theirs: through the gateway, by the model's name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from support.fake_provider import FakeProvider, Peer, Seen, event, plain, streamed
from support.harness import Gateway, eventually, policy_text
from support.model_apis import data
from support.real_clients import REAL_CLIENTS, Run, isolated_network, listener_in, program, run_client

pytestmark = [pytest.mark.wire, pytest.mark.client]

PROMPT = "Run the command and tell me what it printed."
PRINTED = "hi-23"
ANSWER = f"It printed {PRINTED}, as asked."
SIGNATURE = "c2lnbmVkIHRob3VnaHRz"

RUNS = {
    ("claude-code", "openai/gpt-4o-mini"): ("-p", "{prompt}", "--allowedTools", "Bash"),
    ("claude-code", "gemini/gemini-2.5-flash"): ("-p", "{prompt}", "--allowedTools", "Bash"),
    ("codex", "anthropic/claude-haiku-5-5"): (
        "exec",
        "--skip-git-repo-check",
        "--dangerously-bypass-approvals-and-sandbox",
        "{prompt}",
    ),
    ("qwen-code", "anthropic/claude-haiku-5-5"): ("--auth-type", "openai", "--yolo", "-p", "{prompt}"),
}
"""Each client and the model it asks for, with the arguments of its run."""


Call = tuple[str, dict[str, Any]]


def call_of(names: list[str]) -> Call | None:
    """The agent's own tool that runs a command, and arguments with which it prints what nothing in the request says."""
    told = "printf hi-%d 23"
    ways: dict[str, dict[str, Any]] = {
        "Bash": {"command": told, "description": "Print it."},
        "run_shell_command": {"command": told, "description": "Print it.", "is_background": False},
        # Codex has one of these by the model's name; the first takes a program in JavaScript as free text.
        "exec": {"input": 'text("hi-" + (20 + 3))'},
        "exec_command": {"cmd": told},
        "shell_command": {"command": told},
        "shell": {"command": ["bash", "-lc", told]},
    }
    return next(((name, arguments) for name, arguments in ways.items() if name in names), None)


def openai(call: Call | None) -> list[bytes]:
    def chunk(delta: dict[str, Any], reason: str | None = None) -> bytes:
        return data({"id": "chatcmpl-1", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})

    said = [chunk({"role": "assistant", "content": ""}), chunk({"reasoning_content": "Let me see."})]
    if call:
        text = json.dumps(call[1])
        said.append(chunk({"content": "\n\n"}))
        said.append(chunk({"tool_calls": [{"index": 0, "id": "call_0", "function": {"name": call[0], "arguments": text[:9]}}]}))
        said.append(chunk({"tool_calls": [{"index": 0, "function": {"arguments": text[9:]}}]}))
    else:
        said.append(chunk({"content": ANSWER}))
    usage = {"prompt_tokens": 1000, "completion_tokens": 9, "prompt_tokens_details": {"cached_tokens": 800}}
    return [*said, chunk({}, "tool_calls" if call else "stop"), data({"choices": [], "usage": usage}), b"data: [DONE]\n\n"]


def gemini(call: Call | None) -> list[bytes]:
    usage = {"promptTokenCount": 1000, "candidatesTokenCount": 9, "thoughtsTokenCount": 5, "totalTokenCount": 1014}

    def chunk(part: dict[str, Any], **fields: Any) -> bytes:
        return data({"candidates": [{"index": 0, "content": {"parts": [part], "role": "model"}, **fields}], "usageMetadata": usage})

    said = {"functionCall": {"name": call[0], "args": call[1]}, "thoughtSignature": SIGNATURE} if call else {"text": ANSWER}
    return [chunk({"text": "Let me see.", "thought": True}), chunk(said), chunk({"text": ""}, finishReason="STOP")]


def anthropic(call: Call | None) -> list[bytes]:
    if call:
        block: dict[str, Any] = {"type": "tool_use", "id": "toolu_01abcdef", "name": call[0], "input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(call[1])}
    else:
        block, delta = {"type": "text", "text": ""}, {"type": "text_delta", "text": ANSWER}
    counts = {"input_tokens": 200, "cache_read_input_tokens": 800, "cache_creation_input_tokens": 0, "output_tokens": 1}
    started = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": counts}
    thinking = [{"type": "thinking_delta", "thinking": "Let me see."}, {"type": "signature_delta", "signature": SIGNATURE}]
    return [
        event("message_start", message=started),
        event("content_block_start", index=0, content_block={"type": "thinking", "thinking": "", "signature": ""}),
        *(event("content_block_delta", index=0, delta=d) for d in thinking),
        event("content_block_stop", index=0),
        event("content_block_start", index=1, content_block=block),
        event("content_block_delta", index=1, delta=delta),
        event("content_block_stop", index=1),
        event("message_delta", delta={"stop_reason": "tool_use" if call else "end_turn"}, usage={"output_tokens": 9}),
        event("message_stop"),
    ]


def tool_names(body: dict[str, Any]) -> list[str]:
    found = [t for tool in body.get("tools", ()) for t in tool.get("functionDeclarations", [tool.get("function", tool)])]
    return [tool["name"] for tool in found if "name" in tool]


def script_of(provider: str) -> Any:
    write = {"openai": openai, "gemini": gemini, "anthropic": anthropic}[provider]

    def script(peer: Peer, seen: Seen) -> None:
        body = json.loads(seen.body) if b"tools" in seen.body else {}
        if not body:
            # What clients send beside their calls.
            plain(b"{}", 404)(peer, seen)
            return
        call = None if PRINTED.encode() in seen.body else call_of(tool_names(body))
        streamed(write(call))(peer, seen)

    return script


@dataclass
class Lab:
    gateway: Gateway
    providers: dict[str, FakeProvider]
    runs: dict[tuple[str, str], Future[Run]]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Start the gateway and every run that a client is installed for, side by side."""
    folder: Path = tmp_path_factory.mktemp("agents")
    with ExitStack() as stack:
        netns = stack.enter_context(isolated_network())
        fakes = {
            p: stack.enter_context(FakeProvider(script_of(p), listener=listener_in(netns)))
            for p in ("anthropic", "openai", "gemini")
        }
        providers = {p: {"base_url": f.url, "keys": [{"name": "k", "value": "env.PROVIDER_KEY"}]} for p, f in fakes.items()}
        keys = [{"id": f"vk-{number}"} for number in range(len(RUNS))]
        gateway = Gateway(folder, policy_text(providers=providers, virtual_keys=keys), netns=netns)
        stack.callback(gateway.stop)
        gateway.start()
        pool = stack.enter_context(ThreadPoolExecutor(2))

        def run(number: int, name: str, model: str, arguments: tuple[str, ...]) -> Run:
            client = REAL_CLIENTS[name]
            chosen = arguments if name == "qwen-code" else (*arguments[:-1], "--model", model, arguments[-1])
            if name == "claude-code":
                chosen = ("--model", model, *arguments)
            client = replace(client, arguments=chosen, env={**client.env, "OPENAI_MODEL": model})
            return run_client(client, gateway, f"vk-{number}", PROMPT, folder / f"home-{number}")

        yield Lab(
            gateway,
            fakes,
            {key: pool.submit(run, number, *key, arguments) for number, (key, arguments) in enumerate(RUNS.items())},
        )


@pytest.mark.parametrize(("client", "model"), RUNS)
def test_an_agent_finishes_a_task_with_a_tool(lab, client, model):
    program(client)
    run = lab.runs[client, model].result()
    assert ANSWER in run.text, run.text[-2000:]
    assert run.status == 0
    number = list(RUNS).index((client, model))
    provider = model.partition("/")[0]

    def calls() -> list[dict[str, Any]]:
        return [r for r in lab.gateway.rows() if r["virtual_key_id"] == f"vk-{number}" and r["cost_nano"]]

    eventually(lambda: len(calls()) >= 2)
    assert {row["provider"] for row in calls()} == {provider}


@pytest.mark.parametrize(("client", "model"), [key for key in RUNS if key[0] == "claude-code"])
def test_what_the_model_thought_goes_back_to_it_with_the_tools_result(lab, client, model):
    program(client)
    lab.runs[client, model].result()
    provider = model.partition("/")[0]
    wanted = {"openai": b"reasoning_content", "gemini": SIGNATURE.encode()}[provider]
    bodies = [seen.body for seen in lab.providers[provider].seen if PRINTED.encode() in seen.body]
    assert any(wanted in body for body in bodies)
