"""Every real client, both ways to the gateway, in every case: what its user sees, after how many calls, and what is on record.

A cell of the table is one run of one client. Tests run some of them; ``--long`` runs them all and prints the table.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from sluicegate.calls.refusal import NO_BREAK_SPACE, WORD_JOINER
from support.fake_provider import FakeProvider, Peer, Script, Seen, plain
from support.harness import WAIT_S, Gateway, eventually, policy_text
from support.model_apis import FETCH
from support.real_clients import REAL_CLIENTS, TIMEOUT_S, Run, Way, isolated_network, listener_in, prepared, run_client
from support.task_providers import CONTENTS, DONE, PROMPT, WRITE, Api, Chat, Gemini, Messages, in_chunks
from support.task_responses import Responses

WAYS: tuple[Way, ...] = ("proxy", "base URL")
HOUR = {"rate_limit": {"request_max_limit": 0, "request_reset_duration": "1h"}}
ONLY = [{"provider": p, "allowed_models": ["no-*"]} for p in ("anthropic", "openai", "gemini", "qwen")]
STILL_RUNNING = -1
"""In place of the exit code of a client that was ended because it took longer than ``TIMEOUT_S``."""

FETCH_IT = "fetch it"
FAILURE = "The fake provider has failed"


class Case(NamedTuple):
    """What a run meets."""

    title: str
    shown: str
    """The words that its user is to see."""
    asks: str = ""
    """What its prompt asks of the provider."""
    key: Mapping[str, Any] | None = None
    """What the policy says of its virtual key."""


BUDGET = {"budget": {"max_limit": 0, "reset_duration": "1M"}}
CASES = {
    "plain": Case("an answer", DONE),
    "tools": Case("a task with tools", DONE, WRITE + "{home}"),
    "budget": Case("budget used up", "Budget exceeded: ", key=BUDGET),
    "hour": Case("rate limit of an hour", "Rate limits exceeded: [request limit exceeded (1/0, resets every 1h)]", key=HOUR),
    "model": Case("model not allowed", "is not allowed for this virtual key. Allowed: no-*", key={"provider_configs": ONLY}),
    "inactive": Case("key inactive", "' is inactive", key={"is_active": False}),
    "error": Case("the provider answers 500", FAILURE, "status=500;"),
    "overload": Case("the provider is overloaded", FAILURE, "status=529;"),
    "unreachable": Case("the provider cannot be reached", "The provider cannot be reached"),
    "broken": Case("its stream breaks off once", DONE, "break=once;"),
    "reset": Case("its stream breaks off each time", FAILURE, "break=always;"),
    "leaving": Case("the user leaves in mid-answer", DONE, "hold=always;"),
}
MODEL_PATHS = ("/messages", "/responses", "/chat/completions", ":streamGenerateContent", ":generateContent")
REFUSALS = ("budget", "hour", "model", "inactive")


class Cell(NamedTuple):
    """One run of the table."""

    client: str
    way: Way
    case: str

    @property
    def key(self) -> str:
        """The virtual key of the run."""
        return f"{self.client}-{self.way.replace(' ', '-').lower()}-{self.case}"


FETCHING = Cell("claude-code", "proxy", "plain")
"""Here the client is told to fetch a page before it answers: for that it asks its provider's leave."""

ALL = [Cell(client, way, case) for client in REAL_CLIENTS for case in CASES for way in WAYS]


def by_name(name: str, apis: dict[str, Api]) -> list[Api]:
    """Return the APIs of a provider."""
    return [apis["chat"], apis["responses"]] if name in ("openai", "qwen") else [apis[name]]


@dataclass
class Provider:
    """A provider that does what the prompts of the cases ask for."""

    apis: list[Api]
    broken: set[str] = field(default_factory=set)
    holding: dict[str, threading.Event] = field(default_factory=dict)
    """Answers in the middle of which a client is to leave, by virtual key; set once they have begun."""

    def answer(self, peer: Peer, seen: Seen) -> None:
        """Answer a request, or fail as it asks."""
        path = seen.target.partition("?")[0]
        api = next((a for a in self.apis if path.endswith(a.paths)), None)
        said = seen.body.decode("utf-8", "replace")
        if path == "/api/web/domain_info":
            plain(b'{"can_fetch":true}')(peer, seen)
            return
        if FETCH_IT in said and "tool_result" not in said and isinstance(api, Messages):
            in_chunks(b"".join(api.calling([("WebFetch", FETCH)], {})))(peer, seen)
            return
        found = re.search(r"\[(\w+)=(\w+); in ([\w-]+)\]", said)
        if api is None or not found:
            (api or self.apis[0]).answer(peer, seen)
            return
        what, how, key = found.groups()
        if what == "status":
            status = int(how) if how != "529" or isinstance(api, Messages) else 503
            plain(json.dumps(failure(api, status)).encode(), status)(peer, seen)
        elif what == "break" and (how == "always" or key not in self.broken):
            self.broken.add(key)
            begun(api, then_reset=True)(peer, seen)
        elif what == "hold":
            self.holding[key].set()
            begun(api)(peer, seen)
        else:
            api.answer(peer, seen)


