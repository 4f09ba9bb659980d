"""Commands in groups: a policy's entities, on the file or at a running gateway; alerts; the status line."""

from __future__ import annotations

import typer

from sluicegate.commands import alerts, entity, key, statusline


def register(app: typer.Typer, key_app: typer.Typer) -> None:
    """Add these commands to the console script; ``key_app`` is its group ``key``."""
    key.register(key_app)
    for kind in ("customer", "team", "user", "project"):
        app.add_typer(entity.group(kind), name=kind)
    app.add_typer(alerts.app, name="alerts")
    app.command()(statusline.statusline)
