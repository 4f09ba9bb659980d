"""Alerts over several gateways that share limits: each threshold of each window is told once, whoever sees it and whatever is killed."""

from __future__ import annotations

import threading
from pathlib import Path

import psycopg
import pytest

from sluicegate.alerts.notifier import Notifier
from sluicegate.fleet.alerts import NodeAlerts
from sluicegate.fleet.store.alert_claims import GRACE_MS, KEPT_MS, AlertClaim
from sluicegate.fleet.store.postgresql import PostgresStore
from sluicegate.fleet.store.protocol import Correction, FleetError, NodeReport, Position
from sluicegate.fleet.store.sqlite import SqliteStore
from sluicegate.policy.loader import load
from sluicegate.storage.store import Store

NOW = 1_770_000_000_000
DAY = 86_400_000
POLICY = """\
version: 1
providers: {anthropic: {simulate: true}}
teams: [{id: core, budget: {max_limit: 50, reset_duration: 30d}}]
alerts: {thresholds: [50, 80, 100], webhooks: [{name: ops, url: "http://127.0.0.1:9/"}]}
"""
DOLLAR = 1_000_000_000


class Killed(BaseException):
    """The process ends here."""


class World:
    """The store, its clock, and what has been sent."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now, self.used, self.is_away = folder, NOW, 0, False
        self.store = SqliteStore(folder / "fleet.db", lambda: self.now)
        (folder / "policy.yaml").write_text(POLICY)
        self.policy = load(folder / "policy.yaml", env={}, now=NOW)
        (self.limit,) = self.policy.all_limits()
        self.sent: list[tuple[str, str, int]] = []
        """Node, alert id and threshold."""
        self.gateways = [Gateway(self, name) for name in ("north", "south", "east")]

    def spend(self, dollars: int) -> None:
        """Let the store and every gateway know what all have used."""
        self.used = dollars * DOLLAR
        self.store.adjust(Correction(f"c-{dollars}-{self.now}", self.limit.counter, NOW, NOW + 30 * DAY, self.used - self.known()))
        for gateway in self.gateways:
            gateway.seen = self.used
            gateway.ledger.charged.add(self.limit.counter)

    def known(self) -> int:
        return sum(total.used for total in self.store.totals().rows)

    def step(self, *order: int) -> None:
        for number in order or range(3):
            self.gateways[number].notifier.step()

    def told(self) -> list[int]:
        return [threshold for *_, threshold in self.sent]


class Gateway:
    """What a notifier needs of one."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name, self.policy, self.seen = world, name, world.policy, 0
        self.ledger, self.charged = self, {world.limit.counter}
        self.path = world.folder / f"{name}.db"
        Store(self.path).close()
        self.error: str | None = None
        self.kill_at: str | None = None
        self.start()

    def start(self) -> None:
        self.kill_at = None
        self.charged.add(self.world.limit.counter)
        self.report = NodeReport(self.name, self.name, 0, 0)
        self.world.store.join(self.report)
        claims = NodeAlerts(Watched(self), threading.Lock(), self.name)
        self.notifier = Notifier(self, self.path, self.send, claims=claims)

    def clock(self) -> int:
        return self.world.now

    def usage(self, limit, now):
        return self.seen, 0, NOW, NOW + 30 * DAY

    def send(self, url, body, headers):
        self.die("before it is sent")
        if self.error is None:
            alert = headers["x-sluicegate-alert-id"]
            (message,) = (m for m in self.notifier.pending if m.alert_id == alert)
            self.world.sent.append((self.name, alert, message.fields["threshold"]))
            self.die("when it is sent")
        return self.error

    def die(self, where: str) -> None:
        if self.kill_at == where:
            self.kill_at = None
            raise Killed

    def step_twice(self) -> None:
        for _ in range(2):
            self.notifier.step()

    def stop(self) -> None:
        if self.notifier._outbox is not None:
            self.notifier._outbox.close()


