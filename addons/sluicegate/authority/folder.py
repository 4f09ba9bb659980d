"""The folder of the gateway's authority, and of those that follow it: which signs now, which is announced, which is retired.

The first lies in the folder itself, under mitmproxy's names; each later one in a folder in it. ``authorities.json`` lists
them with the time from which each signs. Only a rotation writes it; all else follows from it and the clock.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cryptography import x509

from sluicegate.atomic_write import write_private
from sluicegate.authority.certificate import certificates_in, fingerprint, is_key, make_authority, moment
from sluicegate.windows import iso, parse_iso

KEY_FILE, CERTIFICATE_FILE = "mitmproxy-ca.pem", "mitmproxy-ca-cert.pem"
"""The key followed by its certificate, and what clients must trust; mitmproxy's names."""

KEY_FILES = (KEY_FILE, "mitmproxy-ca.p12")
"""Files that hold an authority's key; mitmproxy makes the second too."""

LIST, LOCK = "authorities.json", "authorities.lock"

RETIRED_KEY_KEPT_MS = 7 * 86_400_000
"""How long the key of a retired authority is kept, for a clock that was wrong when it retired."""

State = Literal["signing", "announced", "retired"]


class AuthorityError(Exception):
    """An authority cannot be used, made or replaced; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Authority:
    """One authority and the time from which it signs, in epoch milliseconds; 0 for the first."""

    folder: Path
    signs_from: int

    @property
    def has_key(self) -> bool:
        """Return whether its key is still there, and is one. Raises AuthorityError."""
        file = self.folder / KEY_FILE
        try:
            return is_key(file.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return False
        except (OSError, ValueError) as e:
            why = getattr(e, "strerror", None) or e
            raise AuthorityError(f"{file} cannot be read: {why}; it must belong to the gateway's user") from e

    def pem(self) -> bytes:
        """Return what clients must trust, as PEM: certificates alone, whatever else the file holds. Raises AuthorityError."""
        file = self.folder / CERTIFICATE_FILE
        try:
            data = (file if file.exists() else self.folder / KEY_FILE).read_bytes()
        except (OSError, ValueError) as e:
            raise AuthorityError(f"{file} cannot be read: {getattr(e, 'strerror', None) or e}") from e
        # A file that was put there by hand may have the key in it, before the certificates or after them.
        return certificates_in(data)

    def certificate(self) -> x509.Certificate:
        """Return its certificate. Raises AuthorityError."""
        try:
            return x509.load_pem_x509_certificates(self.pem())[0]
        except ValueError as e:
            raise AuthorityError(f"{self.folder / CERTIFICATE_FILE} holds no certificate") from e


@dataclass(frozen=True, slots=True)
class Described:
    """An authority as it is shown."""

    state: State
    subject: str
    sha256: str
    valid_from: str
    valid_until: str
    signs_from: str | None
    """None for the first."""
    signs_until: str | None
    """When another takes over or took over; None where none is announced."""
    folder: str


class AuthorityFolder:
    """The authorities of one gateway. Blocking."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[Authority]:
        """Return all authorities in the order in which they sign; none before the first start. Raises AuthorityError."""
        file = self.path / LIST
        try:
            found = json.loads(file.read_bytes())
            listed = [Authority(self.path / _safe(a["folder"]), _moment_of(a["signs_from"])) for a in found["authorities"]]
        except FileNotFoundError:
            first = Authority(self.path, 0)
            return [first] if first.has_key or (self.path / CERTIFICATE_FILE).exists() else []
        except OSError as e:
            raise AuthorityError(f"{file} cannot be read: {e.strerror}") from e
        except (ValueError, KeyError, TypeError, RecursionError):
            listed = []
        if not listed:
            # Never the same as no list: the first start makes an authority, over the one that is there.
            raise AuthorityError(f"{file} cannot be read as a list of authorities: restore it from a backup")
        return sorted(listed, key=lambda a: a.signs_from)

    def signing(self, now: int) -> Authority | None:
        """Return the authority that signs now; None before the first start. Raises AuthorityError."""
        return _signing(self.read(), now)

    def states(self, now: int) -> list[tuple[Authority, State]]:
        """Return all authorities with their states. Raises AuthorityError."""
        found = self.read()
        signing = _signing(found, now)
        at = found.index(signing) if signing is not None else 0
        return [(a, "signing" if a is signing else "retired" if i < at else "announced") for i, a in enumerate(found)]

    def describe(self, now: int) -> list[Described]:
        """Return all authorities as they are shown. Raises AuthorityError."""
        found = self.states(now)
        shown = []
        for i, (authority, state) in enumerate(found):
            try:
                certificate = authority.certificate()
            except AuthorityError:
                if state == "retired":
                    continue  # whose folder somebody has deleted
                raise
            until = found[i + 1][0].signs_from if i + 1 < len(found) else None
            shown.append(
                Described(
                    state,
                    certificate.subject.rfc4514_string(),
                    fingerprint(certificate),
                    iso(_ms(certificate.not_valid_before_utc)),
                    iso(_ms(certificate.not_valid_after_utc)),
                    iso(authority.signs_from) if authority.signs_from else None,
                    iso(until) if until is not None else None,
                    str(authority.folder),
                )
            )
        return shown

    def handed_out(self, now: int) -> bytes:
        """Return what clients are given to trust: the authority that signs, and one that is announced. Raises AuthorityError."""
        return b"".join(a.pem().rstrip() + b"\n" for a, state in self.states(now) if state != "retired")

    def next_change(self, now: int) -> int | None:
        """Return when another authority takes over; None where none is announced. Raises AuthorityError."""
        return next((a.signs_from for a in self.read() if a.signs_from > now), None)

    def ensure(self, now: int, adopt_from: Sequence[Path] = ()) -> Authority:
        """Return the authority that signs, which is made at the first start, or copied from where an earlier version had it.

        Raises AuthorityError.
        """
        # Where there is one, nothing is written: a folder that was named may be read-only.
        signing = self.signing(now)
        if signing is None:
            try:
                self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
                with self._locked():
                    if not self.read():
                        source = next((f for f in adopt_from if _is_usable(f, now)), None)
                        self._make(self.path, now) if source is None else self._adopt(source)
                    signing = self.signing(now)
            except OSError as e:
                raise AuthorityError(f"the CA in {self.path} cannot be made: {e.strerror}") from e
        if signing is None or not signing.has_key:
            raise AuthorityError(
                f"the CA in {self.path} has no key ({KEY_FILE}): restore it from a backup, or move the folder away to begin with "
                "a new one, which clients must then trust"
            )
        return signing

    def rotate(self, now: int, overlap_ms: int) -> Authority:
        """Make another authority that signs after ``overlap_ms``, until when clients are given both to trust.

        Without an overlap it signs at once, and one that was announced never will. Raises AuthorityError.
        """
        with self._changing():
            found = self.read()
            signing = _signing(found, now)
            if signing is None:
                raise AuthorityError(f"there is no CA in {self.path} yet: it is made when the gateway starts")
            announced = [a for a in found if a.signs_from > now]
            if overlap_ms and announced:
                raise AuthorityError(
                    f"another CA is announced already, and signs from {iso(announced[0].signs_from)}: give --finish to have it "
                    "sign at once, or --now to drop it and have a new one sign at once"
                )
            until = signing.certificate().not_valid_after_utc
            if overlap_ms and until <= moment(now + overlap_ms):
                raise AuthorityError(f"the CA that signs now expires on {until:%Y-%m-%d}: give a shorter --overlap, or --now")
            made = Authority(self.path / f"{moment(now):%Y-%m-%d}-{secrets.token_hex(4)}", now + overlap_ms)
            made.folder.mkdir(mode=0o700)
            self._own(made.folder)
            self._make(made.folder, now)
            self._write_list([*(a for a in found if a not in announced), made])
            for dropped in announced:
                _delete_key(dropped)
            self._forget_keys(now)
            return made

    def finish(self, now: int) -> Authority:
        """Have the authority that is announced sign at once. Raises AuthorityError."""
        with self._changing():
            found = self.read()
            announced = next((a for a in found if a.signs_from > now), None)
            if announced is None:
                raise AuthorityError("no CA is announced: sluicegate ca rotate makes one")
            if not announced.has_key:
                raise AuthorityError(
                    f"the CA in {announced.folder} has no key: restore it from a backup, or make another with --now"
                )
            moved = Authority(announced.folder, now)
            self._write_list([moved if a is announced else a for a in found])
            return moved

    def forget_keys(self, now: int) -> None:
        """Delete the keys of authorities that have been retired for some time. Raises AuthorityError."""
        with self._changing():
            self._forget_keys(now)

    def _forget_keys(self, now: int) -> None:
        found = self.states(now)
        for (authority, state), (successor, _) in itertools.pairwise(found):
            if state == "retired" and successor.signs_from + RETIRED_KEY_KEPT_MS <= now:
                _delete_key(authority)

    def _make(self, folder: Path, now: int) -> None:
        key, certificate = make_authority(moment(now))
        # The first: the key's file has the certificate too, so a start that breaks off after it can be repeated.
        write_private(folder / KEY_FILE, key + certificate)
        write_private(folder / CERTIFICATE_FILE, certificate)

    def _adopt(self, source: Path) -> None:
        """Copy an authority, which stays where it was for the version that used it there."""
        for name in (KEY_FILE, CERTIFICATE_FILE):
            with contextlib.suppress(FileNotFoundError):
                write_private(self.path / name, (source / name).read_bytes())

    def _write_list(self, authorities: Sequence[Authority]) -> None:
        rows = [
            {"folder": str(a.folder.relative_to(self.path)), "signs_from": iso(a.signs_from) if a.signs_from else None}
            for a in authorities
        ]
        write_private(self.path / LIST, json.dumps({"authorities": rows}, indent=1).encode())

    def _own(self, path: Path) -> None:
        """Give what root has made to the folder's owner, who could not read it otherwise."""
        if os.geteuid() == 0:
            at = self.path.stat()
            os.chown(path, at.st_uid, at.st_gid)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        file = self.path / LOCK
        is_new = not file.exists()
        lock = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            if is_new:
                self._own(file)
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """Let no other process change the authorities, and say in one way what the system refuses. Raises AuthorityError."""
        if not self.path.is_dir():
            raise AuthorityError(f"there is no CA in {self.path} yet: it is made when the gateway starts")
        try:
            with self._locked():
                yield
        except OSError as e:
            raise AuthorityError(f"the CA in {self.path} cannot be changed: {e.strerror}") from e


def _signing(authorities: Sequence[Authority], now: int) -> Authority | None:
    """Return the last whose time has come and whose key is there; where the clock was put back behind all of them, the first."""
    usable = [a for a in authorities if a.has_key] or list(authorities)
    return next((a for a in reversed(usable) if a.signs_from <= now), usable[0] if usable else None)


def _is_usable(folder: Path, now: int) -> bool:
    try:
        certificate = Authority(folder, 0).certificate()
        return certificate.not_valid_after_utc > moment(now) and is_key((folder / KEY_FILE).read_bytes(), certificate)
    except (AuthorityError, OSError):
        return False


def _delete_key(authority: Authority) -> None:
    for name in KEY_FILES:
        (authority.folder / name).unlink(missing_ok=True)


def _safe(name: Any) -> str:
    """Return the name of a folder in the folder; raise ValueError for one that leads out of it."""
    if not isinstance(name, str) or "/" in name or name == "..":
        raise ValueError(name)
    return name


def _moment_of(text: str | None) -> int:
    return 0 if text is None else parse_iso(text)


def _ms(at: Any) -> int:
    return int(at.timestamp() * 1000)
