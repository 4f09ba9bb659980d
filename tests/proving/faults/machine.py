"""The machine fails: disk, locks, clock."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from proving.billing import normal, paced
from proving.scene import Observation, Scene, Skipped, expect, fault
from proving.traffic import KEY_VALUE, Traffic, call, summary
from support.harness import ADDONS, WAIT_S, Gateway, eventually

CLOCK = Path(__file__).parent.parent / "clock.py"


@contextlib.contextmanager
def disk(scene: Scene, size: str) -> Iterator[Path]:
    """Mount a disk of its own. Raises Skipped without the rights to do so."""
    place = scene.folder / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], capture_output=True)
    if made.returncode:
        raise Skipped("needs root to mount a small disk")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def gateway_with_state(scene: Scene, state: Path, *options: str) -> Gateway:
    """Start a gateway with this state folder."""
    gateway = scene.gateway(None, "--set", f"state_dir={state}", *options, start=False)
    gateway.state = state
    return gateway.start()


@fault(
    "machine", "disk full", "calls are refused with 503 and reach no provider; with room again they pass, and no record is missing"
)
def full(scene: Scene) -> Observation:
    with disk(scene, "16m") as place:
        gateway = gateway_with_state(scene, place / "state")
        with Traffic(gateway, 3) as traffic:
            eventually(lambda: traffic.outcomes["200"] > 10)
            filler = place / "filler"
            with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * 4096)
            eventually(lambda: traffic.outcomes["503 gateway_error"] > 20)
            seen = len(scene.provider.bill)
            time.sleep(0.3)
            expect(len(scene.provider.bill) <= seen + 3, "calls reached the provider while nothing could be written")
            filler.unlink()
            good = traffic.outcomes["200"]
            eventually(lambda: traffic.outcomes["200"] > good + 5)
        scene.balance(gateway)
        return Observation(summary(traffic.outcomes))


@fault("machine", "started on a read-only state folder", "it exits 1 and says why")
def started_read_only(scene: Scene) -> Observation:
    with disk(scene, "32m") as place:
        gateway = gateway_with_state(scene, place / "state")
        expect(call(gateway) == "200", "the first call failed")
        gateway.stop()
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        gateway.start(wait=False)
        code = gateway.exit_code()
        subprocess.run(["mount", "-o", "remount,rw", str(place)], check=True)
        reason = next((x for x in gateway.output if x.startswith("sluicegate:")), "nothing")
        expect(code == 1 and "Traceback" not in "\n".join(gateway.output), f"exit {code}: {gateway.output[-3:]}")
        gateway.start()
        scene.balance(gateway)
        return Observation(f"exit 1: {reason.replace(str(place), 'DISK')}")


@contextlib.contextmanager
def unwritable(folder: Path) -> Iterator[None]:
    """Make the folder unwritable for a while, for open files too. Raises Skipped where that is not possible.

    Root ignores file modes, and a disk with files open for writing cannot be remounted read-only.
    """

    def immutable(sign: str) -> bool:
        # SQLite's shared memory is left out: a disk that has turned read-only takes writes to mapped pages that it has
        # mapped before, but writing to those of an immutable file kills the process.
        files = [folder, *(f for f in folder.rglob("*") if not f.name.endswith("-shm"))]
        return subprocess.run(["chattr", f"{sign}i", *files], capture_output=True).returncode == 0

    with (folder / "probe").open("wb", buffering=0) as probe:
        try:
            held = immutable("+")
            with contextlib.suppress(OSError):
                probe.write(b"x")
                held = False
            if not held:
                raise Skipped("needs root and a file system that knows chattr +i, such as ext4")
            yield
        finally:
            immutable("-")
    (folder / "probe").unlink()


@fault(
    "machine",
    "state folder unwritable for a while",
    "calls are refused with 503 and reach no provider, live streams end whole; afterwards all is booked and calls pass",
)
def turned_read_only(scene: Scene) -> Observation:
    gateway = scene.gateway()
    scene.provider.answer = paced(1.5)
    streams: list[str] = []
    threads = [threading.Thread(target=lambda: streams.append(call(gateway, stream=True))) for _ in range(6)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(scene.provider.bill) == 6)
    scene.provider.answer = normal
    with Traffic(gateway, 3) as traffic:
        eventually(lambda: traffic.outcomes["200"] > 10)
        with unwritable(gateway.state):
            eventually(lambda: traffic.outcomes["503 gateway_error"] > 20)
            seen = len(scene.provider.bill)
            # Housekeeping, which runs every two seconds, meets the error as well.
            time.sleep(2.5)
            for thread in threads:
                thread.join(WAIT_S)
            expect(len(scene.provider.bill) == seen, "calls reached the provider while nothing could be written")
            expect(gateway.request("GET", "/health").json["status"] == "degraded", "/health calls it well")
            refused = gateway.post(key=KEY_VALUE)
            expect("cannot" in refused.message, f"refused with: {refused.message}")
        good = traffic.outcomes["200"]
        eventually(lambda: traffic.outcomes["200"] > good + 5)
        expect(gateway.request("GET", "/health").json["status"] == "ok", "/health still calls it degraded")
    expect(streams == ["200"] * 6, f"live streams ended as {streams}")
    scene.balance(gateway)
    return Observation(f"6 live streams whole; {summary(traffic.outcomes)}")


@fault("machine", "database locked by another process", "calls get 503 within a moment, the loop goes on, afterwards they pass")
def locked(scene: Scene) -> Observation:
    gateway = scene.gateway()
    with Traffic(gateway, 3) as traffic:

        def refused() -> int:
            return traffic.outcomes["503 gateway_error"]

        eventually(lambda: traffic.outcomes["200"] > 10)
        other = sqlite3.connect(gateway.state / "sluicegate.db", isolation_level=None, timeout=WAIT_S)
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        slowest = 0.0
        while (passed := time.monotonic() - began) < (0.3 if scene.quick else 3.0) or (not refused() and passed < WAIT_S):
            asked = time.monotonic()
            expect(gateway.request("GET", "/health").status == 200, "/health did not answer")
            slowest = max(slowest, time.monotonic() - asked)
            time.sleep(0.02)
        other.execute("ROLLBACK")
        other.close()
        good = traffic.outcomes["200"]
        eventually(lambda: traffic.outcomes["200"] > good + 5)
    expect(refused() > 0, "no call was refused while the lock was held")
    # A loop that waited for the lock would not answer before it is released below.
    expect(slowest < (10 if scene.quick else 1), f"/health took {slowest:.2f} s")
    scene.balance(gateway)
    return Observation(f"{summary(traffic.outcomes)}; /health within {slowest * 1000:.0f} ms")


@fault("machine", "last line of audit.jsonl half written", "the torn line is cut and the call written again from the database")
def torn(scene: Scene) -> Observation:
    gateway = scene.gateway()
    with Traffic(gateway, 3):
        eventually(lambda: len(scene.provider.bill) > 20)
    gateway.stop()
    journal = gateway.state / "audit.jsonl"
    os.truncate(journal, journal.stat().st_size - 97)
    # As after a crash: no agreement of the two is noted.
    with sqlite3.connect(gateway.state / "sluicegate.db") as conn:
        conn.execute("DELETE FROM meta")
    conn.close()
    gateway.start()
    scene.balance(gateway)
    return Observation("nothing")


@fault(
    "machine",
    "audit.jsonl rotated, SIGHUP and kill -9",
    "each call stands in exactly one of the files, and is charged exactly once",
)
def rotated(scene: Scene) -> Observation:
    gateway = scene.gateway()
    outcomes: Counter[str] = Counter()
    journal = gateway.state / "audit.jsonl"
    for number in range(2 if scene.quick else 4):
        with Traffic(gateway, 4) as traffic:
            good = traffic.outcomes["200"]
            eventually(lambda: traffic.outcomes["200"] > good + 10)  # noqa: B023
            old = journal.with_name(f"audit.jsonl.{number}")
            if number % 2:
                shutil.copyfile(journal, old)
                os.truncate(journal, 0)
            else:
                journal.rename(old)
                gateway.process.send_signal(signal.SIGHUP)
            eventually(lambda: traffic.outcomes["200"] > good + 20)  # noqa: B023
            gateway.process.kill()
            gateway.process.wait()
        outcomes += traffic.outcomes
        gateway.start()
    scene.balance(gateway)
    return Observation(summary(outcomes), f"no line of {len(gateway.rows())} in {len(list(gateway.state.glob('audit*')))} files")


def clocked(scene: Scene, start: datetime, budgets: dict[str, object]) -> tuple[Gateway, Path]:
    """Return a gateway whose clock shows ``start`` plus what a file says, and that file."""
    offset = scene.folder / "offset"
    offset.write_text(str(int(start.timestamp() * 1000) - time.time_ns() // 1_000_000))
    key = {"id": "vk-chaos", "value": "sk-vk-7c1b0f3a-the-secret-of-the-virtual-key", "budget": budgets}
    policy = scene.policy(customers=[], teams=[], users=[], virtual_keys=[key])
    gateway = scene.gateway(policy, scripts=(ADDONS / "gateway.py", CLOCK), env={"SLUICEGATE_TEST_CLOCK": str(offset)}, start=False)
    return gateway.start(), offset


def jump(offset: Path, hours: float) -> None:
    """Move the gateway's clock."""
    fresh = offset.with_suffix(".new")
    fresh.write_text(str(int(offset.read_text()) + int(hours * 3_600_000)))
    fresh.rename(offset)


