"""One real Claude Code that takes prompts one after the other: its start, which costs most, is paid once for all of them."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.real_clients import TIMEOUT_S, program

COMMAND = ("-p", "--input-format", "stream-json", "--output-format", "stream-json", "--verbose")


@dataclass(frozen=True)
class Turn:
    """What one prompt has led to: the client's events, of which the last is its result."""

    events: list[dict[str, Any]]

    @property
    def shown(self) -> str:
        """The text that is shown in the end, which is what ``claude -p`` prints."""
        return str(self.events[-1]["result"])

    @property
    def is_error(self) -> bool:
        """Whether the client calls it an error, for which ``claude -p`` exits with 1."""
        return bool(self.events[-1]["is_error"])

    @property
    def waits(self) -> list[dict[str, Any]]:
        """The events that say that the client waits before it tries again."""
        return [e for e in self.events if e.get("subtype") == "api_retry"]


class ClaudeSession:
    """A running client in a network namespace, with a clean environment and ``home`` as its home."""

    def __init__(self, netns: str, home: Path, env: Mapping[str, str], *options: str) -> None:
        home.mkdir(exist_ok=True)
        clean = {"PATH": "/usr/bin:/bin", "HOME": str(home), "TERM": "xterm", "LANG": "C.UTF-8", **env}
        command = ["ip", "netns", "exec", netns, str(program("claude-code")), *COMMAND, *options]
        self._errors = home / "errors.txt"
        with self._errors.open("w") as errors:
            self._process = subprocess.Popen(
                command, env=clean, cwd=home, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
            )

    def ask(self, prompt: str) -> Turn:
        """Send a prompt and wait for its result. Raises AssertionError if the client ends, or is ended for taking TIMEOUT_S."""
        given, printed = self._process.stdin, self._process.stdout
        assert given is not None
        assert printed is not None
        given.write(json.dumps({"type": "user", "message": {"role": "user", "content": prompt}}) + "\n")
        given.flush()
        events: list[dict[str, Any]] = []
        watchdog = threading.Timer(TIMEOUT_S, self._process.kill)
        watchdog.start()
        try:
            for line in printed:
                events.append(json.loads(line))
                if events[-1]["type"] == "result":
                    return Turn(events)
        finally:
            watchdog.cancel()
        raise AssertionError(f"no result of {prompt!r}: {events}\n{self._errors.read_text()}")

    def end(self) -> None:
        """End it at once: what it still sends of itself is of no interest."""
        self._process.kill()
        self._process.communicate()
