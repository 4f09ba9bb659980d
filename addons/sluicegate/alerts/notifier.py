"""Tells webhooks when a budget passes a threshold, in a thread of its own: no call waits for it or fails because of it.

Once a second it looks at the counters that have grown. What it finds is on file before it is sent, so each threshold of
each window is told once, restarts and crashes included; only a crash between a receiver's answer and its note on file
makes a message come twice, with the same ``alert_id``.
"""

from __future__ import annotations

import logging
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Collection
from itertools import batched
from pathlib import Path
from typing import Any, Protocol

from sluicegate.alerts.alert import GIVE_UP_AFTER, LONGEST_REST, Alert, body_of, fields_of, headers_of, passed, rest, wants
from sluicegate.alerts.outbox import Message, Outbox, Passed
from sluicegate.background import paced
from sluicegate.http_client import post
from sluicegate.limits.ledger import Ledger
from sluicegate.policy.model import Limit, Policy, Webhook

logger = logging.getLogger("sluicegate")

EVERY = 1.0
"""Seconds between two looks."""

CHUNK, BREATH = 50, 0.006
"""Thresholds put on file in one transaction, and seconds between two of these, in which calls get at the database."""

BATCH = 10
"""Messages a webhook gets per round at most: a flood for one is no reason for others to wait."""


class MetricsSource(Protocol):
    """What is looked at."""

    ledger: Ledger
    clock: Any

    @property
    def policy(self) -> Policy:
        """The policy in force."""


class Standing:
    """How each webhook is doing: counts since start, and until when it is left alone."""

    def __init__(self) -> None:
        self.sent: dict[str, int] = {}
        self.failed: dict[str, int] = {}
        self.dropped: dict[str, int] = {}
        self.failures: dict[str, int] = {}
        self.until: dict[str, int] = {}

    def resting(self, name: str, now: int) -> bool:
        """Whether a webhook is left alone now. A clock that was set back does not make it wait for longer than ever."""
        return 0 < self.until.get(name, 0) - now <= LONGEST_REST

    def took(self, name: str) -> None:
        """It took a message."""
        self.sent[name] = self.sent.get(name, 0) + 1
        self.until.pop(name, None)
        if self.failures.pop(name, 0):
            logger.warning("webhook %s takes alerts again", name)

    def refused(self, name: str, why: str, now: int) -> None:
        """It did not."""
        self.failed[name] = self.failed.get(name, 0) + 1
        failures = self.failures[name] = self.failures.get(name, 0) + 1
        self.until[name] = now + rest(failures)
        if failures == 1:
            logger.warning("webhook %s did not take an alert: %s; trying again", name, why)


