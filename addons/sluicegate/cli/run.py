"""``sluicegate serve`` and ``sluicegate run``: the gateway itself, and a command whose traffic passes it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from sluicegate import paths
from sluicegate.cli import statusline
from sluicegate.cli.environment import NoProxy, Project, fetch_certificates, machine_at, note_bypass, project_here
from sluicegate.cli.options import Settings, command_class
from sluicegate.cli.output import fail
from sluicegate.cli.workers import MAX_WORKERS, supervise
from sluicegate.machines.shells import POSIX
from sluicegate.machines.variables import HEADERS_VARIABLE, inherited_no_proxy
from sluicegate.paths import own_command

PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
"""For commands that pass unknown arguments on: to mitmdump, or to the command they run."""

SHUTDOWN_TIMEOUT_S = 10

ADMIN_TOKEN = {"SLUICEGATE_ADMIN_TOKEN", "SLUICEGATE_ADMIN_TOKEN_FILE"}
"""Variables that lead to the admin token, which no agent inherits."""


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command("serve", cls=command_class("policy", "state_dir"), context_settings=PASS_ON)(serve)
    settings = ("gateway", "key", "policy", "state_dir", "as_json")
    app.command("run", cls=command_class(*settings), context_settings=PASS_ON)(run)


def serve(
    ctx: typer.Context,
    tls_cert: Annotated[
        str | None, typer.Option("--tls-cert", help="Certificate of the port, PEM, with its chain; reloaded when it changes.")
    ] = None,
    tls_key: Annotated[str | None, typer.Option("--tls-key", help="Its key, PEM, without a passphrase.")] = None,
    log_format: Annotated[
        str | None, typer.Option("--log-format", help="Lines of the log: text or json (env SLUICEGATE_LOG_FORMAT).")
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", min=1, max=MAX_WORKERS, help="Processes that share the port and the state folder.")
    ] = 1,
) -> None:
    """Run the gateway. Further options are mitmdump's, such as --listen-port 9090.

    Example: sluicegate serve --policy /etc/sluicegate/policy.yaml --listen-port 9090
    """
    settings: Settings = ctx.obj
    arguments = list(ctx.args)
    if bool(tls_cert) != bool(tls_key):
        fail("give --tls-cert and --tls-key together", 2)
    given = {"tls_cert": tls_cert, "tls_key": tls_key, "log_format": log_format, "policy": settings.policy}
    arguments += _set(given)
    if workers > 1:
        raise typer.Exit(supervise(workers, arguments, settings, log_format))
    arguments += _set({"state_dir": settings.state_dir})
    sys.path.insert(0, str(paths.addons_dir()))
    # Only this command imports mitmproxy: the import takes longer than any other command does.
    from mitmproxy.tools import cmdline, dump, main

    import gateway
    from runtime.network.authority import choose

    made_for: list[Any] = []

    class GatewayMaster(dump.DumpMaster):
        def __init__(self, options: Any, *args: Any, **kwargs: Any) -> None:
            super().__init__(options, *args, **kwargs)
            made_for.append(options)
            manager: Any = self.addons
            manager.add(*gateway.addons)

    def parser(options: Any) -> Any:
        made = cmdline.mitmdump(options)
        # mitmproxy turns every error of its parser into exit status 1.
        made.error = wrong_usage
        return made

    def wrong_usage(message: str) -> NoReturn:
        own = "--policy, --state-dir, --tls-cert, --tls-key, --log-format, --workers"
        fail(f"{message}; sluicegate serve takes {own} and mitmdump's own options", 2)

    def choose_authority(_: Any) -> dict[str, str]:
        # Called once the command line and mitmproxy's own file are read, which lies in its folder and not in ours.
        were_read.append(True)
        return choose(made_for[0])

    were_read: list[bool] = []
    with _words_for_config(were_read):
        main.run(GatewayMaster, parser, arguments, choose_authority)


def _set(given: Mapping[str, str | None]) -> list[str]:
    """Return mitmdump's arguments for options of ours."""
    return [word for name, value in given.items() if value for word in ("--set", f"{name}={value}")]


