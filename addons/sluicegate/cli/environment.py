"""``sluicegate env``: the variables and the certificate that a developer machine needs."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from sluicegate.cli import client_setup, statusline
from sluicegate.cli.options import Settings, command_class
from sluicegate.cli.output import fail

CERTIFICATE_TIMEOUT_S = 10


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command("env", cls=command_class("key", "as_json"))(env)


def env(
    ctx: typer.Context,
    gateway: Annotated[str, typer.Option("--gateway", help="The running gateway.")] = "http://127.0.0.1:8080",
    form: Annotated[str, typer.Option("--format", help="shell, powershell or claude-settings.")] = "shell",
    ca: Annotated[Path, typer.Option("--ca", help="Where to write the gateway's certificate.")] = Path("~/.sluicegate-ca.pem"),
) -> None:
    """Print what a developer machine needs, and fetch the gateway's certificate.

    Example: eval "$(sluicegate env --key vk-dev-alice)"
    """
    settings: Settings = ctx.obj
    if form not in client_setup.FORMATS:
        fail(f"--format {form}: choose one of {', '.join(client_setup.FORMATS)}", 2)
    target = ca.expanduser()
    target_bundle = target.with_name(target.stem + "-bundle.pem")
    with tempfile.TemporaryDirectory() as folder:
        own, bundle = fetch_certificates(gateway, Path(folder))
        target.write_bytes(own.read_bytes())
        target_bundle.write_bytes(bundle.read_bytes())
    values = client_setup.variables(gateway, settings.key, str(target), str(target_bundle))
    if settings.as_json:
        print(json.dumps(values, indent=2))
    elif form == "claude-settings":
        print(client_setup.claude_settings(values, statusline.settings()).rstrip())
    else:
        print(client_setup.FORMATS[form](values).rstrip())


def fetch_certificates(gateway: str, folder: Path) -> tuple[Path, Path]:
    """Write the gateway's certificate, and a bundle of it with the system's authorities; return both paths."""
    from sluicegate.http_client import UnreachableError, request

    try:
        answer = request("GET", f"{gateway.rstrip('/')}/ca.pem", timeout_s=CERTIFICATE_TIMEOUT_S)
    except UnreachableError as e:
        fail(f"the gateway at {gateway} does not answer: {e}")
    if answer.status != 200:
        fail(f"the gateway at {gateway} does not answer with its certificate but with status {answer.status}")
    ca, bundle = folder / "ca.pem", folder / "bundle.pem"
    ca.write_bytes(answer.body)
    bundle.write_bytes(_system_authorities() + b"\n" + answer.body)
    return ca, bundle


def _system_authorities() -> bytes:
    """Return the system's certificate authorities in PEM, or certifi's where the system has none."""
    import ssl

    import certifi

    for candidate in (ssl.get_default_verify_paths().cafile, "/etc/ssl/certs/ca-certificates.crt", certifi.where()):
        if candidate and Path(candidate).is_file():
            return Path(candidate).read_bytes()
    return b""
