"""``sluicegate policy push`` and ``pull``: a policy from files into the store that several gateways share, and back."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from sluicegate.cli.backend import open_audit_trail, user_name
from sluicegate.cli.options import Settings, command_class
from sluicegate.cli.output import fail, print_json
from sluicegate.windows import iso

_ASKED = ("policy", "state_dir", "dry_run", "as_json")


def register(app: typer.Typer) -> None:
    """Add these commands to the group ``policy``."""
    app.command("push", cls=command_class(*_ASKED))(push)
    app.command("pull", cls=command_class(*_ASKED))(pull)


def push(
    ctx: typer.Context,
    source: Annotated[Path, typer.Argument(help="The policy: a file or a folder.")],
    replace: Annotated[
        str | None, typer.Option("--replace", help="The revision in the store that it replaces, as --dry-run shows it.")
    ] = None,
) -> None:
    """Put a policy into the store; it is in force at once on every gateway whose policy is there. Try --dry-run first.

    The store is the one that --policy names, or the pushed policy itself, or SLUICEGATE_STORE.

    Example: sluicegate policy push policies/acme.yaml --dry-run
    """
    from sluicegate.fleet.policy import moving
    from sluicegate.policy.audit_trail import AuditEntry

    settings: Settings = ctx.obj
    now = time.time_ns() // 1_000_000
    with _reporting():
        store = moving.store_of(Path(settings.policy) if settings.policy else source, os.environ)
        planned = moving.plan_push(store, source, os.environ, now)
        if planned.revision_before == planned.policy.revision:
            _print_result(settings, {"revision": planned.policy.revision, "changes": []}, "The store has this policy already")
            return
        if not settings.dry_run and planned.present is not None and replace != planned.present.revision:
            since, who = iso(planned.present.put_at)[:19], planned.present.who
            fail(
                f"{store.address} has revision {planned.present.revision}, by {who} since {since}Z: look at what would change "
                f"with --dry-run, then say --replace {planned.present.revision}"
            )
        changes = [str(change) for change in planned.changes]
        if not settings.dry_run:
            trail = open_audit_trail(settings.state_path())
            who = f"{user_name()} (command line)"

            def note(entries: Sequence[AuditEntry], before: str, after: str) -> None:
                trail.write(entries, at=iso(now), who=who, before=before, after=after)

            moving.push(store, planned, who, note)
    for warning in planned.policy.warnings:
        typer.echo(f"warning: {warning}", err=True)
    found = {"revision": planned.policy.revision, "replaced": planned.revision_before or None, "changes": changes}
    if planned.present is not None:
        changes = [
            *changes,
            f"replaces revision {planned.revision_before}, by {planned.present.who} since {iso(planned.present.put_at)[:19]}Z",
        ]
    done = "Nothing was changed" if settings.dry_run else f"In force from {store.address}: revision {planned.policy.revision}"
    _print_result(settings, found, "\n".join([*changes, done]))


def pull(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(help="Where the files go: a folder, made if need be.")],
    replace: Annotated[bool, typer.Option("--replace", help="Replace files that are there and differ.")] = False,
) -> None:
    """Write the policy that is in the store into files, secrets that stand in it included, readable by you alone.

    Example: sluicegate policy pull policies/acme --dry-run
    """
    from sluicegate.fleet.policy import moving

    settings: Settings = ctx.obj
    with _reporting():
        store = moving.store_of(settings.policy_path(), os.environ)
        newest = store.table.newest()
        if newest is None:
            fail(f"{store.address} has no policy: sluicegate policy push FILE puts one there")
        files = [str(file) for file in moving.pull(newest, folder, replace=replace, write=not settings.dry_run)]
    verb = "would be written" if settings.dry_run else "written"
    lines = [f"{file}: {verb}" for file in files] or ["nothing differs"]
    _print_result(settings, {"revision": newest.revision, "files": files}, "\n".join([*lines, f"revision {newest.revision}"]))


@contextlib.contextmanager
def _reporting() -> Iterator[None]:
    """Exit with what is wrong with a policy or a store."""
    from sluicegate.fleet.policy.moving import MoveError
    from sluicegate.fleet.store.protocol import FleetError
    from sluicegate.policy.audit_trail import AuditTrailError
    from sluicegate.policy.loader import PolicyError
    from sluicegate.storage.errors import StoreError
    from sluicegate.storage.state_folder import StateError

    try:
        yield
    except FleetError as e:
        fail(f"the store cannot be reached: {e}")
    except (MoveError, AuditTrailError, PolicyError, StoreError, StateError, OSError) as e:
        fail(str(e))


def _print_result(settings: Settings, as_json: dict[str, Any], text: str) -> None:
    if settings.as_json:
        print_json(as_json)
    else:
        print(text)
