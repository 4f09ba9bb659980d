"""Changes of users with their virtual keys: a user who is deleted or changes teams, and what becomes of the keys."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sluicegate.policy.editing import operations
from sluicegate.policy.editing.draft import ConflictError, Draft, DraftEntry, EditError, Fields
from sluicegate.policy.editing.operations import KEYS
from sluicegate.policy.entities import KINDS
from sluicegate.policy.model import Policy
from sluicegate.windows import parse_iso

USERS = KINDS["users"]


class Removed(NamedTuple):
    """The keys that were deleted with their user, and what lost its reference."""

    keys: list[DraftEntry]
    detached: list[DraftEntry]


class Payer(NamedTuple):
    """A user's key, the team and customer that pay for it, and whether they are the user's own."""

    id: str
    team_id: str | None
    customer_id: str | None
    is_with_user: bool


def keys_of(draft: Draft, user_id: str) -> list[DraftEntry]:
    """Return the keys that a user has in a draft."""
    return [e for e in draft.entries(KEYS).values() if e.after is not None and e.after.get("user_id") == user_id]


def delete_user(
    draft: Draft, id_or_name: str, *, with_keys: bool = False, keep_keys: bool = False, detach: bool = False, now: int
) -> Removed:
    """Delete a user, with the keys or without. Keys that still work stay only with ``keep_keys``, and without a user.

    Those of a disabled user stay refused. Raises ConflictError, which names the keys that are in the way, or EditError.
    """
    if with_keys and keep_keys:
        raise EditError(
            "keep_keys: keys are either deleted with their user or kept; give one of with_keys and keep_keys", "keep_keys"
        )
    user = draft.get(USERS, id_or_name)
    keys = keys_of(draft, user.id)
    if with_keys:
        for key in keys:
            draft.delete(key)
        return Removed(keys, draft.delete(user, detach=detach))
    live = [key for key in keys if _is_live(key.after or {}, now)]
    if live and not keep_keys:
        raise _in_the_way(user.id, [key.id for key in live])
    if (user.after or {}).get("is_active") is False:
        for key in live:
            draft.upsert(KEYS, key.id, {"is_active": False})
    return Removed([], draft.delete(user, detach=detach or keep_keys))


def _is_live(key: Fields, now: int) -> bool:
    end = key.get("expires_at")
    return key.get("is_active") is not False and (end is None or parse_iso(str(end)) > now)


def _in_the_way(user_id: str, keys: list[str]) -> ConflictError:
    listed = ", ".join(keys[:5]) + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")
    return ConflictError(
        f"User '{user_id}' is still referred to by keys that work: {listed}; delete them too (--with-keys, over REST "
        "with_keys=true), or let them work on without a user (--keep-keys, keep_keys=true)",
        referred_by=[f"virtual_key {key}" for key in keys],
    )


def move_keys(draft: Draft, user: DraftEntry, keys: Iterable[DraftEntry]) -> None:
    """Let these keys of a user belong to the user's own team and customer."""
    own = {n: (user.after or {}).get(n) for n in ("team_id", "customer_id")}
    for key in keys:
        # A key of a project follows the project unless it says otherwise; any other follows its user by itself.
        draft.upsert(KEYS, key.id, own if (key.after or {}).get("project_id") else dict.fromkeys(own))


def change_user(draft: Draft, id_or_name: str, fields: Fields, *, moves_keys: bool, only_create: bool) -> operations.Saved:
    """Change or create a user, and move the keys along where asked. Raises ConflictError or EditError."""
    saved = operations.upsert(draft, USERS, id_or_name, fields, only_create=only_create)
    if moves_keys:
        move_keys(draft, saved.entry, keys_of(draft, saved.entry.id))
    return saved


def payers(policy: Policy, user_id: str) -> list[Payer]:
    """Return who pays for each key of a user."""
    user = next(u for u in policy.file.users if u.id == user_id)
    of_team = next((t.customer_id for t in policy.file.teams if t.id == user.team_id), None)
    own = user.team_id, user.customer_id or of_team
    keys = (k for k in policy.virtual_keys.values() if k.user_id == user_id)
    return [Payer(k.id, k.team_id, k.customer_id, (k.team_id, k.customer_id) == own) for k in keys]
