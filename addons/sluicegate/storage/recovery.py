"""Recovery: what a crash left half-done is completed before the first call, from the database and the journal together."""

from __future__ import annotations

from sluicegate.calls.record import Record, total_tokens
from sluicegate.limits.ledger import Ledger
from sluicegate.storage.journal import Journal
from sluicegate.storage.store import Store
from sluicegate.values import Outcome


def recover(store: Store, journal: Journal, ledger: Ledger) -> dict[str, int]:
    """Complete what a crash left half-done, before the first call. Returns counts by what was done.

    A journal line without a row is a settlement the database missed: it is booked now. A reservation left after that
    is a call cut off mid-way: it is charged what its draft says and put on record as ``interrupted``. A row without a
    line gets its line. Each step is idempotent, so a crash during recovery is only another crash.
    """
    cut = journal.cut_torn_line()
    lines = {r["id"]: r for r in journal.since(store.marked("journal_offset"))}
    known = store.known(lines)
    missed = [r for i, r in lines.items() if i not in known]
    for record in missed:
        _book(ledger, record)
    store.rows.extend(missed)

    drafts = store.drafts()
    interrupted = []
    for call_id in list(ledger.open):
        draft = drafts.get(call_id) or {}
        if "id" in draft:
            draft |= {"outcome": Outcome.INTERRUPTED.value, "estimated": 1, "latency_ms": None}
            interrupted.append(draft)
            _book(ledger, draft)
        else:
            ledger.release(call_id)
    store.rows.extend(interrupted)
    unwritten = [r for r in store.rows_since(store.marked("calls_rowid")) if r["id"] not in lines]
    for record in (*unwritten, *interrupted):
        journal.append(record)
    store.flush(ledger)
    store.mark(journal_offset=journal.size, calls_rowid=store.last_rowid())
    return {"torn_bytes": cut, "replayed": len(missed), "interrupted": len(interrupted), "rewritten": len(unwritten)}


def _book(ledger: Ledger, record: Record) -> None:
    refused = record.get("outcome") == Outcome.DENIED.value
    took = total_tokens(record)
    # Nobody answered and nothing was used: no connection was had, and its request was given back.
    left = bool(took) or record.get("status") is not None
    amounts = {"usd": record.get("cost_nano") or 0, "tokens": took, "requests": int(left), "concurrent": 0}
    ledger.settle(record["id"], {} if refused else amounts)  # type: ignore[arg-type]
    ledger.release(record["id"])
