"""``sluicegate env``: what a developer machine needs, for this one, for another person's, or for a whole fleet."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from sluicegate.cli import statusline
from sluicegate.cli.options import Settings, command_class
from sluicegate.cli.output import fail, note
from sluicegate.machines import claude_settings
from sluicegate.machines.certificates import BEGIN, added, bundle
from sluicegate.machines.shells import BUNDLE_FILE, CA_FILE, SHELLS
from sluicegate.machines.variables import HEADERS_VARIABLE, Machine, bypassed_hosts, inherited_no_proxy, key_variables

TIMEOUT_S = 10

FINGERPRINT = re.compile(r"[0-9A-F]{2}(:[0-9A-F]{2}){31}")
"""A SHA-256 in pairs of hex digits: it becomes part of lines that somebody's shell reads."""

FORMATS = (*SHELLS, "claude-settings", "managed-settings")

SUFFIXES = {"shell": ".sh", "powershell": ".ps1"}

CLIENT_PROVIDERS = ("anthropic", "openai", "gemini")
"""Providers whose variables are set at a gateway that does not say which it has: those of the coding agents."""

Project = Annotated[
    str | None,
    typer.Option("--project", help="What calls are for: a project or repository, by default the folder's git remote; or none."),
]
NoProxy = Annotated[
    list[str] | None, typer.Option("--no-proxy", help="A host that is called past the gateway; repeatable, or with commas.")
]


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command("env", cls=command_class("key", "as_json"))(env)


def env(
    ctx: typer.Context,
    gateway: Annotated[str, typer.Option("--gateway", help="The running gateway.")] = "http://127.0.0.1:8080",
    form: Annotated[str, typer.Option("--format", help=f"One of {', '.join(FORMATS)}.")] = "shell",
    ca: Annotated[
        Path | None, typer.Option("--ca", help=f"Where to write the gateway's certificate; ~/{CA_FILE} by default.")
    ] = None,
    no_proxy: NoProxy = None,
    print_only: Annotated[
        bool, typer.Option("--print-only", help="Write no file: the lines fetch the certificate themselves.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", help="Write the lines to this file, for another person, readable by you alone.")
    ] = None,
    keys: Annotated[
        Path | None,
        typer.Option("--keys", help="A file of keys from key create --output: a file for each, in the folder --output."),
    ] = None,
    key_command: Annotated[
        str | None, typer.Option("--key-command", help="For managed-settings: what prints a developer's key.")
    ] = None,
    key_file: Annotated[
        str | None, typer.Option("--key-file", help="For managed-settings: the file that holds it, such as ~/.sluicegate-key.")
    ] = None,
    project: Project = None,
    uninstall: Annotated[bool, typer.Option("--uninstall", help="Print the lines that undo it.")] = False,
) -> None:
    """Print what a developer machine needs, and fetch the gateway's certificate.

    Example: eval "$(sluicegate env --key vk-dev-alice)"
    """
    settings: Settings = ctx.obj
    if form not in FORMATS:
        fail(f"--format {form}: choose one of {', '.join(FORMATS)}", 2)
    if uninstall:
        if form not in SHELLS:
            fail("--uninstall prints lines for a shell: give --format shell or powershell", 2)
        own = [_bundle_path(ca.expanduser()), ca.expanduser()] if ca else ()
        print(SHELLS[form].removal(own).rstrip())
    elif form == "managed-settings":
        made = _managed_settings(_checked(gateway), settings, key_command, key_file, ca, checked_project(project))
        _deliver(made, output, mode=0o644)
    elif key_command or key_file:
        fail("--key-command and --key-file go with --format managed-settings", 2)
    elif keys or (output and form in SHELLS):
        _write_hand_outs(machine_at(gateway, settings.key, no_proxy, checked_project(project)), form, output, keys)
    else:
        # Settings are for every folder, whichever this was printed in.
        named = project_here(project) if form in SHELLS else checked_project(project)
        machine = machine_at(gateway, settings.key, no_proxy, named)
        if print_only and form in SHELLS and not settings.as_json:
            print(SHELLS[form].script(machine).rstrip())
            return
        path = (ca or Path.home() / CA_FILE).expanduser().absolute()
        if not print_only:
            fetch_certificates(gateway, path, _bundle_path(path))
        note_bypass(os.environ)
        _deliver(_text(machine, form, path, settings.as_json), output, mode=0o600)


