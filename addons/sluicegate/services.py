"""Everything the chain shares, opened once per gateway: policy, prices, ledger, store, journal, clock."""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sluicegate.addresses import is_loopback
from sluicegate.alerts.notifier import Notifier
from sluicegate.caching.answer_cache import AnswerCache
from sluicegate.caching.semantic.worker import SemanticWorker
from sluicegate.calls.keyring import Keyring
from sluicegate.calls.live_calls import LiveCalls
from sluicegate.calls.settlement import PricedBy, priced_by
from sluicegate.client_telemetry.intake import ClientTelemetry
from sluicegate.console.printer import Printer
from sluicegate.credentials import Credentials
from sluicegate.dashboard_sessions import Attempts, Sessions
from sluicegate.fleet.fleet import open_fleet
from sluicegate.fleet.followed_clock import FollowedClock
from sluicegate.fleet.policy.history import open_history
from sluicegate.fleet.policy.opening import open_source, store_name
from sluicegate.fleet.policy.source import StoreSource
from sluicegate.fleet.reaching import has_workers
from sluicegate.fleet.sign_in.opening import connect_sign_ins, open_sign_ins
from sluicegate.fleet.store.reach import store_address
from sluicegate.http_client.proxies import choose_proxies
from sluicegate.http_client.trust import trust
from sluicegate.limits.free_requests import FreeRequests
from sluicegate.limits.lease import boot_clock_ms
from sluicegate.limits.ledger import Ledger
from sluicegate.logs import Logs
from sluicegate.metrics.collector import Metrics
from sluicegate.network.outbound.proxies import Outbound, ProxyError, outbound_of
from sluicegate.network.outbound.trust import Trust, TrustError
from sluicegate.policy.audit_trail import AuditTrail
from sluicegate.policy.editing.writer import PolicyWriter
from sluicegate.policy.key_values import KeyValues
from sluicegate.policy.model import Policy, VirtualKey
from sluicegate.policy.provider import Provider
from sluicegate.policy.revisions import Revisions
from sluicegate.policy.store_address import StoreAddress
from sluicegate.policy.watcher import PolicyWatcher
from sluicegate.pricing import generation
from sluicegate.pricing.price_watcher import PriceWatcher
from sluicegate.pricing.prices import Prices
from sluicegate.prompt_caching import store as prompt_store
from sluicegate.prompt_caching.watch import PromptWatch
from sluicegate.reconciliation.history import Reconciliations
from sluicegate.routing.router import Router
from sluicegate.storage import content_store
from sluicegate.storage.adjustment_rows import Adjustments
from sluicegate.storage.content_store import ContentFile, ContentKeeper
from sluicegate.storage.journal import Journal
from sluicegate.storage.recovery import recover
from sluicegate.storage.store import FILENAME, Store
from sluicegate.storage.turn import Turn
from sluicegate.storage.upkeep import Upkeep
from sluicegate.storage.writer import Writer
from sluicegate.telemetry.exporter import Telemetry
from sluicegate.tokenizers.counter import TokenCounter
from sluicegate.workers.clears import Clears
from sluicegate.workers.peers import Peers
from sluicegate.workers.revisions import SharedRevisions
from sluicegate.workers.sign_in import shared_sign_in
from sluicegate.workers.worker import FOLDER, Worker, open_folder, settle, this_worker

if TYPE_CHECKING:
    from sluicegate.providers.anthropic.simulator import Simulator


logger = logging.getLogger("sluicegate")


class Target(NamedTuple):
    """An upstream address."""

    scheme: str
    host: str
    port: int
    prefix: str


def wall_clock() -> int:
    """Return the time in epoch milliseconds."""
    return time.time_ns() // 1_000_000


