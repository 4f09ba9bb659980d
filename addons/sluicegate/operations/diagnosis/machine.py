"""The gateway's machine apart from its state: versions, certificate authority, port, disk and clock."""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import stat
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from sluicegate.operations.diagnosis.finding import Finding, fail, ok, warn

PYTHONS = ((3, 12), (3, 13))
"""Versions of Python that every release is tested on."""

MITMPROXIES = ("12.2.3", "12.3.1")
"""Versions of mitmproxy that every release is tested on."""

LEAST_FREE_BYTES = 100 << 20
LOW_FREE_BYTES = 1 << 30

EXPIRES_SOON = timedelta(days=90)
"""Before a CA's end; the overlap with the one that follows it needs some weeks of these."""

RELEASED_AT = datetime(2026, 11, 1, tzinfo=UTC)
"""A time that has passed on every machine whose clock is right."""

AHEAD_MS = 5 * 60_000
"""How far ahead of the clock a record may be: calls that are on record cannot have been made later than now."""

CLOCK_UNSYNCHRONISED = 5
"""What ``adjtimex`` returns while nothing keeps the clock right (TIME_ERROR)."""

TIMEX_BYTES = 256
"""Room for the kernel's ``struct timex``, which has 208."""


def check_versions(python: tuple[int, int] | None = None, mitmproxy: str | None = None) -> Iterator[Finding]:
    """Look at the versions of Python and mitmproxy, by default at those that are installed."""
    running = python or sys.version_info[:2]
    words = ".".join(map(str, running))
    if running in PYTHONS:
        yield ok("python", words)
    elif running < PYTHONS[0]:
        yield fail("python", f"{words} is too old", f"install Python {'.'.join(map(str, PYTHONS[-1]))}, and sluicegate into it")
    else:
        yield warn("python", f"{words} is not tested", f"run sluicegate on Python {'.'.join(map(str, PYTHONS[-1]))}")
    try:
        found = mitmproxy or version("mitmproxy")
    except PackageNotFoundError:
        yield fail("mitmproxy", "is not installed", "install sluicegate with its lock: pip install -r constraints-run.txt")
        return
    if found in MITMPROXIES:
        yield ok("mitmproxy", found)
    elif found.startswith("12."):
        yield warn("mitmproxy", f"{found} is not tested", f"pip install mitmproxy=={MITMPROXIES[-1]}")
    else:
        yield fail("mitmproxy", f"{found} is not supported", f"pip install mitmproxy=={MITMPROXIES[-1]}")


def check_authority(folder: Path, now: datetime) -> Iterator[Finding]:
    """Look at the certificate authorities in ``folder``, whose certificates clients of the proxy are shown."""
    from sluicegate.authority.folder import KEY_FILE, AuthorityError, AuthorityFolder

    at_ms = int(now.timestamp() * 1000)
    again = f"stop the gateway, move {folder} away and start it: it makes a new one, which clients must then trust"
    rotate = "sluicegate ca rotate makes another, which clients are given along with it"
    try:
        found = AuthorityFolder(folder).states(at_ms)
        signing = next((a for a, state in found if state == "signing"), None)
        if signing is None:
            yield ok("CA", "is made at the first start")
            return
        certificate = signing.certificate()
    except AuthorityError as e:
        is_unreadable = isinstance(e.__cause__, OSError)
        yield fail("CA", str(e), f"chown -R {os.geteuid()} {folder}" if is_unreadable else again)
        return
    file = signing.folder / KEY_FILE
    announced = next((a for a, state in found if state == "announced"), None)
    until, follows = certificate.not_valid_after_utc, ""
    if announced is not None:
        follows = f"; another signs from {datetime.fromtimestamp(announced.signs_from / 1000, UTC):%Y-%m-%d}"
    if not file.exists():
        yield fail("CA", f"{file} is missing: its key", "restore it from a backup")
    elif until <= now:
        yield fail(
            "CA", f"{file} expired on {until:%Y-%m-%d}", "sluicegate ca rotate --now makes another, which clients must then trust"
        )
    elif until - now < EXPIRES_SOON and announced is None:
        yield warn("CA", f"{file} expires on {until:%Y-%m-%d}", rotate)
    elif certificate.not_valid_before_utc > now:
        yield fail("CA", f"{file} is valid from {certificate.not_valid_before_utc:%Y-%m-%d} on", "set the clock of this machine")
    else:
        yield ok("CA", f"{file}, until {until:%Y-%m-%d}{follows}")
    for key in (a.folder / KEY_FILE for a, _ in found):
        if key.exists() and stat.S_IMODE(key.stat().st_mode) & 0o077:
            yield fail("CA", f"{key}: its private key can be read by others", f"chmod 600 {key}")


