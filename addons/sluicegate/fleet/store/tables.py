"""The tables of the fleet store, and their migration to this version, forward only.

A step that has been released is never edited. A version goes on working with tables of a newer one as long as that says so:
``fleet_meta`` has the version of the tables, and the oldest that can still use them. The version before always can, because
gateways are upgraded one by one: a step adds tables, indexes and columns that may be left out, and whoever writes a row names
its columns.
"""

from __future__ import annotations

from typing import NamedTuple

from sluicegate.fleet.store.engine import Engine, Run
from sluicegate.fleet.store.protocol import SchemaTooNew

STEPS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE fleet_anchors (counter text PRIMARY KEY, anchor bigint NOT NULL)",
        """CREATE TABLE fleet_nodes (
          id text PRIMARY KEY, name text NOT NULL, epoch bigint NOT NULL, number bigint NOT NULL,
          state text NOT NULL, settled integer NOT NULL, joined_at bigint NOT NULL, seen_at bigint NOT NULL,
          version text NOT NULL, revision text NOT NULL, calls bigint NOT NULL, lag bigint NOT NULL, offset_ms bigint NOT NULL
        ) {roomy}""",
        """CREATE TABLE fleet_windows (
          counter text NOT NULL, starts_at bigint NOT NULL, ends_at bigint, unit text NOT NULL,
          adjusted bigint NOT NULL DEFAULT 0, adjusted_at bigint NOT NULL DEFAULT 0,
          tight_until bigint NOT NULL DEFAULT 0, gone_at bigint, PRIMARY KEY (counter, starts_at)
        )""",
        "CREATE INDEX fleet_windows_tight ON fleet_windows (tight_until)",
        "CREATE INDEX fleet_windows_gone ON fleet_windows (gone_at)",
        """CREATE TABLE fleet_positions (
          counter text NOT NULL, starts_at bigint NOT NULL, node text NOT NULL, spent bigint NOT NULL, held bigint NOT NULL,
          granted bigint NOT NULL, provisional bigint NOT NULL, changed_at bigint NOT NULL, PRIMARY KEY (counter, starts_at, node)
        ) {roomy}""",
        "CREATE INDEX fleet_positions_node ON fleet_positions (node)",
        "CREATE INDEX fleet_positions_changed ON fleet_positions (changed_at)",
        """CREATE TABLE fleet_holds (
          node text NOT NULL, call_id text NOT NULL, charges text NOT NULL, draft text NOT NULL, PRIMARY KEY (node, call_id)
        )""",
        """CREATE TABLE fleet_corrections (
          id text PRIMARY KEY, counter text NOT NULL, starts_at bigint NOT NULL, amount bigint NOT NULL, made_at bigint NOT NULL
        )""",
    ),
    (
        # The policy, where nodes have it from here: the newest row is in force, those before are its history.
        """CREATE TABLE fleet_policy (
          number bigint PRIMARY KEY, token text NOT NULL, revision text NOT NULL, files text NOT NULL, put_at bigint NOT NULL,
          who text NOT NULL, action text NOT NULL, summary text NOT NULL, node text NOT NULL
        )""",
    ),
    (
        # Who tells a webhook that a window has reached a threshold.
        """CREATE TABLE fleet_alerts (
          counter text NOT NULL, starts_at bigint NOT NULL, threshold bigint NOT NULL, webhook text NOT NULL,
          alert_id text NOT NULL, body text NOT NULL, at bigint NOT NULL, resets_at bigint, node text NOT NULL,
          claimed_at bigint NOT NULL, delivered_at bigint, gone_at bigint, PRIMARY KEY (counter, starts_at, threshold, webhook)
        )""",
        "CREATE INDEX fleet_alerts_undelivered ON fleet_alerts (node) WHERE delivered_at IS NULL",
        "CREATE INDEX fleet_alerts_id ON fleet_alerts (alert_id)",
        "CREATE INDEX fleet_alerts_gone ON fleet_alerts (gone_at)",
    ),
)
"""By version: the statements that lead to it from the one before."""

USABLE_BY = 1
"""The oldest version that can still use the tables of this one."""


class Schema(NamedTuple):
    """Tables that are migrated together."""

    meta: str
    """The table with their version."""
    steps: tuple[tuple[str, ...], ...]
    usable_by: int


def migrate(engine: Engine, schema: Schema | None = None) -> None:
    """Bring tables, by default those of leases, to this version, one process at a time. Raises SchemaTooNew."""
    schema = schema or Schema("fleet_meta", STEPS, USABLE_BY)
    with engine.transaction(alone=True) as run:
        run((f"CREATE TABLE IF NOT EXISTS {schema.meta} (name text PRIMARY KEY, value bigint NOT NULL)", ()))
        (rows,) = run((f"SELECT name, value FROM {schema.meta}", ()))  # noqa: S608
        found: dict[str, int] = {name: value for name, value in rows}
        version = found.get("version", 0)
        if found.get("usable_by", 0) > len(schema.steps):
            raise SchemaTooNew(
                f"the store's tables have version {version}, which version {found['usable_by']} or later can use; "
                f"this gateway knows version {len(schema.steps)}: run a newer one"
            )
        if version < len(schema.steps):
            _step_up(run, version, schema)


def _step_up(run: Run, version: int, schema: Schema) -> None:
    run(*((statement, ()) for step in schema.steps[version:] for statement in step))
    put = "ON CONFLICT (name) DO UPDATE SET value = excluded.value"
    note = f"INSERT INTO {schema.meta} (name, value) VALUES (?, ?) {put}"  # noqa: S608
    run((note, ("version", len(schema.steps))), (note, ("usable_by", schema.usable_by)), commit=True)
