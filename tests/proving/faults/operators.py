"""Operators edit the policy while everybody works."""

from __future__ import annotations

import json
import os
import threading
import time

from proving import billing
from proving.scene import Observation, Scene, expect, fault
from proving.traffic import KEY, KEY_VALUE, Traffic, call, summary
from support.harness import WAIT_S, Gateway, eventually
from support.processor import ProcessorWait, process_s


def revision(gateway: Gateway) -> str:
    """Return the policy in force."""
    return str(gateway.admin("/health").json["policy"]["revision"])


@fault(
    "operators",
    "a storm of edits, a third of them broken",
    "no call is refused for it; after a broken edit the last good policy serves",
)
def edits(scene: Scene) -> Observation:
    gateway = scene.gateway()
    good = gateway.policy.read_text()
    first = revision(gateway)
    count = 12 if scene.quick else 200
    with Traffic(gateway, 4) as traffic:
        for number in range(count):
            text = (
                good.replace('"version": 1', f'"version": 1, "required_headers": []\n# {number}\n')
                if number % 2
                else good + f"\n# {number}\n"
            )
            if number % 3 == 2:
                text = scene.chance.choice(
                    [text[: len(text) // 2], text.replace('"budget"', '"budgte"', 1), "\t", "", "version: 2\n"]
                )
            if number % 2:
                gateway.policy.write_text(text)
            else:
                fresh = gateway.policy.with_suffix(".new")
                fresh.write_text(text)
                fresh.rename(gateway.policy)
            time.sleep(0.02)
        gateway.policy.write_text(good + "\n# the last\n")
        eventually(lambda: gateway.request("GET", "/health").json["status"] == "ok")
        eventually(lambda: revision(gateway) != first)
    expect(set(traffic.outcomes) == {"200"}, f"clients saw {summary(traffic.outcomes)}")
    scene.balance(gateway)
    return Observation(f"{summary(traffic.outcomes)} during {count} edits")


@fault("operators", "10,000 virtual keys reloaded", "in force within a second of the file's being there, without a refused call")
def many_keys(scene: Scene) -> Observation:
    gateway = scene.gateway()
    policy = json.loads(gateway.policy.read_text())
    policy["virtual_keys"] += [
        {
            "id": f"vk-{i}",
            "value_hash": f"sha256:{i:064x}",
            "team_id": "team-engineering",
            "budget": {"max_limit": 50, "reset_duration": "1M"},
        }
        for i in range(1_000 if scene.quick else 10_000)
    ]
    before = revision(gateway)
    fresh = gateway.policy.with_suffix(".new")
    fresh.write_text(json.dumps(policy))
    with Traffic(gateway, 1) as traffic:
        eventually(lambda: traffic.outcomes["200"] > 2)
        waited, began, spent = ProcessorWait(gateway.process.pid), time.monotonic(), process_s(gateway.process.pid)
        fresh.rename(gateway.policy)
        eventually(lambda: revision(gateway) != before)
        # The short form may run beside anything.
        took = process_s(gateway.process.pid) - spent if scene.quick else time.monotonic() - began - waited.seconds
        time.sleep(0.2)
    expect(set(traffic.outcomes) == {"200"}, f"clients saw {summary(traffic.outcomes)}")
    limit = 5.0 if scene.quick else 1.1
    expect(took < limit, f"it took {took:.2f} s, of which at most 0.1 s until it was noticed")
    scene.balance(gateway)
    return Observation(f"{summary(traffic.outcomes)}; in force after {took:.2f} s")


@fault("operators", "symlinks swapped as Kubernetes does", "each swap is in force within a second, without a refused call")
def symlinks(scene: Scene) -> Observation:
    place = scene.folder / "config"
    place.mkdir()
    text = scene.policy()

    def publish(number: int) -> None:
        folder = place / f"..{number}"
        folder.mkdir()
        (folder / "policy.yaml").write_text(f"{text}\n# {number}\n")
        (place / "..new").symlink_to(folder.name)
        os.replace(place / "..new", place / "..data")

    publish(0)
    (place / "policy.yaml").symlink_to("..data/policy.yaml")
    gateway = scene.gateway(place / "policy.yaml")  # type: ignore[arg-type]
    slowest = 0.0
    with Traffic(gateway, 2) as traffic:
        for number in range(1, 4 if scene.quick else 9):
            before = revision(gateway)
            began = time.monotonic()
            publish(number)
            eventually(lambda before=before: revision(gateway) != before)
            slowest = max(slowest, time.monotonic() - began)
    expect(set(traffic.outcomes) == {"200"}, f"clients saw {summary(traffic.outcomes)}")
    expect(slowest < (WAIT_S if scene.quick else 1), f"a swap took {slowest:.2f} s")
    scene.balance(gateway)
    return Observation(f"{summary(traffic.outcomes)}; in force within {slowest:.2f} s")


@fault("operators", "a key is revoked while its stream runs", "the stream ends whole, the next call gets 401")
def revoked(scene: Scene) -> Observation:
    scene.provider.answer = billing.paced(0.8 if scene.quick else 1.0)
    gateway = scene.gateway()
    good = json.loads(gateway.policy.read_text())
    saw: list[str] = []
    stream = threading.Thread(target=lambda: saw.append(call(gateway, stream=True)))
    stream.start()
    eventually(lambda: scene.provider.bill)
    before = revision(gateway)
    good["virtual_keys"] = [{"id": KEY, "value": KEY_VALUE, "is_active": False}]
    gateway.policy.write_text(json.dumps(good))
    eventually(lambda: revision(gateway) != before)
    refused = call(gateway)
    stream.join(WAIT_S)
    expect(saw == ["200"], f"the stream ended with {saw}")
    expect(refused == "401 virtual_key_blocked", f"the next call got {refused}")
    gateway.stop()
    return Observation(f"1x 200, 1x {refused}")