def used(gateway: Gateway) -> float:
    """Return the dollars the key has used in the present window."""
    return gateway.used("virtual_key/vk-chaos")


@fault(
    "machine", "clock runs an hour ahead and is corrected", "what was spent meanwhile counts; nothing is given back or locked up"
)
def hour(scene: Scene) -> Observation:
    gateway, offset = clocked(scene, datetime(2026, 11, 10, 12, 30, tzinfo=UTC), {"max_limit": 500, "reset_duration": "1h"})
    seen = [call(gateway) for _ in range(3)]
    first = used(gateway)
    jump(offset, 1)
    seen += [call(gateway) for _ in range(3)]
    expect(0 < used(gateway) < first * 50, "the next hour's window is not its own")
    ahead = used(gateway)
    jump(offset, -1)
    expect(abs(used(gateway) - first - ahead) < 1e-9, f"back again the hour has used {used(gateway)}, not {first + ahead}")
    seen += [call(gateway) for _ in range(3)]
    expect(set(seen) == {"200"}, f"clients saw {seen}")
    gateway.stop()
    return Observation("9x 200")


@fault(
    "machine",
    "clock jumps over a month's end, and back",
    "a new month begins at its first moment; coming back, the old month's spending is there",
)
def month(scene: Scene) -> Observation:
    budget = {"max_limit": 500, "reset_duration": "1M", "calendar_aligned": True, "timezone": "Europe/Berlin"}
    gateway, offset = clocked(scene, datetime(2026, 11, 30, 22, 40, tzinfo=UTC), budget)
    seen = [call(gateway) for _ in range(3)]
    november = used(gateway)
    jump(offset, 0.5)
    expect(used(gateway) == 0, "December began with November's spending")
    seen += [call(gateway) for _ in range(2)]
    december = used(gateway)
    jump(offset, -0.5)
    expect(abs(used(gateway) - november - december) < 1e-9, "November's spending is lost")
    gateway.stop()
    gateway.start()
    expect(abs(used(gateway) - november - december) < 1e-9, "November's spending is lost in a restart")
    expect({*seen, call(gateway)} == {"200"}, f"clients saw {seen}")
    gateway.stop()
    return Observation("6x 200")


@fault(
    "machine",
    "clock passes a change to and from summer time",
    "a calendar day ends at local midnight, 23 or 25 hours after it began",
)
def summer_time(scene: Scene) -> Observation:
    budget = {"max_limit": 500, "reset_duration": "1d", "calendar_aligned": True, "timezone": "Europe/Berlin"}
    # 25 October 2026 has 25 hours in Berlin: 24 October 22:00 UTC to 25 October 23:00 UTC.
    gateway, offset = clocked(scene, datetime(2026, 10, 24, 22, 5, tzinfo=UTC), budget)
    seen = [call(gateway)]
    first = used(gateway)
    jump(offset, 24.7)
    expect(used(gateway) == first, "the day of 25 hours ended an hour early")
    jump(offset, 0.3)
    expect(used(gateway) == 0, "the day of 25 hours did not end")
    seen.append(call(gateway))
    expect(set(seen) == {"200"}, f"clients saw {seen}")
    gateway.stop()
    return Observation("2x 200")
