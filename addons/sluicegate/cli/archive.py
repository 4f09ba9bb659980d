"""``sluicegate backup`` and ``sluicegate restore``: a gateway's state, policy and certificate authority in one file, and back."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from sluicegate.cli.options import Settings, command_class
from sluicegate.cli.output import fail, note, print_json
from sluicegate.paths import named_policy

Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command("backup", cls=command_class("policy", "state_dir", "as_json"))(backup)
    app.command("restore", cls=command_class("policy", "state_dir", "dry_run", "as_json"))(restore)


def backup(ctx: typer.Context, file: Annotated[Path, typer.Argument(help="The file to write.")], force: Force = False) -> None:
    """Write a gateway's state, policy and certificate authority into one file, also while it serves calls.

    The file holds secrets: the authority's private key, the admin token, provider keys that came over HTTP.

    Example: sluicegate backup /var/backups/sluicegate-2026-11-27.tar.gz
    """
    from sluicegate.operations.archive.backup import make_backup
    from sluicegate.operations.archive.contents import ArchiveError

    settings: Settings = ctx.obj
    try:
        made = make_backup(file, settings.state_path(), settings.policy_path(), int(time.time() * 1000), replace=force)
    except ArchiveError as e:
        fail(str(e))
    if settings.as_json:
        print_json({"file": str(file), **made.as_json()})
        return
    size = file.stat().st_size
    print(f"{file}: {len(made.members)} files, {size / (1 << 20):.1f} MiB, readable by you alone; the policy is {made.policy}")


def restore(ctx: typer.Context, file: Annotated[Path, typer.Argument(help="The backup.")], force: Force = False) -> None:
    """Put a backup back. No gateway may use the state folder; with --force what is there is kept aside, never deleted.

    The policy goes where it was, or to --policy.

    Example: sluicegate restore sluicegate-2026-11-27.tar.gz --dry-run
    """
    from sluicegate.operations.archive import restore as restoring
    from sluicegate.operations.archive.contents import ArchiveError

    settings: Settings = ctx.obj
    state_dir = settings.state_path()
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
    try:
        manifest = restoring.read(file)
        planned = restoring.plan(manifest, state_dir, named_policy(settings.policy, os.environ), stamp)
        if not settings.dry_run:
            restoring.restore(file, planned, state_dir, force=force)
    except ArchiveError as e:
        fail(str(e))
    if settings.as_json:
        steps = [{"what": s.what, "path": str(s.path), "to": str(s.to) if s.to else None} for s in planned.steps]
        print_json(
            {"restored": not settings.dry_run, "created_at": manifest.created_at, "version": manifest.version, "steps": steps}
        )
        return
    for step in planned.steps:
        print(step)
    if settings.dry_run:
        note("Nothing was changed" + ("; without --force it would be refused" if planned.aside and not force else ""))
    else:
        print(f"Restored the backup of {manifest.created_at}, made by sluicegate {manifest.version}")
