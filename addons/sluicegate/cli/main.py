"""The console script: everything an operator or a developer does that is not editing the policy."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from http.client import HTTPException
from pathlib import Path
from typing import Annotated, Any
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import typer

from sluicegate import __version__, paths
from sluicegate.cli import alerts, entity, statusline
from sluicegate.cli import client_setup as clients
from sluicegate.cli import key as key_commands
from sluicegate.cli import options as o
from sluicegate.cli.backend import token as _token
from sluicegate.cli.output import fail

app = typer.Typer(
    help="Governs AI coding agents on the wire.",
    epilog="Exit status: 0 done, 1 failed, 2 wrong usage.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
key_app = typer.Typer(help="Make, show and change virtual keys.", no_args_is_help=True, rich_markup_mode=None)
admin_app = typer.Typer(help="The admin token and what uses it.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(key_app, name="key")
app.add_typer(admin_app, name="admin")

PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}


def _version(wanted: bool) -> None:
    if wanted:
        print(f"sluicegate {__version__}")
        raise typer.Exit


@app.callback()
def main_options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Governs AI coding agents on the wire."""


@app.command(context_settings=PASS_ON)
def serve(context: typer.Context, policy: o.Policy = None, state_dir: o.State = None) -> None:
    """Run the gateway. Further options are mitmdump's, such as --listen-port 9090.

    Example: sluicegate serve --policy /etc/sluicegate/policy.yaml --listen-port 9090
    """
    arguments = list(context.args)
    if policy:
        arguments += ["--set", f"policy={policy}"]
    if state_dir:
        arguments += ["--set", f"state_dir={state_dir}"]
    sys.path.insert(0, str(paths.addons_dir()))
    # Imported here alone: every other command starts without mitmproxy.
    from mitmproxy.tools import cmdline, dump, main

    import gateway

    class GatewayMaster(dump.DumpMaster):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.addons.add(*gateway.addons)

    main.run(GatewayMaster, cmdline.mitmdump, arguments, None)


@app.command(context_settings=PASS_ON)
def run(
    context: typer.Context,
    gateway: o.Gateway = None,
    key: o.Key = None,
    policy: o.Policy = None,
    state_dir: o.State = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the variables instead.")] = False,
    as_json: o.Json = False,
) -> None:
    """Run a command with its traffic through the gateway; one is started for its life if none is given.

    Example: sluicegate run --key vk-dev-alice -- claude -p "say hi"
    """
    command = list(context.args)
    if not command and not dry_run:
        fail("give the command to run after --, such as: sluicegate run -- claude", 2)
    own = None
    try:
        if gateway is None:
            own, gateway = _start(policy, state_dir)
        with tempfile.TemporaryDirectory(prefix="sluicegate-") as folder:
            ca, bundle = _certificates(gateway, Path(folder))
            values = clients.variables(gateway, key, str(ca), str(bundle))
            if dry_run:
                print(json.dumps(values, indent=2) if as_json else clients.shell(values).rstrip())
                return
            command = statusline.shown_by(command, os.environ)
            raise typer.Exit(_child(command, values, secret=_secret_variables(policy) if own else {"SLUICEGATE_ADMIN_TOKEN"}))
    finally:
        if own is not None:
            own.terminate()
            own.wait(10)


def _start(policy: str | None, state_dir: str | None) -> tuple[subprocess.Popen[str], str]:
    """A gateway of our own on a free port, and its URL."""
    command = [sys.executable, "-m", "sluicegate.cli", "serve", "--listen-port", "0", "-q"]
    for name, value in (("--policy", policy), ("--state-dir", state_dir)):
        command += [name, value] if value else []
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    assert process.stderr is not None
    for line in process.stdout:
        if found := re.match(r"sluicegate listens on (http://[\d.]+:\d+)", line):
            # Nobody reads its output from here on, and a full pipe would stop it.
            for stream in (process.stdout, process.stderr):
                _drain(stream)
            return process, found[1]
    fail(process.stderr.read() or "the gateway did not start")


def _drain(stream: Any) -> None:
    import threading

    threading.Thread(target=lambda: [None for _ in stream], daemon=True).start()


def _certificates(gateway: str, folder: Path) -> tuple[Path, Path]:
    """The gateway's certificate, and it together with the system's authorities."""
    try:
        with build_opener(ProxyHandler({})).open(f"{gateway}/ca.pem", timeout=10) as answer:
            own = answer.read()
    except (URLError, HTTPException, OSError, ValueError) as e:
        fail(f"the gateway at {gateway} does not answer: {e}")
    ca, bundle = folder / "ca.pem", folder / "bundle.pem"
    ca.write_bytes(own)
    bundle.write_bytes(_system_authorities() + b"\n" + own)
    return ca, bundle


