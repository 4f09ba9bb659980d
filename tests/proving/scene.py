"""The stage of a fault: a provider that bills, gateways with folders of their own, and the check of the books after."""

from __future__ import annotations

import contextlib
import random
import signal
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proving import books
from proving.billing import BillingProvider
from proving.traffic import KEY, KEY_VALUE
from support.harness import OPUS, PROVIDER_KEY, Gateway, eventually, policy_text


class Broken(Exception):
    """A promise was not kept; the message says how."""


class Skipped(Exception):
    """This machine cannot stage the fault; the message says what it needs."""


@dataclass(frozen=True)
class Observation:
    """What clients saw of a fault, and what was lost."""

    saw: str
    lost: str = "nothing"


Act = Callable[["Scene"], Observation]


@dataclass(frozen=True)
class Fault:
    """One line of the table."""

    family: str
    name: str
    promise: str
    act: Act


FAULTS: list[Fault] = []


def fault(family: str, name: str, promise: str) -> Callable[[Act], Act]:
    """Register a function in the table."""

    def enter(act: Act) -> Act:
        FAULTS.append(Fault(family, name, promise, act))
        return act

    return enter


class Scene:
    """The environment of one fault; everything it starts ends with it."""

    def __init__(self, stack: contextlib.ExitStack, rounds: int, quick: bool, seed: int, progress: Callable[[str], None]) -> None:
        self.stack, self.rounds, self.quick, self.progress = stack, rounds, quick, progress
        self.chance = random.Random(seed)
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sluicegate-chaos-")))
        self.provider = stack.enter_context(BillingProvider())
        self.gateways: list[Gateway] = []

    def policy(self, **changes: Any) -> str:
        """Return a policy with budgets and rate limits at five levels, never reached, and a virtual key with a secret value."""
        limits = {
            "budget": {"max_limit": 50_000, "reset_duration": "1M"},
            "rate_limit": {
                "request_max_limit": 10_000_000,
                "request_reset_duration": "1M",
                "token_max_limit": 10_000_000_000,
                "token_reset_duration": "1M",
                "max_concurrent": 10_000,
            },
        }
        levels: dict[str, Any] = {
            "customers": [{"id": "customer-acme", **limits}],
            "teams": [{"id": "team-engineering", "customer_id": "customer-acme", **limits}],
            "users": [{"id": "alice", "team_id": "team-engineering", **limits}],
            "virtual_keys": [{"id": KEY, "value": KEY_VALUE, "team_id": "team-engineering", "user_id": "alice", **limits}],
            "model_configs": [{"model_name": OPUS, **limits}],
        }
        return policy_text(self.provider.url, **(levels | changes))

    def gateway(self, policy: str | None = None, *options: str, start: bool = True, **more: Any) -> Gateway:
        """Make a gateway with a folder of its own."""
        folder = self.folder / f"gateway-{len(self.gateways)}"
        folder.mkdir()
        made = Gateway(folder, self.policy() if policy is None else policy, *options, **more)
        self.gateways.append(made)
        self.stack.callback(made.stop, signal.SIGKILL)
        return made.start() if start else made

    def balance(self, gateway: Gateway, *, billed: bool = True, stop: bool = True) -> None:
        """Wait until nothing is in flight, end the gateway and check its books. Raises Broken."""
        if gateway.process.poll() is None:
            at_rest(gateway)
        if stop:
            gateway.stop()
        bill = self.provider.bill if billed else None
        secrets = (PROVIDER_KEY, KEY_VALUE, gateway.token)
        wrong = books.check(gateway.state, gateway.policy, bill, secrets, gateway.output)
        if wrong:
            raise Broken("; ".join(wrong[:3]) + (f" (and {len(wrong) - 3} more)" if len(wrong) > 3 else ""))


def at_rest(gateway: Gateway, timeout_s: float = 60) -> None:
    """Wait until nothing is reserved under any limit, at most ``timeout_s`` seconds. Raises Broken if something stays reserved."""

    def held() -> list[str]:
        return [f"{name}: {row['reserved_usd'] or row['reserved']}" for name, row in gateway.usage().items() if in_flight(row)]

    def in_flight(row: dict[str, Any]) -> bool:
        return bool(float(row["reserved_usd"] or row["reserved"] or 0)) or (row["unit"] == "concurrent" and row["used"] != 0)

    with contextlib.suppress(AssertionError):
        eventually(lambda: not held(), timeout_s)
    expect(not (still := held()), f"nothing is in flight, but reserved are {', '.join(still[:3])}")


def expect(holds: bool, otherwise: str) -> None:
    """Raise Broken with the reason unless it holds."""
    if not holds:
        raise Broken(otherwise)
