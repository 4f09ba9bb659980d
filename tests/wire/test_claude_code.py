"""The real Claude Code, in a network of its own where only the gateway exists."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sluicegate.windows import iso
from support.harness import OPUS, VK, Gateway, eventually, policy_text
from support.real_clients import isolated_network, program

pytestmark = [pytest.mark.wire, pytest.mark.client]

OTHER = "vk-limited"


@pytest.fixture(scope="module")
def network() -> Iterator[str]:
    program("claude-code")
    with isolated_network() as name:
        yield name


@pytest.fixture(scope="module")
def lab(network, tmp_path_factory) -> Iterator[Gateway]:
    """One gateway with a simulated provider in that network."""
    month = {"max_limit": 50, "reset_duration": "1M"}
    hour = {"request_max_limit": 0, "request_reset_duration": "1h"}
    keys = [
        {"id": VK, "team_id": "team-engineering", "user_id": "alice", "budget": month},
        {"id": "vk-broke", "budget": month | {"max_limit": 0}},
        {"id": "vk-slow", "rate_limit": hour},
        {"id": "vk-five-seconds", "rate_limit": {"request_max_limit": 1, "request_reset_duration": "5s"}},
        {"id": "vk-haiku", "provider_configs": [{"provider": "anthropic", "allowed_models": ["claude-haiku-*"]}]},
        {"id": "vk-closed", "provider_configs": [{"provider": "openai"}]},
        {"id": "vk-tokens", "rate_limit": {"token_max_limit": 0, "token_reset_duration": "1h"}},
        {"id": "vk-off", "is_active": False},
        {"id": "vk-old", "expires_at": "2020-01-01T00:00:00Z"},
    ]
    gateway = Gateway(tmp_path_factory.mktemp("lab"), policy_text(virtual_keys=keys), netns=network)
    yield gateway.start()
    gateway.stop()


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def claude(lab, network, tmp_path) -> Run:
    """Runs ``claude -p`` with a clean environment and a home of its own."""

    def run(words: str, *options: str, **env: str) -> subprocess.CompletedProcess[str]:
        home = tmp_path / "home"
        home.mkdir(exist_ok=True)
        clean = {"PATH": "/usr/bin:/bin", "HOME": str(home), "TERM": "xterm", "LANG": "C.UTF-8"} | env
        command = ["ip", "netns", "exec", network, str(program("claude-code")), "-p", words, *options]
        return subprocess.run(command, env=clean, cwd=home, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)

    return run


def proxied(lab: Gateway, key: str = VK, user: str = "") -> dict[str, str]:
    at = f"{user}:@" if user else ""
    url = f"http://{at}127.0.0.1:{lab.port}"
    return {"HTTPS_PROXY": url, "NODE_EXTRA_CA_CERTS": str(lab.ca), "ANTHROPIC_API_KEY": key}


def models(lab: Gateway, more_than: int = -1) -> list[dict]:
    """Return the model calls on record, once there are more than ``more_than``."""
    return eventually(lambda: len(found := [r for r in lab.rows() if r["model_requested"]]) > more_than and (found or [{}]))


WAYS: dict[str, Callable[[Gateway], dict[str, str]]] = {
    "proxy, key in x-api-key": proxied,
    "proxy, key in the proxy URL": lambda lab: proxied(lab, key="no-key-of-ours", user=VK),
    "base URL": lambda lab: {"ANTHROPIC_BASE_URL": lab.url, "ANTHROPIC_API_KEY": VK},
    "base URL with /anthropic": lambda lab: {"ANTHROPIC_BASE_URL": lab.url + "/anthropic", "ANTHROPIC_API_KEY": VK},
    "base URL, bearer": lambda lab: {"ANTHROPIC_BASE_URL": lab.url, "ANTHROPIC_AUTH_TOKEN": VK},
}


@pytest.mark.parametrize("way", WAYS)
def test_claude_code_answers(lab, claude, way):
    before = len([r for r in lab.rows() if r["model_requested"]])
    done = claude("say hi", **WAYS[way](lab))
    assert (done.returncode, done.stdout.strip()) == (0, "Hello from the simulated provider."), done
    (row,) = models(lab, before)[before:]
    assert (row["virtual_key_id"], row["user_id"], row["outcome"], row["model_requested"]) == (
        VK,
        "alice",
        "completed",
        OPUS,
    )
    assert re.fullmatch(r"[0-9a-f-]{36}", row["session_id"])
    assert row["user_agent"].startswith("claude-cli/")
    assert row["cost_nano"] > 0
    assert row["stream"] == 1


def test_everything_goes_through_the_gateway_and_carries_the_key(lab, claude):
    before = len(lab.rows())
    claude("say hi", **proxied(lab))
    rows = lab.rows()[before:]
    # The client sends no credential where it asks which servers it may list.
    assert {r["path"] for r in rows if r["virtual_key_id"] != VK} <= {"/api/directory/server-urls"}
    assert not [r for r in rows if r["outcome"] == "denied"]
    assert any(r["path"].startswith("/api/") for r in rows)
    assert all(r["cost_nano"] == 0 for r in rows if not r["model_requested"])


def test_bash_and_read_turns_work(lab, claude, tmp_path):
    done = claude('[simulate tool=Bash {"command": "echo run-by-the-agent"}]', "--allowedTools", "Bash(echo:*)", **proxied(lab))
    assert "run-by-the-agent" in done.stdout, done
    file = tmp_path / "home" / "note.txt"
    file.write_text("words-in-a-file\n")
    done = claude(f'[simulate tool=Read {{"file_path": "{file}"}}]', "--allowedTools", "Read", **proxied(lab))
    assert "words-in-a-file" in done.stdout, done


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("vk-broke", "API Error: 402 Budget exceeded: VK budget exceeded: 0.00 > 0.00 dollars (vk-broke, resets "),
        (
            "vk-slow",
            "API Error: Request rejected (429) · Rate limits exceeded: [request limit exceeded (1/0, resets every 1h)]",
        ),
        ("vk-tokens", "API Error: Request rejected (429) · Rate limits exceeded: [token limit exceeded (0/0, resets every 1h)]"),
        ("vk-haiku", f"API Error: 400 Model '{OPUS}' is not allowed for this virtual key. Allowed: claude-haiku-*"),
        ("vk-closed", "API Error: 400 Provider 'anthropic' is not allowed for this virtual key"),
        ("vk-nobody", "API Error: 401 The key that was sent is not a known virtual key"),
        ("vk-off", "API Error: 401 Virtual key 'vk-off' is inactive"),
        ("vk-old", "API Error: 401 Virtual key 'vk-old' has expired at 2020-01-01T00:00:00Z"),
    ],
)
def test_a_refusal_is_shown_at_once_in_our_words(lab, claude, key, shown):
    """Through the proxy one try is made. A base URL makes the client drop its beta features one by one on a 400 first."""
    since, began = iso(time.time_ns() // 1_000_000), time.monotonic()
    done = claude("say hi", **proxied(lab, key))
    one_try = time.monotonic() - began
    assert (done.returncode, shown in done.stdout) == (1, True), done
    assert len([r for r in lab.rows() if r["path"] == "/v1/messages" and r["started_at"] >= since]) <= 1
    began = time.monotonic()
    done = claude("say hi", ANTHROPIC_BASE_URL=lab.url, ANTHROPIC_API_KEY=key)
    assert (done.returncode, shown in done.stdout) == (1, True), done
    # Starting the client takes a busy machine longer than that, with one try as with more.
    assert time.monotonic() - began < max(6, 3 * one_try), "the client kept trying"


def test_an_unpriced_model_is_refused_in_our_words(lab, claude):
    done = claude("say hi", "--model", "nobodys-model", **proxied(lab))
    assert "API Error: 400 Model 'nobodys-model' has no known price" in done.stdout


@pytest.mark.parametrize(
    ("provider", "shown", "within"),
    [
        ({"keys": [{"name": "key-1", "value": "env.NOT_SET"}]}, "Provider 'anthropic' has no usable key: key-1 (env.NOT_SET)", 8),
        # The client tries its settings service for a while before the call; the call itself is tried twice.
        (
            {"base_url": "http://127.0.0.1:9", "keys": [{"name": "k", "value": "env.PROVIDER_KEY"}]},
            "The provider cannot be reached",
            40,
        ),
    ],
    ids=["no key", "unreachable"],
)
def test_what_is_not_the_callers_fault_is_said_soon(network, claude, tmp_path, provider, shown, within):
    gateway = Gateway(tmp_path, policy_text(providers={"anthropic": provider}), netns=network).start()
    try:
        began = time.monotonic()
        done = claude("say hi", **proxied(gateway))
        assert shown in done.stdout, done
        assert time.monotonic() - began < within
    finally:
        gateway.stop()


def test_a_short_rate_limit_is_waited_out(lab, claude):
    env = {"ANTHROPIC_BASE_URL": lab.url, "ANTHROPIC_API_KEY": "vk-five-seconds"}
    assert claude("say hi", **env).returncode == 0
    done = claude("say hi", **env)
    assert (done.returncode, done.stdout.strip()) == (0, "Hello from the simulated provider.")


def test_a_provider_error_passes_through_as_it_is(lab, claude):
    done = claude("[simulate status=400]", ANTHROPIC_BASE_URL=lab.url, ANTHROPIC_API_KEY=VK)
    assert "API Error: 400 Simulated error" in done.stdout


def test_a_stream_that_breaks_is_metered_and_so_is_the_repeat(lab, claude):
    before = len([r for r in lab.rows() if r["model_requested"]])
    claude("[simulate times=1 error=overloaded_error]", ANTHROPIC_BASE_URL=lab.url, ANTHROPIC_API_KEY=VK)
    rows = models(lab, before + 1)[before:]
    assert rows[0]["outcome"] == "failed"
    assert rows[0]["cost_nano"] > 0
    assert len(rows) >= 2
    assert Path(lab.state).exists()
