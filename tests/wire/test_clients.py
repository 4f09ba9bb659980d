"""The real clients through the gateway: what their users see of answers and refusals, and after how many tries."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from sluicegate.calls.refusal import NO_BREAK_SPACE, WORD_JOINER
from support.fake_provider import FakeProvider
from support.harness import Gateway, eventually, policy_text
from support.model_apis import ANSWER, answer
from support.real_clients import CLIENTS, REAL_CLIENTS, Run, isolated_network, listener_in, program, run_client

pytestmark = [pytest.mark.wire, pytest.mark.client, pytest.mark.timeout(600)]

LIMITS: dict[str, dict[str, object]] = {
    "healthy": {},
    "budget": {"budget": {"max_limit": 0, "reset_duration": "1M"}},
    "hour": {"rate_limit": {"request_max_limit": 0, "request_reset_duration": "1h"}},
    "inactive": {"is_active": False},
    "model": {"provider_configs": [{"provider": p, "allowed_models": ["no-*"]} for p in ("anthropic", "openai", "gemini")]},
}
SHOWN = {
    "budget": "Budget exceeded: VK budget exceeded: 0.00 > 0.00 dollars",
    "hour": "Rate limits exceeded: [request limit exceeded (1/0, resets every 1h)]",
    "inactive": "Virtual key 'codex-inactive' is inactive",
    "model": "is not allowed for this virtual key. Allowed: no-*",
}
# A start takes a client up to four seconds of a processor, so these are the refusals in which it differs from others.
# Claude Code's are in test_claude_code.py.
STATUS = {
    ("codex", "budget"): 400,
    ("codex", "hour"): 400,
    ("codex", "inactive"): 400,
    ("codex", "model"): 404,
    ("gemini-cli", "hour"): 402,
    ("qwen-code", "hour"): 402,
    ("opencode", "hour"): 402,
}
MODEL_PATHS = ("/messages", "/responses", "/chat/completions", ":streamGenerateContent", ":generateContent")


@dataclass
class Lab:
    """One gateway, the providers behind it, and the runs of all clients."""

    gateway: Gateway
    providers: dict[str, FakeProvider]
    runs: dict[tuple[str, str], Future[Run]]

    def calls(self, client: str, case: str) -> list[dict]:
        """Return what is on record of a run, once its model calls are."""
        self.runs[client, case].result()

        def found() -> list[dict]:
            return [r for r in self.gateway.rows() if r["virtual_key_id"] == f"{client}-{case}"]

        eventually(lambda: any(is_model_call(r) for r in found()))
        return found()


def is_model_call(row: dict) -> bool:
    return row["path"].endswith(MODEL_PATHS)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Start the gateway, and run the clients that are installed: each one case after the other, all of them side by side."""
    folder: Path = tmp_path_factory.mktemp("clients")
    cases = [(c, "healthy") for c in REAL_CLIENTS] + list(STATUS)
    keys = [{"id": f"{client}-{case}", **LIMITS[case]} for client, case in cases]
    with ExitStack() as stack:
        netns = stack.enter_context(isolated_network())
        fakes = {
            p: stack.enter_context(FakeProvider(answer, listener=listener_in(netns))) for p in ("anthropic", "openai", "gemini")
        }
        providers = {p: {"base_url": f.url, "keys": [{"name": "k", "value": "env.PROVIDER_KEY"}]} for p, f in fakes.items()}
        gateway = Gateway(folder, policy_text(providers=providers, virtual_keys=keys), netns=netns)
        stack.callback(gateway.stop)
        gateway.start()
        # Codex waits for hosts that it cannot reach here more than it computes.
        pools = {c: stack.enter_context(ThreadPoolExecutor(5 if c == "codex" else 1)) for c in REAL_CLIENTS}

        def run(client: str, case: str) -> Run:
            prompt = "fetch it" if client == "claude-code" else "say hi"
            return run_client(REAL_CLIENTS[client], gateway, f"{client}-{case}", prompt, folder / f"{client}-{case}")

        yield Lab(gateway, fakes, {(c, case): pools[c].submit(run, c, case) for c, case in cases})


@pytest.mark.parametrize("client", REAL_CLIENTS)
def test_a_healthy_run_answers_and_leaves_no_denial(lab, client):
    program(client)
    done = lab.runs[client, "healthy"].result()
    assert (done.status, ANSWER in done.text) == (0, True), done
    rows = lab.calls(client, "healthy")
    assert not [r for r in rows if r["outcome"] == "denied"]
    assert {r["outcome"] for r in rows if is_model_call(r)} == {"completed"}


@pytest.mark.parametrize(("client", "case"), STATUS)
def test_a_refusal_is_shown_in_one_try(lab, client, case):
    program(client)
    done = lab.runs[client, case].result()
    # The text that opencode gets looks the same, but has no words for which it would try again.
    text = done.text.replace(NO_BREAK_SPACE, " ").replace(WORD_JOINER, "")
    assert SHOWN[case] in text, done
    tries = [r["status"] for r in lab.calls(client, case) if is_model_call(r)]
    assert tries == [STATUS[client, case]], done


def test_claude_code_may_ask_whether_it_may_fetch_a_page(lab):
    """It asks without any credential, and goes without it to no provider key either."""
    program("claude-code")
    lab.runs["claude-code", "healthy"].result()
    (asked,) = [s for s in lab.providers["anthropic"].seen if s.target.startswith("/api/web/domain_info")]
    assert asked.target == "/api/web/domain_info?domain=example.com"
    assert not {n.lower() for n, _ in asked.headers} & {"x-api-key", "authorization"}


def test_nothing_else_is_denied(lab):
    """Whatever the clients send besides their model calls: no refused call is on record, nor counted for an unknown caller."""
    for done in lab.runs.values():
        done.exception()
    refused = [r["virtual_key_id"] for r in lab.gateway.rows() if r["outcome"] == "denied"]
    assert sorted(refused) == sorted(f"{client}-{case}" for client, case in STATUS if (CLIENTS / "bin" / client).exists())
    assert lab.gateway.rows("SELECT * FROM refusals") == []