def _text(machine: Machine, form: str, ca: Path, as_json: bool) -> str:
    """Return the variables for certificates that are on this machine."""
    own_bundle = str(_bundle_path(ca))
    if form in SHELLS and not as_json:
        return SHELLS[form].assignments(machine, str(ca), own_bundle, os.environ.get(HEADERS_VARIABLE, ""))
    values = machine.values(str(ca), own_bundle, inherited_no_proxy(os.environ), os.environ.get(HEADERS_VARIABLE, ""))
    if as_json:
        return json.dumps(values, indent=2) + "\n"
    return claude_settings.text(claude_settings.settings(values, statusline.settings()))


def _managed_settings(
    gateway: str, settings: Settings, command: str | None, file: str | None, ca: Path | None, project: str | None
) -> str:
    """Return one file for all machines, which holds no key."""
    if settings.key:
        fail("--key: managed-settings.json is one file for all developers; give --key-command or --key-file instead", 2)
    if (command is None) == (file is None):
        fail("give --key-command CMD or --key-file PATH: what prints each developer's virtual key, or the file that holds it", 2)
    helper = command if command is not None else claude_settings.file_helper(file or "")
    if not helper.strip():
        fail("--key-command: it is empty", 2)
    return claude_settings.text(claude_settings.managed_settings(gateway, helper, str(ca) if ca else None, project))


def _write_hand_outs(machine: Machine, form: str, output: Path | None, keys: Path | None) -> None:
    """Write lines that need nothing on the machine but its shell: one file, or one for each row of a file of keys."""
    shell = SHELLS.get(form)
    if shell is None:
        fail("--keys writes lines for a shell: give --format shell or powershell", 2)
    if output is None:
        fail("--keys: give the folder for the files with --output", 2)
    if keys is None:
        if not machine.key:
            fail("--output: give the person's virtual key with --key", 2)
        _deliver(shell.script(machine), output, mode=0o600)
        return
    if machine.key:
        fail("give --key or --keys, not both", 2)
    rows = _rows(keys)
    try:
        output.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as e:
        fail(f"{output}: {e.strerror}", 2)
    for row in rows:
        name = re.sub(r"[^\w.@+-]", "_", row["id"]).lstrip(".") + SUFFIXES[form]
        _deliver(shell.script(replace(machine, key=row["value"])), output / name, mode=0o600)
    print(f"{len(rows)} files in {output}; each holds a key: hand them out on a way that nobody else reads, and delete them")


def _rows(keys: Path) -> list[dict[str, str]]:
    """Return the rows of a file that ``key create --output`` has written; exit if it is not one."""
    try:
        with keys.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        fail(f"{keys}: {getattr(e, 'strerror', None) or e}", 2)
    if not rows:
        fail(f"{keys}: it holds no keys", 2)
    for number, row in enumerate(rows, 2):
        if not row.get("id") or not row.get("value"):
            fail(f"{keys}: row {number} has no id or no value; give a file that sluicegate key create --output has written", 2)
    return rows


def _deliver(text: str, output: Path | None, mode: int) -> None:
    """Print a text, or write it to a new file."""
    if output is None:
        print(text.rstrip())
        return
    # Windows PowerShell takes a file for one of the old code page's without its mark.
    encoding = "utf-8-sig" if output.suffix == ".ps1" else "utf-8"
    try:
        with os.fdopen(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding=encoding) as file:
            file.write(text)
    except OSError as e:
        fail(f"{output}: {e.strerror}", 2)


