"""The real Claude Code signs in at a gateway in a terminal, works, renews, is thrown out, and is asked to sign in again."""

from __future__ import annotations

import json
import re
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sluicegate.values import NANO
from support.harness import Gateway, eventually
from support.oidc_provider import CLIENT_SECRET, OidcProvider
from support.real_clients import in_network, isolated_network, listener_in, program
from support.sign_in_browser import Browser

pytestmark = [pytest.mark.wire, pytest.mark.client, pytest.mark.timeout(600)]

ALICE = {"sub": "00u-alice", "email": "alice@acme.example", "email_verified": True, "name": "Alice", "groups": ["eng"]}
ANSWER = "Hello from the simulated provider."
START = """
set -e
mount -t tmpfs none /mnt
mkdir /mnt/upper /mnt/work
mount -t overlay none -o lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work /etc
mkdir -p /etc/claude-code
cp "$1" /etc/claude-code/managed-settings.json
shift
exec "$@"
"""
"""Starts a command with the machine's managed settings, in the mounts of its own that ``ip netns exec`` gives it."""

TEAM = {"id": "team-engineering", "name": "Engineering", "budget": {"max_limit": 100, "reset_duration": "1M"}}
SETTINGS = {"env": {f"OTEL_{name}_EXPORT_INTERVAL": "1000" for name in ("METRIC", "LOGS")}, "cleanupPeriodDays": 7}


@dataclass
class Terminal:
    """A tmux of our own."""

    folder: Path
    tmux: list[str] = field(default_factory=lambda: ["tmux", "-L", f"sluicegate-{uuid.uuid4().hex[:8]}"])

    def start(self, command: list[str], cwd: Path) -> None:
        size = ["-x", "160", "-y", "50", "-c", str(cwd)]
        subprocess.run([*self.tmux, "-f", "/dev/null", "new-session", "-d", *size, "--", *command], check=True)

    def keys(self, *keys: str) -> None:
        subprocess.run([*self.tmux, "send-keys", *keys], check=True)

    def screen(self) -> str:
        shown = subprocess.run([*self.tmux, "capture-pane", "-p"], capture_output=True, text=True).stdout
        (self.folder / "screen.txt").write_text(shown)
        return shown

    def shows(self, words: str) -> str:
        """Return the screen once these words are on it."""
        try:
            eventually(lambda: words in " ".join(self.screen().split()), interval_s=0.25)
        except AssertionError:
            raise AssertionError(f"{words!r} is not on the screen:\n{self.screen()}") from None
        return self.screen()

    def choose(self, question: str, answer: str) -> None:
        """Move to an answer of a question and give it. Keys that come before the client reads them are lost."""
        self.shows(question)

        def is_gone() -> bool:
            shown = self.screen()
            if question in shown:
                self.keys("Enter" if f"❯ {answer}" in shown else "Down")
            return question not in shown

        eventually(is_gone, interval_s=0.5)

    def end(self) -> None:
        subprocess.run([*self.tmux, "kill-server"], capture_output=True)


@dataclass
class Lab:
    gw: Gateway
    provider: OidcProvider
    terminal: Terminal
    network: str

    def approve(self, code: str) -> None:
        """Do in a browser what the person does there."""

        def browse() -> None:
            browser = Browser()
            page = browser.open(f"{self.gw.url}/device?user_code={code}")
            page = browser.submit(page, "/device", user_code=code)
            assert "claude-code/" in page.words
            assert browser.submit(page, "/device/decision", decision="approve").status == 200

        in_network(self.network, browse)

    def sign_in(self) -> None:
        """Sign in with what the client shows after /login."""
        terminal = self.terminal
        terminal.keys("/login", "Enter")
        terminal.shows("Enter to connect")
        terminal.keys("Enter")
        shown = eventually(lambda: found if "Code:" in (found := terminal.screen()) or "Trust gateway" in found else None)
        if "Trust gateway" in shown:
            terminal.keys("Up", "Enter")
        (code,) = set(re.findall(r"\b[BCDFGHJKLMNPQRSTVWXZ]{4}-[BCDFGHJKLMNPQRSTVWXZ]{4}\b", terminal.shows("Code:")))
        self.approve(code)
        terminal.shows("Signed in to Cloud gateway as alice@acme.example")
        terminal.keys("Up", "Enter")
        terminal.shows("Press Enter to continue")
        terminal.keys("Enter")

    def spend(self, dollars: int) -> None:
        """Have the team spend this besides; less than nothing gives it back."""
        headers = {"authorization": f"Bearer {self.gw.token}", "content-type": "application/json"}
        body = json.dumps({"scope": "team/team-engineering", "amount": dollars, "reason": "a test"}).encode()
        assert in_network(self.network, lambda: self.gw.request("POST", "/api/adjustments", body, headers)).status == 200

    def listed(self, path: str) -> list[dict]:
        """Return what the gateway lists at a path."""
        headers = {"authorization": f"Bearer {self.gw.token}"}
        (found,) = in_network(self.network, lambda: self.gw.request("GET", path, headers=headers)).json.values()
        return list(found)

    def sign_ins(self) -> list[dict]:
        return self.listed("/api/sign-ins")

    def reported(self) -> list[dict]:
        """Return what the client has reported of a session by its metrics and by its events, once both are all that is on record.

        Before it is signed in for good it tries the gateway with a call in a session of its own, of which it reports nothing.
        """
        rows = self.gw.rows("SELECT session_id, sum(cost_nano) AS nano FROM calls WHERE cost_nano > 0 GROUP BY session_id")
        spent = {row["session_id"]: row["nano"] for row in rows}
        found = self.listed("/api/client-telemetry")
        whole = {s["source"] for s in found if round(s["client"]["cost_usd"] * NANO) == spent[s["session_id"]]}
        return found if whole == {"metrics", "events"} else []


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    program("claude-code")
    with isolated_network() as network, OidcProvider(listener=listener_in(network)) as provider:
        provider.person = ALICE
        policy = {
            "version": 1,
            "providers": {"anthropic": {"simulate": True}},
            "teams": [TEAM],
            "managed_settings": {"groups": {"eng": SETTINGS}},
            "client_telemetry": {},
            # So short that the client renews before each of its calls: it does five minutes before the end.
            "oidc": provider.policy(users="create", groups={"eng": "team-engineering"}, access_lifetime="4m"),
        }
        with Gateway(tmp_path, json.dumps(policy, indent=1), env={"OIDC_SECRET": CLIENT_SECRET}, netns=network) as gw:
            provider.redirect_uri = f"{gw.url}/device/callback"
            terminal = Terminal(tmp_path)
            try:
                yield Lab(gw, provider, terminal, network)
            finally:
                terminal.end()
        assert provider.complaints == []