class Services:
    """The open state folder and policy of one running gateway."""

    authority_folder: Path | None = None
    """Where the gateway's certificate authorities are, once that is known."""
    is_exposed = False
    """Other machines can reach us, so a key whose value is its id is not accepted."""
    draining = False
    """The gateway is stopping: no new call begins."""
    _has_chosen_way_out = _closed = False
    _credentials: tuple[Policy, Credentials[VirtualKey]] | None = None
    _outbound: tuple[Policy, Outbound] | None = None
    _simulator: Simulator | None = None
    streams: Counter[tuple[str, str]]
    stream_reads: Counter[str]
    """Streamed answers by way (``fast``, ``general``) and why; reads of those on the fast way by what became of them."""

    def __init__(
        self,
        policy_path: Path,
        state_dir: Path,
        env: Mapping[str, str],
        clock: Callable[[], int] = wall_clock,
        worker: Worker | None = None,
    ) -> None:
        """Open everything and recover from an unclean end. Raises PolicyError, StateError or StoreError."""
        self.env, self.worker = env, worker
        self.number, own = (0, state_dir) if worker is None else (worker.number, worker.folder(state_dir))
        self.policy_watcher = PolicyWatcher(source := open_source(policy_path, state_dir, env), env, clock)
        is_shared = isinstance(source, StoreSource) or store_address(self.policy_watcher.current.server, env) is not None
        if is_shared or worker is not None or has_workers(state_dir):
            # Windows turn by the store's time.
            steady = boot_clock_ms if clock is wall_clock else None
            clock = self.policy_watcher.clock = FollowedClock(clock, steady)
        self.clock = clock
        self.state_dir, self.database = state_dir, state_dir / FILENAME
        # Read now, so that no call waits for the file.
        generation.families()
        self.price_watcher = PriceWatcher(policy_path)
        self.state_folder, self.trust = open_folder(state_dir, worker), Trust(own)
        self.turn = Turn(None if worker is None else state_dir / FOLDER)
        self.state_folder.note_policy(policy_path)
        self.admin_token, is_new = self.state_folder.admin_token(env)
        self.admin_token_is_new = is_new or (worker is not None and worker.has_new_token)
        self._admin_digest = hashlib.sha256(self.admin_token.encode()).digest()
        self.keyring, self.ledger, self.free_requests = Keyring(), Ledger(), FreeRequests()
        self.router = Router(self.ledger)
        self.sign_ins = open_sign_ins(self, source, clock, has_workers=worker is not None)
        self.store = Store(own / FILENAME)
        self.store.load(self.ledger)
        self.fleet = open_fleet(self, clock) if isinstance(clock, FollowedClock) else None
        """The other gateways that share this one's limits; None where there are none."""
        self.audit_trail = AuditTrail(self.database)
        self.adjustments = Adjustments(self.database)
        self.reconciliations = Reconciliations(self.database)
        self.policy_writer = PolicyWriter(self.policy_watcher, self.audit_trail, clock)
        self.revisions = Revisions(self.database) if worker is None else SharedRevisions(self.database, state_dir / FOLDER)
        self.key_values = self._known_keys()
        self.history = open_history(source, self.revisions, self.policy_watcher.active, self.fleet)
        self.policy_watcher.on_change = self.history.record
        self.journal = Journal(own / "audit.jsonl")
        self.recovered = recover(self.store, self.journal, self.ledger, self.policy_watcher.current.all_limits)
        if self.fleet is not None:
            self.fleet.join() if source.is_confirmed else self.fleet.join_later()
        self.hook_time: dict[tuple[str, str], list[float]] = {}
        """By addon and hook: seconds spent in it and how often it was called; ``commit`` is budget's share of writing."""
        self.streams, self.stream_reads, self.request_ways = Counter[tuple[str, str]](), Counter[str](), Counter[tuple[str, str]]()
        self.writer = Writer(self.store, self.journal, self.ledger, self.hook_time.setdefault(("budget", "commit"), [0.0, 0]))
        self.own_servers: dict[str, tuple[str, int]] = {}
        """Where the web application (``web``), the relay (``relay``) and the gateway itself (``gateway-0`` ...) listen."""
        self.chain: Callable[[], Iterable[str]] = tuple
        """The addons' names in their order, as ``hook_time`` has them."""
        self.options_refused: dict[str, str] = {}
        """Options that were set while the gateway ran, and why they were refused."""
        self.opened_at = clock()
        self._open_rest()

    def _open_rest(self) -> None:
        """Open what no start depends on."""
        state_dir, worker = self.state_dir, self.worker
        self.live_calls, self.printer = LiveCalls(), Printer()
        self.sessions, self.attempts = (Sessions(), Attempts()) if worker is None else shared_sign_in(state_dir)
        self.sessions = connect_sign_ins(self, self.sessions)
        self.metrics, self.telemetry = Metrics(self), Telemetry(self)
        self.peers = None if worker is None else Peers(worker.number, state_dir, self)
        self.notifier = Notifier(self, self.database, claims=None if self.fleet is None else self.fleet.alerts)
        self.notifier.is_our_turn = self.turn.is_ours
        self.logs = Logs(self.database, self.clock, self.writer.want_agreement, keeps_undelivered=self.delivers_records)
        self.client_telemetry = ClientTelemetry(self, self.logs.session_sums)
        self.tokens, self.semantic = TokenCounter(), SemanticWorker()
        self.prompt_watch = PromptWatch(prompt_store.CacheFile(state_dir / prompt_store.FILENAME))
        self.answers, self.content = AnswerCache(state_dir), ContentKeeper(ContentFile(state_dir / content_store.FILENAME))
        self.answers.is_shared, self.clears = worker is not None, Clears(None if worker is None else state_dir)
        self.upkeep = Upkeep(self)

    @property
    def policy(self) -> Policy:
        """Return the policy in force now, with the access tokens of those who have signed in."""
        return self.sign_ins.in_force(self.policy_watcher.current)

    @property
    def delivers_records(self) -> bool:
        """Return whether records go to a store beyond this host."""
        return self.fleet is not None and isinstance(self.fleet.address, StoreAddress)

    @property
    def node_name(self) -> str | None:
        """Return this gateway's name among those that share a store; None where it is the only one."""
        return None if self.fleet is None else self.fleet.name

    @property
    def prices(self) -> Prices:
        """Return the prices in force now."""
        return self.price_watcher.current

    @property
    def outbound(self) -> Outbound:
        """Return the way out that the policy in force names; where it names one that cannot be used, the way from before."""
        policy = self.policy
        if self._outbound is None or self._outbound[0] is not policy:
            try:
                self._outbound = policy, outbound_of(policy.server.upstream_proxy, self.env)
            except ProxyError as e:
                if self._outbound is None:
                    raise
                logger.error("The way out stays as it was: %s", e)
                self._outbound = policy, self._outbound[1]
        way = self._outbound[1]
        if way.proxy is not None and is_loopback(way.proxy.host) and any(p == way.proxy.port for _, p in self.own_servers.values()):
            # A shell that is set up to use this gateway has started it.
            return Outbound()
        return way

    def choose_way_out(self) -> None:
        """Let the HTTP client take the way out too, and trust whom policy says. Raises ProxyError, TrustError or OSError."""
        self._outbound = self.policy, outbound_of(self.policy.server.upstream_proxy, self.env)
        choose_proxies(self._proxy_url)
        self.trust.follow(self.policy.server.ca_bundle)
        self._has_chosen_way_out = True

    def _known_keys(self) -> KeyValues:
        known = KeyValues(self.database)
        known.follow(self.policy_watcher.current)
        self.policy_watcher.on_activate = self._follow
        return known

    def _follow(self, policy: Policy) -> None:
        """Note the keys of a policy about to come into force, and trust whom it says; where its file cannot be used, as before."""
        self.key_values.follow(policy)
        if not self._has_chosen_way_out:
            return
        try:
            self.trust.follow(policy.server.ca_bundle)
        except (TrustError, OSError) as e:
            logger.error("Whom we trust on the way out stays as it was: %s", e)

    def _proxy_url(self, host: str, port: int) -> tuple[str, str | None] | None:
        return self.outbound.url_for(host, port)

    def prices_for(self, provider: str, policy: Policy | None = None) -> Prices:
        """Return the prices in force now of the models that a provider sells."""
        served = (policy or self.policy).providers.get(provider)
        return self.prices.sold_by(served.seller) if served is not None and served.seller is not None else self.prices

    def priced_by(self, policy: Policy, provider: str, model: str, at: int) -> PricedBy:
        """Return the rule by which a provider's calls of a model are priced; its own answers are as good as a list."""
        served = policy.providers.get(provider)
        if served is not None and served.usage.cost is not None:
            return "listed"
        return priced_by(policy, self.prices_for(provider, policy), model, at)

    def target(self, provider: Provider) -> Target:
        """Return where a provider's calls really go: its base URL, or the simulator that stands in for it."""
        if not provider.simulate:
            return Target(provider.scheme, provider.host, provider.port, provider.prefix)
        if self._simulator is None:
            from sluicegate.providers.anthropic.simulator import Simulator

            self._simulator = Simulator()
            self._simulator.start()
        return Target("http", "127.0.0.1", self._simulator.port, "")

    def may_dial(self, host: str, port: int) -> bool:
        """Return whether calls of some provider go to this address."""
        return any((t := self.target(p)).host == host and t.port == port for p in self.policy.providers.values())

    def credentials(self, policy: Policy) -> Credentials[VirtualKey]:
        """Return what finds a policy's secrets and the admin token in requests, made anew for each new policy."""
        if self._credentials is None or self._credentials[0] is not policy:
            self._credentials = policy, policy.credentials((self.admin_token,), self.key_values.is_former)
        return self._credentials[1]

    def is_admin(self, digest: bytes) -> bool:
        """Return whether this is the admin token's SHA-256, compared in constant time."""
        return hmac.compare_digest(digest, self._admin_digest)

    def start(self) -> None:
        """Start watching the policy and housekeeping the database, each in a thread of its own."""
        self.policy_watcher.start()
        self.history.start()
        self.price_watcher.start()
        self.notifier.start()
        self.telemetry.start()
        self.upkeep.start()
        if self.fleet is not None:
            self.fleet.start()
        self.sign_ins.following.start()
        if self.peers is not None:
            self.peers.start()

    def reload(self) -> None:
        """Read policy, secrets and prices again though their files look the same. Blocking; what is invalid changes nothing."""
        logger.warning("Reading policy, secrets and prices again")
        self.policy_watcher.reload()
        self.price_watcher.check(unchanged=True)

    def close(self) -> None:
        """Write what is left, close everything and release the state folder."""
        if self._closed:
            return
        self._closed = True
        # First, while all that it speaks of is open.
        self.telemetry.close()
        self.client_telemetry.close()
        choose_proxies(None)
        trust(None)
        self.upkeep.stop()
        self.policy_watcher.stop()
        self.price_watcher.stop()
        self.history.stop()
        self.notifier.stop()
        self.tokens.close()
        self.writer.close()
        if self.fleet is not None:
            self.fleet.close(self.writer.close)
        if self._simulator is not None:
            self._simulator.stop()
        for closed in (self.logs, self.content, self.prompt_watch, self.semantic, self.answers):
            closed.close()
        for part in (self.store, self.journal, self.sign_ins, self.turn, self.peers, self.state_folder, self.printer):
            if part is not None:
                part.close()


def open_services(policy: Path, state_dir: Path, env: MutableMapping[str, str]) -> Services:
    """Open everything, after telling what is left in folders that no worker uses any more.

    What calls there have spent counts, those that a crash cut off are charged, and their records join the others. Raises as
    ``Services`` does.
    """
    worker = this_worker()
    name = cache(lambda: store_name(policy, state_dir, env))
    settle(state_dir, worker, name, lambda before: Services(policy, state_dir, dict(env), worker=before).close())
    return Services(policy, state_dir, env, worker=worker)
