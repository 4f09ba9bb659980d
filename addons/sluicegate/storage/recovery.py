"""Recovery: what a crash left half-done is completed before the first call, from the database and the journal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache

from sluicegate.calls.adjustment import from_line, line_of, repeat
from sluicegate.calls.limit_checks import charged_windows
from sluicegate.calls.record import Record
from sluicegate.calls.settlement import recorded_amounts
from sluicegate.limits.ledger import Ledger
from sluicegate.policy.limit import ALIGNED, Limit, counter_name
from sluicegate.storage.journal import Journal
from sluicegate.storage.journal_files import Place, Tail, end_place, records_after, records_in_other_files
from sluicegate.storage.store import AGREED_ADJUSTMENT, AGREED_CALL, DELETED_BEFORE_MS, Rows, Store
from sluicegate.values import Outcome
from sluicegate.windows import iso, parse_iso

MAX_TORN_ROWS = 1000
"""Rows that are compared with the journal's lines where its end is torn."""


def recover(store: Store, journal: Journal, ledger: Ledger, limits: Callable[[], Iterable[Limit]] = tuple) -> dict[str, int]:
    """Complete what a crash left half-done, before the first call. Return counts by what was done.

    A journal line without a row is a settlement or an adjustment that the database missed: it is charged now, in the order of
    the lines. Where the database does not know the call at all, because it is a copy that is older than the journal beside it,
    the call is charged to the counters that its limit checks name; ``limits`` are the policy's. A reservation left after that
    is a call cut off midway: it is charged what its draft says and put on record as ``interrupted``. A row without a
    line gets its line, unless the file that may have it is gone: then it stays without. Each step is idempotent, so a crash
    during recovery is only another crash.
    """
    tail = records_after(journal.path, Place(store.read_meta("journal_offset"), store.read_meta("journal_fingerprint")))
    lines = {r["id"]: r for r in tail.records}
    elsewhere: dict[str, Record] = {}
    if not tail.found and (ledger.open or journal.torn_bytes):
        elsewhere = {r["id"]: r for r in records_in_other_files(journal.path)}
        # Where the last agreed place is gone, older files are not searched for calls, because retention may have removed them
        # from the table. A call whose reservation is open was never in the table, though, and its line may stand in any file.
        lines = {i: r for i, r in elsewhere.items() if i in ledger.open} | lines
    lines = _without_deleted(lines, tail, ledger, iso(store.read_meta(DELETED_BEFORE_MS)))
    known = store.known(lines) | store.known(lines, "adjustments")
    # Only a copied database needs it, and then for many records of a policy with thousands of limits.
    limits_by_name = cache(lambda: {limit.counter.partition(ALIGNED)[0]: limit for limit in limits()})
    missed, adjusted = [], []
    for record in (r for i, r in lines.items() if i not in known):
        adjustment = from_line(record)
        if adjustment is None:
            missed.append(record)
            if tail.found and record["id"] not in ledger.open:
                _charge_unknown(ledger, record, limits_by_name())
            _settle(ledger, record)
        else:
            adjusted.append(adjustment)
            repeat(ledger, adjustment)

    _restore_corrections(store, ledger)
    drafts = store.drafts()
    interrupted = []
    for call_id in list(ledger.open):
        draft = drafts.get(call_id) or {}
        if "id" in draft:
            draft |= {"outcome": Outcome.INTERRUPTED.value, "estimated": 1, "latency_ms": None}
            interrupted.append(draft)
            _settle(ledger, draft)
        else:
            ledger.release(call_id)
    rewritten, unlisted = [], []
    if tail.found or journal.torn_bytes:
        # If the journal's own last line was cut, the agreed place is gone with it and not with a whole file.
        since = store.read_meta(AGREED_CALL) - (0 if tail.found else MAX_TORN_ROWS)
        rewritten = [r for r in store.rows_since(max(0, since)) if r["id"] not in lines and r["id"] not in elsewhere]
    if tail.found:
        unlisted = [a for a in store.adjustments_since(store.read_meta(AGREED_ADJUSTMENT)) if a["id"] not in lines]
    for record in (*rewritten, *map(line_of, unlisted), *interrupted):
        journal.append(record)
    store.write(ledger.take_changes(), Rows([*missed, *interrupted], adjustments=adjusted))
    note_agreement(store, journal)
    return {"torn_bytes": journal.torn_bytes, "replayed": len(missed), "interrupted": len(interrupted), "rewritten": len(rewritten)}


def note_agreement(store: Store, journal: Journal) -> None:
    """Note up to where journal and table agree, so that the next start need not compare them again. Raises StoreError.

    For the moment after a flush, with no line in the journal's backlog.
    """
    place = end_place(journal.path)
    numbers = {AGREED_CALL: store.last_rowid(), AGREED_ADJUSTMENT: store.last_rowid("adjustments")}
    store.write_meta(journal_offset=place.offset, journal_fingerprint=place.fingerprint, **numbers)


def _restore_corrections(store: Store, ledger: Ledger) -> None:
    """Let corrections go to the store that several gateways share which it may not have yet."""
    if ledger.shared is not None:
        ledger.shared.corrections.restore(store.waiting_corrections())


def _without_deleted(lines: dict[str, Record], tail: Tail, ledger: Ledger, deleted_before: str) -> dict[str, Record]:
    """Leave out lines that are older than the agreed place may be, and whose calls retention has removed from the table."""
    if tail.found:
        return lines
    return {i: r for i, r in lines.items() if i in ledger.open or r.get("started_at", deleted_before) >= deleted_before}


def _settle(ledger: Ledger, record: Record) -> None:
    """Charge a call what its record says, and close its reservation."""
    ledger.settle(record["id"], recorded_amounts(record))
    ledger.release(record["id"])


def _charge_unknown(ledger: Ledger, record: Record, limits: Mapping[str, Limit]) -> None:
    """Charge a call that the database has never seen: each limit it was admitted under, by its checks."""
    amounts = recorded_amounts(record)
    if not any(amounts.values()):
        return
    checks, at = record.get("limits") or (), parse_iso(record["started_at"])
    ends = {counter_name(*check[:4]): check[-2] for check in checks if check[-1]}
    for name, end in ends.items():
        limit = limits.get(name)
        if limit is not None and limit.counter not in ledger.counters:
            # The database is older than the first call under this limit. The check knows when that was, to the millisecond.
            ledger.counter(limit, at).end = end
    for unit, counter, end in charged_windows(checks, ledger):
        ledger.adjust(counter, end, amounts.get(unit, 0))
