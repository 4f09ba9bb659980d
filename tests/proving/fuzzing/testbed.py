"""One gateway under fuzz: inputs are played in parallel, and after each batch every invariant must still hold."""

from __future__ import annotations

import hashlib
import re
import signal
import socket
import ssl
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from proving import books
from proving.elsewhere import ELSEWHERE
from proving.fuzzing.recording_provider import ReceivedRequest, RecordingProvider
from support.harness import ADDONS, PROVIDER_KEY, Gateway, ask, eventually, policy_text

KEYS = {
    "vk-soft": "sk-vk-1d5c-secret-of-the-soft-key",
    "vk-hard": "sk-vk-2e6d-secret-of-the-hard-key",
    "vk-narrow": "sk-vk-3f7e-secret-of-the-narrow-key",
    "vk-off": "sk-vk-408f-secret-of-the-inactive-key",
    "vk-old": "sk-vk-5190-secret-of-the-expired-key",
}
"""Virtual keys of every kind, and their values."""

FORMER = {"vk-gone": "sk-vk-62a1-secret-of-the-deleted-key"}
"""A virtual key that was in force once, and its value."""

KEY = KEYS["vk-soft"]

SETTLE_TIMEOUT_S = RECORD_TIMEOUT_S = 60.0
"""Seconds for what should take a moment, calls to be over and records to be written: the machine may be busy."""

HEAD = re.compile(rb"HTTP/1\.[01] (\d{3})[^\r\n]*\r\n((?:[^\r\n]+\r\n)*)\r\n")
"""The head of an answer."""

UNREACHED = ((502, b"provider_unreachable"), (502, b"blocked_by_policy"))
"""The only 5xx of ours that an input may cause."""

Row = dict[str, Any]

Send = Callable[[str], bytes]
"""Plays one input under a session; returns all that came back."""


def policy(port: int, other: int, values: Mapping[str, str] = KEYS) -> str:
    """Return a policy with soft and hard budgets that are never reached, and keys of every kind; unpriced models pass.

    ``values`` has the values of its virtual keys.
    """
    urls = {"anthropic": f"http://127.0.0.1:{port}", "openai": f"http://localhost:{port}", "gemini": f"http://127.0.0.1:{other}"}
    providers = {n: {"base_url": url, "keys": [{"name": "key-1", "value": "env.PROVIDER_KEY"}]} for n, url in urls.items()}
    budget = {"max_limit": 900_000_000, "reset_duration": "1M"}
    rate = {"request_max_limit": 10**9, "request_reset_duration": "1h", "token_max_limit": 10**15, "token_reset_duration": "1h"}
    own: dict[str, dict[str, Any]] = {
        "vk-soft": {"budget": budget},
        "vk-hard": {"budget": budget | {"enforcement": "hard"}, "rate_limit": rate},
        "vk-narrow": {"provider_configs": [{"provider": "anthropic", "allowed_models": ["claude-haiku-*"]}]},
        "vk-off": {"is_active": False},
        "vk-old": {"expires_at": "2020-01-01T00:00:00Z"},
    }
    keys = [
        {
            "id": n,
            "value_hash": f"sha256:{hashlib.sha256(v.encode()).hexdigest()}",
            "team_id": "team-engineering",
            "user_id": "alice",
        }
        | own.get(n, {})
        for n, v in values.items()
    ]
    return policy_text(
        providers=providers,
        customers=[{"id": "customer-acme", "budget": budget}],
        teams=[{"id": "team-engineering", "customer_id": "customer-acme", "budget": budget}],
        users=[{"id": "alice", "team_id": "team-engineering", "budget": budget}],
        virtual_keys=keys,
        egress={"allow": [ELSEWHERE], "deny": ["*.denied.test"]},
        unpriced="fallback",
        fallback_price={"input": 5, "output": 25},
    )


class Trap:
    """An address that belongs to no provider: no input may make the gateway dial it."""

    def __init__(self) -> None:
        self.caught = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                conn, _ = self._listener.accept()
            except OSError:
                return
            self.caught += 1
            conn.close()

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()


