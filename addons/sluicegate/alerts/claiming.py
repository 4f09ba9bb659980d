"""Alerts where several gateways share limits: a message is claimed in their store before it is on file, and told once over all.

Without an answer of the store nothing is claimed: a threshold is told late rather than by every gateway. What has been claimed is
delivered without it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from sluicegate.alerts.outbox import Message, Outbox, ReachedThreshold
from sluicegate.fleet.store.alert_claims import AlertClaim, KnownClaim

logger = logging.getLogger("sluicegate")

TAKE_OVER_PAUSE_MS = 10_000
"""How often a gateway says that it still means to deliver its messages, and looks for those of others that are gone."""


class Claims(Protocol):
    """The claims in the store, in the name of this gateway. Every method blocks, and raises FleetError."""

    def claim(self, wanted: Sequence[AlertClaim]) -> list[AlertClaim]:
        """Return those that this gateway is to deliver."""

    def release(self, counter: str, start: int, amounts: Sequence[tuple[int, int]]) -> None:
        """Let thresholds be claimed again that the window has fallen below, each with its amount."""

    def mark_delivered(self, messages: Collection[tuple[str, str]]) -> None:
        """Note that messages need no delivery any more."""

    def known(self, ids: Collection[str]) -> list[KnownClaim]:
        """Return this gateway's undelivered claims, and what there is on these alerts."""

    def take_abandoned(self) -> list[AlertClaim]:
        """Take over what gateways that are gone have not delivered."""


class Finding(NamedTuple):
    """A window whose highest threshold is another than before."""

    reached: ReachedThreshold
    messages: list[Message]
    lowered: list[tuple[int, int]]
    """Thresholds that it is below now, with the nano-dollars that each begins at."""


@dataclass(slots=True)
class Delivery:
    """What a start has found of messages that were not delivered when this gateway ended."""

    adopted: list[Message]
    """To be delivered, but not on file here."""
    dropped: list[Message]
    """On file here; another gateway has delivered them, or will."""


class Claiming:
    """One gateway's claims."""

    def __init__(self, claims: Claims) -> None:
        self._claims = claims
        self._delivered: set[tuple[str, str]] = set()
        """Messages that the store still takes for undelivered."""
        self._has_agreed = False
        self._look_at = 0

    def claim(self, outbox: Outbox, found: Sequence[Finding]) -> list[Finding]:
        """Return the findings with the messages that this gateway is to deliver. Raises FleetError."""
        for finding in found:
            if finding.lowered:
                self._claims.release(finding.reached.counter, finding.reached.window_start, finding.lowered)
        wanted = [_claim_of(finding.reached, message) for finding in found for message in finding.messages]
        ours = self._claims.claim(wanted) if wanted else []
        by_window: dict[tuple[str, int], list[Message]] = {}
        for claim in ours:
            if outbox.status(claim.alert_id, claim.webhook) is None:
                by_window.setdefault((claim.counter, claim.start), []).append(_message_of(claim))
        return [f._replace(messages=by_window.get((f.reached.counter, f.reached.window_start), [])) for f in found]

    def note_delivered(self, message: Message) -> None:
        """Keep that a message needs no delivery any more, until the store has heard."""
        self._delivered.add((message.alert_id, message.webhook))

    def report_delivered(self) -> None:
        """Report to the store what has been delivered. Raises FleetError."""
        if self._delivered:
            self._claims.mark_delivered(self._delivered)
            self._delivered = set()

    def agree(self, outbox: Outbox, pending: Sequence[Message]) -> Delivery:
        """Agree with the store, once after a start, on what is left to deliver. Raises FleetError."""
        if self._has_agreed:
            return Delivery([], [])
        known = {(k.claim.alert_id, k.claim.webhook): k for k in self._claims.known({m.alert_id for m in pending})}
        others = {key for key, k in known.items() if k.is_delivered or not k.is_ours}
        dropped = [m for m in pending if (m.alert_id, m.webhook) in others]
        adopted = []
        for key, one in known.items():
            if one.is_ours and not one.is_delivered and (status := outbox.status(*key)) != "pending":
                if status is None:
                    # The process ended between the claim and its file.
                    adopted.append(_message_of(one.claim))
                else:
                    self._delivered.add(key)
        self._has_agreed = True
        return Delivery(adopted, dropped)

    def take_over(self, outbox: Outbox, now: int) -> list[Message]:
        """Return messages of gateways that are gone, to be delivered here; looked for now and then. Raises FleetError."""
        if 0 <= now - self._look_at < TAKE_OVER_PAUSE_MS:
            return []
        taken = [_message_of(claim) for claim in self._claims.take_abandoned()]
        self._look_at = now
        if taken:
            logger.warning("Delivering %d alerts of gateways that are gone", len(taken))
        fresh = []
        for message in taken:
            status = outbox.status(message.alert_id, message.webhook)
            if status is None:
                fresh.append(message)
            elif status != "pending":
                self.note_delivered(message)
        return fresh


def _claim_of(reached: ReachedThreshold, message: Message) -> AlertClaim:
    body = json.dumps(message.fields)
    return AlertClaim(
        reached.counter,
        reached.window_start,
        reached.threshold,
        message.webhook,
        message.alert_id,
        body,
        message.at,
        message.resets_at,
    )


def _message_of(claim: AlertClaim) -> Message:
    return Message(claim.alert_id, claim.webhook, claim.at, claim.resets_at, json.loads(claim.body))
