"""``sluicegate store``: moving a gateway's state folder into the database that several gateways share."""

from __future__ import annotations

import os
import sqlite3
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sluicegate.cli.options import Settings, command_class
from sluicegate.cli.output import fail, note, print_json, print_table

if TYPE_CHECKING:
    from sluicegate.fleet.migration.move import Moved
    from sluicegate.fleet.store.reach import Reached

MOVED = {
    "what": "what",
    "level": "level",
    "entries": "entries",
    "amount": "here",
    "entries_in_store": "entries in the store",
    "amount_in_store": "in the store",
}

_BACK = (
    "only the way from a state folder (sqlite) to a shared store (postgresql://...) is a move. To go back, stop all gateways but "
    "one and take server.store out of its policy: it has the records of all in its own folder"
)


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.callback()(_group)
    app.command("migrate", cls=command_class("policy", "state_dir", "dry_run", "as_json"))(migrate)


def _group() -> None:
    """Move a gateway's state into the database that several gateways share."""


def migrate(
    ctx: typer.Context,
    to: Annotated[str, typer.Option("--to", help="The store: postgresql://USER@HOST/DATABASE, or env.NAME or file:PATH of it.")],
    source: Annotated[str, typer.Option("--from", help="What is moved: sqlite, the state folder.")] = "sqlite",
    password: Annotated[str | None, typer.Option("--password", help="Its user's password: env.NAME or file:PATH.")] = None,
) -> None:
    """Move what a stopped gateway has used, its corrections and its records into a shared store, and compare to the nano-dollar.

    It does ahead of time what the gateway does that joins; nothing is taken away from the folder. An interrupted move is run again.

    Example: sluicegate store migrate --from sqlite --to postgresql://sluicegate@db.example.com/sluicegate --dry-run
    """
    settings: Settings = ctx.obj
    if source != "sqlite" or to == "sqlite":
        fail(_BACK, 2)
    reached = _reached(to, password)
    if settings.dry_run:
        _plan(settings, reached)
        return
    moved = _move(settings, reached)
    from sluicegate.fleet.migration.holdings import table_rows

    rows = table_rows(moved.here, moved.there)
    if settings.as_json:
        print_json({"node": moved.node, "store": str(reached.address()), "moved": rows, "differences": moved.differences})
    else:
        print_table(rows, MOVED)
    if moved.differences:
        shown = moved.differences[:20]
        fail("\n".join([f"{len(moved.differences)} differences between the folder and the store:", *shown]))
    if not settings.as_json:
        print(f"Folder and store are equal to the nano-dollar: set server.store, and start the gateway as the node {moved.node}")


def _reached(to: str, password: str | None) -> Reached:
    from pydantic import ValidationError

    from sluicegate.fleet.node import node_name
    from sluicegate.fleet.store.reach import Reached, store_address
    from sluicegate.policy.server_schema import Server
    from sluicegate.policy.store_address import StoreAddressError
    from sluicegate.storage.errors import StoreError
    from sluicegate.storage.state_folder import StateError

    try:
        server = Server(store=to, store_password=password)
        store_address(server, os.environ)
        return Reached(server, dict(os.environ), node_name(os.environ))
    except ValidationError as e:
        first = e.errors()[0]
        fail(f"{'--to' if first['loc'][0] == 'store' else '--password'}: {first['msg'].removeprefix('Value error, ')}", 2)
    except StoreAddressError as e:
        fail(str(e).replace("server.store_password", "--password").replace("server.store", "--to"), 2)
    except (StoreError, StateError) as e:
        fail(str(e))


def _plan(settings: Settings, reached: Reached) -> None:
    """Print what would be moved; the folder and the store are only read."""
    import psycopg

    from sluicegate.fleet.migration.holdings import read_holdings, table_rows
    from sluicegate.fleet.migration.move import MigrationError, refuse_workers
    from sluicegate.storage.store import FILENAME

    folder = settings.state_path()
    if not (folder / FILENAME).exists():
        fail(f"there is nothing to move in {folder}: it has no {FILENAME}. Name the folder by --state-dir")
    try:
        refuse_workers(folder)
        with reached.connect():
            pass
        found = read_holdings(folder, time.time_ns() // 1_000_000)
    except MigrationError as e:
        fail(str(e))
    except psycopg.Error as e:
        fail(f"the store {reached.address()} cannot be reached: {e}")
    except sqlite3.Error as e:
        fail(f"{folder / FILENAME} cannot be read: {e}")
    rows = table_rows(found.sums)
    if settings.as_json:
        print_json({"node": reached.name, "store": str(reached.address()), "would_move": rows, "open_calls": found.open_calls})
        return
    print_table(rows, {name: MOVED[name] for name in ("what", "level", "entries", "amount")})
    if found.open_calls:
        note(f"{found.open_calls} calls are in flight, or were cut off: each is charged first, as a start does")
    note("nothing was changed")


def _move(settings: Settings, reached: Reached) -> Moved:
    from sluicegate.fleet.migration.move import MigrationError, Move, open_files
    from sluicegate.fleet.store.protocol import FleetError
    from sluicegate.policy.loader import PolicyError
    from sluicegate.storage.errors import StoreError
    from sluicegate.storage.state_folder import StateError, StateInUseError

    folder = settings.state_path()

    def now() -> int:
        return time.time_ns() // 1_000_000

    def limits() -> Any:
        return settings.load_policy(now()).all_limits()

    try:
        with open_files(folder, reached.name, now, limits) as files:
            return Move(files, reached.connect, note).run()
    except StateInUseError:
        fail(f"a gateway is using the state folder {folder}: stop it first")
    except FleetError as e:
        fail(f"the store {reached.address()} does not answer: {e}. Nothing counts twice: run the same command again")
    except sqlite3.Error as e:
        fail(f"{folder}: {e}")
    except (MigrationError, PolicyError, StateError, StoreError, OSError) as e:
        fail(str(e))
