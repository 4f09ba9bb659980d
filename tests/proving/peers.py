"""Other gateways, installed separately and run at their fastest settings, for comparison on the same load."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from proving import load
from proving.proxies import listening
from support.harness import eventually
from support.ports import free_port

REACH = {"litellm": 10.0, "portkey": 1.2}
"""The target for our throughput, as a multiple of theirs."""

MASTER_KEY = "sk-of-the-bench-and-nobody-else"

HOME = Path(".cache/peers")


@dataclass
class Peer:
    """A running peer."""

    port: int
    version: str
    headers: tuple[str, ...] = ()

    def request(self, size: int) -> bytes:
        """Return the bytes of a call as the peer expects it."""
        raw = load.request(load.body(size))
        head, _, content = raw.partition(b"\r\n\r\n")
        return b"\r\n".join([head, *(h.encode() for h in self.headers)]) + b"\r\n\r\n" + content


@contextlib.contextmanager
def running(name: str, upstream: int, folder: Path) -> Iterator[Peer]:
    """Run the peer with the fake provider behind it. Raises CalledProcessError where it cannot be installed."""
    port = free_port()
    command, peer, env = (litellm if name == "litellm" else portkey)(port, upstream, folder)
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, env=os.environ | env, stdout=log, stderr=log)
        try:
            eventually(lambda: listening(port) or process.poll() is not None, 120)
            if process.poll() is not None:
                raise RuntimeError(f"{name} ended with {process.returncode}: {Path(log.name).read_text()[-1000:]}")
            yield peer
        finally:
            process.terminate()
            process.wait()


def litellm(port: int, upstream: int, folder: Path) -> tuple[list[str], Peer, dict[str, str]]:
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
    command = [str(HOME / "litellm/bin/litellm"), "--config", str(config), "--port", str(port), "--host", "127.0.0.1"]
    env = {"LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "NO_PROXY": "*"}
    return command, Peer(port, version, (f"authorization: Bearer {MASTER_KEY}",)), env


def portkey(port: int, upstream: int, folder: Path) -> tuple[list[str], Peer, dict[str, str]]:
    """Return Portkey's gateway for Node; it has no budgets."""
    home = HOME / "portkey"
    entry = home / "node_modules/@portkey-ai/gateway/build/start-server.js"
    if not entry.exists():
        install = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--no-package-lock", "--prefix", str(home)]
        subprocess.run([*install, "@portkey-ai/gateway"], check=True)
    version = json.loads((entry.parents[1] / "package.json").read_text())["version"]
    headers = ("x-portkey-provider: anthropic", f"x-portkey-custom-host: http://127.0.0.1:{upstream}/v1")
    return ["node", str(entry), f"--port={port}", "--headless"], Peer(port, version, headers), {"NODE_ENV": "production"}
