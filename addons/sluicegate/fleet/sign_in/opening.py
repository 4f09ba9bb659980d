"""Where a gateway keeps its sign-ins: in the store of its fleet, in a file that its workers share, or in one of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from sluicegate.dashboard_sessions import Sessions
from sluicegate.fleet.fleet import Fleet, Gateway, reached_by
from sluicegate.fleet.followed_clock import FollowedClock
from sluicegate.fleet.policy.source import StoreSource
from sluicegate.fleet.reaching import OverNetwork
from sluicegate.fleet.sign_in.sessions import FleetSessions
from sluicegate.fleet.sign_in.store import FILENAME, SignInTables
from sluicegate.policy.model import Policy
from sluicegate.policy.source import PolicySource
from sluicegate.sign_in.errors import SignInsAwayError
from sluicegate.sign_in.sign_ins import SignIns

logger = logging.getLogger("sluicegate")


def open_sign_ins(gateway: Gateway, source: PolicySource, clock: Callable[[], int], *, has_workers: bool) -> SignIns:
    """Return the sign-ins as this process has them. Raises StateError or StoreError."""
    reached = reached_by(gateway, source, clock) if isinstance(clock, FollowedClock) else None
    if isinstance(reached, OverNetwork):
        _leave_own(gateway.state_dir)
        return SignIns(reached.sign_ins(), clock)
    return SignIns(SignInTables.in_folder(gateway.state_dir, clock, is_shared=has_workers), clock)


def _leave_own(state_dir: Path) -> None:
    """Delete the sign-ins of the time before a gateway had a fleet: what ends there must not be valid again after it."""
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            (state_dir / f"{FILENAME}{suffix}").unlink()
            if not suffix:
                logger.warning("The sign-ins that were kept in %s have ended: they are in the fleet's store from now on", state_dir)


class Served(Gateway, Protocol):
    """A gateway with everything open that the sign-ins depend on."""

    clock: Callable[[], int]
    sign_ins: SignIns
    fleet: Fleet | None


def connect_sign_ins(gateway: Served, sessions: Sessions) -> Sessions:
    """Let the sign-ins follow what other processes change; return the dashboard's sessions, which a fleet has in common too."""
    following, watcher = gateway.sign_ins.following, gateway.policy_watcher
    store = gateway.sign_ins.store
    if gateway.fleet is not None and store.is_shared and isinstance(store, SignInTables) and store.file is None:
        watcher.unfit = lambda policy: _unfit(policy, watcher.source)
        sessions = FleetSessions(gateway.sign_ins, gateway.clock)
        gateway.fleet.on_sign_ins = following.wake
        following.remember_in(gateway.store.path.parent)

    def look_at_policy() -> None:
        if isinstance(watcher.source, StoreSource):
            watcher.source.fetch()
        if watcher.has_changed():
            watcher.reload()

    following.policy, following.find_key = lambda: gateway.policy, look_at_policy
    in_memory = sessions if isinstance(sessions, FleetSessions) else ()
    following.is_used = lambda: gateway.policy.oidc is not None or len(in_memory) > 0
    if store.is_shared and gateway.policy.oidc is not None:
        # Before the first call: otherwise each of those who are signed in would be asked for.
        with suppress(SignInsAwayError):
            following.follow()
    return sessions


def _unfit(policy: Policy, source: PolicySource) -> str | None:
    """Return why several gateways cannot serve a policy that is kept here; None if they can."""
    if isinstance(source, StoreSource) or policy.oidc is None or not policy.oidc.creates_users:
        return None
    return (
        "oidc: people who sign in become users of the policy (users: create), and each of several gateways has a policy file "
        "of its own: put the policy into the store (policy.source: store), or list users and keys in the files (users: known)"
    )
