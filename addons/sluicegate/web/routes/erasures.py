"""Erasures over REST: which gateways of a fleet have erased whom, by pseudonym, and what the others wait for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import Field

from sluicegate.fleet.erasure.carrying_out import Erasing
from sluicegate.fleet.store.protocol import FleetError
from sluicegate.policy.fields import Instant
from sluicegate.web.endpoint import ADMINS, ApiRequest, ApiResponse, Endpoint, read_endpoint
from sluicegate.web.errors import ApiError
from sluicegate.web.responses import ResponseModel
from sluicegate.windows import iso


class ErasedOnNode(ResponseModel):
    """How far one gateway is."""

    node: str
    done_at: Instant | None
    calls: int | None = Field(description="Calls on record there; null: it has not looked yet.")
    waits_for: str | None = Field(description="What has to happen first; it is tried again by itself.")


class ErasureState(ResponseModel):
    """One erasure."""

    pseudonym: str
    begun_at: Instant
    who: str = Field(description="Who asked for it.")
    done_at: Instant | None = Field(description="When the last gateway had done it; null: not yet.")
    nodes: list[ErasedOnNode]


class ErasureList(ResponseModel):
    """The newest erasures."""

    erasures: list[ErasureState]


def endpoints() -> list[Endpoint]:
    """Declare ``/api/erasures``."""
    what = "Whom the gateways that share a store have erased, newest first, and how far each is"
    return [read_endpoint("/api/erasures", _list, what, ErasureList, roles=ADMINS, errors=(503,))]


async def _list(request: ApiRequest) -> ApiResponse:
    erasing = erasing_of(request.services)
    if erasing is None:
        return ApiResponse({"erasures": []})
    found = await asked_of_fleet(request, erasing.states)
    return ApiResponse({"erasures": [_shown(state) for state in found]})


def erasing_of(services: Any) -> Erasing | None:
    """Return a gateway's part in the erasures of its fleet; None where no other has the same records."""
    return None if services.fleet is None else services.fleet.shipping.asked


async def asked_of_fleet[T](request: ApiRequest, ask: Callable[[], T]) -> T:
    """Ask the store. Raises ApiError where it does not answer."""
    try:
        return await request.run_in_thread(ask)
    except FleetError as e:
        why = f"the store that the gateways share cannot be reached, and nothing was begun: {e}"
        raise ApiError(503, "gateway_error", why, headers={"retry-after": "5"}) from e


async def nodes_of_erasure(request: ApiRequest, erasing: Erasing | None, pseudonym: str) -> list[dict[str, Any]] | None:
    """Return how far each gateway is with an erasure; None where there is only one, or the store does not say."""
    if erasing is None:
        return None
    try:
        found = await request.run_in_thread(lambda: erasing.states(pseudonym))
    except FleetError:
        return None
    nodes: list[dict[str, Any]] | None = _shown(found[0])["nodes"] if found else None
    return nodes


def _shown(state: dict[str, Any]) -> dict[str, Any]:
    nodes = [node | {"done_at": _instant(node["done_at"])} for node in state["nodes"]]
    return state | {"begun_at": iso(state["begun_at"]), "done_at": _instant(state["done_at"]), "nodes": nodes}


def _instant(at: int | None) -> str | None:
    return None if at is None else iso(at)
