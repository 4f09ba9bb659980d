"""Housekeeping: the write-ahead log does not grow without end."""

from __future__ import annotations

import os
import threading
import time

from sluicegate.services import Services
from sluicegate.storage.housekeeping import checkpoint
from support.calls import record


def test_the_log_of_writes_begins_anew_though_calls_go_on(tmp_path):
    policy = tmp_path / "policy.yaml"
    policy.write_text("version: 1\n")
    services = Services(policy, tmp_path / "state", {})
    over, written = threading.Event(), []

    def write():
        pause = 0.002
        while not over.wait(pause):
            services.writer.rows.calls.append(record(f"call_{len(written)}", path="x" * 20_000))
            services.writer.flush()
            written.append(wal.stat().st_size)
            # A checkpoint waits for the disk. What is tested is that calls go on, not that they are faster than a busy disk.
            began = time.perf_counter()
            with wal.open("rb") as file:
                os.fsync(file.fileno())
            pause = max(0.002, 1.5 * (time.perf_counter() - began))

    wal = tmp_path / "state" / "sluicegate.db-wal"
    writer = threading.Thread(target=write)
    writer.start()
    try:
        for rounds in range(1, 41):
            while len(written) < rounds * 50 and writer.is_alive():
                over.wait(0.001)
            if rounds > 6 and written[-1] < len(written) * 10_000:
                break
            checkpoint(services.store.path)
    finally:
        over.set()
        writer.join()
        services.close()
    assert written[-1] < len(written) * 10_000
