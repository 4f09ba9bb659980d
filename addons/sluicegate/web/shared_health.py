"""The health of a gateway among others: those that share its limits, and the workers of its host."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from sluicegate.services import Services
from sluicegate.web.responses import ResponseModel


class FleetHealth(ResponseModel):
    """This gateway among those that share its limits."""

    node: str
    store: str = Field(description="Without its password.")
    error: str | None = Field(description="Why the store gives no answer; null while it does.")
    silent_ms: int = Field(description="How long ago it last answered.")
    live_nodes: int
    lag: int = Field(description="Records that the store does not have yet.")
    records_error: str | None = Field(description="Why records are not delivered or fetched; null while they are.")
    clock_offset_ms: int = Field(description="The store's clock less this machine's.")
    clock_is_off: bool = Field(description="Whether somebody should set this machine's clock.")


class WorkerWork(ResponseModel):
    """What one worker of several has under way."""

    node: str
    calls: int
    reservations: int


def work_of_workers(services: Services) -> list[dict[str, Any]] | None:
    """Return what each worker has under way; None where there is one process. Blocking, for a moment."""
    return None if services.peers is None else list(services.peers.scrape.work().values())


def reservations(services: Services, workers: list[dict[str, Any]] | None) -> int:
    """Return how many reservations are open, of all workers."""
    return len(services.ledger.open) if workers is None else sum(one["reservations"] for one in workers)


def fleet_health(services: Services) -> dict[str, Any] | None:
    """Return the health of this gateway among those that share its limits; None where there are none."""
    fleet = services.fleet
    if fleet is None:
        return None
    return {
        "node": fleet.name,
        "store": str(fleet.address),
        "error": fleet.membership.error,
        "silent_ms": fleet.standing.silence_ms,
        "live_nodes": fleet.standing.live,
        "lag": fleet.shipping.lag,
        "records_error": fleet.shipping.error,
        "clock_offset_ms": fleet.clock.offset_ms,
        "clock_is_off": fleet.clock.is_off,
    }