def check_port(host: str, port: int) -> Finding:
    """Try to listen where the gateway would."""
    where = f"{host}:{port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
    except PermissionError:
        return fail("port", f"{where} needs rights that this user has not", "choose a port above 1023 with --listen-port")
    except OSError as e:
        return fail(
            "port", f"{where} cannot be listened on: {e.strerror}", "end what uses it, or choose another with --listen-port"
        )
    return ok("port", f"{where} is free")


def check_disk(folder: Path, free_bytes: int | None = None) -> Finding:
    """Look at the room on the disk of a folder, or of the nearest one above that exists."""
    there = next(f for f in (folder, *folder.absolute().parents) if f.exists())
    free = shutil.disk_usage(there).free if free_bytes is None else free_bytes
    words = f"{free / (1 << 30):.1f} GiB free for {folder}"
    mend = "make room, or shorten retention in the policy: calls that cannot be recorded are refused"
    if free < LEAST_FREE_BYTES:
        return fail("disk", words, mend)
    if free < LOW_FREE_BYTES:
        return warn("disk", words, mend)
    if not os.access(there, os.W_OK | os.X_OK):
        return fail("disk", f"{there} cannot be written by this user", f"run as its owner, or chown {os.geteuid()} {there}")
    return ok("disk", words)


def check_clock(now_ms: int, newest_record_ms: int | None, is_synchronised: bool | None = None) -> Finding:
    """Compare the clock with what must have passed; budgets and expiries go by it."""
    mend = "set the clock, and keep it right: timedatectl set-ntp true"
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    words = f"{now:%Y-%m-%dT%H:%M:%SZ}"
    if now < RELEASED_AT:
        return fail("clock", f"{words} is before this version was released", mend)
    if newest_record_ms is not None and newest_record_ms > now_ms + AHEAD_MS:
        ahead = datetime.fromtimestamp(newest_record_ms / 1000, UTC)
        return fail("clock", f"{words} is before the newest call on record, of {ahead:%Y-%m-%dT%H:%M:%SZ}", mend)
    if (_is_synchronised() if is_synchronised is None else is_synchronised) is False:
        return warn("clock", f"{words}, and nothing keeps it right", mend)
    return ok("clock", words)


def _is_synchronised() -> bool | None:
    """Return whether the kernel's clock is kept right by a time service; None where it cannot be asked."""
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(TIMEX_BYTES))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != CLOCK_UNSYNCHRONISED


def check_modes(state_dir: Path, policies: Sequence[Path]) -> Iterator[Finding]:
    """Look at who may read the state folder and write the policy."""
    if state_dir.exists():
        open_to_others = [
            f for f in (state_dir, *sorted(state_dir.rglob("*"))) if not f.is_symlink() and stat.S_IMODE(f.stat().st_mode) & 0o077
        ]
        foreign = [f for f in (state_dir, *state_dir.iterdir()) if f.lstat().st_uid != os.geteuid()]
        if open_to_others:
            more = f" and {len(open_to_others) - 1} more" if len(open_to_others) > 1 else ""
            yield fail("modes", f"{open_to_others[0]}{more} can be read by others", f"chmod -R go= {state_dir}")
        elif foreign and os.geteuid():
            yield fail("modes", f"{foreign[0]} belongs to another user", f"chown -R {os.geteuid()} {state_dir}")
        else:
            yield ok("modes", f"{state_dir} is its owner's alone")
    for file in policies:
        if file.exists() and stat.S_IMODE(file.stat().st_mode) & 0o002:
            yield fail("modes", f"{file} can be written by everybody", f"chmod o-w {file}")
