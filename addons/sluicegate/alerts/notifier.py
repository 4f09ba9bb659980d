"""Notify webhooks when a budget reaches a threshold, in a thread of its own: no call waits for it or fails because of it.

Once a second it checks the counters that have grown. A message is stored before it is sent, so each threshold of each
window is announced once, across restarts and crashes; only a crash between a receiver's answer and our record of it
repeats a message, with the same ``alert_id``.
"""

from __future__ import annotations

import logging
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import batched
from pathlib import Path
from typing import Any, Protocol

from sluicegate.alerts.alert import (
    MAX_ALERT_AGE_MS,
    RETRY_MAX_DELAY_MS,
    Alert,
    alert_fields,
    build_headers,
    encode_body,
    highest_reached,
    is_in_scope,
    retry_delay_ms,
)
from sluicegate.alerts.claiming import Claiming, Claims, Finding
from sluicegate.alerts.outbox import Message, Outbox, ReachedThreshold
from sluicegate.background import paced
from sluicegate.fleet.store.protocol import FleetError
from sluicegate.http_client.exchange import post_webhook
from sluicegate.limits.ledger import Ledger
from sluicegate.policy.alert_receivers import Webhook
from sluicegate.policy.limit import Limit
from sluicegate.policy.model import Policy

logger = logging.getLogger("sluicegate")

CHECK_INTERVAL_S = 1.0
"""Time between two rounds of checking counters and delivering messages."""

THRESHOLDS_PER_TRANSACTION, TRANSACTION_PAUSE_S = 50, 0.006
"""Thresholds stored in one transaction, and the pause after each, so that calls can write to the database."""

MAX_MESSAGES_PER_ROUND = 10
"""Messages sent to one webhook per round, so that a flood for one does not delay the others."""


class UsageSource(Protocol):
    """The services whose counters are checked."""

    ledger: Ledger
    clock: Any

    @property
    def policy(self) -> Policy:
        """The policy in force."""


class WebhookHealth:
    """Delivery counts of each webhook since start, and until when it is not tried again."""

    def __init__(self) -> None:
        self.sent: dict[str, int] = {}
        self.failed: dict[str, int] = {}
        self.dropped: dict[str, int] = {}
        self.consecutive_failures: dict[str, int] = {}
        self.paused_until: dict[str, int] = {}

    def is_paused(self, name: str, now: int) -> bool:
        """Return whether the webhook must not be tried yet.

        A pause longer than the longest delay comes from a clock that was set back, and counts as over.
        """
        return 0 < self.paused_until.get(name, 0) - now <= RETRY_MAX_DELAY_MS

    def record_success(self, name: str) -> None:
        """Count a message that the webhook accepted, and end its pause."""
        self.sent[name] = self.sent.get(name, 0) + 1
        self.paused_until.pop(name, None)
        if self.consecutive_failures.pop(name, 0):
            logger.warning("Webhook %s accepts alerts again", name)

    def record_failure(self, name: str, error: str, now: int) -> None:
        """Count a failed attempt, and pause the webhook for longer each time."""
        self.failed[name] = self.failed.get(name, 0) + 1
        failures = self.consecutive_failures[name] = self.consecutive_failures.get(name, 0) + 1
        self.paused_until[name] = now + retry_delay_ms(failures)
        if failures == 1:
            logger.warning("Webhook %s did not accept an alert: %s; it will be tried again", name, error)