def failure(api: Api, status: int) -> dict[str, Any]:
    """Return the body of a failure that is the provider's own, in its words."""
    if isinstance(api, Messages):
        return {"type": "error", "error": {"type": "overloaded_error" if status == 529 else "api_error", "message": FAILURE}}
    if isinstance(api, Gemini):
        return {"error": {"code": status, "message": FAILURE, "status": "UNAVAILABLE" if status == 503 else "INTERNAL"}}
    return {"error": {"message": FAILURE, "type": "server_error", "param": None, "code": None}}


def begun(api: Api, *, then_reset: bool = False) -> Script:
    """Return an answer that begins, and then breaks off or says nothing more until its reader leaves."""

    def run(peer: Peer, _: Seen) -> None:
        peer.head(200, "content-type: text/event-stream", "transfer-encoding: chunked")
        for piece in api.saying(DONE)[:4]:
            peer.chunk(piece)
        if then_reset:
            peer.reset()
        else:
            peer.conn.settimeout(WAIT_S)
            with contextlib.suppress(TimeoutError):
                peer.conn.recv(1)

    return run


class ClaudeMessages(Messages):
    """Anthropic's Messages for Claude Code, whose newest fields are nobody else's to judge."""

    def problems(self, body: dict[str, Any], seen: Seen) -> Iterator[str]:
        """Judge all but fields that only this client sends."""
        yield from (p for p in super().problems(body, seen) if not p.startswith("diagnostics:"))


class QwenChat(Chat):
    """Chat Completions as DashScope has them, which takes Qwen Code's fields for thinking."""

    def problems(self, body: dict[str, Any], seen: Seen) -> Iterator[str]:
        """Judge all but those."""
        yield from (p for p in super().problems(body, seen) if not p.endswith(("'preserve_thinking'.", "unknown 'reasoning'")))


