"""``sluicegate alerts``: try the webhooks of a policy, and see what they were sent."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from sluicegate import paths
from sluicegate.cli import options as o
from sluicegate.cli.output import fail

app = typer.Typer(help="Alerts about budgets.", no_args_is_help=True, rich_markup_mode=None)


@app.command("test")
def alerts_test(
    webhook: Annotated[str | None, typer.Option("--webhook", help="Only this one.")] = None,
    policy: o.Policy = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be sent.")] = False,
    as_json: o.Json = False,
) -> None:
    """Send a test message to the policy's webhooks; exit status 1 if one does not take it.

    Example: sluicegate alerts test --webhook finance
    """
    from sluicegate.alerts.alert import build_headers, encode_body, trial_fields
    from sluicegate.http_client import post_webhook
    from sluicegate.policy.loader import PolicyError, load

    now = int(time.time() * 1000)
    try:
        loaded = load(paths.policy_path(policy, os.environ), env=os.environ, now=now)
    except PolicyError as e:
        fail(str(e))
    for warning in loaded.warnings:
        if warning.startswith("alerts: "):
            typer.echo(f"warning: {warning}", err=True)
    known = [w.name for w in loaded.alerts.webhooks]
    if not known:
        fail("the policy has no usable webhooks under alerts")
    if webhook is not None and webhook not in known:
        fail(f"there is no usable webhook '{webhook}'; there are {', '.join(known)}", 2)
    results: list[dict[str, Any]] = []
    for target in loaded.alerts.webhooks:
        if webhook not in (None, target.name):
            continue
        fields = trial_fields(target.name, now)
        body = encode_body(fields, target.format)
        # The host alone: the rest of a webhook's URL is what lets one post to it.
        result: dict[str, Any] = {"webhook": target.name, "host": urlsplit(target.url).hostname, "format": target.format}
        if dry_run:
            result |= {"signed": target.secret is not None, "body": body.decode()}
        else:
            why = post_webhook(target.url, body, build_headers(target, fields["alert_id"], body, now))
            result |= {"ok": why is None, "error": why}
        results.append(result)
        if not as_json:
            said = result["body"] if dry_run else "ok" if result["ok"] else f"failed: {result['error']}"
            print(f"{target.name} ({result['host']}): {said}")
    if as_json:
        print(json.dumps({"webhooks": results}, indent=2))
    raise typer.Exit(0 if all(r.get("ok", True) for r in results) else 1)


@app.command("list")
def alerts_list(
    limit: Annotated[int, typer.Option("--limit", help="How many.", min=1, max=1000)] = 20,
    state_dir: o.State = None,
    as_json: o.Json = False,
) -> None:
    """The newest alerts and whether they were taken, also while a gateway runs.

    Example: sluicegate alerts list --limit 50
    """
    from sluicegate.alerts.outbox import recent_alerts
    from sluicegate.storage.store import FILENAME

    try:
        rows = recent_alerts(paths.state_dir(state_dir, os.environ) / FILENAME, limit)
    except sqlite3.Error as e:
        fail(f"the alerts cannot be read: {e}")
    if as_json:
        print(json.dumps({"alerts": rows}, indent=2))
        return
    for row in rows:
        print(f"{row['at'][:19]}Z  {row['webhook']}  {row['status']}  {row['text']}")
