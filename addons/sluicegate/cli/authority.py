"""``sluicegate ca``: the certificate authority that clients of the proxy trust, and replacing it without breaking their trust."""

from __future__ import annotations

import getpass
import re
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from sluicegate.cli.options import Settings, command_class
from sluicegate.cli.output import fail, note, print_json, print_table

if TYPE_CHECKING:
    from sluicegate.authority.folder import Authority, AuthorityFolder, Described

DAY_MS = 86_400_000

OVERLAP = re.compile(r"([1-9][0-9]{0,3})d")

MAX_OVERLAP_DAYS = 366

COLUMNS = {
    "state": "state",
    "subject": "subject",
    "valid_until": "valid until",
    "signs_from": "signs from",
    "sha256": "SHA-256",
}


def register(app: typer.Typer) -> None:
    """Add these commands to the group ``ca``."""
    app.command("show", cls=command_class("state_dir", "as_json"))(show)
    app.command("rotate", cls=command_class("state_dir", "as_json"))(rotate)


def show(ctx: typer.Context) -> None:
    """Show the CA that signs, one that is announced, and those that are retired, with their fingerprints.

    Example: sluicegate ca show
    """
    from sluicegate.authority.folder import AuthorityError

    settings: Settings = ctx.obj
    folder = _folder(settings)
    try:
        found = folder.describe(int(time.time() * 1000))
    except AuthorityError as e:
        fail(str(e))
    if settings.as_json:
        print_json({"folder": str(folder.path), "authorities": [asdict(a) for a in found]})
    elif found:
        print_table([_row(a) for a in found], COLUMNS)
    else:
        note(f"There is no CA in {folder.path} yet: it is made when the gateway starts")


def _row(authority: Described) -> dict[str, str]:
    shown = asdict(authority)
    return {name: str(shown[name] or "the beginning").removesuffix(".000Z") for name in COLUMNS}


def rotate(
    ctx: typer.Context,
    overlap: Annotated[
        str | None, typer.Option("--overlap", help="Days for which clients are given both to trust, such as 30d (the default).")
    ] = None,
    now: Annotated[bool, typer.Option("--now", help="Have a new CA sign at once, and hand out no other.")] = False,
    finish: Annotated[bool, typer.Option("--finish", help="Have the CA that is announced sign at once.")] = False,
) -> None:
    """Make a new CA. Until it signs, clients are told to trust both the old and the new one; a running gateway follows by itself.

    Developer machines fetch it with the lines of /setup or sluicegate env. After a key was stolen: --now.

    Example: sluicegate ca rotate --overlap 30d
    """
    from sluicegate.authority.folder import AuthorityError

    if sum((overlap is not None, now, finish)) > 1:
        fail("give one of --overlap, --now and --finish", 2)
    days = OVERLAP.fullmatch(overlap or "30d")
    if days is None or int(days[1]) > MAX_OVERLAP_DAYS:
        fail(f"--overlap {overlap}: write days, such as 30d, up to {MAX_OVERLAP_DAYS}d; for none give --now", 2)
    settings: Settings = ctx.obj
    # Only one that the gateway uses already: what an earlier version has made elsewhere is copied when the gateway starts.
    folder, at = _folder(settings, in_use=True), int(time.time() * 1000)
    try:
        made = folder.finish(at) if finish else folder.rotate(at, 0 if now else int(days[1]) * DAY_MS)
        shown = next(a for a in folder.describe(at) if a.folder == str(made.folder))
    except AuthorityError as e:
        fail(str(e))
    _record(settings, "finish" if finish else "rotate", made, shown)
    if settings.as_json:
        print_json(asdict(shown))
        return
    print_table([_row(shown)], COLUMNS)
    if shown.state == "announced":
        note('Have every developer machine fetch it before then: eval "$(sluicegate env ...)" or the lines of /setup')
    else:
        note("It signs from now on: developer machines that do not have it yet refuse providers' hosts until they fetch it")


def _folder(settings: Settings, *, in_use: bool = False) -> AuthorityFolder:
    from sluicegate.authority.folder import AuthorityFolder
    from sluicegate.paths import AUTHORITY, authority_folder
    from sluicegate.storage.state_folder import recorded_authority

    state_dir = settings.state_path()
    noted = recorded_authority(state_dir)
    return AuthorityFolder(noted or state_dir / AUTHORITY if in_use else authority_folder(state_dir, noted))


def _record(settings: Settings, action: str, made: Authority, shown: Described) -> None:
    """Put the change on the audit trail; the CA is there already, so a trail that cannot be written is only said."""
    from sluicegate.policy.audit_trail import AuditEntry, AuditTrail, AuditTrailError
    from sluicegate.storage.store import FILENAME
    from sluicegate.windows import iso

    path = settings.state_path() / FILENAME
    entry = AuditEntry(action, "ca", made.folder.name, None, {"sha256": shown.sha256, "signs_from": shown.signs_from})
    try:
        AuditTrail(path).write([entry], at=iso(int(time.time() * 1000)), who=f"cli:{getpass.getuser()}", before="", after="")
    except (AuditTrailError, OSError, KeyError) as e:
        note(f"the audit trail does not have this: {e}")
