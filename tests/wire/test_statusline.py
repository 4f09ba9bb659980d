"""What a developer sees coming: the status line, by itself and under the real interactive client."""

from __future__ import annotations

import json
import shlex
import socket
import subprocess
import threading
import uuid
from collections.abc import Iterator

import pytest

from sluicegate.cli.main import app
from support.command import SLUICEGATE, CliRunner, sluicegate
from support.harness import VK, ask, eventually, policy_text
from support.real_clients import program

pytestmark = pytest.mark.wire

MONTH = {"max_limit": 50, "reset_duration": "1M"}
SESSION = json.dumps({"model": {"id": "claude-opus-5-5"}, "rate_limits": {"five_hour": {"used_percentage": 12}}})
UNANSWERED = "sluicegate: the gateway does not answer\n"


def statusline(*options: str, **env: str) -> str:
    done = sluicegate("statusline", "--no-colour", *options, stdin="{}", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def answered(*options: str, **env: str) -> str:
    """The line about a gateway that runs: a busy machine may let a try end before it is answered."""
    return eventually(lambda: (shown := statusline(*options, **env)) != UNANSWERED and shown)


def test_it_says_what_is_left_also_when_there_is_nothing_to_ask(gateway):
    rate = {"request_max_limit": 3, "request_reset_duration": "1h"}
    off, old = {"id": "vk-off", "is_active": False}, {"id": "vk-old", "expires_at": "2020-01-01T00:00:00Z"}
    gw = gateway(policy_text(virtual_keys=[{"id": VK, "budget": MONTH, "rate_limit": rate}, off, old]))
    assert answered(HTTPS_PROXY=f"http://{VK}:@127.0.0.1:{gw.port}").startswith("░░░░░░░░ $50.00 of $50.00 left, resets ")
    gw.post()
    gw.post()
    gw.calls(2)
    shown = answered(ANTHROPIC_BASE_URL=gw.url, ANTHROPIC_API_KEY=VK)
    assert shown.startswith("█████░░░ $49.999 of $50.00 left, resets ")
    assert "· 1 of 3 calls left, resets " in shown
    for unusable, why in (("vk-off", "is inactive"), ("vk-old", "has expired"), ("vk-nobody", "is unknown")):
        assert answered("--gateway", gw.url, "--key", unusable) == f"sluicegate: the virtual key {why}\n"
    assert json.loads(answered("--json", "--gateway", gw.url, "--key", VK))["virtual_key_id"] == VK
    told = json.loads(
        sluicegate(
            "statusline", "--format", "json", stdin=SESSION, env={"ANTHROPIC_BASE_URL": gw.url, "ANTHROPIC_API_KEY": VK}
        ).stdout
    )
    limit = told["rate_limits"].pop("spend_limit")
    assert told == json.loads(SESSION)
    assert (limit["limit_usd"], limit["period"], 0 < limit["used_usd"] < 0.01) == (50, "monthly", True)
    assert statusline("--format", "json", "--gateway", "http://127.0.0.1:9", "--key", VK) == "{}\n"
    assert statusline() == "sluicegate: no gateway and virtual key in the environment\n"
    assert statusline("--gateway", "http://127.0.0.1:9", "--key", VK) == UNANSWERED
    assert statusline("--gateway", "nonsense", "--key", VK) == UNANSWERED
    without_port = statusline("--gateway", "http://127.0.0.1:port", "--key", VK)
    assert without_port == "sluicegate: the answer is not from a sluicegate gateway\n"


@pytest.mark.parametrize(
    "answer", [b"garbage\r\n\r\n", *(b"HTTP/1.1 200 OK\r\n\r\n" + x for x in (b"{}", b"[1]", b'{"budgets": [{}]}'))]
)
def test_whatever_answers_it_is_one_line_and_never_a_failure(monkeypatch, answer):
    # In this process, where a busy machine may take longer for the answer than a prompt would wait for it.
    monkeypatch.setattr("sluicegate.cli.statusline_output.TIMEOUT_S", 60.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answering, args=(server, answer))
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        done = CliRunner().invoke(app, ["statusline", "--no-colour", "--gateway", url, "--key", VK], input="{}")
        assert (done.exit_code, done.output) == (0, "sluicegate: the answer is not from a sluicegate gateway\n")
        thread.join()


def answering(server: socket.socket, answer: bytes) -> None:
    """Answer one connection so, whatever it asks."""
    client, _ = server.accept()
    with client:
        client.recv(10_000)
        client.sendall(answer)


@pytest.fixture
def terminal() -> Iterator[list[str]]:
    """A tmux of our own; the command to talk to it."""
    tmux = ["tmux", "-L", f"sluicegate-{uuid.uuid4().hex[:8]}"]
    yield tmux
    subprocess.run([*tmux, "kill-server"], capture_output=True)


@pytest.mark.client
def test_the_real_client_shows_it_and_it_moves(gateway, terminal, tmp_path):
    gw = gateway(policy_text(virtual_keys=[{"id": VK, "budget": {"max_limit": 1, "reset_duration": "1d"}}]))
    home, work = tmp_path / "home", tmp_path / "work"
    work.mkdir()
    home.mkdir()
    known = {"hasCompletedOnboarding": True, "theme": "dark", "customApiKeyResponses": {"approved": [VK[-20:]], "rejected": []}}
    known["projects"] = {str(work): {"hasTrustDialogAccepted": True, "hasCompletedProjectOnboarding": True}}
    (home / ".claude.json").write_text(json.dumps(known))
    link = tmp_path / "claude"
    link.symlink_to(program("claude-code"))
    env = {"HOME": str(home), "PATH": "/usr/bin:/bin", "TERM": "xterm-256color", "LANG": "C.UTF-8", "TZ": "UTC"}
    # What it does besides its calls does not go through a base URL, and nothing here is to reach another machine.
    env["CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"] = "1"
    assignments = [f"{k}={v}" for k, v in env.items()]
    command = ["env", "-i", *assignments, SLUICEGATE, "run", "--gateway", gw.url, "--key", VK, "--", str(link)]
    subprocess.run([*terminal, "new-session", "-d", "-x", "160", "-y", "40", "-c", str(work), shlex.join(command)], check=True)

    def screen() -> str:
        shown = subprocess.run([*terminal, "capture-pane", "-p"], capture_output=True, text=True).stdout
        (tmp_path / "screen.txt").write_text(shown)
        return shown

    def shows(words: str) -> None:
        try:
            eventually(lambda: words in screen(), interval_s=0.25)
        except AssertionError:
            raise AssertionError(f"{words!r} is not on the screen:\n{screen()}") from None

    shows("$1.00 of $1.00 left, resets ")
    subprocess.run([*terminal, "send-keys", "say hi", "Enter"], check=True)
    shows("Hello from the simulated provider.")
    # The client shows an answer before the gateway has charged it.
    eventually(lambda: gw.used() > 0.02)
    eventually(lambda: f"${1 - gw.used():.2f} of $1.00 left, resets " in screen(), interval_s=0.25)
    assert 0 < 1 - gw.used() < 0.98
    while gw.post(ask("x" * 40_000)).status == 200:
        pass
    subprocess.run([*terminal, "send-keys", "again", "Enter"], check=True)
    shows("API Error: Request rejected (429) · Budget exceeded: virtual key")
    shows("$0.00 of $1.00 left, resets ")


def test_env_prints_the_settings_that_show_it(gateway, tmp_path):
    gw = gateway()
    options = ["env", "--gateway", gw.url, "--key", VK, "--ca", str(tmp_path / "ca.pem"), "--format", "claude-settings"]
    done = subprocess.run([SLUICEGATE, *options], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True)
    settings = json.loads(done.stdout)

    def shown() -> str:
        command = ["sh", "-c", settings["statusLine"]["command"]]
        return subprocess.run(command, env={"PATH": "/usr/bin:/bin"} | settings["env"], capture_output=True, text=True).stdout

    eventually(lambda: "$50.00 of $50.00 left, resets " in shown())


def test_settings_of_ones_own_are_left_alone(tmp_path):
    from sluicegate.cli.statusline import with_statusline

    home = {"HOME": str(tmp_path)}
    given = with_statusline(["claude", "-p", "hi"], home)
    assert (given[0], given[1], given[3:]) == ("claude", "--settings", ["-p", "hi"])
    assert json.loads(given[2])["statusLine"]["command"].endswith("sluicegate statusline")
    assert with_statusline(["claude", "--settings", "x"], home) == ["claude", "--settings", "x"]
    assert with_statusline(["codex"], home) == ["codex"]
    (tmp_path / ".claude").mkdir()
    (tmp_path / ".claude/settings.json").write_text('{"statusLine": {"type": "command", "command": "mine"}}')
    assert with_statusline(["claude"], home) == ["claude"]
    (tmp_path / ".claude/settings.json").write_text("not json")
    assert with_statusline(["claude"], home) != ["claude"]
