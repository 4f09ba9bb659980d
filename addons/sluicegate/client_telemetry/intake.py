"""The intake: reads what a client sends, hands on what it reports to be compared, and the whole to be forwarded."""

from __future__ import annotations

import hashlib
import logging
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Collection
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import orjson

from sluicegate.client_telemetry import answers
from sluicegate.client_telemetry.answers import Answer
from sluicegate.client_telemetry.comparison import Batch, Comparison, Records
from sluicegate.client_telemetry.forwarder import Forwarder, Item
from sluicegate.client_telemetry.identity import Rewriting, identity_of
from sluicegate.client_telemetry.messages import SIGNALS
from sluicegate.client_telemetry.pacing import Pace
from sluicegate.client_telemetry.reading import MalformedError, TooLargeError, Tree, decompressed, from_json, from_protobuf
from sluicegate.client_telemetry.report_file import FILENAME, ReportFile
from sluicegate.client_telemetry.reports import reports_of
from sluicegate.client_telemetry.secret_texts import holds_secret
from sluicegate.policy.client_telemetry_schema import ClientSignal
from sluicegate.policy.model import Policy, VirtualKey

logger = logging.getLogger("sluicegate")


class Sent(NamedTuple):
    """A request as it came."""

    signal: ClientSignal
    body: bytes
    content_type: str
    content_encoding: str
    key: VirtualKey
    """Whose credential it came with."""
    groups: Collection[str] | None
    """Of the identity provider, where its holder has signed in."""


class TelemetrySource(Protocol):
    """The services that it needs."""

    state_dir: Path
    clock: Any
    admin_token: str
    key_values: Any

    @property
    def policy(self) -> Policy:
        """The policy in force."""


class ClientTelemetry:
    """What clients send of themselves. It costs nothing until the first of them does."""

    def __init__(
        self,
        services: TelemetrySource,
        records: Records,
        monotonic: Callable[[], float] = time.monotonic,
        cpu_s: Callable[[], float] = time.thread_time,
    ) -> None:
        """``monotonic`` returns seconds, ``cpu_s`` the processor seconds of the present thread."""
        self._services, self._cpu_s = services, cpu_s
        self.file = ReportFile(services.state_dir / FILENAME)
        self.pace = Pace(monotonic)
        self.comparison = Comparison(self.file, records, services.clock, self.pace.spend)
        self.forwarder = Forwarder(lambda: services.policy.collector, monotonic)
        self.requests: Counter[tuple[str, str]] = Counter()
        """Requests by signal and by what became of them."""
        self._secrets: tuple[Policy, Any] | None = None

    def receive(self, sent: Sent) -> Answer:
        """Return the answer to a request. Blocking, for some seconds where a large one is searched for keys."""
        media_type = answers.media_type_of(sent.content_type)
        answer, result = self._paced(sent, media_type)
        self.requests[sent.signal, result] += 1
        return answer

    def refuse_busy(self, signal: str, content_type: str) -> Answer:
        """Return the answer where too many requests are waiting."""
        self.requests[signal, "limited"] += 1
        why = "the gateway reads too much telemetry at once; send it again later"
        return answers.failure(429, why, answers.media_type_of(content_type), 1)

    def _paced(self, sent: Sent, media_type: str) -> tuple[Answer, str]:
        if self._services.policy.file.client_telemetry is None:
            return answers.success(sent.signal, media_type), "ignored"
        if wait_s := self.pace.wait_s(sent.key.id):
            why = "this key sends more telemetry than the gateway reads; send it again later"
            return answers.failure(429, why, media_type, ceil(wait_s)), "limited"
        began = self._cpu_s()
        try:
            return self._read(sent, media_type)
        except MalformedError as e:
            return answers.failure(400, str(e), media_type), "malformed"
        except TooLargeError as e:
            return answers.failure(413, str(e), media_type), "too_large"
        finally:
            self.pace.spend(sent.key.id, self._cpu_s() - began)

    def _read(self, sent: Sent, media_type: str) -> tuple[Answer, str]:
        message = SIGNALS[sent.signal].request
        body = decompressed(sent.body, sent.content_encoding)
        tree = from_json(body, message) if media_type == answers.JSON else from_protobuf(body, message)
        found, rejected = reports_of(sent.signal, tree)
        if found:
            digest = hashlib.sha256(f"{sent.key.id}\n{sent.signal}\n".encode() + body).digest()
            self.comparison.add(Batch(sent.key.id, digest, found, self._services.clock()))
        if self.forwarder.takes(sent.signal):
            self._forward(sent, tree)
        if rejected:
            why = f"{rejected} items have no usable figures: not a number, less than 0, too large, or without session.id or model"
            return answers.success(sent.signal, media_type, rejected, why), "partial"
        return answers.success(sent.signal, media_type), "accepted"

    def _forward(self, sent: Sent, tree: Tree) -> None:
        secrets = self._credentials(self._services.policy)
        rewriting = Rewriting(identity_of(sent.key, sent.groups), lambda text: holds_secret(text, secrets))
        rewriting.apply(tree, SIGNALS[sent.signal].resources)
        self.forwarder.add(Item(sent.signal, orjson.dumps(tree)))

    def _credentials(self, policy: Policy) -> Any:
        """Return what finds secrets in texts: not the one that the proxy's thread uses at the same time."""
        if self._secrets is None or self._secrets[0] is not policy:
            services = self._services
            self._secrets = policy, policy.credentials((services.admin_token,), services.key_values.is_former)
        return self._secrets[1]

    def delete_before(self, at: int) -> None:
        """Delete what was reported before a time, epoch milliseconds."""
        try:
            self.file.delete_before(at)
        except (sqlite3.Error, OSError) as e:
            logger.warning("What clients reported long ago cannot be deleted: %s", e)

    def close(self) -> None:
        """Compare and forward what is left."""
        self.comparison.close()
        self.forwarder.close()
