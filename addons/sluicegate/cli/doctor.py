"""``sluicegate doctor``: what is wrong here, on the gateway's machine or a developer's, each finding with what mends it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sluicegate import paths
from sluicegate.cli.options import Settings, command_class
from sluicegate.cli.output import print_json, print_table

if TYPE_CHECKING:
    from sluicegate.operations.diagnosis.finding import Finding

COLUMNS = {"level": "", "check": "check", "message": "found", "mend": "to mend it"}


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command("doctor", cls=command_class("gateway", "key", "policy", "state_dir", "as_json"))(doctor)


def doctor(
    ctx: typer.Context,
    port: Annotated[int, typer.Option("--port", help="The port the gateway shall listen on.", min=0, max=65_535)] = 8080,
    host: Annotated[str, typer.Option("--host", help="The address the gateway shall listen on.")] = "127.0.0.1",
) -> None:
    """Look for what is wrong, and say what mends it; exit status 1 if something does not work.

    Without --gateway it looks at this machine as the gateway's: versions, policy, keys, certificate authority, port, disk,
    clock, database, file modes. With --gateway at this machine as a developer's: reachability, trust, key, proxy variables.

    Example: sluicegate doctor --gateway http://gateway.example.com:8080 --key vk-dev-alice
    """
    settings: Settings = ctx.obj
    found = [*(_gateways_machine(settings, host, port) if settings.gateway is None else _developers_machine(settings))]
    if settings.as_json:
        print_json({"ok": not _fails(found), "findings": [finding._asdict() for finding in found]})
    else:
        print_table([{name: value or "" for name, value in finding._asdict().items()} for finding in found], COLUMNS)
    raise typer.Exit(1 if _fails(found) else 0)


def _fails(found: Iterable[Finding]) -> bool:
    return any(finding.level == "fail" for finding in found)


def _gateways_machine(settings: Settings, host: str, port: int) -> Iterator[Finding]:
    from sluicegate.operations.diagnosis import machine, state
    from sluicegate.storage.state_folder import recorded_authority, url_of_running

    now, folder, path = int(time.time() * 1000), settings.state_path(), settings.policy_path()
    yield from machine.check_versions()
    is_named = path != paths.policy_path(None, {}) or paths.named_policy(settings.policy, os.environ) is not None
    policy, found = state.load_policy(path, settings.state_path(), os.environ, now, is_named)
    yield from found
    url = url_of_running(folder)
    authority = paths.authority_folder(folder, recorded_authority(folder))
    health = _health_of(replace(settings, gateway=url)) if url else None
    if health is not None:
        yield from state.check_running(health)
    else:
        yield from state.check_keys(policy) if policy is not None else ()
        yield machine.check_port(host, port) if url is None else _silent(url)
    yield from machine.check_authority(authority, datetime.fromtimestamp(now / 1000, UTC))
    yield machine.check_disk(folder)
    yield machine.check_clock(now, state.newest_record(folder))
    yield state.check_database(folder)
    yield from state.check_records(folder)
    yield from machine.check_modes(folder, [path, *(path.glob("*.yaml") if path.is_dir() else ())])


def _silent(url: str) -> Finding:
    from sluicegate.operations.diagnosis.finding import fail

    return fail("gateway", f"{url} does not answer as this state folder's gateway", "see its log, or set SLUICEGATE_ADMIN_TOKEN")


def _health_of(settings: Settings) -> dict[str, Any] | None:
    """Return what a running gateway says of itself; None where it does not answer, or not to this state folder's token."""
    from sluicegate.cli.backend import admin_token
    from sluicegate.http_client.errors import UnreachableError
    from sluicegate.http_client.exchange import request

    try:
        token = admin_token(settings)
        answer = request("GET", f"{settings.gateway}/api/health", headers={"authorization": f"Bearer {token}"}, timeout_s=10)
        return answer.json() if answer.status == 200 else None
    except (UnreachableError, ValueError, typer.Exit):
        return None


def _developers_machine(settings: Settings) -> Iterator[Finding]:
    from sluicegate.operations.diagnosis import environment, reach

    gateway = (settings.gateway or "").rstrip("/")
    answers, found = reach.check_reach(gateway)
    yield from found
    if answers:
        if settings.key is not None:
            yield reach.check_key(gateway, settings.key)
        authority = reach.fetch_authority(gateway)
        uses_proxy = any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy"))
        if authority is not None:
            yield from reach.check_proxy(gateway, settings.key, authority)
        if authority is not None and uses_proxy:
            yield from environment.check_trust(authority, os.environ)
    yield from environment.check_environment(gateway, settings.key, os.environ)
