"""The commands that show and change a policy's entities, on the policy file or at a running gateway."""

from __future__ import annotations

import typer

from sluicegate.commands import entity, key


def register(app: typer.Typer, key_app: typer.Typer) -> None:
    """Add these commands to the console script; ``key_app`` is its group ``key``."""
    key.register(key_app)
    for kind in ("customer", "team", "user", "project"):
        app.add_typer(entity.group(kind), name=kind)
