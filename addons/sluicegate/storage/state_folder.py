"""The gateway's state folder: readable by its owner alone, locked while a gateway uses it, with the admin token in it."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

TOKEN_VARIABLE = "SLUICEGATE_ADMIN_TOKEN"


class StateError(Exception):
    """The state folder cannot be used; the message says why and what to do."""


class StateInUseError(StateError):
    """The state folder belongs to a gateway that runs."""


class StateFolder:
    """One state folder, locked until it is closed."""

    def __init__(self, path: Path) -> None:
        """Create the folder if need be and lock it. Raises StateError, StateInUseError if another gateway has it."""
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.chmod(0o700)
            self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as e:
            raise StateError(f"the state folder {path} cannot be used: {e.strerror}") from e
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            os.close(self._lock)
            raise StateInUseError(
                f"another gateway is using the state folder {path}: stop it, or give this one its own state_dir"
            ) from e

    def admin_token(self, env: Mapping[str, str]) -> tuple[str, bool]:
        """Return the admin token, from the environment, from the folder or a new one, and whether it is new."""
        if token := env.get(TOKEN_VARIABLE):
            return token, False
        path = self.path / "admin-token"
        try:
            kept = path.read_text().strip()
            if kept:
                return kept, False
        except FileNotFoundError:
            pass
        token = secrets.token_urlsafe(32)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(token + "\n")
        return token, True

    def close(self) -> None:
        """Release the lock."""
        os.close(self._lock)
