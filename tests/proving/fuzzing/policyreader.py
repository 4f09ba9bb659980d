"""A process that reads policies, so that one that crashes, hangs or floods it is a finding and does not end the run."""

from __future__ import annotations

import math
import os
import pickle
import resource
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import IO, Any

from support.harness import ADDONS, ROOT

Files = dict[str, bytes]
"""A policy on disk, by file name; one file, or several as a folder."""

CPU_LIMIT_S = 5
"""Seconds of CPU a policy of a few hundred lines may take; it is read in milliseconds."""

HANG_TIMEOUT_S = 60.0
"""Seconds after which a reader that uses no CPU is given up."""

MEMORY = 1 << 30

NOW = 1_790_000_000_000


class PolicyReader:
    """A client of the process; a dead process is replaced at the next request."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def read(self, files: Files) -> dict[str, Any]:
        """Return ``{"policy": revision}``, ``{"problems": [...]}`` or ``{"raised": traceback}``. Raises AssertionError if it died or hung."""
        process = self._process
        if process is None:
            command = [sys.executable, "-m", "proving.fuzzing.policyreader", str(self.folder)]
            process = self._process = subprocess.Popen(
                command,
                env=os.environ | {"PYTHONPATH": os.pathsep.join((str(ADDONS), str(ROOT / "tests")))},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        assert process.stdin is not None
        assert process.stdout is not None
        hung = threading.Timer(HANG_TIMEOUT_S, process.kill)
        hung.start()
        try:
            put(process.stdin, files)
            answer: dict[str, Any] = get(process.stdout)
        except (OSError, EOFError) as e:
            self._process = None
            process.kill()
            code = process.wait()
            if code == -signal.SIGXCPU:
                how = f"had not been read after {CPU_LIMIT_S} s of CPU"
            else:
                how = "left its reader waiting" if hung.finished.is_set() else f"ended its reader with status {code}"
            raise AssertionError(f"a policy {how}") from e
        finally:
            hung.cancel()
        return answer

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def put(pipe: IO[bytes], what: object) -> None:
    """Send a value."""
    data = pickle.dumps(what)
    pipe.write(struct.pack("!Q", len(data)) + data)
    pipe.flush()


def get(pipe: IO[bytes]) -> Any:
    """Receive a value. Raises EOFError."""
    head = pipe.read(8)
    if len(head) < 8:
        raise EOFError
    return pickle.loads(pipe.read(struct.unpack("!Q", head)[0]))


def answer(folder: Path, files: Files) -> dict[str, Any]:
    """Read a policy and use all of it once: what was accepted must serve."""
    from sluicegate.policy.loader import PolicyError, load

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    began = time.monotonic()
    if "prices.yaml" in files:
        return priced(files["prices.yaml"])
    try:
        policy = load(folder / next(iter(files)) if len(files) == 1 else folder, env={"SET": "sk-from-env"}, now=NOW)
        used(policy)
    except PolicyError as e:
        return {"problems": [str(p) for p in e.problems], "seconds": time.monotonic() - began}
    except BaseException:
        return {"raised": traceback.format_exc()}
    return {"policy": policy.revision, "shown": f"{policy!r} {policy.warnings}", "seconds": time.monotonic() - began}


def priced(data: bytes) -> dict[str, Any]:
    """Read a price file and price calls by it."""
    from sluicegate.pricing.prices import PriceError, Prices, read_prices
    from sluicegate.values import MAX_COST_NANO, Usage

    try:
        prices = Prices(read_prices(data, "prices.yaml"))
    except PriceError as e:
        return {"problems": str(e).splitlines()}
    except BaseException:
        return {"raised": traceback.format_exc()}
    many = 1 << 39
    large = Usage(many, many, many, many, many, many, speed="fast", service_tier="batch", inference_geo="us")
    try:
        for usage in (Usage(1, 1, 1, 1, 1, 1), large):
            for at in (0, NOW):
                for cost in (prices.cost(usage, "claude-a", at), prices.max_cost(usage, "claude-a", at)):
                    assert cost is None or 0 <= cost <= MAX_COST_NANO
            prices.context_window("claude-a", at), prices.max_output("claude-a")
    except BaseException:
        return {"raised": traceback.format_exc()}
    return {"policy": "prices"}


def used(policy: Any) -> None:
    """Use a policy in every way a gateway does."""
    from sluicegate.calls.refusal import budget_message, rate_message
    from sluicegate.limits.ledger import Ledger
    from sluicegate.limits.usage import usage_rows
    from sluicegate.windows import window

    limits = policy.all_limits()
    for limit in limits:
        resets_at = None if limit.period is None else window(limit.period, NOW, NOW)[1]
        if limit.unit == "usd":
            budget_message(limit, limit.maximum, None, resets_at)
        else:
            rate_message(limit, limit.maximum, retry_after=1)
    usage_rows(policy, Ledger(), NOW)
    for key in policy.virtual_keys.values():
        who = policy.principal_of(key, "alice")
        key.refusal(NOW)
        for provider in policy.providers:
            policy.limits(who, provider, "claude-opus-5-5")
            policy.model_access(who, provider, "claude-opus-5-5")
    for host in ("api.anthropic.com", "127.0.0.1", "", "."):
        policy.provider_of_host(host, 443)
    assert policy.provider_of_host("") is None, "a request for no host at all is a provider's"
    for provider in policy.providers.values():
        assert provider.host, "a provider without a host"


def serve(folder: Path) -> None:
    """Answer requests until the pipe is closed."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while True:
        try:
            files = get(sys.stdin.buffer)
        except EOFError:
            return
        used_s = math.ceil(time.process_time())
        resource.setrlimit(resource.RLIMIT_CPU, (used_s + CPU_LIMIT_S, resource.RLIM_INFINITY))
        put(sys.stdout.buffer, answer(folder, files))


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
