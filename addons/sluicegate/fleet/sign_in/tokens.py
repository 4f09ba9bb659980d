"""The store of sign-ins: their tokens, and what nodes follow of them."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Collection
from typing import Any, Literal

import orjson

from sluicegate.fleet.sign_in.part import Part, as_rows
from sluicegate.fleet.store.engine import Row, Run
from sluicegate.sign_in.kept import CLAIM_MS, UNDER_WAY, Changes, Claim, Ended, Head, NewTokens, SignIn, Token, Used

logger = logging.getLogger("sluicegate")

AHEAD = 1_000_000
"""By how much the numbers of changes go up where the store had lost some: what nodes know is of the time before then."""

_FIELDS = (
    *("id", "user_id", "virtual_key_id", "subject", "email", "name", "source", "client", "began_at", "renewed_at"),
    *("checked_at", "ends_at", "member_of", "provider_token"),
)
_COLUMNS = ", ".join(_FIELDS)
_OF_SIGN_IN = ", ".join(f"s.{name}" for name in _FIELDS)
_TOKEN = "a.digest, a.sign_in, s.virtual_key_id, a.ends_at, s.member_of, s.user_id"
_TOKENS = f"SELECT {_TOKEN} FROM sign_in_access_tokens a JOIN signed_in s ON s.id = a.sign_in WHERE"  # noqa: S608

_HEAD = "SELECT number, mark FROM sign_in_head WHERE id = 1"
_LOCKED_HEAD = f"{_HEAD} {{for_update}}"
_KNOWN = "SELECT mark FROM sign_in_changes WHERE number = ?"
_OLDEST = "SELECT min(number) FROM sign_in_changes"
_SINCE = "SELECT ended FROM sign_in_changes WHERE number > ? ORDER BY number"
_ISSUED_SINCE = f"{_TOKENS} a.number > ? AND a.ends_at > ?"
_ACCESS = f"{_TOKENS} a.digest = ? AND a.ends_at > ?"
_GO_AHEAD = "UPDATE sign_in_head SET number = ?, mark = ? WHERE id = 1"

_ADD = f"INSERT INTO signed_in ({_COLUMNS}) VALUES ({', '.join('?' * len(_FIELDS))})"  # noqa: S608
_CHANGE = "UPDATE signed_in SET renewed_at = ?, checked_at = ?, member_of = ?, provider_token = ? WHERE id = ? RETURNING id"
_ADD_ACCESS = "INSERT INTO sign_in_access_tokens (digest, sign_in, ends_at, number) VALUES (?, ?, ?, ?)"
_ADD_REFRESH = "INSERT INTO sign_in_refresh_tokens (digest, sign_in) VALUES (?, ?)"
_OWN = "SELECT id, disputed_from, disputed_at FROM signed_in WHERE user_id = ? ORDER BY began_at DESC, id"
_LIST = f"SELECT {_COLUMNS} FROM signed_in WHERE ends_at > ? ORDER BY began_at DESC, id"  # noqa: S608
_DROP_REQUEST = "DELETE FROM sign_in_requests WHERE device = ? AND state = 'approved' RETURNING device"

_REFRESH = f"""
SELECT r.used_from, r.used_at, r.answer, {_OF_SIGN_IN}
FROM sign_in_refresh_tokens r JOIN signed_in s ON s.id = r.sign_in WHERE r.digest = ?
"""  # noqa: S608
_CLAIM = """
UPDATE sign_in_refresh_tokens SET used_from = ?, used_at = ?, claim = ?, claimed_until = ?
WHERE digest = ? AND answer IS NULL AND (claimed_until IS NULL OR claimed_until <= ?) RETURNING digest
"""
_USE = """
UPDATE sign_in_refresh_tokens SET answer = ?, used_at = ? WHERE digest = ? AND claim = ? AND answer IS NULL RETURNING sign_in
"""
_ANSWER = "SELECT answer FROM sign_in_refresh_tokens WHERE digest = ? AND claim = ?"
_UNCLAIM = """
UPDATE sign_in_refresh_tokens SET used_from = NULL, used_at = NULL, claim = NULL, claimed_until = NULL
WHERE digest = ? AND claim = ? AND answer IS NULL RETURNING sign_in
"""
_SEAL_AGAIN = "UPDATE signed_in SET provider_token = ? WHERE id = ?"
_DISPUTE = "UPDATE signed_in SET disputed_from = ?, disputed_at = ? WHERE id = ?"
_COUNT = "SELECT count(*) FROM sign_in_access_tokens WHERE sign_in = ? AND ends_at > ?"
_OF_TOKEN = """
SELECT sign_in FROM sign_in_access_tokens WHERE digest = ? UNION ALL SELECT sign_in FROM sign_in_refresh_tokens WHERE digest = ?
"""
_ACCOUNT = "SELECT provider, subject FROM sign_in_accounts WHERE user_id = ?"
_BIND = """
INSERT INTO sign_in_accounts (user_id, provider, subject) VALUES (?, ?, ?)
ON CONFLICT (user_id) DO UPDATE SET provider = excluded.provider, subject = excluded.subject
WHERE sign_in_accounts.provider <> excluded.provider
"""
_ENDED_BY_THEMSELVES = "SELECT id FROM signed_in WHERE ends_at <= ?"
_DELETED = tuple(
    f"DELETE FROM {table} WHERE {column} IN (SELECT [[0]] FROM {{each}})"  # noqa: S608
    for table, column in (("sign_in_access_tokens", "sign_in"), ("sign_in_refresh_tokens", "sign_in"), ("signed_in", "id"))
)
_ALL = ("sign_in_access_tokens", "sign_in_refresh_tokens", "signed_in", "sign_in_requests", "sign_in_browsers")
_ALL_OF_DASHBOARD = ("dashboard_sessions", "dashboard_people", "sign_in_changes")


class Tokens(Part):
    """The part of the store that has the tokens; see ``SignInStore``."""

    # -- what nodes follow ---------------------------------------------------------------------------------------------

    def changes(self, since: Head | None, now: int, *, whole: bool = False) -> Changes:
        """Return what has changed since a head, or with ``whole`` everything; end everything where changes were lost."""
        with self._transaction() as run:
            head = _head(run, _HEAD)
            if head == since and not whole:
                run(commit=True)
                return Changes(head, {}, Ended())
            if since is not None and since.number:
                known, ((oldest,),) = run((_KNOWN, (since.number,)), (_OLDEST, ()))
                if _has_lost(since, head, known, oldest) and (lost := self._lost(run, since, now)) is not None:
                    return lost
                whole = whole or not known
            if whole or since is None:
                (issued,) = run((_ISSUED_SINCE, (-1, now)), commit=True)
                return Changes(head, _tokens(issued), Ended(), is_whole=True)
            issued, changed = run((_ISSUED_SINCE, (since.number, now)), (_SINCE, (since.number,)), commit=True)
        return Changes(head, _tokens(issued), _ended(changed))

    def _lost(self, run: Run, since: Head, now: int) -> Changes | None:
        """End everything, unless another node has done so meanwhile."""
        head = _head(run, _LOCKED_HEAD)
        known, ((oldest,),) = run((_KNOWN, (since.number,)), (_OLDEST, ()))
        if not _has_lost(since, head, known, oldest):
            return None
        logger.warning(
            "The store of the sign-ins has lost changes, as where it was restored from a backup: everybody has to sign in again, "
            "because nobody can tell which sign-ins had ended since"
        )
        ahead = Head(max(head.number, since.number) + AHEAD, secrets.token_hex(8))
        run((_GO_AHEAD, ahead), *((f"DELETE FROM {table}", ()) for table in (*_ALL, *_ALL_OF_DASHBOARD)))  # noqa: S608
        self._end_change(run, ahead, Ended(), now)
        return Changes(ahead, {}, Ended(), is_whole=True)

    def token(self, access: bytes, now: int) -> Token | None:
        """Return an access token that is valid, by its hash."""
        with self._transaction() as run:
            (rows,) = run((_ACCESS, (access.hex(), now)), commit=True)
        return next(iter(_tokens(rows).values()), None)

    # -- issuing -------------------------------------------------------------------------------------------------------

    def begin(
        self, sign_in: SignIn, tokens: NewTokens, *, device: bytes | None, most: int, disputed_since: int
    ) -> Collection[str] | None:
        """Keep a new sign-in in place of a device request; return which have ended with that, None where the request is gone."""
        with self._transaction() as run:
            head = self._begin_change(run)
            if device is not None and not run((_DROP_REQUEST, (device.hex(),)))[0]:
                return None
            (own,) = run((_OWN, (sign_in.user_id,)))
            ended = {i for i, source, at in own if source == sign_in.source and at > disputed_since}
            ended |= {row[0] for row in own[most - 1 :]}
            delete_all(run, ended)
            run((_ADD, _values(sign_in)), *_added(sign_in.id, tokens, head))
            self._end_change(run, head, Ended(sign_ins=sorted(ended)), sign_in.began_at)
        return ended

    def claim(self, refresh: bytes, source: str, now: int) -> Claim | Used | Literal["under way"] | None:
        """Claim the right to renew with a refresh token, or return why not; None for one that is not known."""
        with self._transaction() as run:
            (rows,) = run((_REFRESH, (refresh.hex(),)))
            if not rows:
                return None
            used_from, used_at, answer, *row = rows[0]
            sign_in = _sign_in(row)
            if answer is not None:
                return Used(sign_in, used_from, used_at, bytes.fromhex(answer) or None)
            claim = secrets.token_hex(16)
            # Somebody may have it by now.
            (found,) = run((_CLAIM, (source, now, claim, now + CLAIM_MS, refresh.hex(), now)), commit=True)
        return Claim(sign_in, claim) if found else UNDER_WAY

    def renew(self, claim: Claim, refresh: bytes, sign_in: SignIn, tokens: NewTokens, answer: bytes) -> bool:
        """Exchange a claimed refresh token for new tokens; return whether the claim and the sign-in were still there."""
        digest = refresh.hex()
        with self._transaction() as run:
            head = self._begin_change(run)
            (used,) = run((_USE, (answer.hex(), sign_in.renewed_at, digest, claim.id)))
            if not used:
                # Where the answer to this very message was lost, it is done.
                (rows,) = run((_ANSWER, (digest, claim.id)))
                return rows == [(answer.hex(),)]
            sealed = None if sign_in.provider_token is None else sign_in.provider_token.hex()
            about = (sign_in.renewed_at, sign_in.checked_at, sign_in.groups, sealed, sign_in.id)
            (found,) = run((_CHANGE, about))
            if not found:
                return False
            run(*_added(sign_in.id, tokens, head))
            self._end_change(run, head, Ended(), sign_in.renewed_at)
        return True

    def release(self, claim: Claim, refresh: bytes, provider_token: bytes | None) -> None:
        """Give a claim back, with what the refresh token has sealed by now: nothing came of it."""
        with self._transaction() as run:
            (rows,) = run((_UNCLAIM, (refresh.hex(), claim.id)))
            if rows:
                sealed = None if provider_token is None else provider_token.hex()
                run((_SEAL_AGAIN, (sealed, claim.sign_in.id)), commit=True)

    def dispute(self, sign_in_id: str, source: str, now: int) -> None:
        """Note that a refresh token was refused at an address at which it had been used."""
        self._do(_DISPUTE, source, now, sign_in_id)

    # -- what there is -------------------------------------------------------------------------------------------------

    def count_access_tokens(self, sign_in_id: str, now: int) -> int:
        """Return how many access tokens of a sign-in are valid."""
        return int(self._do(_COUNT, sign_in_id, now)[0][0])

    def sign_in_of(self, digest: bytes) -> str | None:
        """Return the id of the sign-in that a token is of."""
        rows = self._do(_OF_TOKEN, digest.hex(), digest.hex())
        return str(rows[0][0]) if rows else None

    def sign_ins(self, now: int) -> list[SignIn]:
        """Return the sign-ins that have not ended, the newest first."""
        return [_sign_in(row) for row in self._do(_LIST, now)]

    def account_of(self, user_id: str) -> tuple[str, str] | None:
        """Return the provider and subject of the account that a user is bound to."""
        rows = self._do(_ACCOUNT, user_id)
        return (rows[0][0], rows[0][1]) if rows else None

    def bind(self, user_id: str, provider: str, subject: str) -> tuple[str, str]:
        """Bind a user to an account, unless they are bound to another of this provider; return which it is then."""
        with self._transaction() as run:
            _, ((of, bound),) = run((_BIND, (user_id, provider, subject)), (_ACCOUNT, (user_id,)), commit=True)
        return of, bound

    # -- ending --------------------------------------------------------------------------------------------------------

    def end(self, ids: Collection[str], now: int) -> None:
        """End sign-ins with all of their tokens."""
        with self._transaction() as run:
            head = self._begin_change(run)
            delete_all(run, ids)
            self._end_change(run, head, Ended(sign_ins=sorted(ids)), now)

    def _end_by_themselves(self, run: Run, now: int) -> None:
        (rows,) = run((_ENDED_BY_THEMSELVES, (now,)))
        # Nobody has to be told: each token says when it ends.
        delete_all(run, [i for (i,) in rows])

    def _do(self, sql: str, *values: Any) -> list[Row]:
        with self._transaction() as run:
            (rows,) = run((sql, values), commit=True)
        return rows


def _head(run: Run, sql: str) -> Head:
    (((number, mark),),) = run((sql, ()))
    return Head(int(number), mark)


def _has_lost(since: Head, head: Head, known: list[Row], oldest: int | None) -> bool:
    """Return whether the store has not, or no longer, the change that somebody has seen; ``known`` is its mark there."""
    if known:
        return bool(known[0][0] != since.mark)
    # Changes are deleted from the oldest on.
    return head.number < since.number or (oldest is not None and since.number >= oldest)


def delete_all(run: Run, ids: Collection[str]) -> None:
    """Delete sign-ins with all of their tokens."""
    if ids:
        rows = as_rows(sorted(ids))
        run(*((sql, (rows,)) for sql in _DELETED))


def _added(sign_in_id: str, tokens: NewTokens, head: Head) -> tuple[tuple[str, tuple[Any, ...]], ...]:
    return (
        (_ADD_ACCESS, (tokens.access.hex(), sign_in_id, tokens.access_ends_at, head.number)),
        (_ADD_REFRESH, (tokens.refresh.hex(), sign_in_id)),
    )


def _values(sign_in: SignIn) -> tuple[Any, ...]:
    s = sign_in
    about = (s.id, s.user_id, s.virtual_key_id, s.subject, s.email, s.name, s.source, s.client, s.began_at, s.renewed_at)
    return *about, s.checked_at, s.ends_at, s.groups, None if s.provider_token is None else s.provider_token.hex()


def _sign_in(row: Row | list[Any]) -> SignIn:
    *about, sealed = row
    return SignIn(*[*about, None if sealed is None else bytes.fromhex(sealed)])


def _tokens(rows: list[Row]) -> dict[bytes, Token]:
    return {bytes.fromhex(digest): Token(*rest) for digest, *rest in rows}


def _ended(rows: list[Row]) -> Ended:
    named = [orjson.loads(text) for (text,) in rows]
    sign_ins = [i for row in named for i in row.get("sign_ins", ())]
    sessions, people = ([bytes.fromhex(i) for row in named for i in row.get(name, ())] for name in ("sessions", "people"))
    return Ended(sign_ins, sessions, people)
