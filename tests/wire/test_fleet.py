"""Three gateways and one PostgreSQL: what is allowed is allowed once, whoever is asked and whatever is killed or cut."""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from sluicegate.cli.main import app
from sluicegate.operations.deployment.site import Site as SiteValues
from sluicegate.operations.deployment.targets import prepare
from support.api import Api
from support.command import CliRunner
from support.fake_provider import FakeProvider, Peer, Script, Seen, message, plain
from support.harness import WAIT_S, Gateway, Reply, ask, eventually
from support.ports import free_port
from support.postgres import Postgres
from support.receiver import Receiver

pytestmark = pytest.mark.wire

NICKEL = message(input_tokens=0, output_tokens=2500)
"""An answer of five cents."""

FIVE_CENTS = ask(max_tokens=2500)
"""A call that may cost five cents, and a little for its input."""

NAMES = ("north", "south", "east")


def held(go: threading.Event) -> Script:
    """Answer five cents' worth when it may."""

    def run(peer: Peer, seen: Seen) -> None:
        go.wait(WAIT_S)
        plain(NICKEL)(peer, seen)

    return run


def limited(key: str, **limits: Any) -> dict[str, Any]:
    return {"id": key, **limits}


def budget(dollars: float, **more: Any) -> dict[str, Any]:
    return {"budget": {"max_limit": dollars, "reset_duration": "1M", **more}}


def rate(**limits: Any) -> dict[str, Any]:
    return {"rate_limit": limits}


KEYS = [
    limited("vk-soft", **budget(0.50)),
    limited("vk-hard", **budget(0.50, enforcement="hard")),
    limited("vk-hundred", **rate(request_max_limit=100, request_reset_duration="1h")),
    limited("vk-killed", **budget(5.00)),
    limited("vk-one", **rate(max_concurrent=1)),
    limited("vk-lease", **budget(16.00)),
    limited("vk-corrected", **budget(5.00)),
    limited("vk-alert", **budget(0.10)),
    limited("vk-balanced"),
]


class Site:
    """The gateways, their provider, and the database between them."""

    def __init__(self, folder: Path, provider: FakeProvider, server: Postgres, url: str, receiver: Receiver) -> None:
        self.provider, self.server, self.url, self.receiver = provider, server, url, receiver
        self.database = url.rpartition("/")[2]
        providers = {"anthropic": {"base_url": provider.url, "keys": [{"name": "key-1", "value": "env.PROVIDER_KEY"}]}}
        alerts = {"webhooks": [{"name": "ops", "url": receiver.url, "scopes": ["virtual_key/vk-alert"]}]}
        entities = {"version": 1, "providers": providers, "virtual_keys": KEYS}
        server_part = {"store": url, "trusted_proxies": ["127.0.0.1/32"], "allow_id_as_value": True}
        policy = json.dumps({**entities, "server": server_part, "alerts": alerts})
        self.gateways: list[Gateway] = []
        for name in NAMES:
            (folder / name).mkdir()
            self.gateways.append(Gateway(folder / name, policy, env={"SLUICEGATE_NODE": name}))

    def start(self) -> None:
        """Start them all at once: the tables are made by one."""
        with ThreadPoolExecutor(len(self.gateways)) as pool:
            list(pool.map(lambda gw: gw.start(), self.gateways))

    def used(self, key: str, gateway: int = 0, unit: str = "usd") -> dict[str, Any]:
        return self.gateways[gateway].usage()[f"virtual_key/{key}/{unit}"]

    def nodes(self, gateway: int = 0) -> dict[str, dict[str, Any]]:
        return {node["name"]: node for node in self.gateways[gateway].admin("/api/nodes").json["nodes"]}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres) -> Iterator[Site]:
    with FakeProvider(plain(NICKEL)) as provider, postgres.database() as url, Receiver() as receiver:
        made = Site(tmp_path_factory.mktemp("fleet"), provider, postgres, url, receiver)
        try:
            made.start()
            yield made
        finally:
            for gateway in made.gateways:
                gateway.discard()


