"""Real clients and official SDKs take kept answers: what they show is the same as the first time."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from support import model_apis
from support.fake_provider import FakeProvider, Peer, Seen, plain, streamed
from support.harness import VK, Gateway, eventually, policy_text
from support.real_clients import REAL_CLIENTS, TIMEOUT_S, isolated_network, listener_in, prepared, program
from wire.test_official_sdks import CLIENTS, RESOURCES, outcome, provider

pytestmark = [pytest.mark.wire, pytest.mark.client]

CACHE = {"exact": {"enabled": True}}

NOT_KEPT = ("count_tokens", "unknown", "models.list", "models.retrieve", "models.get", "responses.")
"""What no cache answers: other requests, errors, and responses that their provider keeps."""


def codex_provider(peer: Peer, seen: Seen) -> None:
    if "/responses" in seen.target:
        streamed(model_apis.responses("gpt-5.1"))(peer, seen)
    else:
        plain(b'{"object":"list","data":[]}')(peer, seen)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    program("claude-code")
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(isolated_network())
        openai = stack.enter_context(FakeProvider(codex_provider, listener=listener_in(network)))
        providers = {
            "anthropic": {"simulate": True},
            "openai": {"base_url": openai.url, "keys": [{"name": "k", "value": "sk-real"}]},
        }
        text = policy_text(providers=providers, cache=CACHE)
        yield stack.enter_context(Gateway(tmp_path_factory.mktemp("cached"), text, netns=network))


@pytest.mark.parametrize("name", ["claude-code", "codex"])
def test_a_client_shows_a_kept_answer_as_it_showed_the_first(lab, tmp_path, name):
    program(name)
    start = prepared(REAL_CLIENTS[name], lab, VK, "say hi", tmp_path / "home", "base URL")
    rows = f"SELECT * FROM calls WHERE provider = '{REAL_CLIENTS[name].provider}' AND model_requested IS NOT NULL ORDER BY rowid"

    def run() -> tuple[int, str, list[Any]]:
        before = len(lab.rows(rows))
        done = subprocess.run(
            start.command,
            env=start.env,
            cwd=start.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        return done.returncode, done.stdout, eventually(lambda: lab.rows(rows)[before:])

    first, second = run(), run()
    assert first[0] == second[0] == 0
    assert first[1] == second[1] != ""
    assert [row["cache"] for row in first[2]] == ["miss"]
    assert [(row["cache"], row["cost_nano"], row["outcome"]) for row in second[2]] == [("hit", 0, "completed")]
    assert second[2][0]["saved_nano"] > 0


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, dict[str, FakeProvider]]]:
    with contextlib.ExitStack() as stack:
        fakes = {api: stack.enter_context(FakeProvider(provider(api))) for api in CLIENTS}
        providers = {n: {"base_url": f.url, "keys": [{"name": "k", "value": f"sk-real-{n}"}]} for n, f in fakes.items()}
        text = policy_text(providers=providers, cache=CACHE)
        yield stack.enter_context(Gateway(tmp_path_factory.mktemp("sdks"), text)), fakes


def timeless(value: Any) -> Any:
    """Return an answer without what is new each time it is given."""
    if isinstance(value, list):
        return [timeless(v) for v in value]
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if k not in ("id", "created", "created_at", "response_id")}
    return value


KEPT = [name for name in RESOURCES if not any(part in name for part in NOT_KEPT)]


@pytest.mark.parametrize("name", [*KEPT, "responses.stream, not stored"])
def test_an_sdk_reads_a_kept_answer_as_it_read_the_first(edge, name):
    gateway, fakes = edge
    api, call = RESOURCES.get(name) or (
        "openai",
        lambda c: list(c.responses.create(model="gpt-5.1", input="Hi", stream=True, store=False)),
    )
    client = CLIENTS[api](f"http://127.0.0.1:{gateway.port}", VK)
    first = outcome(call, client)
    sent = len(fakes[api].seen)
    second = outcome(call, client)
    assert len(fakes[api].seen) == sent
    assert timeless(first) == timeless(second)
    assert first
