"""The real Claude Code in a terminal, signed in at a gateway: the same keys and the same screens whichever gateway it is."""

from __future__ import annotations

import json
import re
import subprocess
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from support.harness import eventually
from support.oidc_provider import OidcProvider
from support.real_clients import in_network, program
from support.sign_in_browser import Browser

SUBJECT, EMAIL = "00u-alice", "alice@acme.example"
ALICE = {"sub": SUBJECT, "email": EMAIL, "email_verified": True, "name": "Alice", "groups": ["eng"]}
ANSWER = "Hello from the simulated provider."

IS_READY = "shift+tab to cycle"
"""What stands below the prompt of a client that takes one."""

_USER_CODE = re.compile(r"\b[A-Z]{4}-[A-Z]{4}\b")

_START = """
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

    def shows(self, *words: str, below: str = "") -> str:
        """Return the screen as one line once it shows one of these words; with ``below`` only what follows that text, in which they must be."""

        def found() -> str | None:
            shown = " ".join(self.screen().split())
            if below:
                _, is_there, shown = shown.rpartition(below)
                if not is_there:
                    return None
            return shown if any(w in shown for w in words) else None

        try:
            return str(eventually(found, interval_s=0.25))
        except AssertionError:
            raise AssertionError(f"{words!r} is not on the screen:\n{self.screen()}") from None

    def choose(self, question: str, answer: str) -> None:
        """Move to an answer of a question and give it. Keys that come before the client reads them are lost."""
        self.shows(question)

        def is_gone() -> bool:
            shown = self.screen()
            if question in shown:
                self.keys("Enter" if f"❯ {answer}" in shown else "Down")
            return question not in shown

        eventually(is_gone, interval_s=0.5)

    def confirm(self, words: str) -> None:
        """Press Enter once these words are there, and until they have gone."""
        self.shows(words)

        def is_gone() -> bool:
            is_there = words in self.screen()
            if is_there:
                self.keys("Enter")
            return not is_there

        eventually(is_gone, interval_s=0.5)

    def comes_to_show(self, words: str, looks: int = 12) -> bool:
        """Return whether this comes to be on the screen while it is looked at so many times, a quarter of a second apart."""
        for _ in range(looks):
            if words in " ".join(self.screen().split()):
                return True
            time.sleep(0.25)
        return False

    def end(self) -> None:
        subprocess.run([*self.tmux, "kill-server"], capture_output=True)


@dataclass
class SignInGateway(ABC):
    """A gateway that people sign in at, in a network of its own with their identity provider, and what differs between two."""

    provider: OidcProvider
    network: str

    name: ClassVar[str]
    who: ClassVar[str]
    """The id of the person as a user."""
    used_up: ClassVar[str]
    """A pattern of the line that is printed when a budget is used up."""
    says_who: ClassVar[bool]
    """Whether it says who has signed in, and the client asks whether that is right."""
    settings_need_approval: ClassVar[bool]
    """Whether the client asks once about the settings that it fetches: for the address of telemetry among them."""
    signed_out: ClassVar[str]
    """What the client shows once its person is thrown out."""

    @property
    @abstractmethod
    def url(self) -> str:
        """Its base URL."""

    @abstractmethod
    def approve(self, browser: Browser, code: str) -> None:
        """Do in a browser what the person does there."""

    @abstractmethod
    def spend(self, cents: int) -> None:
        """Have the person spend this besides; less than nothing gives it back."""

    @abstractmethod
    def ask(self, method: str, path: str, body: object = None) -> tuple[int, dict[str, Any]]:
        """Send a request of its administration."""


@dataclass
class Driver:
    """Somebody at the client, in a terminal of a network."""

    network: str
    terminal: Terminal
    home: Path

    @property
    def status_line(self) -> Path:
        """The file in which the last that the program of its status line was given is found."""
        return self.home / "status.json"

    def start(self, env: Mapping[str, str], managed: Mapping[str, object] | None = None) -> None:
        """Start the client, with the machine's managed settings where there are any."""
        start_client(self.terminal, self.home, self.network, env, managed)

    def start_for_sign_in(self, gateway: SignInGateway) -> None:
        """Start the client on a machine whose administrator names the gateway to sign in at."""
        self.start({}, {"forceLoginMethod": "gateway", "forceLoginGatewayUrl": gateway.url})
        self.terminal.shows("/login")

    def sign_in(self, gateway: SignInGateway) -> None:
        """Sign in with what the client shows after /login."""
        terminal = self.terminal
        terminal.keys("/login", "Enter")
        terminal.shows("Enter to connect")
        terminal.keys("Enter")
        shown = terminal.shows("Code:", "Trust gateway")
        if "Trust gateway" in shown:
            terminal.keys("Up", "Enter")
        terminal.shows("Code:")
        (code,) = eventually(lambda: set(_USER_CODE.findall(terminal.screen())))
        in_network(self.network, lambda: gateway.approve(Browser(), code))
        if gateway.says_who:
            terminal.shows(f"Signed in to Cloud gateway as {EMAIL}")
            terminal.keys("Up", "Enter")
        terminal.confirm("Press Enter to continue")

    def say(self, prompt: str, *shown: str) -> str:
        """Give the client a prompt, and return what it shows for it once one of these is among that."""
        self.terminal.keys(prompt, "Enter")
        return self.terminal.shows(*shown, below=f"❯ {prompt} ")

    def run(self, command: str, *shown: str) -> str:
        """Give the client a command of its own, and return the screen once one of these is on it."""
        self.terminal.keys(command, "Enter")
        return self.terminal.shows(*shown)

    def leave_panel(self) -> None:
        """Close what a command has opened."""
        self.terminal.keys("Escape")
        # An escape with letters right behind it would be another key.
        self.terminal.shows(IS_READY)


def start_client(
    terminal: Terminal, home: Path, network: str, env: Mapping[str, str], managed: Mapping[str, object] | None
) -> None:
    """Start the client in a home of its own, as somebody has it who has used it before."""
    work, script, settings = home / "work", home / "start.sh", home / "managed-settings.json"
    work.mkdir(parents=True)
    # Renamed, so that it is whole whenever it is read.
    given = {"type": "command", "command": "cat > $HOME/status.new && mv $HOME/status.new $HOME/status.json"}
    (home / ".claude").mkdir()
    (home / ".claude/settings.json").write_text(json.dumps({"statusLine": given}))
    known: dict[str, Any] = {"hasCompletedOnboarding": True, "theme": "dark"}
    # It asks about a key in its environment whose end it does not know.
    known["customApiKeyResponses"] = {"approved": [env.get("ANTHROPIC_API_KEY", "")[-20:]]}
    known["projects"] = {str(work): {"hasTrustDialogAccepted": True, "hasCompletedProjectOnboarding": True}}
    (home / ".claude.json").write_text(json.dumps(known))
    clean = {"HOME": str(home), "PATH": "/usr/bin:/bin", "TERM": "xterm-256color", "LANG": "C.UTF-8", "BROWSER": "/bin/true"}
    variables = [f"{name}={value}" for name, value in (clean | dict(env)).items()]
    command = ["ip", "netns", "exec", network]
    if managed is not None:
        script.write_text(_START)
        settings.write_text(json.dumps(managed))
        command += ["sh", str(script), str(settings)]
    terminal.start([*command, "env", "-i", *variables, str(program("claude-code"))], work)
