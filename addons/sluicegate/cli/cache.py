"""``sluicegate cache``: what kept answers save, which they are, and clearing them."""

from __future__ import annotations

import typer

from sluicegate.cli import cache_doctor


def register(app: typer.Typer) -> None:
    """Add these commands to the group ``cache``."""
    cache_doctor.register(app)
