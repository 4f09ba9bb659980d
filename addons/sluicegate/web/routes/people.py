"""Users over REST where they differ from other entities: changing one with the keys, and deleting one with them or without."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from sluicegate.policy.editing import people
from sluicegate.policy.editing.operations import Saved
from sluicegate.policy.fields import Id
from sluicegate.policy.model import Policy
from sluicegate.web import responses
from sluicegate.web.endpoint import ApiRequest, ApiResponse
from sluicegate.web.responses import ResponseModel


class KeyPayer(ResponseModel):
    """A key of a user who was given another team or customer, and who pays for it now."""

    id: Id
    team_id: Id | None
    customer_id: Id | None
    is_with_user: bool = Field(description="Whether these are the user's own; a key that names a team itself stays there.")


class UserWritten(responses.write_response(people.USERS)):  # type: ignore[misc]
    """A user after a change."""

    keys: list[KeyPayer] = Field(default=[], description="Who pays for the user's keys, where team or customer were changed.")


class UserDeleted(responses.Deleted):
    """A user that was deleted."""

    deleted: list[str] = Field(description="The keys that were deleted with the user.")


async def change(request: ApiRequest, fields: dict[str, Any]) -> tuple[Saved, Policy]:
    """Change a user or create one."""
    return await request.edit_policy(
        lambda draft: people.change_user(
            draft, request.path["id"], fields, moves_keys=request.query.move_keys, only_create=request.create_only
        )
    )


def payers(request: ApiRequest, policy: Policy, user_id: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Return who pays for a user's keys, if a change was about that; what stays as it was is not among the fields."""
    if fields.keys().isdisjoint(("team_id", "customer_id")) and not request.query.move_keys:
        return {}
    return {"keys": [payer._asdict() for payer in people.payers(policy, user_id)]}


async def delete(request: ApiRequest) -> ApiResponse:
    """Delete a user; keys that still work are deleted with it, or stay where that is asked for."""
    query, now = request.query, request.services.clock()
    removed, policy = await request.edit_policy(
        lambda draft: people.delete_user(
            draft, request.path["id"], with_keys=query.with_keys, keep_keys=query.keep_keys, detach=query.detach, now=now
        )
    )
    deleted, detached = ([f"{e.kind.singular} {e.id}" for e in part] for part in removed)
    answer = {"message": "User deleted successfully", "deleted": deleted, "detached": detached}
    return ApiResponse(answer, revision=policy.revision)
