"""``sluicegate alerts``: test the webhooks of a policy, and list the alerts that were sent."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from sluicegate.cli.options import Settings, command_class
from sluicegate.cli.output import fail


def register(app: typer.Typer) -> None:
    """Add these commands to the group ``alerts``."""
    app.command("test", cls=command_class("policy", "as_json"))(send_test)
    app.command("list", cls=command_class("state_dir", "as_json"))(list_alerts)


def send_test(
    ctx: typer.Context,
    webhook: Annotated[str | None, typer.Option("--webhook", help="Only this one.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be sent.")] = False,
) -> None:
    """Send a test message to the policy's webhooks; exit status 1 if one does not accept it.

    Example: sluicegate alerts test --webhook finance
    """
    settings: Settings = ctx.obj
    now = int(time.time() * 1000)
    loaded = settings.load_policy(now)
    for warning in loaded.warnings:
        if warning.startswith("alerts: "):
            typer.echo(f"warning: {warning}", err=True)
    known = [w.name for w in loaded.alerts.webhooks]
    if not known:
        fail("the policy has no usable webhooks under alerts")
    if webhook is not None and webhook not in known:
        fail(f"there is no usable webhook '{webhook}'; the usable ones are {', '.join(known)}", 2)
    results: list[dict[str, Any]] = []
    _take_way_out(loaded)
    for target in loaded.alerts.webhooks:
        if webhook in (None, target.name):
            result = _send(target, now, dry_run)
            results.append(result)
            if not settings.as_json:
                shown = result["body"] if dry_run else "ok" if result["ok"] else f"failed: {result['error']}"
                print(f"{target.name} ({result['host']}): {shown}")
    if settings.as_json:
        print(json.dumps({"webhooks": results}, indent=2))
    raise typer.Exit(0 if all(r.get("ok", True) for r in results) else 1)


def _take_way_out(policy: Any) -> None:
    """Send as the gateway does: by the proxy that the policy names, and trusting whom it says; exit if it cannot be used."""
    from sluicegate.http_client.proxies import choose_proxies
    from sluicegate.http_client.trust import trust
    from sluicegate.network.outbound.proxies import DIRECT, outbound_of
    from sluicegate.network.outbound.trust import read_bundle

    # The proxy of this shell's environment may be the gateway itself.
    try:
        choose_proxies(outbound_of(policy.server.upstream_proxy or DIRECT, os.environ).url_for)
        trust(read_bundle(policy.server.ca_bundle) if policy.server.ca_bundle else None)
    except ValueError as e:
        fail(str(e))


def _send(target: Any, now: int, dry_run: bool) -> dict[str, Any]:
    from sluicegate.alerts.alert import build_headers, encode_body, trial_fields
    from sluicegate.http_client.exchange import post_webhook

    fields = trial_fields(target.name, now)
    body = encode_body(fields, target.format)
    # Only the host: anyone who has the whole URL of a webhook can post to it.
    result: dict[str, Any] = {"webhook": target.name, "host": urlsplit(target.url).hostname, "format": target.format}
    if dry_run:
        return result | {"signed": target.secret is not None, "body": body.decode()}
    error = post_webhook(target.url, body, build_headers(target, fields["alert_id"], body, now))
    return result | {"ok": error is None, "error": error}


def list_alerts(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option("--limit", help="How many.", min=1, max=1000)] = 20,
) -> None:
    """List the newest alerts and whether they were accepted, also while a gateway runs.

    Example: sluicegate alerts list --limit 50
    """
    from sluicegate.alerts.outbox import recent_alerts
    from sluicegate.storage.store import FILENAME

    try:
        rows = recent_alerts(ctx.obj.state_path() / FILENAME, limit)
    except sqlite3.Error as e:
        fail(f"the alerts cannot be read: {e}")
    if ctx.obj.as_json:
        print(json.dumps({"alerts": rows}, indent=2))
        return
    for row in rows:
        print(f"{row['at'][:19]}Z  {row['webhook']}  {row['status']}  {row['text']}")