@dataclass
class Matrix:
    """The gateways, the providers behind them, and the runs."""

    gateway: Gateway
    apart: Gateway
    """One whose providers are not there, if any cell needs it."""
    apis: dict[str, Api]
    provider: Provider
    fakes: dict[str, FakeProvider]
    folder: Path
    runs: dict[Cell, Future[Run]] = field(default_factory=dict)

    def run(self, cell: Cell) -> Run:
        """Run a cell's client."""
        home = self.folder / cell.key
        case, client = CASES[cell.case], REAL_CLIENTS[cell.client]
        client = replace(client, arguments=(*client.arguments, *client.tool_options)) if cell.case == "tools" else client
        asks = case.asks.replace("{home}", str(home)) or (FETCH_IT if cell == FETCHING else "say hi")
        if asks.endswith(";"):
            asks = f"[{asks} in {cell.key}]"
        gateway = self.apart if cell.case == "unreachable" else self.gateway
        prompt = f"{PROMPT} {asks}"
        if cell.case != "leaving":
            began = time.monotonic()
            try:
                return run_client(client, gateway, cell.key, prompt, home, cell.way)
            except subprocess.TimeoutExpired as e:
                return Run(STILL_RUNNING, str(e.stdout), time.monotonic() - began)
        start = prepared(client, gateway, cell.key, prompt, home, cell.way)
        has_begun = self.provider.holding.setdefault(cell.key, threading.Event())
        began = time.monotonic()
        with (home / "output.txt").open("w+") as output:
            process = subprocess.Popen(
                start.command,
                env=start.env,
                cwd=home,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
            try:
                assert has_begun.wait(4 * WAIT_S), (home / "output.txt").read_text()
                # By then it has got what was said.
                time.sleep(0.2)
                # As a terminal does on ^C: to all that the client has started.
                os.killpg(process.pid, signal.SIGINT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(WAIT_S / 6)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        return Run(process.returncode, (home / "output.txt").read_text(), time.monotonic() - began)

    def rows(self, cell: Cell) -> list[dict[str, Any]]:
        """Return the model calls of a run that are on record, once there are any."""
        gateway = self.apart if cell.case == "unreachable" else self.gateway
        ask = f"SELECT * FROM calls WHERE virtual_key_id = '{cell.key}' ORDER BY rowid"
        return list(eventually(lambda: [r for r in gateway.rows(ask) if r["path"].endswith(MODEL_PATHS)]))

    def seen(self, cell: Cell) -> str:
        """Return the text of a cell: what happened, in words that are the same from run to run."""
        done, rows = self.runs[cell].result(), self.rows(cell)
        text = done.text.replace(NO_BREAK_SPACE, " ").replace(WORD_JOINER, "")
        is_shown = CASES[cell.case].shown in text
        if cell.case == "leaving":
            return f"{rows[-1]['outcome']}, {'charged' if rows[-1]['cost_nano'] > 0 else 'free'}"
        if done.status == STILL_RUNNING:
            return f"{'shown' if is_shown else 'nothing shown'}, and tries on after {TIMEOUT_S} s"
        if cell.case == "tools":
            return "done" if is_shown and done.status == 0 and self.has_files(cell) else "not done"
        if cell.case in ("plain", "broken") and is_shown:
            return "answered" if done.status == 0 else f"answered, exit code {done.status}"
        tries = "at once" if len(rows) == 1 else f"after {len(rows)} calls"
        words = f"{'shown' if is_shown else 'words of its own'} {tries}"
        return f"{rows[0]['status']}, {words}" if cell.case in REFUSALS else words

    def has_files(self, cell: Cell) -> bool:
        """Return whether a run's tools have made what they were asked for."""
        home = self.folder / cell.key
        return all((home / name).exists() and (home / name).read_text() == text for name, text in CONTENTS.items())


def is_ours_to_mend(cell: Cell, seen: str) -> bool:
    """Return whether a cell shows what the gateway answers for."""
    if cell.case in REFUSALS:
        return not re.fullmatch(r"4\d\d, shown at once", seen)
    wanted = {"plain": "answered", "tools": "done", "leaving": "cancelled, charged"}.get(cell.case)
    if wanted is not None:
        return seen != wanted
    return cell.case == "unreachable" and not seen.startswith("shown")


def table(texts: Mapping[Cell, str], versions: Mapping[str, str]) -> list[str]:
    """Return the lines of the table: cases by clients, both ways in one cell where they are the same."""
    lines = ["| | " + " | ".join(f"{client} {versions[client]}" for client in REAL_CLIENTS) + " |"]
    lines.append("| --- |" + " --- |" * len(REAL_CLIENTS))
    for name, case in CASES.items():
        shown = [joined([texts.get(Cell(client, way, name), "") for way in WAYS]) for client in REAL_CLIENTS]
        lines.append(f"| {case.title} | " + " | ".join(shown) + " |")
    return lines


def joined(texts: list[str]) -> str:
    """Return what a cell of the table says of both ways."""
    if len(set(texts)) == 1:
        return texts[0]
    return "; ".join(f"{text} ({way})" for text, way in zip(texts, WAYS, strict=True) if text)


@contextlib.contextmanager
def matrix(folder: Path, cells: list[Cell], workers: int) -> Iterator[Matrix]:
    """Start the gateways, and run the cells side by side."""
    with ExitStack() as stack:
        netns = stack.enter_context(isolated_network())
        apis: dict[str, Api] = {"anthropic": ClaudeMessages(), "chat": QwenChat(), "responses": Responses(), "gemini": Gemini()}
        provider = Provider([])
        fakes: dict[str, FakeProvider] = {}
        for name in ("anthropic", "openai", "gemini", "qwen"):
            one = Provider(by_name(name, apis), provider.broken, provider.holding)
            fakes[name] = stack.enter_context(FakeProvider(one.answer, listener=listener_in(netns)))
        urls = {name: fake.url for name, fake in fakes.items()}
        keys = [{"id": cell.key, **(CASES[cell.case].key or {})} for cell in cells]
        gateways = []
        nowhere = {name: f"http://127.0.0.1:{port}" for port, name in enumerate(urls, 1)}
        for bases in (urls, nowhere):
            bases["qwen"] += "/compatible-mode"
        needed = (("there", urls), ("apart", nowhere)) if any(cell.case == "unreachable" for cell in cells) else (("there", urls),)
        for name, bases in needed:
            (folder / name).mkdir()
            providers = {
                p: {"base_url": url, "keys": [{"name": "k", "value": f"sk-real-{p if p != 'qwen' else 'openai'}"}]}
                for p, url in bases.items()
            }
            gateway = Gateway(folder / name, policy_text(providers=providers, virtual_keys=keys), netns=netns)
            stack.callback(gateway.stop)
            gateways.append(gateway.start())
        made = Matrix(gateways[0], gateways[-1], apis, provider, fakes, folder)
        pool = stack.enter_context(ThreadPoolExecutor(workers))
        made.runs = {cell: pool.submit(made.run, cell) for cell in cells}
        yield made
