"""What is done to a fleet while it works: a seed names what happens when, to whom and for how long."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from proving.fleet_chaos.site import Node, Site
from support import postgres
from support.harness import replace_file

PAUSES_S = (0.3, 4.0, 11.5)
"""How long a gateway stands still: shorter than a place in flight lasts, longer, and longer than a lease's expiry."""

SKEWS_MS = (-3_600_000, -1_500, -200, 300, 2_000, 86_400_000)

AFTERWARDS_S = 4.0
"""So long after a disturbance a node may still have been silent for as long as places in flight last."""


@dataclass(frozen=True, slots=True)
class Event:
    """One disturbance."""

    at_s: float
    kind: str
    node: int
    seconds: float
    detail: str = ""

    def __str__(self) -> str:
        """Return it in a line."""
        return f"{self.at_s:5.1f} s  {self.kind:9} node {self.node}  {self.seconds:4.1f} s  {self.detail}"


KINDS = ("cut", "cut", "slow", "restart", "kill", "kill", "pause", "pause", "skew", "policy", "policy")


def plan(chance: random.Random, seconds: float, *, may_restart: bool) -> list[Event]:
    """Return the disturbances of a run, in order."""
    events = []
    at = chance.uniform(0.3, 1.0)
    while at < seconds:
        kind = chance.choice([k for k in KINDS if may_restart or k != "restart"])
        node, left = chance.randrange(3), seconds - at
        lasts, detail = chance.choice((0.5, 2.0, 5.0)), ""
        if kind == "cut":
            detail = chance.choice(("both", "both", "there", "back", "both of all"))
        elif kind == "slow":
            detail = f"{chance.choice((0.03, 0.3, 1.2))}"
        elif kind == "restart":
            detail, lasts = chance.choice(("fast", "immediate")), chance.choice((0.0, 1.0, 4.0))
        elif kind == "pause":
            lasts = chance.choice(PAUSES_S)
        elif kind == "skew":
            detail, lasts = str(chance.choice(SKEWS_MS)), 0.0
        elif kind == "policy":
            detail, lasts = f"{chance.choice((0.5, 0.9, 1.3))} {chance.randrange(1000)}", chance.choice((0.0, 1.0))
        events.append(Event(round(at, 2), kind, node, round(min(lasts, max(0.3, left)), 2), detail))
        at += chance.uniform(0.2, 2.5)
    return events


class Disturbances:
    """Carries a plan out, and undoes all of it at the end."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._busy: set[int] = set()
        """Nodes that are down or stand still: one thing at a time."""
        self._is_restarting = False
        self.done: list[Event] = []

    async def play(self, events: list[Event]) -> None:
        """Let them happen, each in its time, and wait until all have ended."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for event in events:
                await asyncio.sleep(max(0.0, began + event.at_s - time.monotonic()))
                group.create_task(self._happen(event))

    async def _happen(self, event: Event) -> None:
        node = self._site.nodes[event.node]
        acts: dict[str, Callable[[Event, Node], Awaitable[None]]] = {
            "cut": self._cut,
            "slow": self._slow,
            "restart": self._restart,
            "kill": self._kill,
            "pause": self._pause,
            "skew": self._skew,
            "policy": self._policy,
        }
        began = time.monotonic()
        self.done.append(event)
        await acts[event.kind](event, node)
        troubled = (began, time.monotonic() + AFTERWARDS_S)
        of_all = event.kind == "restart" or event.detail.endswith("of all")
        for one in self._site.nodes if of_all else (node,):
            if event.kind not in ("policy",):
                one.troubled.append(troubled)

    async def _cut(self, event: Event, node: Node) -> None:
        nodes = self._site.nodes if event.detail.endswith("of all") else [node]
        for one in nodes:
            self._site.network.cut(one.number, there=event.detail != "back", back=event.detail != "there")
        await asyncio.sleep(event.seconds)
        for one in nodes:
            self._site.network.cut(one.number, there=False, back=False)

    async def _slow(self, event: Event, node: Node) -> None:
        address = self._site.network.address(node.number)
        self._site.relay.delay_s[address] = float(event.detail)
        await asyncio.sleep(event.seconds)
        self._site.relay.delay_s.pop(address, None)

    async def _restart(self, event: Event, node: Node) -> None:
        if self._is_restarting:
            return
        self._is_restarting = True
        server = self._site.server
        await asyncio.to_thread(postgres.halt_server, server, at_once=event.detail == "immediate")
        await asyncio.sleep(event.seconds)
        await asyncio.to_thread(postgres.launch_server, server)
        self._is_restarting = False

    async def _kill(self, event: Event, node: Node) -> None:
        if node.number in self._busy:
            return
        self._busy.add(node.number)
        await asyncio.to_thread(node.kill)
        await asyncio.sleep(event.seconds)
        await asyncio.to_thread(node.gateway.start)
        self._busy.discard(node.number)

    async def _pause(self, event: Event, node: Node) -> None:
        if node.number in self._busy:
            return
        self._busy.add(node.number)
        node.stop_for_a_while()
        await asyncio.sleep(event.seconds)
        node.go_on()
        self._busy.discard(node.number)

    async def _skew(self, event: Event, node: Node) -> None:
        replace_file(node.skew_file, event.detail)

    async def _policy(self, event: Event, node: Node) -> None:
        """Change one of the budgets, on each node in its turn."""
        factor, number = event.detail.split()
        policy = self._site.policy
        limited = [e for kind in ("customers", "teams", "users", "virtual_keys") for e in policy[kind] if "budget" in e]
        chosen = limited[int(number) % len(limited)]["budget"]
        chosen["max_limit"] = round(chosen["max_limit"] * float(factor), 6)
        text = json.dumps(policy)
        for one in self._site.nodes:
            one.gateway.govern(text)
            await asyncio.sleep(event.seconds / len(self._site.nodes))
