"""The commands: their groups and the options of ``sluicegate`` itself."""

from __future__ import annotations

from typing import Annotated

import typer

from sluicegate import __version__
from sluicegate.cli import (
    adjust,
    admin,
    alerts,
    apply,
    archive,
    authority,
    cache,
    check,
    deploy,
    doctor,
    entity,
    environment,
    key,
    nodes,
    people,
    policy,
    policy_store,
    prices,
    providers,
    reconcile,
    retention,
    route,
    run,
    sign_ins,
    statusline,
    store,
    usage,
)

app = typer.Typer(
    help="Governs AI coding agents on the wire.",
    epilog="Exit status: 0 done, 1 failed, 2 wrong usage.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"sluicegate {__version__}")
        raise typer.Exit


@app.callback()
def main_options(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Governs AI coding agents on the wire."""


def _group(name: str, help_text: str) -> typer.Typer:
    group = typer.Typer(help=help_text, no_args_is_help=True, rich_markup_mode=None)
    app.add_typer(group, name=name)
    return group


for room in (run, usage, providers, apply, adjust, reconcile, check, environment, deploy, statusline, doctor, archive, retention):
    room.register(app)
key.register(_group("key", "Create, show and change virtual keys."))
admin.register(_group("admin", "The admin token and what uses it."))
for kind in ("customer", "team", "user", "project"):
    group = entity.build_app(kind)
    if kind == "user":
        people.register(group)
    app.add_typer(group, name=kind)
policies = _group("policy", "The policies that were in force, restoring one, and moving them into a store and back.")
policy.register(policies)
policy_store.register(policies)
prices.register(_group("prices", "What models cost, and newer prices from a published table."))
route.register(_group("route", "The routes of calls to targets, and how a call would be routed."))
authority.register(_group("ca", "The certificate authority that clients of the proxy trust."))
cache.register(_group("cache", "Answers that are kept and given again, and what broke providers' own caches of prompts."))
nodes.register(_group("nodes", "The gateways that share a store."))
store.register(_group("store", "Move a gateway's state into the database that several gateways share."))
sign_ins.register(_group("sign-ins", "Who is signed in, on which machine."))
alerts.register(_group("alerts", "Test the webhooks that alerts go to, and list alerts."))


def main() -> None:
    """Run the command that the arguments name."""
    app(prog_name="sluicegate")
