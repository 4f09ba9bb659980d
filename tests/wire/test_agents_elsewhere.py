"""Real agents on other providers' models: each finishes a task with its own tools, through a translation it does not notice."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from support.claude_session import ClaudeSession, Turn
from support.fake_provider import FakeProvider
from support.forms import parameters
from support.harness import ROOT, Gateway, eventually, policy_text
from support.real_clients import REAL_CLIENTS, Run, isolated_network, listener_in, program, run_client
from support.task_providers import (
    CONTENTS,
    CUT,
    DONE,
    FAIL,
    FAILURE,
    PROMPT,
    SIGNATURE,
    THOUGHT_SIGNATURE,
    TOKENS_CACHED,
    TOKENS_NEW,
    TOKENS_OUT,
    WRITE,
    Api,
    Chat,
    Gemini,
    Messages,
)

pytestmark = [pytest.mark.wire, pytest.mark.client, pytest.mark.timeout(600)]

MODELS = {"anthropic": "claude-opus-5-5", "openai": "gpt-4.1", "gemini": "gemini-3.5-flash"}
COSTS = {"anthropic": 1_760_000, "openai": 1_120_000, "gemini": 780_000}
"""Nano-dollars of one answer: 200 new tokens in, 800 from the cache, and forty out."""

SESSIONS = {"claude-code-openai": "openai", "claude-code-gemini": "gemini"}
"""Claude Codes that take all their prompts in one process, by name of their virtual key; and who answers them."""

BY_NAME = {
    "claude-code-openai": "openai/gpt-4.1",
    "codex-anthropic": "anthropic/claude-opus-5-5",
    "qwen-code-anthropic": "anthropic/claude-opus-5-5",
}
"""Where the client names the provider itself. Else a route of the policy sends the key's calls there."""

RUNS = {
    "codex-anthropic": "anthropic",
    "codex-gemini": "gemini",
    "qwen-code-anthropic": "anthropic",
    "gemini-cli-openai": "openai",
}
"""Clients that take one prompt a process, by beginnings of names of their virtual keys; and who answers them."""

ARGUMENTS = {
    "codex": ("exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", "{prompt}"),
    "qwen-code": ("--auth-type", "openai", "--yolo", "-p", "{prompt}"),
    "gemini-cli": ("-m", "gemini-2.5-flash", "--yolo", "--skip-trust", "-p", "{prompt}"),
}
"""Options with which a client uses its tools without asking, where it would."""

LEFT_OUT = [
    *((key, "refusal") for key in RUNS if key != "codex-anthropic"),
    ("codex-gemini", "error"),
]
"""Cases that are not run here: a start costs four seconds of a processor, and test_clients.py has refusals of every client."""

LONG = [
    ("qwen-code-anthropic", "error"),
    ("gemini-cli-openai", "error"),
    *(("claude-code-gemini", case) for case in ("task", "error", "refusal")),
]
"""Cases of the long form alone. Codex meets an error of its provider, and calls Gemini; Claude Code has all cases with OpenAI."""

FEW = {"rate_limit": {"request_max_limit": 8, "request_reset_duration": "1h"}}
NONE = {"rate_limit": {"request_max_limit": 0, "request_reset_duration": "1h"}}
LIMITS: dict[str, dict[str, object]] = {"task": {}, "error": {}, "refusal": NONE}
PROMPTS = {"task": WRITE + "{home}", "error": FAIL, "refusal": "say hi"}
CASES = [(key, case) for key in RUNS for case in PROMPTS if (key, case) not in LEFT_OUT]
REFUSED = "Rate limits exceeded: [request limit exceeded"


