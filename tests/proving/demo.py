"""A demo: the story of a company that governs its coding agents, with a real gateway, proxy and TLS and a simulated provider."""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import random
import re
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from proving import company

ROOT = Path(__file__).resolve().parents[2]
PROVIDER = "api.anthropic.com"
MODEL = "claude-opus-5-5"
HAIKU = "claude-haiku-5-5"

POLICY = """\
version: 1
providers:
  anthropic: {simulate: true}
customers:
  - {id: customer-acme, name: Acme Corp, budget: {max_limit: 5000.00, reset_duration: 1M}}
teams:
  - {id: team-engineering, name: Engineering Team, customer_id: customer-acme, budget: {max_limit: 500.00, reset_duration: 1M}}
  - {id: team-data-science, name: Data Science Team, customer_id: customer-acme}
virtual_keys:
  - {id: vk-dev-alice, team_id: team-engineering, budget: {max_limit: 50.00, reset_duration: 1M}}
  - {id: vk-eng-team, team_id: team-engineering}
  - {id: vk-ds-team, team_id: team-data-science}
  - id: vk-ci
    team_id: team-engineering
    rate_limit: {request_max_limit: 3, request_reset_duration: 1h}
    provider_configs: [{provider: anthropic, allowed_models: ["claude-haiku-*"]}]
"""


@dataclass
class Answer:
    """What a client saw: status, headers in lower case, parsed body."""

    status: int
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def message(self) -> str:
        """Return the error's message, as a client shows it."""
        return str(self.body.get("error", {}).get("message", ""))


