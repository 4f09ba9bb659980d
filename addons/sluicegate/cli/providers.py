"""``sluicegate providers``: which providers a policy governs and how they are reached, and which others are known."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from sluicegate.cli.options import Settings, command_class
from sluicegate.cli.output import print_json, print_table

_GOVERNED = {
    "provider": "provider",
    "protocol": "protocol",
    "base_url": "base URL",
    "keys": "keys",
    "path": "on our port",
}
_KNOWN = {"provider": "provider", "title": "", "protocol": "protocol", "base_url": "base URL", "variable": "key"}


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command("providers", cls=command_class("policy", "as_json"))(providers)


def providers(
    ctx: typer.Context,
    known: Annotated[bool, typer.Option("--known", help="Those that need nothing but keys, in the policy or not.")] = False,
) -> None:
    """List the providers that the policy governs, and how they are reached.

    Example: sluicegate providers --known
    """
    settings: Settings = ctx.obj
    rows = _known_rows() if known else _governed_rows(settings)
    if settings.as_json:
        print_json({"providers": rows})
        return
    columns = _KNOWN if known else _GOVERNED
    print_table([{name: row[name] or "" for name in columns} for row in rows], columns)


def _governed_rows(settings: Settings) -> list[dict[str, Any]]:
    loaded = settings.load_policy(int(time.time() * 1000))
    paths = {name: f"/{prefix}" for prefix, name in reversed(list(loaded.prefixes.items()))}
    rows = []
    for provider in loaded.providers.values():
        usable = sum(1 for key in provider.keys if key.is_usable)
        needs_none = provider.simulate or (provider.is_keyless and not provider.keys)
        rows.append(
            {
                "provider": provider.name,
                "protocol": provider.protocol,
                "base_url": "simulated" if provider.simulate else provider.base_url,
                "keys": "none needed" if needs_none else f"{usable} of {len(provider.keys)} usable",
                "path": paths[provider.name],
                "hosts": sorted(provider.hosts),
            }
        )
    return rows


def _known_rows() -> list[dict[str, Any]]:
    from sluicegate.providers.known import known_providers

    return [
        {
            "provider": known.name,
            "title": known.title,
            "protocol": known.protocol,
            "base_url": known.base_url if known.unsupported is None else f"not yet: {known.unsupported}",
            "variable": known.variable,
        }
        for known in known_providers().values()
    ]
