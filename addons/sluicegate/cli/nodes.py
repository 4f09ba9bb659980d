"""``sluicegate nodes``: the gateways that share a store, how each is doing, whom they have erased, and giving up one."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import typer

from sluicegate.cli.backend import api_path, call_api, open_backend
from sluicegate.cli.options import Settings, command_class
from sluicegate.cli.output import fail, note, print_json, print_table

COLUMNS = {
    "name": "node",
    "state": "state",
    "version": "version",
    "since": "since",
    "policy_revision": "policy",
    "calls_in_flight": "calls",
    "leases": "leases",
    "in_doubt": "in doubt",
    "lag": "lag",
    "clock": "clock",
}

_ASKED = ("gateway", "state_dir", "as_json")


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command("list", cls=command_class(*_ASKED))(list_nodes)
    app.command("erasures", cls=command_class(*_ASKED))(list_erasures)
    app.command("forget", cls=command_class("gateway", "state_dir", "dry_run", "as_json"))(forget)


def list_nodes(ctx: typer.Context) -> None:
    """List the gateways that share the store, with what each has in flight, leased and not delivered yet.

    Example: sluicegate nodes list
    """
    settings = of_running(ctx.obj)
    found = call_api(open_backend(settings), "GET", "/api/nodes")
    if settings.as_json:
        print_json(found)
        return
    rows = [{name: _text(node, name) for name in COLUMNS} for node in found["nodes"]]
    print_table(rows, COLUMNS)
    if found["store"] is None:
        note("this gateway shares its limits with no other: policy names no server.store")
    if len(found["policy_revisions"]) > 1:
        note(f"not all nodes have the same policy: {', '.join(found['policy_revisions'])}")


def _text(node: dict[str, Any], column: str) -> Any:
    if column == "name":
        return node["name"] + (" (this one)" if node["is_this"] else "")
    if column == "since":
        return node["since"][:16].replace("T", " ")
    if column == "clock":
        # How far the node's own clock is from the store's.
        return f"{-node['clock_offset_ms'] / 1000:+.1f} s" if abs(node["clock_offset_ms"]) >= 100 else "ok"
    return node[column]


def list_erasures(ctx: typer.Context) -> None:
    """List who was erased, by pseudonym, and which gateways have done it; the others go on by themselves.

    Example: sluicegate nodes erasures
    """
    settings = of_running(ctx.obj)
    found = call_api(open_backend(settings), "GET", "/api/erasures")
    if settings.as_json:
        print_json(found)
        return
    rows = [
        {"pseudonym": erasure["pseudonym"], "begun": erasure["begun_at"][:16].replace("T", " "), "node": node["node"]}
        | {"calls": node["calls"], "done": (node["done_at"] or "not yet")[:16].replace("T", " "), "waits_for": node["waits_for"]}
        for erasure in found["erasures"]
        for node in erasure["nodes"]
    ]
    columns = {"pseudonym": "erased", "begun": "begun", "node": "node", "done": "done", "calls": "calls", "waits_for": "waits for"}
    print_table([{name: "" if value is None else value for name, value in row.items()} for row in rows], columns)


def forget(ctx: typer.Context, name: Annotated[str, typer.Argument(help="Its name, or its id where several have that.")]) -> None:
    """Give up a node that has expired and will not return: what it may have spent beyond its reports counts no longer.

    Example: sluicegate nodes forget gateway-b --dry-run
    """
    settings = of_running(ctx.obj)
    answer = call_api(open_backend(settings), "DELETE", f"/api/nodes/{api_path(name)}", dry_run=settings.dry_run)
    if settings.as_json:
        print_json(answer)
    else:
        print(answer["message"])


def of_running(settings: Settings) -> Settings:
    """Return the settings with the gateway that is asked: the one that is named, else the one that uses the state folder."""
    if settings.gateway is not None:
        return settings
    from sluicegate.storage.state_folder import url_of_running

    url = url_of_running(settings.state_path())
    if url is None:
        fail(f"no gateway uses the state folder {settings.state_path()}: name a running one by --gateway")
    return replace(settings, gateway=url)