class Gateway:
    """A real mitmdump with the chain, on a port and a state folder of its own."""

    def __init__(self, folder: Path, port: int, policy: str = POLICY) -> None:
        (folder / "policy.yaml").write_text(policy)
        env = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        mitmdump = Path(sys.executable).with_name("mitmdump")
        self.folder = folder
        self.process = subprocess.Popen(
            [
                str(mitmdump), "-q", "-s", str(ROOT / "addons/gateway.py"), "--listen-port", str(port),
                "--set", f"policy={folder / 'policy.yaml'}", "--set", f"state_dir={folder / 'state'}",
            ],
            env=env | {"PYTHONUNBUFFERED": "1"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self.lines: list[str] = []
        self.up = threading.Event()
        self.port = port
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                self.port = int(found[1])
                self.up.set()
        self.up.set()

    def wait(self) -> None:
        """Wait until it answers. Raises RuntimeError with its output if it does not come up."""
        if not self.up.wait(30) or self.process.poll() is not None:
            raise RuntimeError("the gateway did not start:\n" + "\n".join(self.lines[-5:]))
        self.ca = ssl.create_default_context(cafile=str(self.folder / "state/ca/mitmproxy-ca-cert.pem"))

    def post(self, key: str, body: str, more: dict[str, str] | None = None) -> tuple[int, dict[str, str], bytes]:
        """Make a call as Claude Code does: CONNECT through the proxy, TLS, the virtual key in x-api-key."""
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=self.ca, timeout=30)
        connection.set_tunnel(PROVIDER, 443)
        headers = {"x-api-key": key, "anthropic-version": "2023-06-01", "content-type": "application/json"} | (more or {})
        connection.request("POST", "/v1/messages", body, headers)
        response = connection.getresponse()
        raw = response.read()
        connection.close()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, raw

    def ask(self, key: str, words: str, model: str = MODEL) -> Answer:
        """Make a call and return its answer."""
        body = {"model": model, "max_tokens": 1024, "messages": [{"role": "user", "content": words}]}
        status, headers, raw = self.post(key, json.dumps(body))
        return Answer(status, headers, json.loads(raw))

    def usage(self) -> dict[str, dict[str, Any]]:
        """Return the gateway's own usage table, by scope id."""
        token = (self.folder / "state/admin-token").read_text().strip()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("GET", "/api/usage", headers={"authorization": f"Bearer {token}"})
        rows = json.loads(connection.getresponse().read())["usage"]
        connection.close()
        return {r["id"]: r for r in rows if r.get("limit_usd") is not None}

    def stop(self) -> None:
        """End it."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()


class Story:
    """Plays the steps and counts those that failed."""

    def __init__(self, gateway: Gateway, console: Console) -> None:
        self.gateway, self.console, self.failed = gateway, console, 0

    def title(self, text: str) -> None:
        """Begin a new chapter."""
        self.console.print(f"\n[bold cyan]{escape(text)}[/]")

    def expect(self, holds: bool, what: str) -> None:
        """Print whether a step had the expected result."""
        self.failed += not holds
        self.console.print(f"  [bold green]✓[/] {escape(what)}" if holds else f"  [bold red]✗ {escape(what)}[/]")

    def call(self, who: str, words: str, model: str = MODEL) -> Answer:
        """Make a call and show what the client saw."""
        answer = self.gateway.ask(who, words, model)
        colour = "green" if answer.status < 400 else "yellow"
        shown = answer.message or "".join(b.get("text", "") for b in answer.body.get("content", []))
        self.console.print(f"  [dim]{who} → {model}[/]  [bold {colour}]{answer.status}[/]  {escape(shown[:200])}")
        return answer

    def play(self) -> None:
        """Play the whole story."""
        ask, usage = self.gateway.ask, self.gateway.usage
        self.title("1  A month at Acme so far")
        ask("vk-dev-alice", "[simulate cost=48.00]")
        ask("vk-eng-team", "[simulate cost=402.00]")
        ask("vk-ds-team", "[simulate cost=4350.00]")
        before = {i: float(r["used_usd"]) for i, r in usage().items()}
        expected = {"vk-dev-alice": 48, "team-engineering": 450, "customer-acme": 4800}
        for scope, spent in expected.items():
            self.expect(abs(before[scope] - spent) < 0.005, f"{scope} has used ${before[scope]:,.2f}")

        self.title("2  Alice makes a $2 call: every budget has room, and all of them move")
        answer = self.call("vk-dev-alice", "[simulate cost=2.00] create a REST API for user management")
        self.expect(answer.status == 200, "the call passed")
        after = {i: float(r["used_usd"]) for i, r in usage().items()}
        for scope in expected:
            moved = after[scope] - before[scope]
            self.expect(abs(moved - 2) < 0.005, f"{scope}: ${before[scope]:,.2f} → ${after[scope]:,.2f}")

        self.title("3  Her next call is refused before a cent is spent")
        answer = self.call("vk-dev-alice", "one more, please")
        self.expect(answer.status == 402, "402, and the client is told not to retry")
        self.expect(answer.headers.get("x-should-retry") == "false", "x-should-retry: false")
        self.expect(
            "Budget exceeded: VK budget exceeded: 50.00 > 50.00 dollars" in answer.message,
            "it names the level and the numbers",
        )
        self.expect({i: float(r["used_usd"]) for i, r in usage().items()} == after, "and nothing was charged")

        self.title("4  A rate limit: three calls an hour for the CI key")
        answers = [self.call("vk-ci", f"run {n}", HAIKU) for n in range(1, 5)]
        self.expect([a.status for a in answers] == [200, 200, 200, 429], "exactly three pass")
        self.expect("(4/3, resets every 1h)" in answers[-1].message, "the fourth is counted and told when to come back")
        self.expect(
            answers[-1].headers.get("retry-after", "").isdigit(),
            f"retry-after: {answers[-1].headers.get('retry-after')} s",
        )

        self.title("5  A model the key may not use")
        answer = self.call("vk-ci", "use the big one", MODEL)
        self.expect(answer.status == 403 and answer.headers.get("x-sluicegate-reason") == "model_blocked", "model_blocked")

    def table(self) -> None:
        """Print who has used what."""
        table = Table(title="\nUsage by scope", title_justify="left", box=None, header_style="bold")
        for name, justify in (
            ("scope", "left"),
            ("used", "right"),
            ("limit", "right"),
            ("", "left"),
            ("resets", "left"),
        ):
            table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
        for row in self.gateway.usage().values():
            share = min(1.0, float(row["used_usd"]) / (float(row["limit_usd"]) or 1))
            colour = "red" if share >= 1 else "yellow" if share >= 0.8 else "green"
            bar = f"[{colour}]{'█' * round(share * 10)}[/][dim]{'░' * (10 - round(share * 10))}[/]"
            table.add_row(
                f"{row['kind']} {row['id']}", f"${float(row['used_usd']):,.2f}", f"${float(row['limit_usd']):,.2f}", bar,
                str(row["resets_at"] or "never")[:10],
            )  # fmt: skip
        self.console.print(table)


def main() -> int:
    """Run the demo; return 0 only if every step had the expected result."""
    parser = argparse.ArgumentParser(description="Play sluicegate's story against a simulated provider.")
    parser.add_argument(
        "--once", action="store_true", help="exit after the story, with 0 only if every step had the expected result"
    )
    parser.add_argument("--port", type=int, default=8080, help="where the dashboard is when the story is over (default: 8080)")
    options = parser.parse_args()
    console = Console()
    folder = Path(tempfile.mkdtemp(prefix="sluicegate-demo-"))
    try:
        if not play(folder / "story", console):
            return 1
        if not options.once:
            keep_running(folder / "company", options.port, console)
        return 0
    except (RuntimeError, OSError) as e:
        console.print(f"[bold red]{escape(str(e))}[/]")
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def play(folder: Path, console: Console) -> bool:
    """Play the story on a gateway of its own; return whether every step had the expected result."""
    folder.mkdir()
    console.print("[dim]starting a gateway with a simulated provider …[/]")
    gateway = Gateway(folder, 0)
    try:
        gateway.wait()
        story = Story(gateway, console)
        story.play()
        story.table()
        if story.failed:
            console.print(f"\n[bold red]{story.failed} steps failed.[/]")
            console.print("\n".join(escape(x) for x in gateway.lines[-20:]))
            return False
        console.print("\n[bold green]Every step had the expected result.[/]")
        return True
    finally:
        gateway.stop()


def keep_running(folder: Path, port: int, console: Console) -> None:
    """Run a gateway with a small company's history and live calls until Ctrl-C; print how to look at it."""
    folder.mkdir()
    console.print("[dim]creating a small company's last weeks of calls …[/]")
    policy = folder / "policy.yaml"
    policy.write_text(company.POLICY)
    calls = company.play(policy, folder / "state")
    gateway, over = Gateway(folder, port, company.POLICY), threading.Event()
    try:
        gateway.wait()
        threading.Thread(target=keep_calling, args=(gateway, over), daemon=True).start()
        token = (folder / "state/admin-token").read_text().strip()
        console.print(
            f"""
[bold]The dashboard[/]   http://127.0.0.1:{gateway.port}/
[bold]Sign in with[/]    {token}
[dim]                or as a developer, who sees only their own calls, with a key such as vk-alice[/]

{calls:,} calls of nine keys are recorded, and more are being made right now. Ctrl-C ends it. In another terminal:

  export HTTPS_PROXY=http://127.0.0.1:{gateway.port}
  export NODE_EXTRA_CA_CERTS={folder}/state/ca/mitmproxy-ca-cert.pem
  ANTHROPIC_API_KEY=vk-alice claude -p "say hi"           [dim]# answered by the simulated provider, live under Calls[/]
  ANTHROPIC_API_KEY=vk-grace claude -p "say hi"           [dim]# refused: her project's budget is spent[/]

  curl -H "Authorization: Bearer {token}" http://127.0.0.1:{gateway.port}/metrics
  $EDITOR {folder}/policy.yaml                    [dim]# edits take effect within a second[/]
""",
            soft_wrap=True,
        )
        while gateway.process.poll() is None:
            time.sleep(0.5)
    except KeyboardInterrupt:
        console.print("[dim]stopping …[/]")
    finally:
        over.set()
        gateway.stop()


def keep_calling(gateway: Gateway, over: threading.Event) -> None:
    """Make calls as the company's agents would: at odd intervals, several at a time."""
    chance = random.Random()
    while not over.wait(chance.expovariate(1 / 2.0)):
        threading.Thread(target=one_call, args=(gateway, *company.asking(chance)), daemon=True).start()


def one_call(gateway: Gateway, key: str, body: str, headers: dict[str, str]) -> None:
    """Make a call and ignore its answer; the dashboard shows it."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        gateway.post(key, body, headers)


if __name__ == "__main__":
    sys.exit(main())
