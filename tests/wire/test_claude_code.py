"""The real Claude Code, in a network of its own where only the gateway exists.

A start of the client takes two seconds of a processor and a further prompt a tenth of that, so few processes take many prompts:
one through the proxy with all that it does by itself, one with the base URL, and between prompts the policy changes.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.claude_session import ClaudeSession, Turn
from support.harness import OPUS, Gateway, eventually, policy_text
from support.real_clients import TIMEOUT_S, isolated_network, program

pytestmark = [pytest.mark.wire, pytest.mark.client, pytest.mark.timeout(600)]

ANSWER = "Hello from the simulated provider."
PROXY, BASE_URL, BEARER, OTHER = KEYS = ("vk-proxy", "vk-base-url", "vk-bearer", "vk-other")
RELOAD_TIMEOUT_S = RECORD_TIMEOUT_S = 60
RECORD_DELAY_S = 0.1
"""Seconds after which a call is on record, on a machine that is not busy."""

QUIET = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}
"""Turns off what a client does besides its calls. Through the proxy one runs without it, as its users' do."""


def policy(fields: dict[str, Any] | None = None, **more: Any) -> str:
    """Return a policy in which ``fields`` hold for each key."""
    budget = {"max_limit": 50, "reset_duration": "1M"}
    keys = [{"id": k, "team_id": "team-engineering", "user_id": "alice", "budget": budget, **(fields or {})} for k in KEYS]
    return policy_text(**({"virtual_keys": keys} | more))


@pytest.fixture(scope="module")
def network() -> Iterator[str]:
    program("claude-code")
    with isolated_network() as name:
        yield name


@pytest.fixture(scope="module")
def lab(network, tmp_path_factory) -> Iterator[Gateway]:
    """One gateway with a simulated provider in that network."""
    gateway = Gateway(tmp_path_factory.mktemp("lab"), policy(), netns=network)
    yield gateway.start()
    gateway.stop()


def govern(lab: Gateway, text: str) -> None:
    """Put a policy in force."""
    if lab.policy.read_text() == text:
        return
    printed = len(lab.output)
    lab.govern(text)
    eventually(lambda: any("is in force and replaces" in line for line in lab.output[printed:]), RELOAD_TIMEOUT_S)


def proxied(lab: Gateway, key: str, user: str = "") -> dict[str, str]:
    at = f"{user}:@" if user else ""
    url = f"http://{at}127.0.0.1:{lab.port}"
    return {"HTTPS_PROXY": url, "NODE_EXTRA_CA_CERTS": str(lab.ca), "ANTHROPIC_API_KEY": key}


Start = Callable[..., ClaudeSession]


@pytest.fixture(scope="module")
def start(network, tmp_path_factory) -> Iterator[Start]:
    """Starts clients, which are ended with the module."""
    sessions: list[ClaudeSession] = []

    def make(env: dict[str, str], *options: str) -> ClaudeSession:
        sessions.append(ClaudeSession(network, tmp_path_factory.mktemp("home"), env, *options))
        return sessions[-1]

    yield make
    for session in sessions:
        session.end()


@pytest.fixture(scope="module")
def by_proxy(lab, start) -> ClaudeSession:
    """A client behind the proxy, as its users run it."""
    return start(proxied(lab, PROXY), "--allowedTools", "Bash(echo:*)", "Read")


@pytest.fixture(scope="module")
def by_base_url(lab, start) -> ClaudeSession:
    """A client with the gateway as its base URL."""
    return start({"ANTHROPIC_BASE_URL": lab.url, "ANTHROPIC_API_KEY": BASE_URL} | QUIET)