@contextlib.contextmanager
def _words_for_config(were_read: list[bool]) -> Iterator[None]:
    """Say what mitmproxy raises while it reads its ``config.yaml``, until something is in ``were_read``, in one line."""
    try:
        yield
    except (TypeError, AttributeError) as e:
        if were_read:
            raise
        fail(f"mitmproxy's config.yaml cannot be read: {e}")


def run(
    ctx: typer.Context,
    no_proxy: NoProxy = None,
    project: Project = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the variables instead.")] = False,
) -> None:
    """Run a command with its traffic through the gateway; one is started for it if none is given.

    Example: sluicegate run --key vk-dev-alice -- claude -p "say hi"
    """
    settings: Settings = ctx.obj
    command = list(ctx.args)
    if not command and not dry_run:
        fail("give the command to run after --, such as: sluicegate run -- claude", 2)
    gateway, started, inherited_headers = settings.gateway, None, os.environ.get(HEADERS_VARIABLE, "")
    try:
        if gateway is None:
            started, gateway = _start_gateway(settings)
        with tempfile.TemporaryDirectory(prefix="sluicegate-") as folder:
            machine = machine_at(gateway, settings.key, no_proxy, project_here(project))
            ca, bundle = Path(folder) / "ca.pem", Path(folder) / "bundle.pem"
            fetch_certificates(gateway, ca, bundle)
            if dry_run and not settings.as_json:
                print(POSIX.assignments(machine, str(ca), str(bundle), inherited_headers).rstrip())
                return
            values = machine.values(str(ca), str(bundle), inherited_no_proxy(os.environ), inherited_headers)
            if dry_run:
                print(json.dumps(values, indent=2))
                return
            note_bypass(os.environ)
            command = statusline.with_statusline(command, os.environ)
            # A gateway that was already running has its secrets in an environment of its own.
            hidden = _secret_variables(settings) if started else ADMIN_TOKEN
            raise typer.Exit(_run_child(command, values, hidden))
    finally:
        if started is not None:
            started.terminate()
            started.wait(SHUTDOWN_TIMEOUT_S)


def _start_gateway(settings: Settings) -> tuple[subprocess.Popen[str], str]:
    """Start a gateway on a free port; return it and its URL."""
    command = [*own_command(), "serve", "--listen-port", "0", "-q", "--log-format", "text"]
    for name, value in (("--policy", settings.policy), ("--state-dir", settings.state_dir)):
        command += [name, value] if value else []
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    assert process.stderr is not None
    for line in process.stdout:
        if found := re.match(r"sluicegate listens on (http://[\d.]+:\d+)", line):
            # The rest of its output is not needed, but a full pipe would block it.
            for stream in (process.stdout, process.stderr):
                threading.Thread(target=_discard, args=(stream,), daemon=True).start()
            return process, found[1]
    fail(process.stderr.read() or "the gateway did not start")


def _discard(lines: Iterable[str]) -> None:
    for _ in lines:
        pass


def _secret_variables(settings: Settings) -> set[str]:
    """Return the variables that hold the gateway's secrets: an agent that inherited them would have the provider keys."""
    from sluicegate.policy.secrets import variable_of

    loaded = settings.load_policy(0, paths.policy_path(settings.policy, os.environ))
    variables = {variable_of(k.source) for p in loaded.providers.values() for k in p.keys}
    accounts = (k.account for p in loaded.providers.values() for k in p.keys if k.account is not None)
    variables |= {variable for account in accounts for variable in account.variables}
    if loaded.otlp is not None:
        variables |= loaded.otlp.variables
    if loaded.collector is not None:
        variables |= loaded.collector.variables
    return {*ADMIN_TOKEN, *filter(None, variables), *loaded.alerts.variables}


def _run_child(command: list[str], values: dict[str, str], hidden: set[str]) -> int:
    """Run the command with our terminal and our signals; return its exit status as a shell would."""
    inherited = {name: value for name, value in os.environ.items() if name not in hidden}
    try:
        child = subprocess.Popen(command, env=inherited | values)
    except OSError as e:
        fail(f"{command[0]}: {e.strerror}", 127)
    # Ctrl-C reaches the child from the terminal itself; we only have to outlive it.
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    code = child.wait()
    return 128 - code if code < 0 else code