@pytest.mark.parametrize("key", ["vk-soft", "vk-hard"])
def test_parallel_calls_on_every_node_spend_one_budget(site: Site, key: str) -> None:
    go = threading.Event()
    site.provider.script = held(go)
    before = len(site.provider.seen)
    with ThreadPoolExecutor(40) as pool:
        sent = [pool.submit(site.gateways[i % 3].post, FIVE_CENTS, key) for i in range(40)]
        # Each is with the provider or has been refused: none has given room back for another.
        eventually(lambda: len(site.provider.seen) - before + sum(future.done() for future in sent) == 40)
        go.set()
        answers = [future.result() for future in sent]
    site.provider.script = plain(NICKEL)
    passed = sum(reply.status == 200 for reply in answers)
    assert {(r.status, r.reason) for r in answers if r.status != 200} == {(402, "budget_exceeded")}
    of_key = f"SELECT * FROM calls WHERE virtual_key_id = '{key}' AND status = 200"
    rows = eventually(lambda: [row for gateway in site.gateways for row in gateway.rows(of_key)])
    asked = rows[0]["limits"][0][8]
    # The soft one lets the call pass that crosses the line; of the hard one, all that fits is used.
    assert passed == (10 if key == "vk-soft" else 500_000_000 // asked)
    for i in range(3):
        eventually(lambda i=i: float(site.used(key, i)["used_usd"]) == pytest.approx(0.05 * passed))


def test_a_hundred_requests_are_a_hundred_over_all_nodes(site: Site) -> None:
    statuses = [site.gateways[i % 3].post(FIVE_CENTS, "vk-hundred").status for i in range(100)]
    assert statuses == [200] * 100
    last = site.gateways[1].post(FIVE_CENTS, "vk-hundred")
    assert (last.status, last.reason) == (429, "request_limited")
    assert "(101/100" in last.message


def test_every_node_shows_the_calls_of_all(site: Site) -> None:
    before = site.gateways[0].admin("/api/logs?vk=vk-corrected").json["pagination"]["total_count"]
    reply = site.gateways[2].post(FIVE_CENTS, "vk-corrected")
    assert reply.status == 200
    (found,) = eventually(lambda: site.gateways[0].admin("/api/logs?vk=vk-corrected").json["logs"][before:])
    assert (found["node"], found["cost_usd"]) == ("east", "0.05")
    assert site.gateways[0].admin("/api/logs?vk=vk-corrected&node=south").json["logs"] == []
    assert site.gateways[0].admin("/api/logs?vk=vk-corrected&node=east").json["pagination"]["total_count"] == before + 1
    exported = site.gateways[0].admin("/api/logs/export?format=jsonl&vk=vk-corrected&node=east,south").body
    assert found["id"].encode() in exported
    # Each is there once, and its own node alone has its line.
    own = [line["id"] for line in site.gateways[2].journal()]
    assert found["id"] in own
    assert found["id"] not in [line["id"] for line in site.gateways[0].journal()]


def test_a_threshold_is_announced_once_over_all_nodes(site: Site) -> None:
    assert [site.gateways[i].post(FIVE_CENTS, "vk-alert").status for i in (0, 1)] == [200, 200]
    passed = "SELECT threshold FROM alerts_passed WHERE counter LIKE '%/vk-alert/%' AND threshold = 100"
    for number, gateway in enumerate(site.gateways):
        try:
            eventually(lambda gateway=gateway: gateway.rows(passed))
        except AssertionError as e:
            said = [line for line in gateway.output if "lert" in line or "store" in line]
            knows = {"used": site.used("vk-alert", number), "health": gateway.admin("/health").json["fleet"]}
            raise AssertionError(
                f"{NAMES[number]} has not seen it: {knows}, {gateway.rows('SELECT * FROM alerts_passed')}, {said}"
            ) from e
    told = eventually(lambda: [body["threshold"] for body in site.receiver.json() if body["threshold"] == 100])
    assert told == [100]
    assert len({body["threshold"] for body in site.receiver.json()}) == len(site.receiver.got)


def test_nodes_are_listed_with_what_they_do(site: Site) -> None:
    nodes = site.nodes()
    assert {name: node["state"] for name, node in nodes.items()} == dict.fromkeys(NAMES, "live")
    assert [name for name, node in nodes.items() if node["is_this"]] == ["north"]
    assert len({node["policy_revision"] for node in nodes.values()}) == 1
    gateway = site.gateways[1]
    options = ["--gateway", gateway.url, "--state-dir", str(gateway.state)]
    shown = CliRunner().invoke(app, ["nodes", "list", *options])
    assert shown.exit_code == 0, shown.output
    assert "south (this one)" in shown.output
    kept = CliRunner().invoke(app, ["nodes", "forget", "north", "--dry-run", *options])
    assert kept.exit_code == 1
    assert "only one that has expired can be given up" in kept.output
    health = gateway.admin("/api/health").json["fleet"]
    assert (health["node"], health["error"], health["live_nodes"]) == ("south", None, 3)
    assert site.url.rpartition("@")[2] in health["store"]
    assert 'sluicegate_fleet_node_info{node="south"} 1.0' in gateway.admin("/metrics").body.decode()


def test_what_was_done_on_one_node_is_on_the_trail_of_all(site: Site) -> None:
    north, south, _ = site.gateways
    made = Api(north).ok("POST", "/api/adjustments", {"scope": "vk-corrected", "amount": -0.01, "reason": "a credit"})
    (entry,) = eventually(lambda: south.admin("/api/audit?action=adjust&node=north").json["entries"])
    assert (entry["entity_id"], entry["who"], entry["node"]) == ("vk-corrected", "admin", "north")
    assert south.admin("/api/audit?action=adjust&node=south").json["entries"] == []
    (own,) = north.admin("/api/audit?action=adjust&node=north").json["entries"]
    assert own == entry | {"id": own["id"]}
    (adjustment,) = eventually(lambda: south.admin("/api/adjustments").json["adjustments"])
    assert adjustment == made["adjustment"]
    # Its own is not told to it again, and a start repeats nothing.
    south.stop()
    south.start()
    for gateway in (north, south):
        assert len(gateway.admin("/api/adjustments").json["adjustments"]) == 1
        assert len(gateway.admin("/api/audit?action=adjust").json["entries"]) == 1
    revisions = south.admin("/api/policy/revisions").json["revisions"]
    assert {row["node"] for row in revisions} == set(NAMES)


def test_a_killed_node_is_charged_once_and_its_places_come_back(site: Site) -> None:
    north, _, east = site.gateways
    go = threading.Event()
    site.provider.script = held(go)
    with ThreadPoolExecutor(2) as pool:
        cut = [pool.submit(east.post, FIVE_CENTS, key) for key in ("vk-killed", "vk-one")]
        # The store knows of both calls once others see what they hold. Until east has the only place, another node's call gets it.
        eventually(lambda: float(site.used("vk-killed")["reserved_usd"]) > 0.05)
        eventually(lambda: site.used("vk-one", unit="concurrent")["reserved"] == 1)
        eventually(lambda: north.post(FIVE_CENTS, "vk-one").reason == "concurrency_limited")
        east.stop(signal.SIGKILL)
        for future in cut:
            with pytest.raises((OSError, HTTPException)):
                future.result()
    site.provider.script = plain(NICKEL)
    go.set()
    eventually(lambda: north.post(FIVE_CENTS, "vk-one").status == 200)
    charged = eventually(lambda: float(site.used("vk-killed")["used_usd"]))
    (found,) = eventually(lambda: north.admin("/api/logs?vk=vk-killed").json["logs"])
    assert (found["outcome"], found["node"], float(found["cost_usd"])) == ("interrupted", "east", charged)
    assert site.nodes()["east"]["state"] == "expired"
    east.start()
    assert float(site.used("vk-killed", 2)["used_usd"]) == charged
    eventually(lambda: site.nodes()["east"]["state"] == "live")
    for gateway in site.gateways:
        eventually(lambda gateway=gateway: len(gateway.rows("SELECT * FROM calls WHERE virtual_key_id = 'vk-killed'")) == 1)
    # Its own report takes the place of what was put down for it; in between, others see neither.
    eventually(lambda: float(site.used("vk-killed")["used_usd"]) == charged)


def test_without_the_store_leases_are_spent_and_then_calls_are_refused(site: Site) -> None:
    north = site.gateways[0]
    assert north.post(FIVE_CENTS, "vk-lease").status == 200
    # With one call behind it, it has room for some more.
    eventually(lambda: site.nodes()["north"]["leases"])
    with site.server.away(site.url):
        eventually(lambda: north.admin("/api/health").json["fleet"]["error"])
        answers: list[Reply] = []
        while not answers or (answers[-1].status == 200 and len(answers) < 50):
            answers.append(north.post(FIVE_CENTS, "vk-lease"))
        assert 1 <= len(answers) - 1 <= 10
        assert (answers[-1].status, answers[-1].reason) == (503, "gateway_error")
        assert site.database in answers[-1].message
        assert "VK" in answers[-1].message
    eventually(lambda: north.post(FIVE_CENTS, "vk-lease").status == 200)
    eventually(lambda: not north.admin("/api/health").json["fleet"]["error"])
    passed = sum(reply.status == 200 for reply in answers) + 2
    for i in range(3):
        eventually(lambda i=i: float(site.used("vk-lease", i)["used_usd"]) == pytest.approx(0.05 * passed))


def test_a_correction_made_while_the_store_is_away_survives_a_kill_and_counts_once(site: Site) -> None:
    south = site.gateways[1]
    before = float(site.used("vk-corrected", 2)["used_usd"])
    with site.server.away(site.url):
        eventually(lambda: south.admin("/api/health").json["fleet"]["error"])
        body = {"scope": "vk-corrected", "amount": 1.25, "reason": "a tool was billed apart"}
        Api(south).ok("POST", "/api/adjustments", body)
        south.stop(signal.SIGKILL)
    south.start()
    for gateway in (1, 2):
        eventually(lambda gateway=gateway: float(site.used("vk-corrected", gateway)["used_usd"]) == pytest.approx(before + 1.25))
    # Whatever is written next takes it off the file.
    assert south.post(FIVE_CENTS, "vk-corrected").status == 200
    eventually(lambda: south.rows("SELECT * FROM corrections") == [])
    eventually(lambda: float(site.used("vk-corrected", 2)["used_usd"]) == pytest.approx(before + 1.30))


def test_the_balancer_leaves_out_a_gateway_that_is_not_ready(site: Site, tmp_path: Path) -> None:
    program = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/sbin")
    if program is None:
        pytest.skip("haproxy is missing: apt install haproxy")
    port = free_port()
    text = prepare("compose-fleet", SiteValues("llm.acme.example", 9090)).files["haproxy.cfg"]
    text = text.replace("bind :9090", f"bind 127.0.0.1:{port}").replace("inter 2s", "inter 100ms")
    for name, gateway in zip(("gateway-a", "gateway-b", "gateway-c"), site.gateways, strict=True):
        text = text.replace(f"{name}:9090", f"127.0.0.1:{gateway.port}")
    (tmp_path / "haproxy.cfg").write_text(text.replace(" resolvers docker init-addr last,libc,none", ""))

    def ask_balancer() -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
        try:
            connection.request("POST", "/v1/messages", FIVE_CENTS, {"content-type": "application/json", "x-api-key": "vk-balanced"})
            answer = connection.getresponse()
            answer.read()
            return answer.status
        finally:
            connection.close()

    def passed() -> list[int]:
        by_node = "SELECT * FROM calls WHERE virtual_key_id = 'vk-balanced' AND node = '{}' AND client_address = '127.0.0.1'"
        return [len(gateway.rows(by_node.format(name))) for name, gateway in zip(NAMES, site.gateways, strict=True)]

    balancer = subprocess.Popen(
        [program, "-f", str(tmp_path / "haproxy.cfg")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        eventually(lambda: listens(port) and ask_balancer() == 200)
        assert [ask_balancer() for _ in range(8)] == [200] * 8
        eventually(lambda: sum(passed()) >= 9)
        assert min(passed()) >= 2
        # One that is killed costs no connection: it is made to another.
        site.gateways[1].stop(signal.SIGKILL)
        assert [ask_balancer() for _ in range(6)] == [200] * 6
        site.gateways[1].start()
    finally:
        balancer.terminate()
        balancer.wait(WAIT_S)


def listens(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def test_a_node_that_stops_gives_everything_back(site: Site) -> None:
    site.gateways[1].post(FIVE_CENTS, "vk-lease")
    site.gateways[1].stop()
    node = site.nodes()["south"]
    assert (node["state"], node["leases"], node["lag"]) == ("left", 0, 0)
    own = {row["id"] for row in site.gateways[1].rows() if row["node"] == "south"}
    assert own
    eventually(lambda: own <= {row["id"] for row in site.gateways[0].rows()})
