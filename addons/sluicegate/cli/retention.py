"""``sluicegate retention``: how far back records, bodies and journals go, and what would be deleted now."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from sluicegate.cli.options import Settings, command_class
from sluicegate.cli.output import fail, print_json, print_table

COLUMNS = {"what": "", "kept": "kept", "oldest": "oldest", "bytes": "bytes", "deleted_now": "would be deleted now"}


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command("retention", cls=command_class("policy", "state_dir", "as_json"))(retention)


def retention(
    ctx: typer.Context,
    calls: Annotated[str | None, typer.Option("--calls", help="Try this time instead of the policy's retention.calls.")] = None,
) -> None:
    """Show how long records, bodies and journals are kept, and what would be deleted now. Deletes nothing: the gateway does.

    Example: sluicegate retention --calls 90d
    """
    from sluicegate.windows import parse_period

    settings: Settings = ctx.obj
    now = time.time_ns() // 1_000_000
    kept = settings.load_policy(now).file
    if calls is not None:
        try:
            parse_period(calls)
        except ValueError as e:
            fail(f"--calls: {e}", 2)
    try:
        rows = [
            *_records(settings.state_path(), calls or kept.retention.calls, now),
            _bodies(settings.state_path(), kept.retention.content or kept.content_retention, now),
            _journals(settings.state_path(), kept.retention.audit, now),
        ]
    except (sqlite3.Error, OSError) as e:
        fail(str(e))
    if settings.as_json:
        print_json({"retention": rows})
    else:
        print_table([{name: "-" if value is None else value for name, value in row.items()} for row in rows], COLUMNS)


def _before(kept: str, now: int) -> int | None:
    from sluicegate.windows import parse_period, period_ms

    kept_ms = period_ms(parse_period(kept))
    return None if kept_ms is None else max(0, now - kept_ms)


def _records(state_dir: Path, kept: str, now: int) -> list[dict[str, Any]]:
    from sluicegate.storage.call_reader import old_records
    from sluicegate.storage.store import FILENAME

    path = state_dir / FILENAME
    if not path.exists():
        fail(f"no gateway has recorded anything in {state_dir}: give its --state-dir")
    found = old_records(path, _before(kept, now))
    return [
        {"what": "calls", "kept": kept, "oldest": found.oldest, "bytes": path.stat().st_size, "deleted_now": found.calls},
        {"what": "connections", "kept": kept, "oldest": None, "bytes": None, "deleted_now": found.connections},
        {"what": "refusals", "kept": kept, "oldest": None, "bytes": None, "deleted_now": found.refusals},
    ]


def _bodies(state_dir: Path, kept: str, now: int) -> dict[str, Any]:
    from sluicegate.database import connection
    from sluicegate.storage.content_store import FILENAME
    from sluicegate.windows import iso

    path, before = state_dir / FILENAME, _before(kept, now)
    if not path.exists():
        return {"what": "bodies", "kept": kept, "oldest": None, "bytes": 0, "deleted_now": 0}
    with connection(path, "ro") as conn:
        (oldest,) = conn.execute("SELECT min(at) FROM content").fetchone()
        (number,) = conn.execute("SELECT count(*) FROM content WHERE at < ?", (before or 0,)).fetchone()
    size = path.stat().st_size
    return {"what": "bodies", "kept": kept, "oldest": None if oldest is None else iso(oldest), "bytes": size, "deleted_now": number}


def _journals(state_dir: Path, kept: str, now: int) -> dict[str, Any]:
    from sluicegate.storage.journal_files import other_files
    from sluicegate.storage.journal_rotation import old_files
    from sluicegate.windows import iso

    path, before = state_dir / "audit.jsonl", _before(kept, now)
    files = [*other_files(path), *([path] if path.exists() else [])]
    old = [] if before is None else old_files(path, before)
    return {
        "what": "journals",
        "kept": kept,
        "oldest": iso(files[0].stat().st_mtime_ns // 1_000_000) if files else None,
        "bytes": sum(file.stat().st_size for file in files),
        "deleted_now": len(old),
    }
