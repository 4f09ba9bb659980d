"""The real Claude Code in Bedrock's mode: unsigned to the gateway, which signs. It finishes a task, and shows a refusal at once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.aws_signatures import ACCESS_KEY, SECRET_KEY, SESSION_TOKEN
from support.claude_session import ClaudeSession
from support.fake_bedrock import REGION, FakeBedrock, frames
from support.fake_provider import FakeProvider
from support.harness import Gateway, eventually, policy_text
from support.real_clients import isolated_network, listener_in, program
from support.task_providers import CONTENTS, DONE, PROMPT, TOKENS_CACHED, TOKENS_NEW, TOKENS_OUT, WRITE, Messages, calls_of

pytestmark = [pytest.mark.wire, pytest.mark.client, pytest.mark.timeout(600)]

SIGNING = {"region": REGION, "access_key": ACCESS_KEY, "secret_key": SECRET_KEY, "session_token": SESSION_TOKEN}
MODE = {
    "CLAUDE_CODE_USE_BEDROCK": "1",
    "CLAUDE_CODE_SKIP_BEDROCK_AUTH": "1",
    "AWS_REGION": REGION,
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
}
KEYS: list[dict[str, Any]] = [
    {"id": "vk-task"},
    {"id": "vk-spent", "budget": {"max_limit": 0, "reset_duration": "1M"}},
    {"id": "vk-haiku", "provider_configs": [{"provider": "bedrock", "allowed_models": ["claude-haiku-*"]}]},
]


@dataclass
class Lab:
    """A gateway in a network of its own, and the Bedrock behind it."""

    gateway: Gateway
    bedrock: FakeBedrock
    folder: Path

    def start(self, name: str, env: dict[str, str]) -> ClaudeSession:
        """Start a client in Bedrock's mode whose base URL is the gateway."""
        base = {"ANTHROPIC_BEDROCK_BASE_URL": f"{self.gateway.url}/bedrock"}
        return ClaudeSession(str(self.gateway.netns), self.folder / name, MODE | base | env, "--allowedTools", "Write", "Bash")

    def calls(self, key: str) -> list[dict[str, Any]]:
        """Return the calls of a key that are on record."""
        return self.gateway.rows(f"SELECT * FROM calls WHERE virtual_key_id = '{key}' ORDER BY rowid")


def answer_of(task: Messages) -> Any:
    """Return what answers a body with the frames of the task's next step."""

    def answer(body: dict[str, Any]) -> list[bytes]:
        words = task.words(body)
        found = re.search(WRITE + r"([\w/.-]+)", words)
        calls = calls_of(task.tools(body), found[1]) if found and task.result not in words else []
        return frames(task.calling(calls, body) if calls else task.saying(DONE))

    return answer


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    program("claude-code")
    folder = tmp_path_factory.mktemp("on-bedrock")
    with ExitStack() as stack:
        netns = stack.enter_context(isolated_network())
        bedrock = FakeBedrock(answer_of(Messages()))
        aws = stack.enter_context(FakeProvider(bedrock, listener=listener_in(netns)))
        providers = {"bedrock": {"base_url": aws.url, "keys": [{"name": "aws", "bedrock_key_config": SIGNING}]}}
        gateway = Gateway(folder, policy_text(providers=providers, virtual_keys=KEYS), netns=netns)
        stack.callback(gateway.stop)
        yield Lab(gateway.start(), bedrock, folder)


def test_claude_code_finishes_a_task_on_bedrock(lab):
    client = lab.start("task", {"ANTHROPIC_CUSTOM_HEADERS": "x-bf-vk: vk-task"})
    try:
        turn = client.ask(f"{PROMPT} {WRITE}{lab.folder / 'task'}")
    finally:
        client.end()
    assert (turn.is_error, turn.shown) == (False, DONE)
    assert {name: (lab.folder / "task" / name).read_text() for name in CONTENTS} == CONTENTS
    assert lab.bedrock.complaints == []
    rows = eventually(lambda: len(rows := lab.calls("vk-task")) >= 2 and rows)
    models = {row["model_requested"] for row in rows}
    assert len(models) == 1
    assert re.fullmatch(r"[a-z]+\.anthropic\.claude-[a-z0-9.:-]+", next(iter(models)))
    for row in rows:
        assert (row["provider"], row["outcome"], row["estimated"]) == ("bedrock", "completed", 0)
        assert (row["input_tokens"], row["cache_read_tokens"], row["output_tokens"]) == (TOKENS_NEW, TOKENS_CACHED, TOKENS_OUT)
        assert row["cost_nano"] > 0


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("vk-spent", "API Error: 409 Budget exceeded: VK budget exceeded: "),
        pytest.param("vk-haiku", "API Error: 409 Model '", marks=pytest.mark.long),
    ],
)
def test_claude_code_shows_a_refusal_and_does_not_try_again(lab, key, words):
    client = lab.start(key, {"AWS_BEARER_TOKEN_BEDROCK": key})
    try:
        turn = client.ask(f"{PROMPT} say hi")
    finally:
        client.end()
    assert turn.is_error
    assert turn.shown.startswith(words)
    assert not turn.waits
    rows = eventually(lambda: lab.calls(key))
    assert [row["outcome"] for row in rows] == ["denied"]
    assert lab.bedrock.complaints == []
