"""The real clients, each in a network of its own where only the gateway exists."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from support.harness import ROOT, Gateway

CLIENTS = ROOT / ".cache" / "clients"
TIMEOUT_S = 240
"""Seconds a run may take: a client starts in up to four, and ten times slower on a machine that is very busy."""


def program(client: str) -> Path:
    """Return a client's program. Skips the test, and says why, if it could not be installed."""
    found, failed = CLIENTS / "bin" / client, CLIENTS / f"{client}.failed"
    if not found.exists():
        why = failed.read_text().strip() if failed.exists() else "run scripts/test-clients"
        pytest.skip(f"{client} is not installed: {why}")
    return found


@contextlib.contextmanager
def isolated_network() -> Iterator[str]:
    """Make a network namespace with nothing but loopback: whatever bypasses the gateway reaches nobody."""
    name = f"sluicegate-{os.getpid()}-{threading.get_ident() & 0xFFFF:x}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "netns", "exec", name, "ip", "link", "set", "lo", "up"], check=True)
        yield name
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


def in_network[T](netns: str, work: Callable[[], T]) -> T:
    """Return what some work returns that is done in a network namespace."""
    done: list[T] = []

    def run() -> None:
        # Only this thread moves there, and it ends at once.
        with open(f"/run/netns/{netns}") as namespace:
            os.setns(namespace.fileno(), os.CLONE_NEWNET)
        done.append(work())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return done[0]


def listener_in(netns: str, host: str = "127.0.0.1") -> socket.socket:
    """Return a socket that listens in a network namespace, to be accepted from in this one."""
    return in_network(netns, lambda: socket.create_server((host, 0), backlog=200))


type Way = Literal["proxy", "base URL"]


@dataclass(frozen=True)
class Setting:
    """What a client is started with besides: variables, arguments before its others, JSON files in its home."""

    env: Mapping[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    files: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class RealClient:
    """How one client is run once, with a prompt and a virtual key."""

    name: str
    provider: str
    arguments: tuple[str, ...]
    key_variable: str
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, object] = field(default_factory=dict)
    """JSON files in its home."""
    at_base_url: Setting = Setting()
    """How it is given the gateway as its base URL; ``{url}`` stands for that."""
    way: Way = "proxy"
    """How it is run where no test says how."""
    proxied_provider: str = ""
    """Who answers it behind the proxy, if that is another provider than with the base URL."""
    tool_options: tuple[str, ...] = ()
    """Options with which it uses its tools without asking, where it would."""


OPENCODE_MODEL = {
    "id": "gpt-4.1",
    "name": "GPT-4.1",
    "attachment": True,
    "reasoning": False,
    "temperature": True,
    "tool_call": True,
    "release_date": "2025-04-14",
    "limit": {"context": 1_000_000, "output": 32_768},
}
OPENCODE_MODELS = {
    "openai": {
        "id": "openai",
        "name": "OpenAI",
        "env": ["OPENAI_API_KEY"],
        "npm": "@ai-sdk/openai",
        "models": {"gpt-4.1": OPENCODE_MODEL},
    }
}
"""The one model that is used: to read its own list of all of them costs more than all else that it does."""

OPENCODE_PLUGIN = {"dependencies": {"@opencode-ai/plugin": "1.18.33"}}

