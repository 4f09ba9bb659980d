"""The nodes of a fleet: which gateways share the store, how each is doing, and giving up one that will not return."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from sluicegate import __version__
from sluicegate.fleet.store.protocol import FleetError, NodeRow
from sluicegate.policy.audit_trail import AuditEntry
from sluicegate.policy.fields import Instant
from sluicegate.services import Services
from sluicegate.web.endpoint import ADMINS, ApiRequest, ApiResponse, Endpoint, read_endpoint
from sluicegate.web.errors import ApiError
from sluicegate.web.query import WriteQuery
from sluicegate.web.responses import ResponseModel
from sluicegate.windows import iso


class Node(ResponseModel):
    """One gateway as the store knows it."""

    id: str
    name: str
    state: Literal["live", "expired", "left", "forgotten"] = Field(
        description="expired: not heard of for longer than its leases last. left: it has stopped and given everything back."
    )
    is_this: bool = Field(description="Whether it is the gateway that answers.")
    version: str
    since: Instant = Field(description="When it last started.")
    seen_at: Instant
    policy_revision: str
    calls_in_flight: int
    leases: int = Field(description="Windows in which it may take more than it has, without asking.")
    in_doubt: int = Field(description="Windows in which an expired node may have taken more than it has reported.")
    lag: int = Field(description="Records that it has not delivered yet.")
    clock_offset_ms: int = Field(description="The store's clock less its own.")


class Nodes(ResponseModel):
    """The fleet."""

    store: str | None = Field(description="The store, without its password; null: this gateway shares its limits with no other.")
    nodes: list[Node]
    policy_revisions: list[str] = Field(description="Those in force on live nodes; more than one: not all have the same policy.")


class Forgotten(ResponseModel):
    """A node that is given up, or with dry_run would be."""

    message: str
    node: Node


def endpoints() -> list[Endpoint]:
    """Declare ``/api/nodes``."""
    forget = "Give up a node that will not return: what its leases held in doubt is free again; with dry_run only show it"
    return [
        read_endpoint("/api/nodes", _list, "The gateways that share the store, and how each is doing", Nodes, errors=(503,)),
        Endpoint("DELETE", "/api/nodes/{id}", _forget, forget, Forgotten, query=WriteQuery, roles=ADMINS, errors=(404, 409, 503)),
    ]


async def _list(request: ApiRequest) -> ApiResponse:
    services = request.services
    nodes = await request.run_in_thread(lambda: _nodes(services))
    revisions = sorted({node["policy_revision"] for node in nodes if node["state"] == "live"})
    store = None if services.fleet is None else str(services.fleet.address)
    return ApiResponse({"store": store, "nodes": nodes, "policy_revisions": revisions})


def _nodes(services: Services) -> list[dict[str, Any]]:
    fleet = services.fleet
    if fleet is None:
        return [_only(services)]
    try:
        return [_shown(row, fleet.id) for row in fleet.nodes()]
    except FleetError as e:
        raise ApiError(503, "gateway_error", f"the fleet's store {fleet.address} cannot be reached: {e}") from e


def _only(services: Services) -> dict[str, Any]:
    """Return a gateway that shares nothing as a fleet of one."""
    now = iso(services.clock())
    numbers = {"leases": 0, "in_doubt": 0, "lag": 0, "clock_offset_ms": 0, "calls_in_flight": len(services.ledger.open)}
    revision = {"policy_revision": services.policy.revision, "version": __version__}
    times = {"since": iso(services.opened_at), "seen_at": now}
    return {"id": "this", "name": "this gateway", "state": "live", "is_this": True, **revision, **times, **numbers}


def _shown(row: NodeRow, own_id: str) -> dict[str, Any]:
    report = row.report
    return {
        "id": report.id,
        "name": report.name,
        "state": row.state,
        "is_this": report.id == own_id,
        "version": report.version,
        "since": iso(row.joined_at),
        "seen_at": iso(row.seen_at),
        "policy_revision": report.revision,
        "calls_in_flight": report.calls,
        "leases": row.leases,
        "in_doubt": row.in_doubt,
        "lag": report.lag,
        "clock_offset_ms": report.offset_ms,
    }


async def _forget(request: ApiRequest) -> ApiResponse:
    services, wanted = request.services, request.path["id"]
    nodes = await request.run_in_thread(lambda: _nodes(services))
    found = [node for node in nodes if node["id"] == wanted] or [node for node in nodes if node["name"] == wanted]
    if services.fleet is None or not found:
        raise ApiError(404, "not_found", f"there is no node '{wanted}'")
    if len(found) > 1:
        ids = ", ".join(node["id"] for node in found)
        raise ApiError(409, "conflict", f"{len(found)} nodes are called '{wanted}': name one by its id ({ids})")
    node = found[0]
    if node["state"] not in ("expired", "left"):
        raise ApiError(409, "conflict", f"node '{wanted}' is {node['state']}: only one that has expired can be given up")
    subject = f"Node '{node['name']}' ({node['id']})"
    if request.dry_run:
        return ApiResponse({"message": f"{subject} would be given up", "node": node})
    fleet, who, revision = services.fleet, request.caller.name, services.policy.revision
    entry = AuditEntry("forget_node", "node", node["id"], node, None)

    def work() -> None:
        services.audit_trail.write([entry], at=iso(services.clock()), who=who, before=revision, after=revision)
        try:
            fleet.forget(node["id"])
        except FleetError as e:
            raise ApiError(503, "gateway_error", f"the fleet's store {fleet.address} cannot be reached: {e}") from e

    await request.run_in_thread(work)
    return ApiResponse({"message": f"{subject} is given up", "node": node | {"state": "forgotten", "in_doubt": 0}})
