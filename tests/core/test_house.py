"""The house: who may import whom, and what every hook wears."""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from pathlib import Path

import pytest

ADDONS = Path(__file__).resolve().parents[2] / "addons"
CORE = ADDONS / "sluicegate"

FLOORS = [
    {"calm", "call", "paths", "windows", "yamlfile", "models", "addresses", "sse", "decode", "exposition", "post", "sessions"}
    | {"atomic", "beside"},
    {"providers", "schema", "estimate", "explain", "yamledit", "veil"},
    {"policy", "pricing", "records", "entities", "tally", "verdicts"},
    {"refusals", "ledger", "loader", "webhooks", "journal", "keyring", "alerts", "edit", "actions", "trail", "differences"},
    {"store", "usage", "metrics", "families", "aliases", "scrape", "outbox", "simulator", "watch", "rehearsal", "live", "logs"}
    | {"revisions", "recorded", "content", "together", "recovery"},
    {"statusline", "editor", "views", "notify", "footing", "history"},
    {"services"},
    {"web"},
    {"banner", "cli", "clients", "commands"},
]
"""From the ground up. A module imports from floors below its own, or beside it."""


def imports(path: Path) -> set[str]:
    """The modules a file imports when it is imported: not lazily, not for types alone."""
    tree = ast.parse(path.read_text())
    found: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{a.name}" for a in node.names}
    return found


def floor(module: str) -> int:
    return next(i for i, names in enumerate(FLOORS) if module in names)


MODULES = [p for p in sorted(CORE.rglob("*.py")) if p.name != "__init__.py" or p.parent != CORE]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(CORE)))
def test_the_core_never_imports_mitmproxy_and_imports_run_downward(path):
    mine = path.relative_to(CORE).parts[0].removesuffix(".py")
    for name in imports(path):
        assert not name.startswith("mitmproxy")
        parts = name.split(".")
        if parts[0] == "sluicegate" and len(parts) > 1 and (CORE / f"{parts[1]}.py").exists() | (CORE / parts[1]).is_dir():
            assert floor(parts[1]) <= floor(mine), f"{mine} imports {parts[1]} from a floor above"


def test_importing_the_core_does_not_import_mitmproxy():
    import subprocess

    code = "import sys, sluicegate.services, sluicegate.web.app, sluicegate.simulator; sys.exit('mitmproxy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ADDONS, env={"PYTHONPATH": str(ADDONS)}).returncode == 0


FLAT = sorted(p.stem for p in ADDONS.glob("*.py"))


@pytest.mark.parametrize("name", [n for n in FLAT if n not in ("gateway", "adapter")])
def test_addons_never_import_each_other_and_are_one_class_in_one_file(name):
    others = {n for n in FLAT if n not in ("adapter", name)}
    assert not {i.split(".")[0] for i in imports(ADDONS / f"{name}.py")} & others
    module = importlib.import_module(name)
    (addon,) = module.addons
    assert type(addon).__name__.lower() == name
    assert type(addon).__doc__


HOOKS = {"http_connect", "requestheaders", "request", "responseheaders", "response", "error"}


def test_every_flow_hook_of_the_chain_is_enforcing_or_observing():
    worn = 0
    for addon in importlib.import_module("gateway").addons:
        for name, hook in inspect.getmembers(type(addon), callable):
            if name in HOOKS:
                worn += 1
                assert getattr(hook, "enforcing", False) or getattr(hook, "observing", False), f"{type(addon).__name__}.{name}"
    assert worn > 20


def test_the_chain_is_in_order():
    names = [type(a).__name__ for a in importlib.import_module("gateway").addons]
    assert names == [
        "Guard",
        "Redact",
        "Pace",
        "Shortcuts",
        "Dispatch",
        "Prune",
        "Bounds",
        "Trailers",
        "Drain",
        "Sweep",
        "Admin",
        "Identity",
        "Egress",
        "Meter",
        "Access",
        "RateLimit",
        "Budget",
        "Keys",
        "Content",
        "Audit",
        "Live",
    ]
