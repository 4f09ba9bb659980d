"""Features that are off or on over REST: caches, kept content, alerts, clients' own logins, with the YAML that a change makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from sluicegate.policy.cache_schema import Cache
from sluicegate.policy.diff import unified_diff
from sluicegate.policy.editing.draft import ConflictError, EditError
from sluicegate.policy.editing.section_merge import with_sections
from sluicegate.policy.errors import did_you_mean
from sluicegate.policy.fields import Model, Percent, ProviderName, SubscriptionRule
from sluicegate.policy.history import UNREDACTABLE_TEXT, redacted_files
from sluicegate.policy.model import Policy
from sluicegate.services import Services
from sluicegate.web.endpoint import ApiRequest, ApiResponse, Endpoint, read_endpoint, write_endpoint
from sluicegate.web.responses import ResponseModel
from sluicegate.web.routes.policy import Saved, on_disk, replace_contents, saved_body
from sluicegate.web.routes.revisions import FileDiff

BASE = "/api/features"


class ProviderFeatures(Model):
    """What is off or on for one provider."""

    subscriptions: SubscriptionRule


class AlertsChange(Model):
    """When alerts are sent."""

    thresholds: tuple[Percent, ...] | None = Field(
        None, description="Percent of a budget at which an alert is sent; [] for none, null for the usual ones."
    )


class FeaturesChange(Model):
    """What to change, in the words of the policy. What is absent stays as it is; null is as if it were not written."""

    cache: dict[str, dict[str, str | bool | int | float | None]] = Field(
        default_factory=dict, description="exact and semantic, each with the keys that change, as under cache in the policy."
    )
    content: Literal["off", "full"] | None = Field(None, description="Whether bodies are kept where no scope decides.")
    alerts: AlertsChange | None = Field(None, description="As under alerts in the policy.")
    providers: dict[ProviderName, ProviderFeatures] = Field(default_factory=dict, description="As under providers in the policy.")


class AlertsState(ResponseModel):
    """When alerts are sent, and to whom."""

    thresholds: list[int]
    webhooks: list[str] = Field(description="Names of the receivers; without any, nobody is told.")


class FeaturesState(ResponseModel):
    """The features as the policy in force has them, defaults included."""

    on_disk: str = Field(description="The revision on disk, for If-Match.")
    cache: Cache
    content: Literal["off", "full"]
    content_retention: str = Field(description="How long kept bodies stay.")
    content_elsewhere: int = Field(description="Customers, teams, users, projects and keys that say otherwise for themselves.")
    alerts: AlertsState
    providers: dict[str, ProviderFeatures] = Field(description="Providers whose clients can have a login of their own.")


class FeaturesWritten(FeaturesState, Saved):
    """The features as they are now, or with dry_run as they would be, and what that changes in the policy."""

    files: list[FileDiff] = Field(description="Without secrets; none where the policy says so already.")


def endpoints() -> list[Endpoint]:
    """Declare ``/api/features``."""
    change = "Change features in the policy; with dry_run only show the lines that would change"
    return [
        read_endpoint(BASE, _read, "Which features are on, and how they are set", FeaturesState),
        write_endpoint("PUT", BASE, _put, change, FeaturesWritten, FeaturesChange),
    ]


def features_of(policy: Policy) -> dict[str, Any]:
    """Return the features as a policy has them."""
    file = policy.file
    owners: tuple[Sequence[Any], ...] = (file.customers, file.teams, file.users, file.projects, file.virtual_keys)
    written = {name: file.providers.get(name) for name, provider in policy.providers.items() if provider.has_subscriptions}
    return {
        "cache": file.cache.model_dump(mode="json"),
        "content": file.content,
        "content_retention": file.retention.content or file.content_retention,
        "content_elsewhere": sum(owner.content not in (None, file.content) for of in owners for owner in of),
        "alerts": {"thresholds": file.alerts.thresholds, "webhooks": [w.name for w in file.alerts.webhooks]},
        "providers": {name: {"subscriptions": of.subscriptions if of else "refuse"} for name, of in written.items()},
    }


async def _read(request: ApiRequest) -> ApiResponse:
    revision = await request.run_in_thread(lambda: on_disk(request.services))
    return ApiResponse({"on_disk": revision, **features_of(request.services.policy)}, revision=revision)


async def _put(request: ApiRequest) -> ApiResponse:
    changes = _changes(request.services, request.body)
    diffs: list[dict[str, Any]] = []

    def contents(data: Mapping[Path, bytes]) -> dict[Path, bytes]:
        after = with_sections(data, changes)
        diffs[:] = _diffs({file: data[file] for file in after}, after)
        return after

    policy = await replace_contents(request, contents, "update")
    # Not what is on disk by now: whoever wrote after this change would be overwritten with the ETag of theirs.
    revision = await request.run_in_thread(lambda: on_disk(request.services)) if request.dry_run else policy.revision
    body = {**saved_body(policy), "on_disk": revision, **features_of(policy), "files": diffs}
    return ApiResponse(body, revision=revision)


def _changes(services: Services, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was sent as changes of sections. Raises EditError."""
    known = [name for name, provider in services.policy.providers.items() if provider.has_subscriptions]
    for name in body.get("providers", {}):
        if name not in known:
            message = f"providers.{name}: no client has a login of its own for it; known are {', '.join(known)}"
            raise EditError(message + did_you_mean(name, known), f"providers.{name}")
    changes = dict(body)
    if "alerts" in body and body["alerts"] is None:
        # Alerts have more than is changed here: their receivers stay.
        changes["alerts"] = {"thresholds": None}
    if "content" in body and body["content"] is None:
        # What is not written is off; a line that says so is needed only in place of another.
        changes["content"] = "off"
        if services.policy.file.content == "off":
            del changes["content"]
    return changes


def _diffs(before: Mapping[Path, bytes], after: Mapping[Path, bytes]) -> list[dict[str, Any]]:
    """Return what changes in each file, without secrets. Raises ConflictError where they cannot be told from the rest."""
    old, new = redacted_files(before), redacted_files(after)
    if UNREDACTABLE_TEXT in (*old.values(), *new.values()):
        raise ConflictError("the policy is written so that it cannot be shown or compared: edit its file instead")
    return [{"name": name, "diff": unified_diff(old[name], text), "lines_left_out": 0} for name, text in new.items()]