class Watched:
    """The store as one gateway reaches it."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway

    def __getattr__(self, name: str):
        if self.gateway.world.is_away:
            raise FleetError("the store is away")
        method = getattr(self.gateway.world.store, name)

        def call(*args):
            result = method(*args)
            self.gateway.die(f"after {name}")
            return result

        return call


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    yield made
    for gateway in made.gateways:
        gateway.stop()
    made.store.close()


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 1, 0, 2)])
def test_each_threshold_is_told_once_whoever_sees_it_first(world, order):
    for dollars in (26, 41, 55):
        world.spend(dollars)
        world.step(*order)
        world.step(*order)
    assert world.told() == [50, 80, 100]
    assert len({alert for _, alert, _ in world.sent}) == 3


def test_a_gateway_that_knows_less_tells_nothing_that_is_over(world):
    world.spend(55)
    world.gateways[1].seen = 41 * DOLLAR
    world.step(0, 1, 2)
    # It learns the rest later, and has nothing to say either.
    world.gateways[1].seen = 55 * DOLLAR
    world.gateways[1].charged.add(world.limit.counter)
    world.step(1)
    assert world.told() == [100]


KILLS = ("after claim_alerts", "before it is sent", "when it is sent", "after mark_delivered")


@pytest.mark.parametrize("where", KILLS)
def test_a_gateway_that_is_killed_and_returns_delivers_itself(world, where):
    north = world.gateways[0]
    world.spend(41)
    north.kill_at = where
    with pytest.raises(Killed):
        north.step_twice()
    north.stop()
    world.step(1, 2)
    north.start()
    for _ in range(2):
        world.step()
    # Only between a receiver's answer and our record of it is a message repeated, as without a fleet.
    assert world.told() == [80] * (2 if where == "when it is sent" else 1)
    assert len({alert for _, alert, _ in world.sent}) == 1
    world.now += 10 * GRACE_MS
    world.step()
    assert len(world.told()) == (2 if where == "when it is sent" else 1)


@pytest.mark.parametrize("where", KILLS)
def test_another_delivers_for_one_that_does_not_return(world, where):
    north = world.gateways[0]
    world.spend(41)
    north.kill_at = where
    with pytest.raises(Killed):
        north.step_twice()
    north.stop()
    world.now += GRACE_MS - 1
    world.step(1, 2)
    before = len(world.sent)
    world.now += 2 * GRACE_MS
    for _ in range(2):
        world.step(1, 2)
    assert [(node, threshold) for node, _, threshold in world.sent[before:]] == (
        [] if where == "after mark_delivered" else [("south", 80)]
    )
    assert len({alert for _, alert, _ in world.sent}) == 1
    # What it still has on file is not its to deliver any more.
    north.start()
    total = len(world.sent)
    world.step()
    assert (len(world.sent), north.notifier.pending) == (total, [])


def test_one_that_stopped_before_its_webhook_answered_leaves_the_message_to_others(world):
    north = world.gateways[0]
    north.error = "HTTP 503"
    world.spend(26)
    world.step(0)
    assert world.told() == []
    world.step(1, 2)
    # While it lives it goes on trying.
    for _ in range(3):
        world.now += GRACE_MS // 2
        world.step(0, 1, 2)
    assert world.told() == []
    world.now += GRACE_MS
    world.step(1, 2)
    assert world.told() == [50]


def test_workers_of_one_host_deliver_for_each_other_at_once(world):
    """They have one file of messages, and claims in common; one of them delivers at a time."""
    north, south = world.gateways[:2]
    south.name, south.path = north.name, north.path
    south.start()
    north.error = "HTTP 503"
    world.spend(26)
    world.step(0)
    north.stop()
    world.step(1)
    assert [(node, threshold) for node, _, threshold in world.sent] == [("north", 50)]


def test_without_the_store_alerts_are_late_and_not_lost(world, caplog):
    north = world.gateways[0]
    north.error = "HTTP 503"
    world.spend(26)
    world.step(0)
    world.is_away, north.error = True, None
    world.spend(41)
    world.now += 600_000
    world.step()
    # What was claimed before needs no store.
    assert world.told() == [50]
    assert "Alerts are delayed until this is fixed: the store is away" in caplog.text
    world.is_away = False
    for _ in range(2):
        world.step()
    assert world.told() == [50, 80]


def test_a_threshold_is_told_again_once_the_store_knows_that_less_is_used(world):
    world.spend(41)
    world.step()
    # Only one of them believes so, because it does not know what the others have used since.
    world.gateways[2].seen = 0
    world.gateways[2].charged.add(world.limit.counter)
    world.step(2)
    world.spend(42)
    world.step()
    assert world.told() == [80]
    world.spend(10)
    world.step()
    world.spend(43)
    world.step()
    assert world.told() == [80, 80]


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request, tmp_path):
    """A store on each engine, and the clock that it goes by."""
    clock = {"now": NOW}
    if request.param == "sqlite":
        store = SqliteStore(tmp_path / "fleet.db", lambda: clock["now"])
    else:
        url = request.getfixturevalue("postgres_schema_url")
        store = PostgresStore(lambda: psycopg.connect(url, autocommit=True), lambda: clock["now"])
    yield store, clock
    store.close()


def test_claims_are_alike_on_both_engines(engine):
    store, clock = engine

    def claim(threshold, webhook="ops", alert="a", start=NOW):
        return AlertClaim("team/core/usd/30d", start, threshold, webhook, alert, '{"x": 1}', NOW, NOW + DAY)

    for name in ("north", "south"):
        store.join(NodeReport(name, name, 0, 0))
    two = [claim(50), claim(50, "chat")]
    assert store.claim_alerts("north", two) == sorted(two)
    # An answer that was lost: asked again it is the same, with the id that it had first.
    assert store.claim_alerts("north", [claim(50, alert="b")]) == [claim(50)]
    assert store.claim_alerts("south", [claim(50, alert="c"), claim(80, "chat", "d")]) == [claim(80, "chat", "d")]
    assert store.claim_alerts("north", [claim(50, "chat", "e")]) == [claim(50, "chat")]
    store.mark_delivered([("a", "ops")])
    assert store.claim_alerts("north", [claim(50)]) == []
    known = {(k.claim.alert_id, k.claim.webhook): (k.is_ours, k.is_delivered) for k in store.known_alerts("north", ["a", "d"])}
    assert known == {("a", "ops"): (True, True), ("a", "chat"): (True, False), ("d", "chat"): (False, False)}
    clock["now"] += GRACE_MS
    epoch = store.join(NodeReport("south", "south", 0, 0)).epoch
    assert store.take_abandoned("south") == [claim(50, "chat")]
    assert store.take_abandoned("south") == store.take_abandoned("north") == []
    clock["now"] += GRACE_MS
    assert store.take_abandoned("south") == []
    assert store.take_abandoned("north") == []
    # By what the store knows of the window, not by what a node does.
    store.sync(NodeReport("south", "south", epoch, 1), [Position("team/core/usd/30d", "usd", NOW, NOW + DAY, 100, True, 60, 0)])
    store.release_alerts("team/core/usd/30d", NOW, [(50, 50), (80, 80)])
    assert store.claim_alerts("south", [claim(50, alert="f"), claim(80, "chat", "f")]) == [claim(80, "chat", "f")]
    clock["now"] = NOW + DAY + KEPT_MS + 1
    store._purge()
    assert store.known_alerts("north", ["a", "d", "f"]) == []