def _system_authorities() -> bytes:
    import ssl

    import certifi

    for candidate in (ssl.get_default_verify_paths().cafile, "/etc/ssl/certs/ca-certificates.crt", certifi.where()):
        if candidate and Path(candidate).is_file():
            return Path(candidate).read_bytes()
    return b""


def _secret_variables(policy: str | None) -> set[str]:
    """Variables whose values are the gateway's business: an agent that inherits them would hold the real keys."""
    from sluicegate.policy.loader import load
    from sluicegate.policy.secrets import variable_of

    loaded = load(paths.policy_path(policy, os.environ), env=os.environ, now=0)
    variables = {variable_of(k.source) for p in loaded.providers.values() for k in p.keys}
    return {"SLUICEGATE_ADMIN_TOKEN", *filter(None, variables), *loaded.alerts.variables}


def _child(command: list[str], values: dict[str, str], secret: set[str]) -> int:
    """Run the command in our place: its terminal, its signals, its exit status."""
    inherited = {name: value for name, value in os.environ.items() if name not in secret}
    try:
        child = subprocess.Popen(command, env=inherited | values)
    except OSError as e:
        fail(f"{command[0]}: {e.strerror}", 127)
    # Ctrl-C reaches the child from the terminal itself; we only must not die before it.
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    code = child.wait()
    return 128 - code if code < 0 else code


@app.command()
def usage(policy: o.Policy = None, state_dir: o.State = None, as_json: o.Json = False) -> None:
    """What every scope has used of its limits, also while a gateway runs.

    Example: sluicegate usage --json
    """
    from sluicegate.limits.usage import usage_rows
    from sluicegate.policy.loader import PolicyError, load
    from sluicegate.storage.store import FILENAME, read_ledger

    now = int(time.time() * 1000)
    try:
        loaded = load(paths.policy_path(policy, os.environ), env=os.environ, now=now)
        rows = usage_rows(loaded, read_ledger(paths.state_dir(state_dir, os.environ) / FILENAME), now)
    except PolicyError as e:
        fail(str(e))
    except sqlite3.Error as e:
        fail(f"the ledger cannot be read: {e}")
    if as_json:
        print(json.dumps({"usage": rows}, indent=2))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("kind", "id", "window", "limit", "used", "reserved", "", "resets_at"):
        table.add_column(name, justify="right" if name in ("limit", "used", "reserved") else "left", no_wrap=True)
    for row in rows:
        money = row["unit"] == "usd"
        numbers = (
            [row["limit_usd"], row["used_usd"], row["reserved_usd"]] if money else [row["limit"], row["used"], row["reserved"]]
        )
        shown = [f"${float(n):,.2f}" if money else f"{n:,} {row['unit'] if i == 0 else ''}".strip() for i, n in enumerate(numbers)]
        # A model's id is a pattern, whose brackets are no markup.
        table.add_row(
            row["kind"],
            escape(row["id"]),
            row["window"] or "",
            *shown,
            _bar(*map(float, numbers)),
            (row["resets_at"] or "never")[:16],
        )
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def _bar(limit: float, used: float, reserved: float) -> str:
    share = min(1.0, (used + reserved) / limit) if limit else 1.0
    full = round(share * 12)
    colour = "red" if share >= 1 else "yellow" if share >= 0.8 else "green"
    return f"[{colour}]{'█' * full}[/][dim]{'░' * (12 - full)}[/]"


@app.command()
def check(files: Annotated[list[Path], typer.Argument(help="Policy files or folders.")], as_json: o.Json = False) -> None:
    """Validate policies: every problem with its line, exit status 1 if there is any.

    Example: sluicegate check policies/acme.yaml
    """
    from sluicegate.policy.loader import PolicyError, load

    results: list[dict[str, Any]] = []
    for file in files:
        try:
            loaded = load(file, env=os.environ, now=int(time.time() * 1000))
        except PolicyError as e:
            results.append({"file": str(file), "ok": False, "problems": [vars_of(p) for p in e.problems]})
            if not as_json:
                print(str(e), file=sys.stderr)
            continue
        results.append({"file": str(file), "ok": True, "revision": loaded.revision, "warnings": loaded.warnings})
        if not as_json:
            keys, limits = len(loaded.virtual_keys), len(loaded.all_limits())
            print(f"{file}: ok, revision {loaded.revision}, {keys} virtual keys, {limits} limits")
            for warning in loaded.warnings:
                print(f"{file}: warning: {warning}", file=sys.stderr)
    if as_json:
        print(json.dumps(results, indent=2))
    raise typer.Exit(0 if all(r["ok"] for r in results) else 1)


def vars_of(problem: Any) -> dict[str, Any]:
    """A problem as plain values."""
    return {name: getattr(problem, name) for name in ("file", "line", "path", "message")}


