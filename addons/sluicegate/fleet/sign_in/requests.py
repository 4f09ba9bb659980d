"""The store of sign-ins: clients that wait for a person, browsers at the identity provider, and wrong guesses of codes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sluicegate.addresses import network_of
from sluicegate.dashboard_sessions import FORGET_AFTER_MS, MAX_SOURCES, delay_after
from sluicegate.fleet.sign_in.part import Part
from sluicegate.fleet.store.engine import Row, Run
from sluicegate.sign_in.errors import TooManyError
from sluicegate.sign_in.kept import NewRequest, Polled, Waiting

_LATE = "DELETE FROM sign_in_requests WHERE ends_at <= ?"
_HOW_MANY = "SELECT count(*), coalesce(sum(CASE WHEN counted = ? THEN 1 ELSE 0 END), 0) FROM sign_in_requests"
_WAITING = "SELECT device, counted FROM sign_in_requests WHERE state = 'waiting' ORDER BY asked_at"
_ASK = """
INSERT INTO sign_in_requests (device, user_code, source, counted, client, asked_at, ends_at, interval_s, state, public_key)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'waiting', ?) ON CONFLICT (user_code) DO NOTHING RETURNING device
"""
_SHOWN = "device, source, client, asked_at"
_BY_CODE = f"SELECT {_SHOWN} FROM sign_in_requests WHERE user_code = ? AND state = 'waiting' AND ends_at > ?"  # noqa: S608
_BY_DEVICE = f"SELECT {_SHOWN} FROM sign_in_requests WHERE device = ? AND state = 'waiting' AND ends_at > ?"  # noqa: S608
_POLLED = f"""
SELECT asked_again_at, interval_s, state, identity, sealed, virtual_key_id, {_SHOWN}
FROM sign_in_requests WHERE device = ? AND ends_at > ? {{for_update}}
"""  # noqa: S608
_ASKED_AGAIN = "UPDATE sign_in_requests SET asked_again_at = ?, interval_s = interval_s + ? WHERE device = ?"
_FORGET = "DELETE FROM sign_in_requests WHERE device = ?"
_PUBLIC_KEY = "SELECT public_key FROM sign_in_requests WHERE device = ?"
_APPROVE = """
UPDATE sign_in_requests SET state = 'approved', user_id = ?, identity = ?, sealed = ?, virtual_key_id = ?
WHERE device = ? AND state = 'waiting' AND ends_at > ? RETURNING device
"""
_DENY = "UPDATE sign_in_requests SET state = 'denied' WHERE device = ? AND state = 'waiting'"
DENY_ALL_OF = "UPDATE sign_in_requests SET state = 'denied', user_id = NULL, identity = NULL, sealed = NULL WHERE user_id = ?"

_LOCK_GUESSES = """
INSERT INTO sign_in_guesses (source, count, last) VALUES (?, 0, ?) ON CONFLICT (source) DO UPDATE SET source = excluded.source
RETURNING count, last
"""
_WRONG = "UPDATE sign_in_guesses SET count = ?, last = ? WHERE source = ?"
_FORGET_GUESSES = "DELETE FROM sign_in_guesses WHERE last <= ?"
_FORGET_MOST = """
DELETE FROM sign_in_guesses WHERE source IN (SELECT source FROM sign_in_guesses ORDER BY last DESC LIMIT 1000000 OFFSET ?)
"""

_GONE = "DELETE FROM sign_in_browsers WHERE ends_at <= ?"
_HOW_MANY_LEFT = "SELECT count(*), coalesce(sum(CASE WHEN counted = ? THEN 1 ELSE 0 END), 0) FROM sign_in_browsers"
_LEAVE = "INSERT INTO sign_in_browsers (id, counted, ends_at, sealed, user_id) VALUES (?, ?, ?, ?, ?)"
_LEFT = "SELECT id, counted FROM sign_in_browsers ORDER BY ends_at"
_COME_BACK = "DELETE FROM sign_in_browsers WHERE id = ? RETURNING sealed, ends_at"
END_ALL_OF = "DELETE FROM sign_in_browsers WHERE user_id = ?"


class Requests(Part):
    """The part of the store that has what is under way; see ``SignInStore``."""

    def ask(self, request: NewRequest, most: int, most_of_one: int) -> bool:
        """Keep a request; return False where its code is taken. Raises TooManyError where there are too many."""
        w = request.waiting
        with self._transaction() as run:
            _, ((total, of_one),) = run((_LATE, (w.asked_at,)), (_HOW_MANY, (request.counted,)))
            if of_one >= most_of_one:
                raise TooManyError
            if total >= most:
                _make_room(run, _WAITING, _FORGET)
            about = (w.device.hex(), request.user_code.hex(), w.source, request.counted, w.client, w.asked_at)
            (made,) = run((_ASK, (*about, request.ends_at, request.interval_s, request.public_key)), commit=True)
        return bool(made)

    def guess(self, source: str, user_code: bytes | None, now: int) -> int | Waiting | None:
        """Return the request with a user code that waits, None where there is none, or the milliseconds to wait first."""
        with self._transaction() as run:
            # Whoever guesses at several gateways at once comes one after the other.
            (((count, last),),) = run((_LOCK_GUESSES, (source, now)))
            if delay_ms := delay_after(count, last, now):
                return delay_ms
            found = run((_BY_CODE, (user_code.hex(), now)))[0] if user_code is not None else []
            if found:
                run(commit=True)
                return _waiting(found[0])
            run((_WRONG, (1 if now - last >= FORGET_AFTER_MS else count + 1, now, source)), commit=True)
        return None

    def waiting(self, device: bytes, now: int) -> Waiting | None:
        """Return a request that waits for a person."""
        with self._transaction() as run:
            (rows,) = run((_BY_DEVICE, (device.hex(), now)), commit=True)
        return _waiting(rows[0]) if rows else None

    def poll(self, device: bytes, now: int, early_ms: int, slower_s: int) -> Polled:
        """Return what became of a request; one that asks early waits ``slower_s`` longer from then on, ``denied`` is said once."""
        with self._transaction() as run:
            (rows,) = run((_POLLED, (device.hex(), now)))
            if not rows:
                return Polled("gone")
            asked_again_at, interval_s, state, identity, sealed, key, *shown = rows[0]
            is_early = asked_again_at is not None and now < asked_again_at + interval_s * 1000 - early_ms
            if is_early:
                run((_ASKED_AGAIN, (now, slower_s, device.hex())), commit=True)
                return Polled("early")
            if state == "denied":
                run((_FORGET, (device.hex(),)), commit=True)
                return Polled("denied")
            run((_ASKED_AGAIN, (now, 0, device.hex())), commit=True)
        if state == "waiting":
            return Polled("waiting")
        return Polled("approved", _waiting(shown), identity, None if sealed is None else bytes.fromhex(sealed), key)

    def public_key(self, device: bytes) -> str | None:
        """Return the key with which to seal what is for the holder of a device code."""
        with self._transaction() as run:
            (rows,) = run((_PUBLIC_KEY, (device.hex(),)), commit=True)
        return rows[0][0] if rows else None

    def approve(self, device: bytes, user_id: str, identity: str, sealed: bytes | None, virtual_key_id: str, now: int) -> bool:
        """Approve a request as this person; return whether it still waited."""
        about = (user_id, identity, None if sealed is None else sealed.hex(), virtual_key_id)
        with self._transaction() as run:
            (made,) = run((_APPROVE, (*about, device.hex(), now)), commit=True)
        return bool(made)

    def deny(self, device: bytes) -> None:
        """Deny a request, unless it has been approved."""
        with self._transaction() as run:
            run((_DENY, (device.hex(),)), commit=True)

    def forget(self, device: bytes) -> None:
        """Delete a request."""
        with self._transaction() as run:
            run((_FORGET, (device.hex(),)), commit=True)

    def leave(
        self, key: bytes, counted: str, ends_at: int, sealed: bytes, user_id: str | None, now: int, most: Sequence[int]
    ) -> None:
        """Keep what a browser has left with; ``most`` of all and of one sender. Raises TooManyError."""
        with self._transaction() as run:
            _, ((total, of_one),) = run((_GONE, (now,)), (_HOW_MANY_LEFT, (counted,)))
            if of_one >= most[1]:
                raise TooManyError
            if total >= most[0]:
                _make_room(run, _LEFT, _COME_BACK)
            run((_LEAVE, (key.hex(), counted, ends_at, sealed.hex(), user_id)), commit=True)

    def come_back(self, key: bytes, now: int) -> bytes | None:
        """Return what a browser left with, once."""
        with self._transaction() as run:
            (rows,) = run((_COME_BACK, (key.hex(),)), commit=True)
        return bytes.fromhex(rows[0][0]) if rows and rows[0][1] > now else None

    def _forget_late(self, run: Run, now: int) -> None:
        run((_LATE, (now,)), (_GONE, (now,)), (_FORGET_GUESSES, (now - FORGET_AFTER_MS,)), (_FORGET_MOST, (MAX_SOURCES,)))


def _waiting(row: Row | list[object]) -> Waiting:
    device, source, client, asked_at = row
    return Waiting(bytes.fromhex(str(device)), str(source), str(client), int(str(asked_at)))


def _make_room(run: Run, those: str, forget: str) -> None:
    """Forget one of ``those``, the oldest of the network that has most of them. Raises TooManyError where there is none.

    So whoever sends thousands from many addresses of one network displaces their own requests, and not those of people elsewhere.
    """
    (found,) = run((those, ()))
    networks = [network_of(str(sender)) for _, sender in found]
    if not networks:
        raise TooManyError
    most = Counter(networks).most_common(1)[0][0]
    run((forget, (found[networks.index(most)][0],)))