class Testbed:
    """A gateway, the provider behind it, and the trap."""

    def __init__(self, folder: Path, chain: Path = ADDONS / "gateway.py") -> None:
        values = (KEYS | FORMER).values()
        self.provider = RecordingProvider(secrets=tuple(values))
        # Providers are told apart by address, so three of them need two ports.
        self.other = RecordingProvider(secrets=tuple(values), bill=self.provider.bill, wrong=self.provider.wrong, anthropic=False)
        self.trap = Trap()
        ports = self.provider.port, self.other.port
        self.gateway = Gateway(folder, policy(*ports, KEYS | FORMER), scripts=[chain]).start()
        self.gateway.govern(policy(*ports))
        self.gateway.wait_for("is in force and replaces")
        self.tls = ssl.create_default_context(cafile=str(self.gateway.ca))
        self.secrets = (PROVIDER_KEY, self.gateway.token, *values)
        self.sent: set[str] = set()
        self.checked: set[str] = set()
        """Sessions, one per input: all of them, and those whose books have been checked."""
        self.last_row = self.nameless = self.lines = 0
        """How far records, records without a session, and output have been checked."""
        self._pool = ThreadPoolExecutor(8)

    def play(self, sends: Sequence[Send]) -> tuple[list[bytes], list[Row | None]]:
        """Play inputs in parallel, then check everything that must hold.

        Returns what came back for each, and the record of each that has one. Raises AssertionError.
        """
        names = [self.session() for _ in sends]
        answers = list(self._pool.map(lambda send, name: send(name), sends, names))
        for answer in answers:
            self.check_answer(answer)
        status = self.make_call(self.session())
        assert status == 200, f"afterwards a normal call got {status}"
        by_name = {r["session_id"]: r for r in self.check_records()}
        return answers, [by_name.get(n) for n in names]

    def session(self) -> str:
        """Return a name for one input, which the gateway records and the provider sees."""
        name = f"fuzz-{uuid.uuid4().hex}"
        self.sent.add(name)
        return name

    def make_call(self, name: str) -> int:
        """Make a normal call; return its status."""
        return self.gateway.post(ask(), KEY, x_claude_code_session_id=name).status

    def wait_until_idle(self, timeout_s: float) -> None:
        """Wait until nothing is in flight. Raises AssertionError."""
        eventually(lambda: self.gateway.admin("/health").json["ledger"]["reservations"] == 0, timeout_s)

    def check_answer(self, answer: bytes) -> None:
        """Check that what came back to a client holds no secret, and no 5xx that is ours by mistake. Raises AssertionError."""
        for secret in (PROVIDER_KEY, self.gateway.token):
            assert secret.encode() not in answer, f"a client was sent the secret {secret[:6]}...: {answer[:300]!r}"
        for found in HEAD.finditer(answer):
            if int(found[1]) >= 500:
                reason = re.search(rb"(?m)^x-sluicegate-reason: (\w+)", found[2])
                assert (int(found[1]), reason and reason[1]) in UNREACHED, f"a client got {answer[:400]!r}"

    def check_records(self) -> list[Row]:
        """Wait until nothing is in flight, then compare what the provider saw with what is on record.

        Returns the records that are new. Raises AssertionError.
        """
        self.wait_until_idle(SETTLE_TIMEOUT_S)
        deadline = time.monotonic() + RECORD_TIMEOUT_S
        while True:
            # In this order: the provider has seen a call before it is recorded as answered.
            rows = self.new_rows()
            with self.provider.lock:
                seen = {s: list(e) for s, e in self.provider.bill.items() if s and s not in self.checked}
                nameless = len(self.provider.bill.get("", ()))
            if seen.keys() <= {r["session_id"] for r in rows} or time.monotonic() > deadline:
                break
            time.sleep(0.01)
        wrong = [f"the provider saw {s}, which nobody sent" for s in seen.keys() - self.sent]
        wrong += compare_bill(seen, [r for r in rows if r["session_id"] not in self.checked])
        wrong += [f"{r['id']} has no virtual key" for r in rows if r["virtual_key_id"] is None]
        wrong += [
            w
            for r in rows
            for e in seen.get(r["session_id"], ())
            if isinstance(e, ReceivedRequest) and (w := misread_by_gateway(r, e))
        ]
        # Some inputs lose their session on the way: at least there must be as many records as requests seen.
        recorded = self.nameless + sum(r["session_id"] is None and r["outcome"] != "denied" for r in rows)
        wrong += [f"the provider saw {nameless} requests without a session, {recorded} are on record"] * (nameless > recorded)
        wrong += self.provider.take_reports()
        wrong += ["an address was dialled that belongs to no provider"] * self.trap.caught
        wrong += self.alarming_output()
        assert not wrong, "; ".join(wrong[:3])
        self.checked |= seen.keys()
        self.nameless = recorded
        self.last_row = max((r["rowid"] for r in rows), default=self.last_row)
        return rows

    def new_rows(self) -> list[Row]:
        """Return the records that have not been checked."""
        return self.gateway.rows(f"SELECT rowid, * FROM calls WHERE rowid > {self.last_row}")

    def alarming_output(self) -> list[str]:
        """Return what the gateway has printed since it was last asked, and should not have."""
        # The lines are in the pipe; their reader needs a moment.
        time.sleep(0.01)
        lines = self.gateway.output[self.lines :]
        self.lines += len(lines)
        return books.alarming_output(self.secrets, lines)

    def is_usable(self) -> bool:
        """Return whether more can be played here after a broken promise; its leftovers are skipped."""
        name = self.session()
        try:
            good = self.make_call(name) == 200
            self.wait_until_idle(SETTLE_TIMEOUT_S)
            eventually(lambda: name in {r["session_id"] for r in self.new_rows()}, RECORD_TIMEOUT_S)
            rows = self.new_rows()
        except Exception:
            return False
        with self.provider.lock:
            self.checked |= self.provider.bill.keys()
            self.nameless = len(self.provider.bill.get("", ()))
        self.last_row = max((r["rowid"] for r in rows), default=self.last_row)
        self.provider.take_reports()
        self.alarming_output()
        self.trap.caught = 0
        return good

    def balance(self) -> None:
        """Check the books as a whole, files included. Raises AssertionError."""
        gateway = self.gateway
        with self.provider.lock:
            bill = {s: list(e) for s, e in self.provider.bill.items() if s}
        wrong = books.check(gateway.state, gateway.policy, None, self.secrets, list(gateway.output))
        wrong += compare_bill(bill, gateway.rows())
        assert not wrong, "in the end: " + "; ".join(wrong[:3])

    def close(self) -> None:
        """End everything."""
        self.gateway.stop(signal.SIGKILL)
        self.provider.close()
        self.other.close()
        self.trap.close()
        self._pool.shutdown(wait=False, cancel_futures=True)


def compare_bill(bill: dict[str, list[Any]], rows: list[Row]) -> list[str]:
    """Return what is wrong with records, compared with the provider's bill."""
    own = {s for s, entries in bill.items() if not all(getattr(e, "billed", True) for e in entries)}
    billed = {s: entries for s, entries in bill.items() if s not in own}
    wrong = books.against_bill([r for r in rows if r["session_id"] and r["session_id"] not in own], billed)
    count = Counter(r["session_id"] for r in rows)
    return wrong + [f"{s} was seen {len(bill[s])} times and is {count[s]} times on record" for s in own if count[s] != len(bill[s])]


def misread_by_gateway(row: Row, seen: ReceivedRequest) -> str | None:
    """Return how the gateway read a request differently from the provider, if it did."""
    if row["path"] != seen.path[:512]:
        return f"{row['id']} was judged as a request for {row['path']!r}, and the provider was sent {seen.path!r}"
    mine, theirs = (row["model_requested"], bool(row["stream"])), (seen.body.get("model"), seen.body.get("stream") is True)
    if not seen.call or not seen.body or mine == theirs:
        return None
    return f"{row['id']} was judged as {mine}, and the provider read {theirs}"
