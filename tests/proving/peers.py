"""Other gateways, installed separately and run as their makers recommend for production, for comparison on the same load."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mitmproxy import version

from proving import claude_gateway
from proving.load import Route
from proving.proxies import STREAMING, Proxies, ProxyProcess, listening
from support import postgres
from support.harness import eventually
from support.ports import free_port

MASTER_KEY = "sk-of-the-bench-and-nobody-else"

HOME = Path(".cache/peers")


@dataclass(frozen=True)
class Command:
    """How a peer is started, in which version, and with which header lines it is called."""

    arguments: list[str]
    version: str
    credential: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Peer:
    """A running peer."""

    process: ProxyProcess
    versions: Mapping[str, str]
    """Of itself by its name, and of what works for it."""


@contextlib.contextmanager
def running(name: str, proxies: Proxies) -> Iterator[Peer]:
    """Run the peer with the fake provider behind it.

    Raises CalledProcessError where it cannot be installed, RuntimeError where it cannot be set up.
    """
    if name == "stock":
        yield Peer(proxies.fresh(STREAMING, "peer"), {"stock": version.VERSION})
        return
    if name in COMMANDS:
        with running_command(name, proxies.plain_port, proxies.folder) as peer:
            yield peer
        return
    with claude_gateway.running(proxies.plain_port, proxies.folder) as gateway:
        own, *database = gateway.pids
        credential = (f"authorization: Bearer {gateway.access_token}",)
        routes = {"base": Route(gateway.port)}
        versions = {name: claude_gateway.VERSION, "PostgreSQL": postgres.server_version()}
        yield Peer(ProxyProcess(name, own, routes, helpers=tuple(database), credential=credential), versions)


@contextlib.contextmanager
def running_command(name: str, upstream: int, folder: Path) -> Iterator[Peer]:
    """Run a peer that is one command."""
    port = free_port()
    command = COMMANDS[name](port, upstream, folder)
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command.arguments, env=os.environ | command.env, stdout=log, stderr=log)
        try:
            eventually(lambda: listening(port) or process.poll() is not None, 120)
            if process.poll() is not None:
                raise RuntimeError(f"{name} ended with {process.returncode}: {Path(log.name).read_text()[-1000:]}")
            routes = {"base": Route(port)}
            yield Peer(ProxyProcess(name, process.pid, routes, credential=command.credential), {name: command.version})
        finally:
            process.terminate()
            process.wait()


def litellm(port: int, upstream: int, folder: Path) -> Command:
    """Return LiteLLM's Anthropic pass-through of ``/v1/messages``, one worker as we are one process, without a database."""
    python = HOME / "litellm/bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(HOME / "litellm")], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", "litellm[proxy]"], check=True)
    shown = subprocess.run([str(python), "-m", "pip", "show", "litellm"], capture_output=True, text=True, check=True).stdout
    version = next(x.split()[1] for x in shown.splitlines() if x.startswith("Version"))
    config = folder / "litellm.yaml"
    model = {"model": "anthropic/claude-opus-5-5", "api_key": "sk-dummy", "api_base": f"http://127.0.0.1:{upstream}"}
    models = [{"model_name": "claude-opus-5-5", "litellm_params": model}]
    # Without a key of its own it does not start; ours knows who calls as well.
    config.write_text(json.dumps({"model_list": models, "general_settings": {"master_key": MASTER_KEY}}))
    arguments = [str(HOME / "litellm/bin/litellm"), "--config", str(config), "--port", str(port), "--host", "127.0.0.1"]
    env = {"LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "NO_PROXY": "*"}
    return Command(arguments, version, (f"authorization: Bearer {MASTER_KEY}",), env)


def portkey(port: int, upstream: int, folder: Path) -> Command:
    """Return Portkey's gateway for Node; it has no budgets."""
    home = HOME / "portkey"
    entry = home / "node_modules/@portkey-ai/gateway/build/start-server.js"
    if not entry.exists():
        subprocess.run(["scripts/npm-install", str(home), "@portkey-ai/gateway"], check=True)
    version = json.loads((entry.parents[1] / "package.json").read_text())["version"]
    credential = ("x-api-key: sk-dummy", "x-portkey-provider: anthropic", f"x-portkey-custom-host: http://127.0.0.1:{upstream}/v1")
    return Command(["node", str(entry), f"--port={port}", "--headless"], version, credential, {"NODE_ENV": "production"})


COMMANDS: dict[str, Callable[[int, int, Path], Command]] = {"litellm": litellm, "portkey": portkey}
NAMES = ("stock", "claude-gateway", *COMMANDS)
"""``stock`` is mitmdump with the lines that make it stream, on the same load as the others."""

USUAL = ("stock", "claude-gateway")
"""The peers of a full run."""

SECONDS = {"stock": 55, "claude-gateway": 260, "litellm": 200, "portkey": 130}
"""How long each takes once it is installed, on an idle machine."""


def part(name: str) -> str:
    """Return what the comparison with a peer is called among the parts of the results."""
    return f"peer {name}"