@dataclass
class Lab:
    """One gateway, the providers behind it, and the runs of all clients."""

    gateway: Gateway
    folder: Path
    apis: dict[str, Api]
    pool: ThreadPoolExecutor
    runs: dict[tuple[str, str], Future[Run]]
    shown: dict[tuple[str, str], str] = field(default_factory=dict)
    """What Claude Code has shown, by key and case."""

    def calls(self, key: str) -> list[dict[str, Any]]:
        """Return the model calls of a key that are on record."""
        return self.gateway.rows(
            f"SELECT * FROM calls WHERE virtual_key_id = '{key}' AND model_requested IS NOT NULL ORDER BY rowid"
        )

    def run(self, key: str, case: str, prompt: str) -> Run:
        """Run a client once."""
        name = key.rpartition("-")[0]
        client = replace(REAL_CLIENTS[name], arguments=ARGUMENTS.get(name, REAL_CLIENTS[name].arguments))
        if key in BY_NAME:
            named = ("--model", BY_NAME[key]) if name == "codex" else ()
            *options, prompted = client.arguments
            client = replace(client, arguments=(*options, *named, prompted), env={**client.env, "OPENAI_MODEL": BY_NAME[key]})
        home = self.folder / f"{key}-{case}"
        return run_client(client, self.gateway, f"{key}-{case}", f"{PROMPT} {prompt.format(home=home)}", home)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, is_long: bool) -> Iterator[Lab]:
    """Start the gateway, whose routes send each key's calls to another provider, and run the clients that are installed."""
    folder: Path = tmp_path_factory.mktemp("elsewhere")
    cases = {f"{key}-{case}": (RUNS[key], LIMITS[case]) for key, case in CASES}
    cases |= {key: (provider, FEW) for key, provider in SESSIONS.items()}
    with ExitStack() as stack:
        netns = stack.enter_context(isolated_network())
        apis: dict[str, Api] = {"anthropic": Messages(), "openai": Chat(), "gemini": Gemini()}
        fakes = {p: stack.enter_context(FakeProvider(a.answer, listener=listener_in(netns))) for p, a in apis.items()}
        providers = {p: {"base_url": f.url, "keys": [{"name": "k", "value": f"sk-real-{p}"}]} for p, f in fakes.items()}
        routes = [
            {"name": key, "when": {"virtual_key": key}, "targets": [{"provider": p, "model": MODELS[p]}], "retry": {"attempts": 1}}
            for key, (p, _) in cases.items()
            if not key.startswith(tuple(BY_NAME))
        ]
        keys = [{"id": key, **limits} for key, (_, limits) in cases.items()]
        gateway = Gateway(folder, policy_text(providers=providers, virtual_keys=keys, routes=routes), netns=netns)
        stack.callback(gateway.stop)
        gateway.start()
        started = Lab(gateway, folder, apis, stack.enter_context(ThreadPoolExecutor(3)), {})
        for key, case in CASES if is_long else [found for found in CASES if found not in LONG]:
            started.runs[key, case] = started.pool.submit(started.run, key, case, PROMPTS[case])
        yield started


@dataclass
class Session:
    """A running Claude Code, and where it is."""

    key: str
    home: Path
    client: ClaudeSession

    def ask(self, prompt: str) -> Turn:
        """Send a prompt."""
        return self.client.ask(f"{PROMPT} {prompt}")


@pytest.fixture(scope="module", params=parameters(SESSIONS, short=["claude-code-openai"]))
def session(request: pytest.FixtureRequest, lab: Lab) -> Iterator[Session]:
    """Start a Claude Code behind the proxy."""
    program("claude-code")
    home = lab.folder / request.param
    env = {"HTTPS_PROXY": lab.gateway.url, "NODE_EXTRA_CA_CERTS": str(lab.gateway.ca), "ANTHROPIC_API_KEY": request.param}
    env["CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"] = "1"
    if request.param in BY_NAME:
        env["ANTHROPIC_MODEL"] = BY_NAME[request.param]
    client = ClaudeSession(str(lab.gateway.netns), home, env, "--allowedTools", "Write", "Bash")
    yield Session(request.param, home, client)
    client.end()


def check_task(lab: Lab, key: str, provider: str, home: Path) -> None:
    """Check that the tools have run, and what the calls are on record with."""
    assert lab.apis[provider].complaints == []
    assert {name: (home / name).read_text() for name in CONTENTS} == CONTENTS
    rows = eventually(lambda: len(rows := lab.calls(key)) >= 2 and rows)
    for row in rows:
        assert (row["provider"], row["model_requested"], row["outcome"]) == (provider, MODELS[provider], "completed")
        assert (row["input_tokens"], row["cache_read_tokens"]) == (TOKENS_NEW, TOKENS_CACHED)
        assert (row["output_tokens"], row["estimated"]) == (TOKENS_OUT, 0)
        assert row["cost_nano"] == COSTS[provider]
    assert len(rows) == 2


def keys_with(case: str) -> list[Any]:
    """Return the keys of the runs that meet a case, for a parameter."""
    keys = [key for key, found in CASES if found == case]
    return parameters(keys, short=[key for key in keys if (key, case) not in LONG])