def run(network: str, home: Path, env: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    """Run ``claude -p`` once, with a clean environment."""
    clean = {"PATH": "/usr/bin:/bin", "HOME": str(home), "TERM": "xterm", "LANG": "C.UTF-8"} | QUIET | env
    command = ["ip", "netns", "exec", network, str(program("claude-code")), "-p", "say hi", *options]
    return subprocess.run(
        command, env=clean, cwd=home, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


def calls(lab: Gateway, key: str, where: str = "status = 200") -> list[dict]:
    """Return the model calls of a key that are on record."""
    return lab.rows(f"SELECT * FROM calls WHERE path = '/v1/messages' AND virtual_key_id = '{key}' AND {where} ORDER BY rowid")


def denied(lab: Gateway, key: str) -> list[dict]:
    """Return the refused model calls of a key that are on record."""
    return calls(lab, key, "outcome = 'denied'")


def check_answer(lab: Gateway, key: str, ask: Callable[[], Turn]) -> None:
    """Check that a prompt is answered, with one call in the key's name."""
    before = len(calls(lab, key))
    turn = ask()
    assert (turn.is_error, turn.shown) == (False, ANSWER)
    check_call(*eventually(lambda: calls(lab, key)[before:], RECORD_TIMEOUT_S))


def check_call(row: dict) -> None:
    assert (row["user_id"], row["outcome"], row["model_requested"]) == ("alice", "completed", OPUS)
    assert re.fullmatch(r"[0-9a-f-]{36}", row["session_id"])
    assert row["user_agent"].startswith("claude-cli/")
    assert row["cost_nano"] > 0
    assert row["stream"] == 1


def test_everything_goes_through_the_gateway_and_carries_the_key(lab, by_proxy):
    """This client runs with its real defaults, telemetry and all."""
    check_answer(lab, PROXY, lambda: by_proxy.ask("say hi"))
    rows = lab.rows()
    # The client sends no credential where it asks which servers it may list.
    assert {r["path"] for r in rows if r["virtual_key_id"] != PROXY} <= {"/api/directory/server-urls"}
    assert not [r for r in rows if r["outcome"] == "denied"]
    eventually(lambda: any(r["path"].startswith("/api/") for r in lab.rows()))
    assert all(r["cost_nano"] == 0 for r in rows if not r["model_requested"])


def test_bash_and_read_turns_work(lab, by_proxy, tmp_path):
    assert "run-by-the-agent" in by_proxy.ask('[simulate tool=Bash {"command": "echo run-by-the-agent"}]').shown
    file = tmp_path / "note.txt"
    file.write_text("words-in-a-file\n")
    assert "words-in-a-file" in by_proxy.ask(f'[simulate tool=Read {{"file_path": "{file}"}}]').shown


def test_claude_code_answers_with_a_base_url(lab, by_base_url):
    check_answer(lab, BASE_URL, lambda: by_base_url.ask("say hi"))


def test_claude_code_answers_with_the_path_anthropic_and_a_bearer_and_shows_a_kept_answer_alike(lab, network, tmp_path):
    """The second process asks the same with another session and another billing header, and needs no provider."""
    govern(lab, policy(cache={"exact": {"enabled": True}}))
    env = {"ANTHROPIC_BASE_URL": lab.url + "/anthropic", "ANTHROPIC_AUTH_TOKEN": BEARER}
    rows = []
    for count in (1, 2):
        done = run(network, tmp_path, env)
        assert (done.returncode, done.stdout.strip()) == (0, ANSWER), done
        rows = eventually(lambda count=count: found if len(found := calls(lab, BEARER)) >= count else None, RECORD_TIMEOUT_S)
    first, second = rows
    check_call(first)
    assert (first["cache"], second["cache"]) == ("miss", "hit")
    assert (second["cost_nano"], second["outcome"]) == (0, "completed")
    assert 0 < second["saved_nano"] <= first["cost_nano"]
    govern(lab, policy())


BLOCKED = "BLOCKED"
"""Stands for the status of a model or provider that the key may not use, which depends on the way."""

REFUSALS: dict[str, tuple[dict[str, Any] | None, str]] = {
    "budget_exceeded": (
        {"budget": {"max_limit": 0, "reset_duration": "1M"}},
        r"API Error: Request rejected \(429\) · Budget exceeded: virtual key KEY has used \$0\.\d\d of \$0\.00, resets \d+ \w+ .*\(UTC\)",
    ),
    "request_limited": (
        {"rate_limit": {"request_max_limit": 0, "request_reset_duration": "1h"}},
        r"API Error: Request rejected \(429\) · Rate limits exceeded: \[request limit exceeded \(1/0, resets every 1h\)\]",
    ),
    "token_limited": (
        {"rate_limit": {"token_max_limit": 0, "token_reset_duration": "1h"}},
        r"API Error: Request rejected \(429\) · Rate limits exceeded: \[token limit exceeded \(0/0, resets every 1h\)\]",
    ),
    "model_blocked": (
        {"provider_configs": [{"provider": "anthropic", "allowed_models": ["claude-haiku-*"]}]},
        rf"API Error: {BLOCKED} Model '{OPUS}' is not allowed for this virtual key\. Allowed: claude-haiku-\*",
    ),
    "provider_blocked": (
        {"provider_configs": [{"provider": "openai"}]},
        rf"API Error: {BLOCKED} Provider 'anthropic' is not allowed for this virtual key",
    ),
    "inactive": ({"is_active": False}, r"API Error: 401 Virtual key 'KEY' is inactive"),
    "expired": ({"expires_at": "2020-01-01T00:00:00Z"}, r"API Error: 401 Virtual key 'KEY' has expired at 2020-01-01T00:00:00Z"),
    "unknown": (None, r"API Error: 401 The key that was sent is not a known virtual key"),
}
"""What holds for the key and what the client then shows, by the reason on record or the state of the key."""


@pytest.mark.parametrize("case", REFUSALS)
@pytest.mark.parametrize("way", ["by_proxy", "by_base_url"])
def test_a_refusal_is_shown_at_once_in_our_words(lab, request, way, case):
    session, key = request.getfixturevalue(way), {"by_proxy": PROXY, "by_base_url": BASE_URL}[way]
    fields, shown = REFUSALS[case]
    govern(lab, policy(virtual_keys=[]) if fields is None else policy(fields))
    before = len(denied(lab, key))
    turn = session.ask("say hi")
    assert turn.is_error
    # With a base URL it would try a 400 six times, without one beta feature after the other.
    shown = shown.replace("KEY", key).replace(BLOCKED, "409" if way == "by_base_url" else "400")
    assert re.search(shown, turn.shown), turn
    assert turn.waits == []
    if fields is not None:
        # Calls of unknown keys are counted, not recorded one by one.
        eventually(lambda: len(denied(lab, key)) > before, RECORD_TIMEOUT_S)
        # Were there another try, then it would be on record by now.
        time.sleep(RECORD_DELAY_S)
        assert len(denied(lab, key)) - before == 1


def test_a_virtual_key_as_an_oauth_token_has_a_used_up_budget_printed_as_it_stands(lab, network, tmp_path):
    govern(lab, policy({"budget": {"max_limit": 0, "reset_duration": "1M"}}))
    done = run(network, tmp_path, {"ANTHROPIC_BASE_URL": lab.url, "CLAUDE_CODE_OAUTH_TOKEN": OTHER})
    assert (done.returncode, done.stdout.startswith(f"Budget exceeded: virtual key {OTHER} has used ")) == (1, True), done


def test_an_unpriced_model_is_refused_in_our_words(lab, network, tmp_path):
    """Printed and with the exit code of ``claude -p``."""
    govern(lab, policy())
    done = run(network, tmp_path, proxied(lab, OTHER), "--model", "nobodys-model")
    assert done.returncode == 1, done
    assert "API Error: 400 Model 'nobodys-model' has no known price" in done.stdout


def test_a_provider_error_passes_through_as_it_is(lab, by_base_url):
    govern(lab, policy())
    assert "API Error: 400 Simulated error" in by_base_url.ask("[simulate status=400]").shown


def test_a_stream_that_breaks_is_metered_and_so_is_the_repeat(lab, by_base_url):
    govern(lab, policy())
    before = len(calls(lab, BASE_URL))
    by_base_url.ask("[simulate times=1 error=overloaded_error]")
    broken, *repeats = eventually(lambda: len(rows := calls(lab, BASE_URL)[before:]) > 1 and rows, RECORD_TIMEOUT_S)
    assert broken["outcome"] == "failed"
    assert all(r["cost_nano"] > 0 for r in (broken, *repeats))


def test_a_short_rate_limit_is_waited_out(lab, by_base_url):
    govern(lab, policy({"rate_limit": {"request_max_limit": 1, "request_reset_duration": "5s"}}))
    waits: list[dict] = []
    # A slow client may ask in the next window, where it need not wait.
    while not waits:
        turn = by_base_url.ask("say hi")
        assert (turn.is_error, turn.shown) == (False, ANSWER)
        waits = turn.waits
    assert {w["error_status"] for w in waits} == {429}


def test_what_is_not_the_callers_fault_is_said_soon(lab, start):
    """To a client that starts while the provider is unreachable too, and which has its key in the proxy's URL."""
    unreachable = {"base_url": "http://127.0.0.1:9", "keys": [{"name": "k", "value": "env.PROVIDER_KEY"}]}
    govern(lab, policy(providers={"anthropic": unreachable}))
    session = start(proxied(lab, "no-key-of-ours", user=OTHER))
    turn = session.ask("say hi")
    assert "The provider cannot be reached" in turn.shown, turn
    without_key = {"keys": [{"name": "key-1", "value": "env.NOT_SET"}]}
    govern(lab, policy(providers={"anthropic": without_key}))
    turn = session.ask("say hi")
    assert "Provider 'anthropic' has no usable key: key-1 (env.NOT_SET)" in turn.shown, turn
    govern(lab, policy())
    check_answer(lab, OTHER, lambda: session.ask("say hi"))
    # Each is tried twice: a client may take such an answer for the state of a moment.
    assert len(calls(lab, OTHER, "outcome = 'failed' AND status IS NULL")) <= 2
    assert len(calls(lab, OTHER, "reason = 'provider_unavailable'")) <= 2
