"""Which spend limit a user meets first: for each period the fullest budget that applies, as the headers for Claude Code have it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sluicegate.calls.claude_code.headers import PERIODS
from sluicegate.limits.ledger import Ledger
from sluicegate.policy import schema
from sluicegate.policy.entities import KINDS
from sluicegate.policy.model import Policy
from sluicegate.web.errors import ApiError
from sluicegate.web.spend_limits.limits import SpendLimit, exact_cents, limits_in, whole_cents
from sluicegate.web.spend_limits.scopes import group_of, scope_of
from sluicegate.web.spend_limits.shapes import EffectivePage

CUSTOMERS, TEAMS, USERS = KINDS["customers"], KINDS["teams"], KINDS["users"]

type Position = tuple[int, str]
"""What users are sorted by: their spend in negative nano-dollars, so that the most comes first, or 0; then the id."""


@dataclass(frozen=True, slots=True)
class _Row:
    limit: SpendLimit
    maximum: int
    used: int


class Effective:
    """The users of a policy and the limits that they meet, at one time."""

    def __init__(self, policy: Policy, ledger: Ledger, now: int) -> None:
        self.policy, self.ledger, self.now = policy, ledger, now
        self.users = {user.id: user for user in policy.file.users}
        self.teams = {team.id: team for team in policy.file.teams}
        self.customers = {customer.id: customer for customer in policy.file.customers}
        self.rows: dict[str, _Row] = {}
        """By the limit's id: that of a team is asked for once, not for each of its users."""

    def page(self, asked: EffectivePage) -> dict[str, Any]:
        """Return a page of users. Raises ApiError for a ``page`` of other parameters."""
        fingerprint = _fingerprint(asked)
        after = _position(asked.page, fingerprint) if asked.page is not None else None
        periods = [p for p in PERIODS.values() if not asked.periods or p in asked.periods]
        positions = sorted(self._position(user, periods if asked.sort else []) for user in self._users(asked))
        rest = [position for position in positions if after is None or position > after]
        data = [row for _, user in rest[: asked.limit] for row in self._rows_of(user, periods)]
        more = _token(rest[asked.limit - 1], fingerprint) if len(rest) > asked.limit else None
        return {"data": data, "next_page": more}

    def _users(self, asked: EffectivePage) -> Iterator[str]:
        wanted, part = set(asked.user_ids), asked.q.casefold() if asked.q else None
        for user in self.users.values():
            if wanted and user.id not in wanted:
                continue
            if part is None or part in user.id.casefold() or part in (user.name or "").casefold():
                yield user.id

    def _position(self, user: str, by_spend: list[str]) -> Position:
        if not by_spend:
            return 0, user
        row = self._fullest(self.users[user], by_spend[0])
        return -(row.used if row is not None else 0), user

    def _rows_of(self, user_id: str, periods: list[str]) -> Iterator[dict[str, Any]]:
        user = self.users[user_id]
        for period in periods:
            row = self._fullest(user, period)
            if row is not None:
                yield self._view(user, row)

    def _fullest(self, user: schema.User, period: str) -> _Row | None:
        """Return the fullest budget of a period that applies to a user, of two as full the narrower; None if none does."""
        team = self.teams.get(user.team_id or "")
        customer = self.customers.get(user.customer_id or (team.customer_id if team is not None else None) or "")
        owners = ((USERS, user), (TEAMS, team), (CUSTOMERS, customer))
        found = [
            self._row(limit)
            for kind, owner in owners
            if owner is not None
            for limit in limits_in(kind, owner.id, owner)
            if limit.period == period
        ]
        return max(found, key=lambda row: row.used / row.maximum if row.maximum else 1.0, default=None)

    def _row(self, limit: SpendLimit) -> _Row:
        row = self.rows.get(limit.id)
        if row is None:
            row = _Row(limit, limit.limit.at(self.now).maximum, limit.used(self.ledger, self.now))
            self.rows[limit.id] = row
        return row

    def _view(self, user: schema.User, row: _Row) -> dict[str, Any]:
        actor = {
            "type": "user_actor",
            "user_id": user.id,
            "name": user.name,
            "email_address": user.id if "@" in user.id else None,
            "deleted": False,
        }
        return {
            "scope": {"type": "user", "user_id": user.id},
            "groups": [group_of(self.policy, user.team_id)] if user.team_id is not None else [],
            "actor": actor,
            "amount": whole_cents(row.maximum),
            "currency": "USD",
            "period": row.limit.period,
            "source": scope_of(self.policy, row.limit.kind, row.limit.owner),
            "spend_limit_id": row.limit.id,
            "period_to_date_spend": exact_cents(row.used),
        }


def _fingerprint(asked: EffectivePage) -> str:
    parameters = [sorted(asked.user_ids), sorted(asked.periods), asked.sort, asked.q]
    return hashlib.sha256(json.dumps(parameters).encode()).hexdigest()[:16]


def _token(position: Position, fingerprint: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([*position, fingerprint]).encode()).decode().rstrip("=")


def _position(token: str, fingerprint: str) -> Position:
    try:
        spent, user, made_for = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        position = int(spent), str(user)
    except (ValueError, TypeError, OverflowError, RecursionError) as e:
        raise ApiError(400, "invalid_request", "page: this is no next_page of this endpoint") from e
    if made_for != fingerprint:
        message = "page: it is of a request with other parameters; repeat those, or begin without page"
        raise ApiError(400, "invalid_request", message)
    return position