class Notifier:
    """Checks limits, stores messages and delivers them. ``step`` is one round; ``start`` runs one each second in a thread."""

    def __init__(
        self,
        services: UsageSource,
        path: Path,
        send: Callable[[str, bytes, dict[str, str]], str | None] = post_webhook,
        claims: Claims | None = None,
    ) -> None:
        """Use the database at ``path``, whose tables must exist; ``send`` returns None, or what went wrong.

        ``claims`` says which messages are this gateway's, where several share limits.
        """
        self._services, self._path, self._send = services, path, send
        self._outbox: Outbox | None = None
        self._reached: dict[str, dict[int, int]] = {}
        self.pending: list[Message] = []
        self.health = WebhookHealth()
        self._policy: Policy | None = None
        self._limits: dict[str, Limit] = {}
        self._unchecked: set[str] = set()
        self._claiming = None if claims is None else Claiming(claims)
        self.is_our_turn: Callable[[], bool] = lambda: True
        """Whether this is the gateway that does it, of workers that share the database."""
        self._is_failing = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="sluicegate-alerts", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop the thread; a message that is not answered within a second is sent again after the next start."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(1.0)
        if self._outbox is not None and not (self._thread and self._thread.is_alive()):
            if self._claiming is not None:
                with suppress(FleetError):
                    self._claiming.report_delivered()
            self._outbox.close()

    def counts(self) -> list[tuple[str, int, int, int, int]]:
        """Return for each webhook of the policy its name, messages sent, attempts failed, messages dropped and messages pending."""
        health, pending = self.health, [m.webhook for m in list(self.pending)]
        return [
            (w.name, health.sent.get(w.name, 0), health.failed.get(w.name, 0), health.dropped.get(w.name, 0), pending.count(w.name))
            for w in self._services.policy.alerts.webhooks
        ]

    def _run(self) -> None:
        while not self._stop.wait(CHECK_INTERVAL_S):
            if self.is_our_turn():
                self.step()

    def step(self) -> None:
        """Check and deliver once. Never raises."""
        try:
            if self._outbox is None:
                self._outbox = Outbox(self._path)
                self.pending = self._outbox.pending()
                for stored in self._outbox.reached_thresholds():
                    self._reached.setdefault(stored.counter, {})[stored.window_start] = stored.threshold
            try:
                self._agree(self._outbox)
                self._check_limits(self._outbox)
            except FleetError as e:
                self._failed(e)
                # What has been claimed needs no store.
                self._deliver(self._outbox)
                return
            self._deliver(self._outbox)
            self._is_failing = False
        except Exception as e:
            self._failed(e)

    def _failed(self, error: Exception) -> None:
        if not self._is_failing:
            is_expected = isinstance(error, sqlite3.Error | FleetError)
            logger.warning("Alerts are delayed until this is fixed: %s", error, exc_info=not is_expected)
        self._is_failing = True

    def _agree(self, outbox: Outbox) -> None:
        """Agree with the store, where several gateways share one, on who delivers what. Raises FleetError."""
        if self._claiming is None:
            return
        found = self._claiming.agree(outbox, self.pending)
        for message in found.dropped:
            outbox.record_attempt(message, "dropped")
            self.pending.remove(message)
        taken = self._claiming.take_over(outbox, self._services.clock()) if self._services.policy.alerts.webhooks else []
        if found.adopted or taken:
            outbox.save([], [*found.adopted, *taken])
            self.pending += [*found.adopted, *taken]
        self._claiming.report_delivered()

    def _check_limits(self, outbox: Outbox) -> None:
        """Find limits that reached a threshold, and store them with their messages."""
        policy, now = self._services.policy, self._services.clock()
        self._unchecked |= _take_all(self._services.ledger.charged)
        if policy is not self._policy:
            # Limits and thresholds may have changed, and after a start none has been checked yet.
            self._limits = {x.counter: x for x in policy.all_limits() if x.unit == "usd"}
            self._unchecked = set(self._limits)
            self._policy = policy
        if not policy.alerts.webhooks:
            return
        found: list[Finding] = []
        for name in paced(self._unchecked & self._limits.keys()):
            limit = self._limits[name].at(now)
            used, _, start, end = self._services.ledger.usage(limit, now)
            thresholds = policy.alerts.thresholds if limit.thresholds is None else limit.thresholds
            reached, before = highest_reached(thresholds, used, limit.maximum), self._reached.get(name, {}).get(start, 0)
            if reached == before:
                continue
            messages: list[Message] = []
            # Lower than before means that the limit was raised or its usage reset: thresholds above may be reached again.
            if reached > before:
                alert = _alert(limit, policy.revision, now, (used, start, end), reached)
                receivers = [w for w in policy.alerts.webhooks if is_in_scope(w, limit)]
                messages = [Message(alert.alert_id, w.name, now, end, alert_fields(alert)) for w in receivers]
            lowered = [(t, -(-t * limit.maximum // 100)) for t in thresholds if reached < t <= before]
            found.append(Finding(ReachedThreshold(name, start, reached), messages, lowered))
        for batch in batched(found, THRESHOLDS_PER_TRANSACTION):
            self._store(outbox, batch)
        self._unchecked = set()

    def _store(self, outbox: Outbox, found: Sequence[Finding]) -> None:
        if self._claiming is not None:
            found = self._claiming.claim(outbox, found)
        messages = [message for one in found for message in one.messages]
        outbox.save([one.reached for one in found], messages)
        for reached, *_ in found:
            by_window = self._reached.get(reached.counter, {}) | {reached.window_start: reached.threshold}
            # As many windows as the outbox keeps.
            self._reached[reached.counter] = dict(sorted(by_window.items())[-2:])
        self.pending += messages
        # Calls write to the same database, and retry every few milliseconds while it is locked.
        time.sleep(TRANSACTION_PAUSE_S)

    def _deliver(self, outbox: Outbox) -> None:
        """Send pending messages, each webhook's in their order and independently of the others."""
        if not self.pending:
            return
        webhooks = {w.name: w for w in self._services.policy.alerts.webhooks}
        allowed = dict.fromkeys(webhooks, MAX_MESSAGES_PER_ROUND)
        for message in list(self.pending):
            now = self._services.clock()
            webhook = webhooks.get(message.webhook)
            has_ended = message.resets_at is not None and now >= message.resets_at
            if webhook is None or has_ended or now - message.at > MAX_ALERT_AGE_MS:
                outbox.record_attempt(message, "dropped")
                self._done(message)
                self.health.dropped[message.webhook] = self.health.dropped.get(message.webhook, 0) + 1
                reason = "its window has ended" if has_ended else "it was never accepted" if webhook else "the webhook is gone"
                logger.warning("Dropped alert %s for webhook %s: %s", message.alert_id, message.webhook, reason)
            elif allowed[webhook.name] and not self.health.is_paused(webhook.name, now) and not self._stop.is_set():
                allowed[webhook.name] -= 1
                self._attempt(outbox, webhook, message, now)

    def _attempt(self, outbox: Outbox, webhook: Webhook, message: Message, now: int) -> None:
        message.attempts += 1
        body = encode_body(message.fields, webhook.format)
        error = self._send(webhook.url, body, build_headers(webhook, message.alert_id, body, now))
        if error is None:
            self._done(message)
            self.health.record_success(webhook.name)
            outbox.record_attempt(message, "sent", now)
        else:
            self.health.record_failure(webhook.name, error, now)
            outbox.record_attempt(message, "pending")

    def _done(self, message: Message) -> None:
        self.pending.remove(message)
        if self._claiming is not None:
            self._claiming.note_delivered(message)


def _take_all(names: set[str]) -> set[str]:
    """Empty the set and return its names, one at a time: the proxy's loop may be adding to it meanwhile."""
    taken: set[str] = set()
    while names:
        taken.add(names.pop())
    return taken


def _alert(limit: Limit, revision: str, now: int, usage: tuple[int, int, int | None], threshold: int) -> Alert:
    used, start, end = usage
    return Alert(
        alert_id=f"alert_{now:012x}{secrets.token_hex(8)}",
        at=now,
        kind=limit.scope_kind,
        id=limit.scope_id,
        window=limit.period.text if limit.period else "",
        enforcement="hard" if limit.hard else "soft",
        threshold=threshold,
        used=used,
        limit=limit.maximum,
        starts_at=start,
        resets_at=end,
        policy_revision=revision,
    )