@app.command()
def env(
    gateway: o.Gateway = "http://127.0.0.1:8080",
    key: o.Key = None,
    form: Annotated[str, typer.Option("--format", help="shell, powershell or claude-settings.")] = "shell",
    ca: Annotated[Path, typer.Option("--ca", help="Where the gateway's certificate is, or is to be.")] = Path(
        "~/.sluicegate-ca.pem"
    ),
    as_json: o.Json = False,
) -> None:
    """Print what a developer machine needs, fetching the gateway's certificate.

    Example: eval "$(sluicegate env --key vk-dev-alice)"
    """
    if form not in clients.FORMATS:
        fail(f"--format {form}: choose one of {', '.join(clients.FORMATS)}", 2)
    target = ca.expanduser()
    with tempfile.TemporaryDirectory() as folder:
        own, bundle = _certificates(gateway or "", Path(folder))
        target.write_bytes(own.read_bytes())
        whole = target.with_name(target.stem + "-bundle.pem")
        whole.write_bytes(bundle.read_bytes())
    values = clients.variables(gateway or "", key, str(target), str(whole))
    shown = clients.FORMATS[form](values)
    if form == "claude-settings":
        shown = clients.claude_settings(values, statusline.settings())
    print(json.dumps(values, indent=2) if as_json else shown.rstrip())


@key_app.command("new")
def key_new(key_id: Annotated[str, typer.Option("--id", help="The key's id.")] = "vk-new", as_json: o.Json = False) -> None:
    """Make a virtual key: its value, shown once, and the lines for the policy.

    Example: sluicegate key new --id vk-dev-bob
    """
    value = "sk-sg-" + secrets.token_urlsafe(32)
    if as_json:
        print(json.dumps({"id": key_id, "value": value, "value_hash": _hash(value)}))
        return
    print(f"{value}\n\nThe value is not kept anywhere. For the policy:\n\n  - id: {key_id}\n    value_hash: {_hash(value)}")


@key_app.command("hash")
def key_hash(as_json: o.Json = False) -> None:
    """Print the value_hash of a value read from standard input, so that it never stands in a command line.

    Example: printf %s "$VALUE" | sluicegate key hash
    """
    import getpass

    value = getpass.getpass("value: ") if sys.stdin.isatty() else sys.stdin.read().strip()
    if not value:
        fail("there was no value on standard input", 2)
    print(json.dumps({"value_hash": _hash(value)}) if as_json else _hash(value))


def _hash(value: str) -> str:
    return "sha256:" + hashlib.sha256(value.encode()).hexdigest()


@admin_app.command("token")
def admin_token(state_dir: o.State = None, as_json: o.Json = False) -> None:
    """Print the admin token.

    Example: curl -H "Authorization: Bearer $(sluicegate admin token)" http://127.0.0.1:8080/metrics
    """
    token = _token(state_dir)
    print(json.dumps({"token": token}) if as_json else token)


@admin_app.command("curl-setup")
def admin_curl_setup(
    state_dir: o.State = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be written.")] = False,
) -> None:
    """Let plain curl commands administer the gateway: netrc-optional in ~/.curlrc, the token in ~/.netrc.

    Example: sluicegate admin curl-setup && curl http://localhost:8080/metrics
    """
    token = _token(state_dir)
    home = Path.home()
    curlrc, netrc = home / ".curlrc", home / ".netrc"
    lines = (curlrc.read_text() if curlrc.exists() else "").splitlines()
    if "netrc-optional" not in [x.strip() for x in lines]:
        lines.append("netrc-optional")
    hosts = ("localhost", "127.0.0.1")
    kept = [
        x
        for x in (netrc.read_text() if netrc.exists() else "").splitlines()
        if not any(x.startswith(f"machine {h} login admin ") for h in hosts)
    ]
    entries = [f"machine {h} login admin password {token}" for h in hosts]
    if dry_run:
        print(f"{curlrc}: netrc-optional\n" + "\n".join(f"{netrc}: machine {h} login admin password ..." for h in hosts))
        return
    _write_private(curlrc, "\n".join(lines) + "\n")
    _write_private(netrc, "\n".join([*entries, *kept]) + "\n")
    print(f"wrote {curlrc} and {netrc}")


def _write_private(path: Path, text: str) -> None:
    """Replace a file whole, readable by its owner alone from its first moment."""
    fresh = path.with_name(path.name + ".new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    fresh.replace(path)


key_commands.register(key_app)
for kind in ("customer", "team", "user", "project"):
    app.add_typer(entity.group(kind), name=kind)
app.add_typer(alerts.app, name="alerts")
app.command()(statusline.statusline)


def main() -> None:
    """The console script's entry."""
    app(prog_name="sluicegate")
