"""Members: a person who signs in is made a user of the policy where it says so, with the key of the kind ``session``."""

from __future__ import annotations

from collections.abc import Callable

from sluicegate.policy.audit_trail import AuditTrailError
from sluicegate.policy.editing.draft import ConflictError, Draft, EditError
from sluicegate.policy.editing.operations import KEYS
from sluicegate.policy.editing.people import USERS
from sluicegate.policy.editing.writer import PolicyWriter
from sluicegate.policy.model import Policy
from sluicegate.policy.oidc import Oidc
from sluicegate.policy.schema import User
from sluicegate.policy.source import PolicyLockedError, PolicyNotWritableError
from sluicegate.sign_in.errors import NotAllowedError, NotNowError
from sluicegate.sign_in.identity import Identity

ASK = "ask whoever administers the gateway"


def session_key_of(policy: Policy, user_id: str) -> str | None:
    """Return the id of a user's key of the kind ``session``."""
    return next((k.id for k in policy.virtual_keys.values() if k.kind == "session" and k.user_id == user_id), None)


def admit(writer: PolicyWriter, policy: Policy, oidc: Oidc, identity: Identity) -> str:
    """Return the id of a person's key, made with its user where that is missing. Blocking.

    Raises NotAllowedError, or NotNowError.
    """
    user = next((u for u in policy.file.users if u.id == identity.user_id), None)
    if (why := _refusal(user, oidc, identity)) is not None:
        raise NotAllowedError(why)
    key_id = session_key_of(policy, identity.user_id)
    moves = oidc.creates_users and bool(oidc.groups) and (user is None or user.team_id != identity.team_id)
    if key_id is not None and not moves:
        return key_id

    def change(draft: Draft) -> str:
        fields: dict[str, str | None] = {"team_id": identity.team_id} if moves else {}
        if user is None:
            if (near := draft.alike(USERS, identity.user_id)) is not None:
                raise NotAllowedError(f"there is a user '{near.id}' already, spelt another way: {ASK}")
            fields["name"] = identity.name or identity.user_id
        if fields:
            draft.upsert(USERS, identity.user_id, fields)
        if key_id is not None:
            return key_id
        made = draft.free_id(KEYS, f"session-{identity.user_id}")
        draft.upsert(KEYS, made, {"kind": "session", "user_id": identity.user_id})
        return made

    return _written(writer, change, identity.user_id)


def _written(writer: PolicyWriter, change: Callable[[Draft], str], user_id: str) -> str:
    try:
        found, _ = writer.change(change, who=user_id, action="sign in", secrets_stay=True)
    except (ConflictError, PolicyLockedError, AuditTrailError) as e:
        # Somebody is at work on the policy, or the disk is full.
        raise NotNowError(str(e)) from e
    except (PolicyNotWritableError, EditError) as e:
        if isinstance(e, PolicyNotWritableError) and not e.lasting:
            raise NotNowError(str(e)) from e
        raise NotAllowedError(f"the policy lacks your user or its key of the kind session, and cannot be changed: {ASK}") from e
    return found


def _refusal(user: User | None, oidc: Oidc, identity: Identity) -> str | None:
    if oidc.groups and identity.team_id is None:
        # Their group has a role only: no team's limits would hold for their key.
        return "you are in no group that may sign in here with a client (oidc.groups)"
    if user is None and not oidc.creates_users:
        return f"there is no user '{identity.user_id}' here: {ASK} to add you"
    if user is not None and not user.is_active:
        return f"the user '{identity.user_id}' is disabled: {ASK}"
    return None
