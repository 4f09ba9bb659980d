"""The gateway's state folder: readable by its owner alone, locked while a gateway uses it, with the admin token in it."""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Mapping
from pathlib import Path

TOKEN_VARIABLE = "SLUICEGATE_ADMIN_TOKEN"

TOKEN_FILE_VARIABLE = "SLUICEGATE_ADMIN_TOKEN_FILE"
"""Names the token's file, as systemd's credentials and the secrets of containers are files."""

MIN_TOKEN_LENGTH = 16
"""Characters that a token kept in such a file has at least: fewer are a mistake, or could be guessed."""

LOOKING_WAITS_S = (0.01, 0.05)
"""Pauses before the lock is tried again: whoever looks for a running gateway has it for some microseconds."""

NOTE_BYTES = 16_384
"""The longest note in the lock file: an URL, a line's end, and two paths, each of which Linux bounds at 4096 bytes."""

BETWEEN_PATHS = b"\0"
"""What stands before the second: no path has it."""


class StateError(Exception):
    """The state folder cannot be used; the message says why and what to do."""


class StateInUseError(StateError):
    """The state folder belongs to a gateway that runs."""


def token_of(env: Mapping[str, str]) -> str | None:
    """Return the admin token that the environment has or names the file of; None where it does neither.

    Raises StateError if the file has no token: a gateway with another token than its operator's would lock them out.
    """
    if token := env.get(TOKEN_VARIABLE):
        return token
    if not (name := env.get(TOKEN_FILE_VARIABLE)):
        return None
    try:
        token = Path(name).read_text().strip()
    except (OSError, ValueError) as e:
        raise StateError(f"{TOKEN_FILE_VARIABLE}={name}: the file cannot be read ({type(e).__name__})") from e
    if len(token) < MIN_TOKEN_LENGTH or not token.isascii() or not token.isprintable() or " " in token:
        raise StateError(
            f"{TOKEN_FILE_VARIABLE}={name}: the file must hold one token of at least {MIN_TOKEN_LENGTH} visible ASCII "
            "characters, such as `openssl rand -hex 32` prints"
        )
    return token


def make_folder(path: Path) -> None:
    """Make a state folder if need be, its owner's alone. Raises StateError."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.chmod(0o700)
    except OSError as e:
        raise StateError(f"the state folder {path} cannot be used: {e.strerror}") from e


class StateFolder:
    """One state folder, locked until it is closed."""

    def __init__(self, path: Path, *, shared: Path | None = None, is_held: bool = False) -> None:
        """Create the folder if need be and lock it. Raises StateError, StateInUseError if another gateway has it.

        A worker has a folder of its own, and its supervisor the ``shared`` one: what is noted, and the token, are there.
        ``is_held``: our supervisor has locked this one.
        """
        self.path = shared or path
        make_folder(path)
        try:
            self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as e:
            raise StateError(f"the state folder {path} cannot be used: {e.strerror}") from e
        if not is_held and not self._take_lock():
            os.close(self._lock)
            raise StateInUseError(f"another gateway is using the state folder {path}: stop it, or give this one its own state_dir")
        self._noted = self._lock
        if shared is not None:
            self._noted = os.open(shared / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        elif not is_held:
            os.truncate(self._lock, 0)
        self._url, self._policy, self._authority = b"", b"", b""

    def _take_lock(self) -> bool:
        """Lock the folder and return True; False where a gateway has it, and not just a command that looks for one."""
        for wait_s in (*LOOKING_WAITS_S, None):
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if wait_s is not None:
                    time.sleep(wait_s)
            else:
                return True
        return False

    def note_policy(self, policy: Path) -> None:
        """Write down which policy the gateway uses, for commands on this machine and for when it has ended."""
        self._policy = os.fsencode(policy.absolute())
        self._note()

    def note_authority(self, folder: Path | None) -> None:
        """Write down where the certificate authority is; None where it is in this folder."""
        self._authority = b"" if folder is None else BETWEEN_PATHS + os.fsencode(folder.absolute())
        self._note()

    def note_url(self, url: str) -> None:
        """Write down where the gateway is reached, for commands on this machine."""
        self._url = url.encode()
        self._note()

    def _note(self) -> None:
        if self._noted != self._lock and not self._url:
            # What the other workers have noted stands until this one has an URL to note as well.
            return
        # Nothing that is noted becomes shorter, so none of what was there is left at its end.
        os.pwrite(self._noted, self._url + b"\n" + self._policy + self._authority, 0)

    def admin_token(self, env: Mapping[str, str]) -> tuple[str, bool]:
        """Return the admin token, from the environment, from the folder or a new one, and whether it is new.

        Raises StateError if the environment names a file without one.
        """
        if token := token_of(env):
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
        if self._noted != self._lock:
            os.close(self._noted)
        os.close(self._lock)


def held_as_it_is(path: Path) -> StateFolder:
    """Lock a state folder, and keep what its last gateway has noted. Raises as ``StateFolder``."""
    policy, authority = recorded_policy(path), recorded_authority(path)
    held = StateFolder(path)
    if policy is not None:
        held.note_policy(policy)
    held.note_authority(authority)
    return held


def url_of_running(path: Path) -> str | None:
    """Return where the gateway is reached that uses a state folder; None where none does, or it does not listen yet."""
    try:
        lock = os.open(path / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return os.pread(lock, NOTE_BYTES, 0).partition(b"\n")[0].decode("ascii", "replace") or None
    finally:
        os.close(lock)
    return None


def recorded_policy(path: Path) -> Path | None:
    """Return the policy of the gateway that uses a state folder, or of the last one that did; None where none has noted it."""
    noted = _noted_paths(path)[0]
    return Path(os.fsdecode(noted)) if noted else None


def recorded_authority(path: Path) -> Path | None:
    """Return where the last gateway of a state folder had its certificate authority, if that was elsewhere."""
    noted = _noted_paths(path)[1]
    return Path(os.fsdecode(noted)) if noted else None


def _noted_paths(path: Path) -> tuple[bytes, bytes]:
    try:
        noted = (path / "lock").read_bytes()[:NOTE_BYTES].partition(b"\n")[2]
    except OSError:
        return b"", b""
    policy, _, authority = noted.partition(BETWEEN_PATHS)
    return policy, authority