class Notifier:
    """Looks, remembers, sends. ``step`` is one round; ``start`` makes a thread do one each second."""

    def __init__(
        self, services: MetricsSource, path: Path, send: Callable[[str, bytes, dict[str, str]], str | None] = post
    ) -> None:
        """``path`` is the database, whose tables are there already."""
        self._services, self._path, self._send = services, path, send
        self._outbox: Outbox | None = None
        self._passed: dict[str, dict[int, int]] = {}
        self.pending: list[Message] = []
        self.standing = Standing()
        self._policy: Policy | None = None
        self._limits: dict[str, Limit] = {}
        self._unseen: set[str] = set()
        self._troubled = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="sluicegate-alerts", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End; a message that is under way is sent again at the next start if nobody has answered by now."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(1.0)
        if self._outbox is not None and not (self._thread and self._thread.is_alive()):
            self._outbox.close()

    def counts(self) -> list[tuple[str, int, int, int, int]]:
        """Per webhook of the policy: its name, messages sent, attempts that failed, messages dropped, and pending ones."""
        has, pending = self.standing, [m.webhook for m in list(self.pending)]
        return [
            (w.name, has.sent.get(w.name, 0), has.failed.get(w.name, 0), has.dropped.get(w.name, 0), pending.count(w.name))
            for w in self._services.policy.alerts.webhooks
        ]

    def _run(self) -> None:
        while not self._stop.wait(EVERY):
            self.step()

    def step(self) -> None:
        """One round. Never raises."""
        try:
            if self._outbox is None:
                self._outbox = Outbox(self._path)
                self.pending = self._outbox.pending()
                for mark in self._outbox.passed():
                    self._passed.setdefault(mark.counter, {})[mark.window_start] = mark.threshold
            self._look(self._outbox)
            self._deliver(self._outbox)
            self._troubled = False
        except Exception as e:
            if not self._troubled:
                logger.warning("alerts are held up: %s", e, exc_info=not isinstance(e, sqlite3.Error))
            self._troubled = True

    def _look(self, outbox: Outbox) -> None:
        """Find what has passed a threshold, and put it on file."""
        policy, now = self._services.policy, self._services.clock()
        self._unseen |= _emptied(self._services.ledger.charged)
        if policy is not self._policy:
            # Limits and thresholds may be others now, and after a start nothing has been looked at yet.
            self._limits = {x.counter: x for x in policy.all_limits() if x.unit == "usd"}
            self._unseen = set(self._limits)
            self._policy = policy
        if not policy.alerts.webhooks:
            return
        found: list[tuple[Passed, list[Message]]] = []
        for name in paced(self._unseen & self._limits.keys()):
            limit = self._limits[name]
            used, _, start, end = self._services.ledger.usage(limit, now)
            thresholds = policy.alerts.thresholds if limit.thresholds is None else limit.thresholds
            here, before = passed(thresholds, used, limit.maximum), self._passed.get(name, {}).get(start, 0)
            if here == before:
                continue
            messages: list[Message] = []
            # Less than before: the limit was raised or the usage reset, and what lies above may be passed again.
            if here > before:
                alert = _alert(limit, policy.revision, now, (used, start, end), here)
                told = [w for w in policy.alerts.webhooks if wants(w, limit)]
                messages = [Message(alert.alert_id, w.name, now, end, fields_of(alert)) for w in told]
            found.append((Passed(name, start, here), messages))
        for some in batched(found, CHUNK):
            self._remember(outbox, some)
        self._unseen = set()

    def _remember(self, outbox: Outbox, found: Collection[tuple[Passed, list[Message]]]) -> None:
        messages = [m for _, mine in found for m in mine]
        outbox.put([mark for mark, _ in found], messages)
        for mark, _ in found:
            mine = self._passed.setdefault(mark.counter, {})
            mine[mark.window_start] = mark.threshold
            self._passed[mark.counter] = dict(sorted(mine.items())[-2:])
        self.pending += messages
        # Calls need the database too, and try for it every few milliseconds.
        time.sleep(BREATH)

    def _deliver(self, outbox: Outbox) -> None:
        """Send what is pending, a webhook's messages in their order, and each webhook for itself."""
        if not self.pending:
            return
        webhooks = {w.name: w for w in self._services.policy.alerts.webhooks}
        turns = dict.fromkeys(webhooks, BATCH)
        for message in list(self.pending):
            now = self._services.clock()
            webhook = webhooks.get(message.webhook)
            over = message.resets_at is not None and now >= message.resets_at
            if webhook is None or over or now - message.at > GIVE_UP_AFTER:
                outbox.attempted(message, "dropped")
                self.pending.remove(message)
                self.standing.dropped[message.webhook] = self.standing.dropped.get(message.webhook, 0) + 1
                why = "its window is over" if over else "nobody took it" if webhook else "the webhook is gone"
                logger.warning("an alert for webhook %s is dropped: %s", message.webhook, why)
            elif turns[webhook.name] and not self.standing.resting(webhook.name, now) and not self._stop.is_set():
                turns[webhook.name] -= 1
                self._attempt(outbox, webhook, message, now)

    def _attempt(self, outbox: Outbox, webhook: Webhook, message: Message, now: int) -> None:
        message.attempts += 1
        body = body_of(message.fields, webhook.format)
        why = self._send(webhook.url, body, headers_of(webhook, message.alert_id, body, now))
        if why is None:
            self.pending.remove(message)
            self.standing.took(webhook.name)
            outbox.attempted(message, "sent", now)
        else:
            self.standing.refused(webhook.name, why, now)
            outbox.attempted(message, "pending")


def _emptied(names: set[str]) -> set[str]:
    """Takes the names out one at a time: the proxy's loop may be adding to them right now."""
    found: set[str] = set()
    while names:
        found.add(names.pop())
    return found


def _alert(limit: Limit, revision: str, now: int, seen: tuple[int, int, int | None], threshold: int) -> Alert:
    used, start, end = seen
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
