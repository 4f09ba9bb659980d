"""A roster over REST: users, teams and keys are made as the rows of a table say."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from sluicegate.policy.editing import roster
from sluicegate.policy.editing.draft import Draft
from sluicegate.policy.entities import KINDS
from sluicegate.policy.fields import Id, Model
from sluicegate.web import views
from sluicegate.web.endpoint import ApiRequest, ApiResponse, Endpoint, write_endpoint
from sluicegate.web.errors import ApiError
from sluicegate.web.responses import Confirmation, ResponseModel, VirtualKeyState

PATH = "/api/governance/apply"
KEYS = KINDS["virtual_keys"]

MAX_ROWS = 10_000
MAX_BODY_BYTES = 16 << 20


class RosterRow(Model):
    """A person: the filled cells of one row, as text."""

    row: int = Field(ge=1, le=1 << 24, description="Its number in the table, for messages.")
    cells: dict[str, str] = Field(
        description="By column: user, name, team, customer, project, budget, rate, tokens, concurrent, models, labels, key, "
        "active, label:NAME.",
        examples=[{"user": "alice", "team": "platform", "budget": "50/month"}],
    )


class Roster(Model):
    """Who uses the gateway. Either all of it is applied or nothing."""

    rows: tuple[RosterRow, ...] = Field(min_length=1, max_length=MAX_ROWS)
    remove_missing: Literal["report", "disable", "delete"] = Field(
        "report",
        description="What becomes of users that no row names: nothing, their keys are refused, or they go with their keys.",
    )


class AppliedChange(ResponseModel):
    """What changed of one entity."""

    row: int | None = Field(description="The row that says so; null for a user that no row names.")
    action: str
    kind: str
    id: Id
    what: str


class RosterApplied(Confirmation):
    """What a roster changed; the values of new keys are shown only this once."""

    changes: list[AppliedChange]
    missing: list[str] = Field(description="Users that no row names, left as they are.")
    notes: list[str]
    virtual_keys: list[VirtualKeyState]


def endpoints() -> list[Endpoint]:
    """Declare the endpoint."""
    summary = "Make users, teams and a key each as the rows of a table say"
    return [write_endpoint("POST", PATH, _apply, summary, RosterApplied, Roster, max_body_bytes=MAX_BODY_BYTES)]


async def _apply(request: ApiRequest) -> ApiResponse:
    rows = [(row["row"], row["cells"]) for row in request.body["rows"]]
    missing: roster.Missing = request.body.get("remove_missing") or "report"
    now = request.services.clock()

    def work(draft: Draft) -> roster.Applied:
        return roster.apply_roster(draft, rows, missing=missing, now=now)

    try:
        applied, policy = await request.edit_policy(work, "apply")
    except roster.RosterError as e:
        problems = [{"field": f"row {m.row}, {m.column}", "message": m.message} for m in e.mistakes]
        raise ApiError(400, "invalid_request", str(e), problems=problems) from e

    def answer() -> dict[str, Any]:
        keys = views.entity_views(request.services, policy, KEYS, applied.secrets)
        count = len(applied.changes)
        return {
            "message": "1 change" if count == 1 else f"{count} changes",
            "changes": [change._asdict() for change in applied.changes],
            "missing": applied.missing,
            "notes": applied.notes,
            "virtual_keys": keys if request.dry_run else [key | {"value": applied.secrets[key["id"]]} for key in keys],
        }

    return ApiResponse(await request.run_in_thread(answer), revision=policy.revision)
