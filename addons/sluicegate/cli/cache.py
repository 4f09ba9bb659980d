"""``sluicegate cache``: what kept answers save, which they are, and clearing them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sluicegate.cli import cache_doctor, cache_evaluate
from sluicegate.cli.backend import call_api, open_backend
from sluicegate.cli.options import READ, command_class
from sluicegate.cli.output import print_json, print_table

BASE = "/api/cache"

Scope = Annotated[str | None, typer.Option("--scope", help="Only answers shared by this scope, as team/ID.")]
Key = Annotated[str | None, typer.Option("--key", help="Only answers of this virtual key's calls.")]
User = Annotated[str | None, typer.Option("--user", help="Only answers of this user's calls.")]
Model = Annotated[str | None, typer.Option("--model", help="Only answers of this model.")]


def register(app: typer.Typer) -> None:
    """Add these commands to the group ``cache``."""
    cache_doctor.register(app)
    app.command("stats", cls=command_class(*READ))(stats)
    app.command("entries", cls=command_class(*READ))(entries)
    app.command("clear", cls=command_class(*READ, "dry_run"))(clear)
    cache_evaluate.register(app)


def stats(ctx: typer.Context) -> None:
    """Show what the cache holds, and what it did since the gateway started.

    Example: sluicegate cache stats
    """
    found = call_api(open_backend(ctx.obj), "GET", BASE)
    if ctx.obj.as_json:
        print_json(found)
        return
    rate = "" if found["hit_rate"] is None else f" ({found['hit_rate']:g} %)"
    print(f"exact cache: {'on' if found['enabled'] else 'off'}, shared by {found['scope']}, for {found['ttl_seconds']} s")
    print(f"kept:        {found['entries']} answers in {found['bytes']:,} of {found['max_bytes']:,} bytes")
    print(f"hits:        {found['hits']}{rate}, misses: {found['misses']}, saved: ${found['saved_usd']}")
    similar = found["semantic"]
    print(f"semantic:    {'on' if similar['enabled'] else 'off'}, {similar['hits']} of the hits, saved: ${similar['saved_usd']}")
    if similar["compared"]:
        print(f"compared:    {similar['compared']} answers, of which {similar['disagreed']} would have been wrong")


def entries(
    ctx: typer.Context,
    scope: Scope = None,
    key: Key = None,
    user: User = None,
    model: Model = None,
    limit: Annotated[int, typer.Option("--limit", help="How many.", min=1, max=1000)] = 20,
) -> None:
    """List kept answers, newest first, without their text.

    Example: sluicegate cache entries --user alice --limit 50
    """
    wanted: dict[str, Any] = {"scope": scope, "virtual_key": key, "user": user, "model": model, "limit": limit}
    found = call_api(open_backend(ctx.obj), "GET", f"{BASE}/entries", **wanted)
    if ctx.obj.as_json:
        print_json(found)
        return
    rows = [row | {"at": row["at"][:19] + "Z", "until": row["until"][:19] + "Z"} for row in found["entries"]]
    columns = ("id", "at", "until", "scope", "virtual_key_id", "model", "bytes", "hits", "saved_usd")
    print_table(rows, {name: name.replace("_", " ") for name in columns})


def clear(ctx: typer.Context, scope: Scope = None, key: Key = None, user: User = None, model: Model = None) -> None:
    """Delete kept answers: those that fit every option, or all of them. Their calls then ask the provider again.

    Example: sluicegate cache clear --model claude-opus-5-5 --dry-run
    """
    wanted: dict[str, Any] = {"scope": scope, "virtual_key": key, "user": user, "model": model}
    found = call_api(open_backend(ctx.obj), "DELETE", BASE, dry_run=ctx.obj.dry_run, **wanted)
    if ctx.obj.as_json:
        print_json(found)
    else:
        print(found["message"])
