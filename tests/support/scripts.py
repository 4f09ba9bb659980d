"""The commands in scripts/, run as a user runs them."""

from __future__ import annotations

import os
import subprocess

from support.harness import ROOT


def run_script(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a script with little of our environment and return what it has printed."""
    env = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "COLUMNS": "160"}
    return subprocess.run([ROOT / "scripts" / name, *map(str, arguments)], env=env, capture_output=True, text=True, timeout=3600)
