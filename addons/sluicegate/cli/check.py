"""``sluicegate check``: every problem of a policy, with its line."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from sluicegate.cli.options import command_class


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command("check", cls=command_class("as_json"))(check)


def check(ctx: typer.Context, files: Annotated[list[Path], typer.Argument(help="Policy files or folders.")]) -> None:
    """Validate policies: every problem with its line, exit status 1 if there is any.

    Example: sluicegate check policies/acme.yaml
    """
    from sluicegate.policy.loader import PolicyError, load

    as_json = ctx.obj.as_json
    results: list[dict[str, Any]] = []
    for file in files:
        try:
            loaded = load(file, env=os.environ, now=int(time.time() * 1000))
        except PolicyError as e:
            problems = [{name: getattr(p, name) for name in ("file", "line", "path", "message")} for p in e.problems]
            results.append({"file": str(file), "ok": False, "problems": problems})
            if not as_json:
                print(str(e), file=sys.stderr)
            continue
        results.append({"file": str(file), "ok": True, "revision": loaded.revision, "warnings": loaded.warnings})
        if not as_json:
            keys, limits = len(loaded.virtual_keys), len(loaded.all_limits())
            counts = ", ".join(f"{n} {what}{'' if n == 1 else 's'}" for n, what in ((keys, "virtual key"), (limits, "limit")))
            print(f"{file}: ok, revision {loaded.revision}, {counts}")
            for warning in loaded.warnings:
                print(f"{file}: warning: {warning}", file=sys.stderr)
    if as_json:
        print(json.dumps(results, indent=2))
    raise typer.Exit(0 if all(r["ok"] for r in results) else 1)