def test_claude_code_finishes_a_task(lab, session):
    provider = SESSIONS[session.key]
    turn = session.ask(WRITE + str(session.home))
    lab.shown[session.key, "task"] = turn.shown
    assert (turn.is_error, turn.shown) == (False, DONE)
    check_task(lab, session.key, provider, session.home)
    sent = json.dumps(lab.apis[provider].asked[-1])
    assert sent.count(lab.apis[provider].result) == 2
    assert provider != "gemini" or sent.count(THOUGHT_SIGNATURE) == 1


def test_claude_code_asks_again_when_a_stream_breaks_off(lab, session):
    turn = session.ask(CUT)
    assert (turn.is_error, turn.shown) == (False, DONE)
    rows = eventually(lambda: len(rows := lab.calls(session.key)) >= 4 and rows)
    # In the order in which they are settled: what the broken one has said is counted first.
    assert sorted(r["outcome"] for r in rows[2:]) == ["completed", "failed"]
    assert all(r["cost_nano"] > 0 for r in rows)


def test_claude_code_shows_the_providers_error(lab, session):
    turn = session.ask(FAIL)
    lab.shown[session.key, "error"] = turn.shown
    assert turn.is_error
    assert FAILURE in turn.shown
    assert turn.waits == []


def test_claude_code_shows_a_refusal(lab, session):
    turns = [session.ask("say hi") for _ in range(3)]
    lab.shown[session.key, "refusal"] = turns[-1].shown
    assert [t.is_error for t in turns] == [False, False, True]
    assert REFUSED in turns[-1].shown


@pytest.mark.parametrize("key", keys_with("task"))
def test_an_agent_finishes_a_task(lab, key):
    program(key.rpartition("-")[0])
    done = lab.runs[key, "task"].result()
    assert (done.status, DONE in done.text) == (0, True), done
    check_task(lab, f"{key}-task", RUNS[key], lab.folder / f"{key}-task")


@pytest.mark.parametrize("key", keys_with("error"))
def test_an_agent_shows_the_providers_error(lab, key):
    program(key.rpartition("-")[0])
    done = lab.runs[key, "error"].result()
    assert FAILURE in done.text, done


@pytest.mark.parametrize("key", keys_with("refusal"))
def test_an_agent_shows_a_refusal(lab, key):
    program(key.rpartition("-")[0])
    done = lab.runs[key, "refusal"].result()
    assert REFUSED in done.text, done


def test_signed_thinking_comes_back_to_anthropic(lab):
    """From Codex, which keeps encrypted reasoning for a provider."""
    program("codex")
    lab.runs["codex-anthropic", "task"].result()
    asked = [json.dumps(b) for b in lab.apis["anthropic"].asked]
    (second,) = [b for b in asked if "codex-anthropic-task" in b and '"tool_result"' in b]
    assert second.count(SIGNATURE) == 1


def shown_line(lab: Lab, key: str, case: str) -> str:
    """Return what a user sees of a case, as the table has it: our words, which differ from run to run, as ``MESSAGE``."""
    if case == "task":
        text = lab.shown[key, case] if key in SESSIONS else lab.runs[key, case].result().text
        return "done" if DONE in text else text
    wanted = FAILURE if case == "error" else REFUSED
    text = lab.shown[key, case] if key in SESSIONS else lab.runs[key, case].result().text
    line = next(line for line in text.splitlines() if wanted in line)
    line = re.sub(rf"{re.escape(FAILURE)}|{re.escape(REFUSED)}.* in \d+ s", "MESSAGE", line)
    return f"`{re.sub('/tmp/[^ ]*', 'FILE', line)}`"


VERSIONS = dict(re.findall(r"install (\S+) .*@(\d+\.\d+\.\d+)", (ROOT / "scripts" / "test-clients").read_text()))


@pytest.mark.parametrize("key", SESSIONS | RUNS)
def test_the_documentation_shows_what_the_client_shows(lab, key):
    """After the tests above: a session that has not been asked yet has shown nothing. Of the row, the cases of the form that is run."""
    client, _, provider = key.rpartition("-")
    program(client)
    head = f"| {client} {VERSIONS[client]} | {provider}, by {'name' if key in BY_NAME else 'route'} | "
    (row,) = [line for line in (ROOT / "docs" / "clients.md").read_text().splitlines() if line.startswith(head)]
    documented = dict(zip(PROMPTS, row.removeprefix(head).removesuffix(" |").split(" | "), strict=True))
    shown = {case: shown_line(lab, key, case) for case in PROMPTS if (key, case) in lab.shown or (key, case) in lab.runs}
    assert {case: documented[case] for case in shown} == shown
    assert [case for case, text in documented.items() if text == "-"] == [case for case in PROMPTS if (key, case) in LEFT_OUT]
