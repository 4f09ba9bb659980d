"""The page ``/setup``: what to type on a developer machine, for every kind of shell."""

from __future__ import annotations

from collections.abc import Sequence

from sluicegate.machines.certificates import Fingerprint
from sluicegate.machines.shells import SHELLS
from sluicegate.machines.variables import PLACEHOLDER_KEY, Machine


def setup_page(machine: Machine, fingerprints: Sequence[Fingerprint]) -> str:
    """Return the lines for every kind of shell; ``fingerprints`` are those of the gateway's CAs."""
    parts = [f"# What to type on a developer machine. Put your virtual key in the place of {PLACEHOLDER_KEY}."]
    parts += [f"# {f.as_text()}" for f in fingerprints]
    for shell in SHELLS.values():
        parts += ["", f"# ---- {shell.title} ----", shell.script(machine).rstrip()]
    parts += [
        "",
        "# ---- Claude Code alone, without the proxy ----",
        "# What it fetches, and what its shell does, does not pass the gateway then.",
        f"# ANTHROPIC_BASE_URL={machine.gateway}",
        f"# ANTHROPIC_API_KEY={PLACEHOLDER_KEY}",
        "",
        "# With sluicegate installed one line does all of it, and another undoes it:",
        f"# eval \"$(sluicegate env --gateway {machine.gateway} --key '{PLACEHOLDER_KEY}')\"",
        '# eval "$(sluicegate env --uninstall)"',
    ]
    return "\n".join([*parts, ""])
