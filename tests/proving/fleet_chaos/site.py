"""The fleet itself: its gateways, the database between them, the network, the provider, and the policy that all have."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import secrets
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from proving.fleet_chaos.clients import Clients, Door
from proving.fleet_chaos.network import DATABASE, Namespace, Network
from proving.fleet_chaos.provider import Provider
from proving.fleet_chaos.relay import PORT, Relay
from support.harness import ADDONS, OPUS, Gateway, Reply
from support.postgres import Postgres

NAMES = ("north", "south", "east")
SKEW = Path(__file__).with_name("skew.py")

WINDOW = "5s"
"""Of the limit whose windows turn while things break."""

KEYS = ("vk-hard", "vk-soft", "vk-open", "vk-window", "vk-count", "vk-tokens", "vk-places", "vk-customer", "vk-free")


def policy(store: str, provider: str, scale: float) -> dict[str, Any]:
    """Return limits at every level; ``scale`` says how soon they are reached."""

    def budget(dollars: float, reset: str = "1M", **more: Any) -> dict[str, Any]:
        return {"max_limit": round(dollars * scale, 6), "reset_duration": reset, **more}

    hard = {"enforcement": "hard"}
    month = "1M"
    return {
        "version": 1,
        "server": {"store": store},
        "providers": {"anthropic": {"base_url": provider, "keys": [{"name": "key-1", "value": "env.PROVIDER_KEY"}]}},
        "customers": [{"id": "acme", "budget": budget(9, **hard)}, {"id": "other", "budget": budget(30)}],
        "teams": [{"id": "team", "customer_id": "acme", "budget": budget(6)}],
        "users": [{"id": "alice", "team_id": "team", "budget": budget(5, **hard)}],
        "model_configs": [{"model_name": OPUS, "budget": budget(60, **hard)}],
        "virtual_keys": [
            {"id": "vk-hard", "team_id": "team", "user_id": "alice", "budget": budget(3, **hard)},
            {"id": "vk-soft", "team_id": "team", "user_id": "alice", "budget": budget(2)},
            {"id": "vk-open", "team_id": "team"},
            {"id": "vk-window", "customer_id": "other", "budget": budget(1, WINDOW, **hard)},
            {
                "id": "vk-count",
                "customer_id": "other",
                "rate_limit": {"request_max_limit": max(20, round(100 * scale)), "request_reset_duration": month},
            },
            {
                "id": "vk-tokens",
                "customer_id": "other",
                "rate_limit": {"token_max_limit": max(20_000, round(60_000 * scale)), "token_reset_duration": month},
            },
            {"id": "vk-places", "customer_id": "other", "rate_limit": {"max_concurrent": 4}},
            {"id": "vk-customer", "customer_id": "acme"},
            {"id": "vk-free"},
        ],
    }


class Node:
    """One gateway, its namespace, and what is being done to it."""

    def __init__(self, folder: Path, name: str, number: int, namespace: Namespace, text: str) -> None:
        folder.mkdir()
        self.name, self.number, self.namespace = name, number, namespace
        self.skew_file = folder / "skew"
        self.skew_file.write_text("0")
        self.gateway = Gateway(
            folder,
            text,
            scripts=(SKEW, ADDONS / "gateway.py"),
            env={"SLUICEGATE_NODE": name, "SLUICEGATE_TEST_SKEW": str(self.skew_file)},
            netns=namespace.name,
            imported=True,
        )
        self.output: list[str] = []
        """Of the processes before this one."""
        self.is_stopped = False
        self.troubled: list[tuple[float, float]] = []
        """When its calls may have lost their places in flight: spans by ``time.monotonic``."""

    @property
    def lines(self) -> list[str]:
        """Return all that it has printed."""
        return [*self.output, *self.gateway.output]

    def kill(self) -> None:
        """End it without warning."""
        self.gateway.stop(signal.SIGKILL)
        self.output += self.gateway.output
        self.gateway.output = []

    def stop_for_a_while(self) -> None:
        """Let its process stand still."""
        if self.gateway.process.poll() is None:
            self.gateway.process.send_signal(signal.SIGSTOP)
            self.is_stopped = True

    def go_on(self) -> None:
        """Let it run again."""
        if self.is_stopped:
            self.gateway.process.send_signal(signal.SIGCONT)
            self.is_stopped = False

    def admin(self, path: str) -> Reply:
        """Ask its administration. Blocking."""
        return self.namespace.run(lambda: self.gateway.admin(path))


class Site:
    """Everything of one run."""

    def __init__(
        self, folder: Path, network: Network, server: Postgres, database: str, chance: random.Random, scale: float
    ) -> None:
        self.folder, self.network, self.server, self.database = folder, network, server, database
        self.provider = Provider(network.hub)
        self.relay = Relay(network, server.folder / f".s.PGSQL.{server.port}", random.Random(chance.random()))
        self.policy = policy(f"postgresql://sluicegate@{DATABASE}:{PORT}/{database}?sslmode=disable", self.provider.url, scale)
        text = json.dumps(self.policy)
        self.nodes = [
            Node(folder / name, name, i, namespace, text)
            for i, (name, namespace) in enumerate(zip(NAMES, network.gateways, strict=True))
        ]
        doors = [Door(node.namespace, lambda node=node: node.gateway.port) for node in self.nodes]  # type: ignore[misc]
        self.clients = Clients(doors, random.Random(chance.random()))

    async def start(self) -> None:
        """Start everything; the gateways all at once."""
        await self.provider.start()
        await self.relay.start()
        await asyncio.gather(*(asyncio.to_thread(node.gateway.start) for node in self.nodes))

    async def close(self) -> None:
        """End everything, the gateways as they end when they are asked to."""
        for node in self.nodes:
            if hasattr(node.gateway, "process"):
                node.go_on()
        await asyncio.gather(*(asyncio.to_thread(node.gateway.stop) for node in self.nodes if hasattr(node.gateway, "process")))
        await self.relay.close()
        await self.provider.close()

    def query(self, sql: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Return rows of the store."""
        with psycopg.connect(self.server.socket_url(self.database), autocommit=True) as conn:
            return conn.execute(sql.encode(), values).fetchall()

    async def until(self, what: Callable[[], bool], seconds: float, otherwise: Callable[[], str]) -> str | None:
        """Wait, off the loop, until something is the case; return what is wrong where it is not in time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(OSError, psycopg.Error, KeyError, ValueError):
                if await asyncio.to_thread(what):
                    return None
            await asyncio.sleep(0.2)
        return await asyncio.to_thread(otherwise)


@contextmanager
def fresh_database(server: Postgres) -> Iterator[str]:
    """Make a database, and drop it afterwards; yield its name."""
    name = f"t{secrets.token_hex(6)}"
    with psycopg.connect(server.socket_url("postgres"), autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {name} STRATEGY FILE_COPY".encode())
    try:
        yield name
    finally:
        # The server may have been restarted meanwhile.
        with psycopg.connect(server.socket_url("postgres"), autocommit=True) as conn:
            conn.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())


def keep(folder: Path, target: Path) -> Path:
    """Keep what a run has left; return where."""
    shutil.copytree(folder, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("ca"))
    return target