def checked_project(text: str | None) -> str | None:
    """Return the project that an option names; exit if it is not one."""
    if text is None or text == "none":
        return None
    from sluicegate.policy.projects import check_claim

    try:
        return check_claim(text)
    except ValueError as e:
        fail(f"--project {text}: {e}", 2)


def project_here(text: str | None) -> str | None:
    """Return the project that an option names, else the repository of the folder that we are in."""
    from sluicegate.machines.git_remote import folder_repository

    return folder_repository(Path.cwd()) if text is None else checked_project(text)


def machine_at(gateway: str, key: str | None, no_proxy: list[str] | None, project: str | None = None) -> Machine:
    """Return what a machine is set up for, with the variables that this gateway's providers need."""
    from sluicegate.providers.known import known_providers

    url = _checked(gateway)
    hosts = tuple(host for part in no_proxy or () for word in part.split(",") if (host := word.strip()))
    for host in hosts:
        if re.search(r"[\s'\"$`\\;]", host):
            fail(f"--no-proxy {host}: it is not a host", 2)
    try:
        answer = _ask(url, "/setup.json")
        values: dict[str, Any] = json.loads(answer) if answer else {"key_variables": key_variables(CLIENT_PROVIDERS)}
        names = values["key_variables"]
        shown = [a["sha256"] for a in values.get("authorities", ())] or [values.get("ca_sha256", "")]
        # What answers may be no gateway of ours, and the shell that reads this would take any name.
        valid = [name for name in key_variables(known_providers()) if name in names]
        fingerprints = tuple(text for text in shown if FINGERPRINT.fullmatch(text))
    except (ValueError, KeyError, TypeError):
        fail(f"what answers at {gateway} is not a sluicegate gateway")
    return Machine(url, key or None, tuple(valid), hosts, fingerprints, project)


def _checked(gateway: str) -> str:
    """Return a gateway's URL without a path; exit if it is not one."""
    try:
        parts = urlsplit(gateway)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or re.search(r"[^\w.:\[\]/-]", gateway):
        fail(f"--gateway {gateway}: write it as http://HOST:PORT or https://HOST:PORT", 2)
    return f"{parts.scheme}://{parts.netloc}"


def _ask(url: str, path: str) -> bytes | None:
    """Return what the gateway answers to a GET; None if it does not know the path; exit if it does not answer."""
    from sluicegate.http_client.errors import UnreachableError
    from sluicegate.http_client.exchange import request

    try:
        answer = request("GET", url + path, timeout_s=TIMEOUT_S)
    except UnreachableError as e:
        fail(f"the gateway at {url} does not answer: {e}")
    return answer.body if answer.status == 200 else None


def fetch_certificates(gateway: str, ca: Path, target_bundle: Path) -> None:
    """Write the gateway's certificate, and a bundle of it with the system's authorities and the developer's own."""
    url = _checked(gateway)
    certificate = _ask(url, "/ca.pem")
    if certificate is None or not certificate.startswith(BEGIN):
        fail(f"the gateway at {url} does not answer with its certificate")
    try:
        certificate = added(certificate, os.environ)
        ca.write_bytes(certificate)
        target_bundle.write_bytes(bundle(certificate, os.environ))
    except OSError as e:
        fail(f"{e.filename or ca}: {e.strerror}; choose another place with --ca", 2)


def _bundle_path(ca: Path) -> Path:
    return ca.with_name(f"{ca.stem}-bundle.pem") if ca.name != CA_FILE else ca.with_name(BUNDLE_FILE)


def note_bypass(env: Mapping[str, Any]) -> None:
    """Say on stderr which providers the developer's NO_PROXY leads past the gateway."""
    if hosts := bypassed_hosts(inherited_no_proxy(env)):
        named = ", ".join(hosts[:3]) + (" and others" if len(hosts) > 3 else "")
        note(f"NO_PROXY leads past the gateway to {named}: take that out of it")