def test_the_real_client_signs_in_works_renews_and_signs_in_again_when_it_has_to(lab, tmp_path):
    home, work, script, managed = (tmp_path / name for name in ("home", "work", "start.sh", "managed-settings.json"))
    for folder in (home, work):
        folder.mkdir()
    managed.write_text(json.dumps({"forceLoginMethod": "gateway", "forceLoginGatewayUrl": lab.gw.url}))
    known = {"hasCompletedOnboarding": True, "theme": "dark"}
    known["projects"] = {str(work): {"hasTrustDialogAccepted": True, "hasCompletedProjectOnboarding": True}}
    (home / ".claude.json").write_text(json.dumps(known))
    env = {"HOME": str(home), "PATH": "/usr/bin:/bin", "TERM": "xterm-256color", "LANG": "C.UTF-8", "BROWSER": "/bin/true"}
    script.write_text(START)
    terminal = lab.terminal
    variables = [f"{name}={value}" for name, value in env.items()]
    start = ["ip", "netns", "exec", lab.network, "sh", str(script), str(managed), "env", "-i", *variables]
    terminal.start([*start, str(program("claude-code"))], work)
    terminal.shows("/login")
    lab.sign_in()
    # Once, for the address that the gateway's settings name.
    terminal.choose("Managed settings require approval", "Yes, I trust these settings")
    terminal.shows("shift+tab to cycle")
    terminal.keys("say hi", "Enter")
    terminal.shows(ANSWER)
    calls = eventually(lambda: lab.gw.rows("SELECT * FROM calls WHERE path = '/v1/messages'"))
    assert {(c["virtual_key_id"], c["user_id"], c["team_id"]) for c in calls} == {
        ("session-alice@acme.example", "alice@acme.example", "team-engineering")
    }
    (signed_in,) = lab.sign_ins()
    assert signed_in["renewed_at"] > signed_in["began_at"]
    assert signed_in["client"].startswith("claude-code/")
    # It keeps the settings that it has fetched.
    assert json.loads((home / ".claude/remote-settings.json").read_text())["cleanupPeriodDays"] == SETTINGS["cleanupPeriodDays"]
    for session in eventually(lab.reported):
        assert session["virtual_key_id"] == calls[0]["virtual_key_id"]
        assert session["session_id"] in {c["session_id"] for c in calls}
        assert set(session["drift"].values()) == {0}, session
        assert session["client"]["cache_write_tokens"] > 0
    lab.spend(80)
    terminal.keys("say hi once more", "Enter")
    terminal.shows("You've used 80% of your usage credits · resets ")
    terminal.keys("/usage", "Enter")
    terminal.shows("Spend limit")
    terminal.shows("80% used")
    terminal.shows(" / $100.00 spent this month · Resets ")
    terminal.keys("Escape")
    # An escape with letters right behind it would be another key.
    terminal.shows("shift+tab to cycle")
    lab.spend(20)
    terminal.keys("say hi in vain", "Enter")
    # As it stands, without what the client puts before other errors.
    assert re.search(
        r"● Budget exceeded: team Engineering has used \$100\.\d\d of \$100\.00, resets ", terminal.shows("Budget exceeded")
    )
    lab.spend(-90)
    lab.provider.left.add(ALICE["sub"])
    terminal.keys("say hi again", "Enter")
    terminal.shows("Your sign-in at this gateway has ended: sign in again (/login)")
    assert lab.sign_ins() == []
    lab.provider.left.clear()
    lab.sign_in()
    eventually(lambda: terminal.screen().count(ANSWER) >= 1)
    assert len(lab.sign_ins()) == 1
