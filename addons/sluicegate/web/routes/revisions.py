"""The policy's history: which revision was in force when, what changed with it, and how to restore one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Annotated, Any

import anyio
import anyio.to_thread
from pydantic import Field

from sluicegate.background import low_priority
from sluicegate.fleet.fleet import host_of
from sluicegate.policy.diff import unified_diff
from sluicegate.policy.editing.draft import ConflictError, NotFoundError
from sluicegate.policy.editing.restoring import Plan, Since, plan_restore
from sluicegate.policy.editing.yaml_patch import NotPatchableError
from sluicegate.policy.fields import Instant, Model
from sluicegate.policy.history import UNREDACTABLE_TEXT
from sluicegate.policy.revisions import Revision
from sluicegate.services import Services
from sluicegate.web.endpoint import ApiRequest, ApiResponse, Endpoint, read_endpoint, write_endpoint
from sluicegate.web.query import Query
from sluicegate.web.responses import ResponseModel
from sluicegate.web.routes.policy import FileState, Saved, put_in_force, redacted_texts
from sluicegate.yaml_document import parse

BASE = "/api/policy/revisions"

_diffs = anyio.CapacityLimiter(2)
"""Diffs made at the same time; those of large policies take seconds."""


class RevisionPage(Query):
    """A part of the history, newest first."""

    limit: int = Field(50, ge=1, le=500)
    before: int | None = Field(
        None, ge=1, le=1 << 53, description="Only revisions with a lower id: next_before of the previous page."
    )


class DiffQuery(Query):
    """The revision to compare with."""

    against: str | None = Field(None, min_length=1, max_length=64, description="A revision; absent: the one before it.")
    limit: int | None = Field(None, ge=1, le=100_000, description="At most this many lines of each file's diff; absent: all.")


class RevisionState(ResponseModel):
    """A revision of the policy that came into force."""

    id: int
    revision: str
    at: Instant
    who: str | None = Field(description="Null: the files were edited on disk.")
    action: str
    summary: str
    node: str | None = Field(description="The gateway on which it came into force or was made, by name; null: there is only one.")


class RevisionList(ResponseModel):
    """A page of the history."""

    revisions: list[RevisionState]
    next_before: int | None = Field(description="Send it as before for the next page; null: this was the last.")


class RevisionTexts(ResponseModel):
    """The files of a revision, without secrets."""

    revision: str
    at: Instant
    files: list[FileState]


class FileDiff(ResponseModel):
    """What changed in a file, in the unified format."""

    name: str
    diff: str
    lines_left_out: int = Field(description="Beyond the limit.")


class Diff(ResponseModel):
    """What changed from one revision to another, in the files that differ."""

    revision: str
    against: str | None
    files: list[FileDiff]


class Restore(Model):
    """Which revocations a restore undoes; every other one stays."""

    also_re_enable: tuple[Annotated[str, Field(min_length=1, max_length=128)], ...] = Field(
        (), max_length=1000, description="Ids of keys and operators that were disabled, expired, deleted, rotated or demoted since."
    )


class EffectState(ResponseModel):
    """One thing that a restore does, or leaves as it is."""

    kind: str
    id: str
    text: str
    loosens: bool = Field(description="Whether somebody may do or spend more than before.")


class Restored(Saved):
    """The policy that is in force now, or would be."""

    effects: list[EffectState] = Field(description="What changes, compared with the policy that was in force.")
    kept: list[EffectState] = Field(description="Revocations that stay.")


def endpoints() -> list[Endpoint]:
    """Declare everything under ``/api/policy/revisions``."""
    one = f"{BASE}/{{revision}}"
    diff = "What changed with a revision, as unified diffs"
    restore = "Put a revision in force again, with the secrets of the present policy; revocations stay unless asked for by name"
    return [
        read_endpoint(BASE, _page, "Every policy that was in force, newest first", RevisionList, query=RevisionPage, errors=(503,)),
        read_endpoint(one, _texts, "One revision of the policy, without secrets", RevisionTexts, errors=(404, 503)),
        read_endpoint(f"{one}/diff", _diff, diff, Diff, query=DiffQuery, errors=(404, 503)),
        write_endpoint("POST", f"{one}/restore", _restore, restore, Restored, Restore),
    ]


async def _page(request: ApiRequest) -> ApiResponse:
    page = request.query
    rows = await request.run_in_thread(lambda: request.services.revisions.page(page.limit, page.before))
    rows = [row | {"node": row["node"] or host_of(request.services.fleet)} for row in rows]
    return ApiResponse({"revisions": rows, "next_before": rows[-1]["id"] if len(rows) == page.limit else None})


async def _texts(request: ApiRequest) -> ApiResponse:
    found = await request.run_in_thread(lambda: _revision(request.services, request.path["revision"]))
    files = [{"name": n, "text": t} for n, t in found.files.items()]
    return ApiResponse({"revision": found.revision, "at": found.at, "files": files})


async def _diff(request: ApiRequest) -> ApiResponse:
    services, against = request.services, request.query.against

    def work() -> dict[str, Any]:
        found = _revision(services, request.path["revision"])
        other = _revision(services, against) if against is not None else services.revisions.before(found.revision)
        old_files = other.files if other is not None else {}
        with low_priority():
            files = [
                {"name": name, **_part(diff, request.query.limit)}
                for name in {**old_files, **found.files}
                if (diff := unified_diff(old_files.get(name, ""), found.files.get(name, "")))
            ]
        return {"revision": found.revision, "against": other.revision if other is not None else None, "files": files}

    return ApiResponse(await anyio.to_thread.run_sync(work, limiter=_diffs))


def _part(diff: str, limit: int | None) -> dict[str, Any]:
    """Return the first lines of a diff, and how many are left out."""
    lines = diff.splitlines(keepends=True)
    shown = lines[:limit]
    return {"diff": "".join(shown), "lines_left_out": len(lines) - len(shown)}


async def _restore(request: ApiRequest) -> ApiResponse:
    services = request.services
    found = await request.run_in_thread(lambda: _revision(services, request.path["revision"]))
    if UNREDACTABLE_TEXT in found.files.values():
        raise ConflictError(
            f"revision {found.revision} cannot be restored: its secrets could not be redacted, so its text was not kept"
        )
    plans: list[Plan] = []

    def files() -> list[dict[str, str]]:
        now = redacted_texts(services)
        if set(now) != set(found.files):
            raise ConflictError(f"revision {found.revision} has the files {_join(found.files)}, the policy now has {_join(now)}")
        if UNREDACTABLE_TEXT in now.values():
            raise ConflictError("the policy in force is written so that it cannot be shown or compared: edit its file instead")
        present, past = ([parse(text.encode(), name) for name, text in texts.items()] for texts in (now, found.files))
        try:
            plan = plan_restore(present, past, found.files, request.body.get("also_re_enable") or (), _since(services))
        except NotPatchableError as e:
            raise ConflictError(str(e)) from e
        plans[:] = [plan]
        return [{"name": name, "text": text} for name, text in plan.texts.items()]

    response = await put_in_force(request, files, "restore")
    (plan,) = plans
    effects, kept = ([effect._asdict() for effect in part] for part in (plan.effects, plan.kept))
    return replace(response, body={**response.body, "effects": effects, "kept": kept})


_ACTIONS: Mapping[str, Callable[[Mapping[str, Any]], bool]] = {
    "deleted": lambda entry: entry["after"] is None,
    "disabled": lambda entry: (entry["after"] or {}).get("is_active") is False,
    "rotated": lambda entry: entry["action"] == "rotate",
}
"""What the audit trail's entry of a revocation looks like."""


def _since(services: Services) -> Since:
    """Return a function that looks up in the audit trail when an entity was revoked."""

    def day(kind: str, entity_id: str, done: str) -> str | None:
        if services.audit_trail is None:
            return None
        entries, _ = services.audit_trail.read(limit=20, entity_kind=kind, entity_id=entity_id)
        return next((str(e["at"])[:10] for e in entries if _ACTIONS[done](e)), None)

    return day


def _join(names: Any) -> str:
    return ", ".join(sorted(names))


def _revision(services: Services, revision: str) -> Revision:
    found = services.revisions.get(revision)
    if found is None:
        raise NotFoundError(f"there is no revision '{revision[:80]}' in the history")
    return found