REAL_CLIENTS = {
    c.name: c
    for c in (
        RealClient(
            "claude-code",
            "anthropic",
            ("-p", "{prompt}", "--allowedTools", "WebFetch", "Write", "Bash"),
            "ANTHROPIC_API_KEY",
            # What else it sends goes to its maker's host, which is not there.
            at_base_url=Setting({"ANTHROPIC_BASE_URL": "{url}", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}),
        ),
        RealClient(
            "codex",
            "openai",
            ("exec", "--skip-git-repo-check", "{prompt}"),
            "CODEX_API_KEY",
            at_base_url=Setting(arguments=("-c", 'openai_base_url="{url}/v1"')),
            tool_options=("--dangerously-bypass-approvals-and-sandbox",),
        ),
        RealClient(
            "gemini-cli",
            "gemini",
            # With a model it does not first ask another one which to take.
            ("-m", "gemini-2.5-flash", "--skip-trust", "-p", "{prompt}"),
            "GEMINI_API_KEY",
            # One process in place of two.
            {"GEMINI_CLI_NO_RELAUNCH": "true"},
            files={".gemini/settings.json": {"privacy": {"usageStatisticsEnabled": False}}},
            at_base_url=Setting(
                {"GOOGLE_GEMINI_BASE_URL": "{url}"},
                files={
                    ".gemini/settings.json": {
                        "privacy": {"usageStatisticsEnabled": False},
                        "security": {"auth": {"selectedType": "gemini-api-key"}},
                    }
                },
            ),
            tool_options=("--yolo",),
        ),
        RealClient(
            "qwen-code",
            "openai",
            ("--auth-type", "openai", "-p", "{prompt}"),
            "OPENAI_API_KEY",
            {"OPENAI_MODEL": "qwen3-coder-plus", "QWEN_CODE_NO_RELAUNCH": "true"},
            at_base_url=Setting({"OPENAI_BASE_URL": "{url}/v1"}),
            way="base URL",
            proxied_provider="qwen",
            tool_options=("--yolo",),
        ),
        RealClient(
            "opencode",
            "openai",
            # With a title it does not ask another model for one.
            ("run", "--title", "t", "--model", "openai/gpt-4.1", "{prompt}"),
            "OPENAI_API_KEY",
            {f"OPENCODE_{n}": "1" for n in ("PURE", "DISABLE_AUTOUPDATE", "DISABLE_MODELS_FETCH", "DISABLE_DEFAULT_PLUGINS")}
            | {"OPENCODE_MODELS_PATH": "models.json"},
            # It waits for the installation of its plugin library, which has no registry here, unless it is on file.
            files={
                "models.json": OPENCODE_MODELS,
                ".config/opencode/package.json": OPENCODE_PLUGIN,
                ".config/opencode/package-lock.json": {"packages": {"": OPENCODE_PLUGIN}},
                ".config/opencode/node_modules/@opencode-ai/plugin/package.json": {"version": "1.18.33"},
            },
            at_base_url=Setting(
                files={".config/opencode/opencode.json": {"provider": {"openai": {"options": {"baseURL": "{url}/v1"}}}}}
            ),
        ),
    )
}


@dataclass(frozen=True)
class Run:
    """What a client's user has seen, and after how many seconds."""

    status: int
    text: str
    seconds: float


@dataclass(frozen=True)
class Start:
    """What starts a client: the command, its variables, its home with its files in it."""

    command: list[str]
    env: dict[str, str]
    home: Path


def prepared(client: RealClient, gateway: Gateway, key: str, prompt: str, home: Path, way: Way | None = None) -> Start:
    """Make a client's home, with a clean environment, for one run with a virtual key in the gateway's network."""
    home.mkdir()
    setting = client.at_base_url if (way or client.way) == "base URL" else Setting()
    for name, content in {**client.files, **setting.files}.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(json.dumps(content).replace("{url}", gateway.url))
    env = {"PATH": "/usr/bin:/bin", "HOME": str(home), "TERM": "xterm-256color", "LANG": "C.UTF-8"}
    env |= {client.key_variable: key, **client.env, **{n: v.replace("{url}", gateway.url) for n, v in setting.env.items()}}
    if setting is not client.at_base_url:
        env |= {"HTTPS_PROXY": gateway.url, "NODE_EXTRA_CA_CERTS": str(gateway.ca), "SSL_CERT_FILE": str(gateway.ca)}
    command = ["ip", "netns", "exec", str(gateway.netns), str(program(client.name))]
    command += [a.replace("{url}", gateway.url) for a in setting.arguments]
    command += [a.replace("{prompt}", prompt) for a in client.arguments]
    return Start(command, env, home)


def run_client(client: RealClient, gateway: Gateway, key: str, prompt: str, home: Path, way: Way | None = None) -> Run:
    """Run a client once, to its end."""
    start = prepared(client, gateway, key, prompt, home, way)
    began = time.monotonic()
    done = subprocess.run(
        start.command,
        env=start.env,
        cwd=home,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    return Run(done.returncode, done.stdout, time.monotonic() - began)
