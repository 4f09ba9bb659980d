"""The gateway's process is killed, stopped, copied and doubled."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections import Counter
from pathlib import Path

from proving import billing, books
from proving.scene import Broken, Observation, Scene, expect, fault
from proving.traffic import Traffic, call, session, summary
from sluicegate.operations.archive import restore
from sluicegate.operations.archive.backup import make_backup
from support.harness import WAIT_S, Gateway, eventually


@fault(
    "process", "kill -9 at random moments", "every call the provider saw is on record once, its money exact or marked as estimated"
)
def kill(scene: Scene) -> Observation:
    gateway = scene.gateway()
    outcomes: Counter[str] = Counter()
    for number in range(scene.rounds):
        scene.progress(f"round {number + 1} of {scene.rounds}")
        with Traffic(gateway, 6) as traffic:
            time.sleep(scene.chance.uniform(0.05, 0.2 if scene.quick else 0.5))
            gateway.process.kill()
            gateway.process.wait()
        outcomes += traffic.outcomes
        gateway.start()
    interrupted = gateway.rows("SELECT count(*) AS n, sum(cost_nano) AS nano FROM calls WHERE outcome = 'interrupted'")[0]
    scene.balance(gateway)
    return Observation(
        summary(outcomes), f"no call; {interrupted['n']} cut ones are charged {(interrupted['nano'] or 0) / 1e9:.4f} $ by estimate"
    )


def drained(scene: Scene, how: signal.Signals) -> Observation:
    go = threading.Event()
    scene.provider.answer = billing.held(go)
    gateway = scene.gateway()
    streams: list[str] = []
    threads = [threading.Thread(target=lambda: streams.append(call(gateway, stream=True))) for _ in range(12)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(scene.provider.bill) == 12)
    gateway.process.send_signal(how)
    gateway.wait_for("waiting up to")
    new = Counter(call(gateway) for _ in range(5))
    go.set()
    for thread in threads:
        thread.join(WAIT_S)
    code = gateway.exit_code()
    expect(streams == ["200"] * 12, f"streams ended with {Counter(streams)}")
    expect(set(new) == {"503 shutting_down"}, f"new calls got {summary(new)}")
    expect(code == 0, f"it exited with {code}")
    scene.balance(gateway)
    return Observation(f"12 streams whole; new calls {summary(new)}")


@fault("process", "SIGTERM with live streams", "streams end whole, new calls get 503 and come again, nothing stays unsettled")
def terminated(scene: Scene) -> Observation:
    return drained(scene, signal.SIGTERM)


@fault("process", "SIGINT with live streams", "streams end whole, new calls get 503 and come again, nothing stays unsettled")
def interrupted(scene: Scene) -> Observation:
    return drained(scene, signal.SIGINT)


@fault("process", "streams longer than the grace period", "they are cut when it is over and charged for what was delivered")
def impatient(scene: Scene) -> Observation:
    scene.provider.answer = billing.held(threading.Event())
    gateway = scene.gateway(None, "--set", "grace_period=1")
    streams: list[str] = []
    threads = [threading.Thread(target=lambda: streams.append(call(gateway, stream=True))) for _ in range(4)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(scene.provider.bill) == 4)
    began = time.monotonic()
    gateway.process.send_signal(signal.SIGTERM)
    gateway.exit_code()
    took = time.monotonic() - began
    for thread in threads:
        thread.join(WAIT_S)
    expect(took < (WAIT_S if scene.quick else 8), f"it took {took:.1f} s to stop")
    scene.balance(gateway)
    return Observation(f"{summary(Counter(streams))} after {took:.1f} s", "the rest of the streams")


def balances(scene: Scene, gateway: Gateway, place: Path) -> None:
    """Expect that another gateway opens this copy of the state folder and carries a call, and that its books balance."""
    other = Gateway(scene.folder, gateway.policy, "--set", f"state_dir={place}")
    other.state = place
    other.start()
    expect(call(other) == "200", f"a call on {place.name} failed")
    other.stop()
    if wrong := books.check(place, other.policy, None, (), other.output):
        raise Broken(f"{place.name}: {wrong[0]}")


@fault("process", "a copy of the state folder taken mid-write", "a gateway on the copy opens it, and its books balance")
def copied(scene: Scene) -> Observation:
    gateway = scene.gateway()
    copies: list[Path] = []
    with Traffic(gateway, 4 if scene.quick else 6) as traffic:
        for _ in range(2 if scene.quick else 12):
            time.sleep(scene.chance.uniform(0.1, 0.3) if scene.quick else scene.chance.uniform(0.2, 0.6))
            place = scene.folder / f"copy-{len(copies)}"
            place.mkdir()
            for name in ("sluicegate.db", "sluicegate.db-wal", "audit.jsonl", "admin-token"):
                if (gateway.state / name).exists():
                    shutil.copyfile(gateway.state / name, place / name)
            copies.append(place)
    scene.balance(gateway)
    for place in copies:
        balances(scene, gateway, place)
    return Observation(summary(traffic.outcomes), f"nothing; {len(copies)} copies opened")


@fault("process", "backups made under load and put back", "calls do not wait; a gateway on each opens it, and its books balance")
def backed_up(scene: Scene) -> Observation:
    gateway = scene.gateway()
    files: list[Path] = []
    with Traffic(gateway, 4 if scene.quick else 6) as traffic:
        for _ in range(2 if scene.quick else 6):
            time.sleep(scene.chance.uniform(0.1, 0.3))
            files.append(scene.folder / f"backup-{len(files)}.tar.gz")
            make_backup(files[-1], gateway.state, gateway.policy, time.time_ns() // 1_000_000)
    scene.balance(gateway)
    expect(set(traffic.outcomes) == {"200"}, f"clients saw {summary(traffic.outcomes)}")
    for file in files:
        place = scene.folder / f"restored-{file.name}"
        planned = restore.plan(restore.read(file), place, scene.folder / f"{file.name}.yaml", "now")
        restore.restore(file, planned, place, force=False)
        balances(scene, gateway, place)
    return Observation(summary(traffic.outcomes), f"nothing; {len(files)} backups put back")


@fault("process", "a second gateway on the same state folder", "it exits 1 with a line; the first is not disturbed")
def doubled(scene: Scene) -> Observation:
    first = scene.gateway()
    with Traffic(first, 3) as traffic:
        second = Gateway(scene.folder, first.policy, "--set", f"state_dir={first.state}")
        second.start(wait=False)
        code = second.exit_code()
        time.sleep(0.2)
    lines = [x for x in second.output if "another gateway is using the state folder" in x]
    expect(code == 1 and bool(lines), f"exit {code}: {second.output[-3:]}")
    expect(set(traffic.outcomes) == {"200"}, f"clients of the first saw {summary(traffic.outcomes)}")
    expect(call(first, name=session()) == "200", "the first no longer answers")
    scene.balance(first)
    return Observation(summary(traffic.outcomes))
