"""The architecture: who may import whom, how large a file may be, and what every hook wears."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from support.sources import ADDONS, nodes, tree
from support.tiers import TIERS, drawing

CORE = ADDONS / "sluicegate"

FLAT_FILES = 16
"""Modules that may stand flat in the core, and in ``runtime/``; more belong in packages."""


def imports(path: Path) -> set[str]:
    """The modules a file imports when it is imported: not lazily, not for types alone."""
    found: set[str] = set()
    for node in tree(path).body:
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{a.name}" for a in node.names}
    return found


def tier(module: str) -> int:
    return next(i for i, names in enumerate(TIERS.values()) if module in names)


def parts_of_core(name: str) -> str | None:
    """The package or flat module of the core that an import names; None for anything else."""
    parts = name.split(".")
    if parts[0] != "sluicegate" or len(parts) == 1:
        return None
    return parts[1] if (CORE / f"{parts[1]}.py").exists() or (CORE / parts[1]).is_dir() else None


MODULES = [p for p in sorted(CORE.rglob("*.py")) if p.parent != CORE or p.name != "__init__.py"]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(CORE)))
def test_the_core_never_imports_mitmproxy_and_imports_run_downward(path):
    mine = path.relative_to(CORE).parts[0].removesuffix(".py")
    for name in imports(path):
        assert not name.startswith("mitmproxy")
        other = parts_of_core(name)
        if other is not None and other != mine:
            flat = (CORE / f"{other}.py").exists() and (CORE / f"{mine}.py").exists()
            assert tier(other) < tier(mine) or (flat and tier(other) == tier(mine)), (
                f"{mine} imports {other}, which is not below it"
            )


def test_every_module_of_the_core_has_a_tier():
    names = {p.relative_to(CORE).parts[0].removesuffix(".py") for p in MODULES}
    assert sorted(names) == sorted(name for tier in TIERS.values() for name in tier)


def test_the_drawing_of_the_tiers_shows_them_as_they_are():
    assert (CORE.parents[1] / "docs/tiers.svg").read_text() == drawing()


HTTP_LIBRARIES = {"httpx", "httpcore", "requests", "urllib3", "aiohttp", "http.client", "urllib.request"}


def test_one_package_uses_an_http_library():
    """Imports inside functions count too: no redirect, no proxy and no logged URL is decided in one place."""
    users = {
        path
        for path in ADDONS.rglob("*.py")
        for name in all_imports(path)
        if any(name == library or name.startswith(f"{library}.") for library in HTTP_LIBRARIES)
    }
    assert {str(path.parent.relative_to(ADDONS)) for path in users} == {"sluicegate/http_client"}


def test_values_imports_nothing_of_ours():
    assert not [name for name in imports(CORE / "values.py") if name.startswith("sluicegate")]


@pytest.mark.parametrize("folder", [CORE, ADDONS / "runtime"], ids=lambda p: p.name)
def test_few_files_stand_flat(folder):
    assert len(list(folder.glob("*.py"))) <= FLAT_FILES


MOST_PACKAGES = 39
"""Packages that a stranger can still take in from one drawing: those of the core, its flat files, the addons and ``runtime/``."""


def test_the_packages_fit_one_drawing():
    packages = [path for path in CORE.iterdir() if (path / "__init__.py").exists()]
    assert len(packages) + len((CORE, ADDONS, ADDONS / "runtime")) <= MOST_PACKAGES


@cache
def all_imports(path: Path) -> set[str]:
    """The modules a file imports anywhere, lazily and for types alone too."""
    found: set[str] = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{a.name}" for a in node.names}
    return found


def test_no_module_is_part_of_a_circle_of_imports():
    graph: dict[str, set[str]] = {}
    for path in sorted(ADDONS.rglob("*.py")):
        name = ".".join(path.relative_to(ADDONS).with_suffix("").parts).removesuffix(".__init__")
        graph[name] = all_imports(path)
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail[trail.index(name) :], name))
        if name in done:
            return
        for other in sorted(graph[name] & graph.keys()):
            # ``from package import module`` names both; the package's own file is not a step of its own.
            if other != name and not name.startswith(f"{other}."):
                visit(other, (*trail, name))
        done.add(name)

    for name in graph:
        visit(name, ())


def test_importing_the_core_does_not_import_mitmproxy():
    code = "import sys, sluicegate.services, sluicegate.web.app, sluicegate.providers.anthropic.simulator; sys.exit('mitmproxy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ADDONS, env={"PYTHONPATH": str(ADDONS)}).returncode == 0


GOVERNANCE = sorted(p.stem for p in ADDONS.glob("*.py") if p.stem not in ("gateway", "flow"))


@pytest.mark.parametrize("name", GOVERNANCE)
def test_addons_never_import_each_other_and_are_one_class_in_one_file(name):
    others = {*GOVERNANCE, "runtime"} - {name}
    assert not {i.split(".")[0] for i in imports(ADDONS / f"{name}.py")} & others
    module = importlib.import_module(name)
    (addon,) = module.addons
    assert type(addon).__name__.lower() == name
    assert type(addon).__doc__


RUNTIME = ADDONS / "runtime"


@pytest.mark.parametrize("path", sorted(RUNTIME.rglob("*.py")), ids=lambda p: str(p.relative_to(RUNTIME)))
def test_runtime_modules_import_no_governance_addon(path):
    assert not {i.split(".")[0] for i in imports(path)} & {*GOVERNANCE, "gateway"}


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
    gateway = importlib.import_module("gateway")
    assert [type(a).__name__ for a in gateway.GOVERNANCE] == [
        "Admin",
        "Identity",
        "Egress",
        "Meter",
        "Route",
        "Access",
        "RateLimit",
        "Cache",
        "Budget",
        "Relay",
        "Keys",
        "Content",
        "Audit",
        "PromptCache",
        "Live",
    ]
    assert gateway.addons == gateway.RUNTIME + gateway.GOVERNANCE


def test_the_drawing_of_the_chain_names_the_addons_in_order():
    shown = re.findall(r">(\w+)</text>", (CORE.parents[1] / "docs/chain.svg").read_text())
    names = [type(a).__name__.lower() for a in importlib.import_module("gateway").GOVERNANCE] + ["failsafe"]
    assert [name for name in shown if name in names] == names


def test_gateway_holds_the_two_lists_and_nothing_else():
    tree = ast.parse((ADDONS / "gateway.py").read_text())
    assigned = [node.targets[0].id for node in tree.body if isinstance(node, ast.Assign)]
    assert assigned == ["RUNTIME", "GOVERNANCE", "addons"]
    assert all(isinstance(node, ast.Assign | ast.ImportFrom | ast.Expr) for node in tree.body)


# -- names -------------------------------------------------------------------------------------------------------------

RETIRED_MODULES = frozenset(
    (
        *("calm", "footing", "beside", "together", "tally", "scrape", "families", "aliases", "veil", "post", "recorded", "records"),
        *("trail", "edit", "editor", "yamledit", "actions", "place", "inner", "who", "bodies", "pace", "prune"),
        *("sweep", "bounds", "shortcuts", "guard", "lastgate", "drain", "desk", "say"),
    )
)
"""Names that modules had and that do not say what is in them."""

VAGUE = re.compile(r"_*(calm|footing|veil|beside|together|tally|hush|house|desk|tell|told|said|say)", re.IGNORECASE)


def test_no_module_has_a_name_that_does_not_say_what_is_in_it():
    found = {str(path.relative_to(CORE).with_suffix("")) for path in CORE.rglob("*.py") if path.stem in RETIRED_MODULES}
    assert not found


@pytest.mark.parametrize("path", sorted(ADDONS.rglob("*.py")), ids=lambda p: str(p.relative_to(ADDONS)))
def test_what_is_defined_has_a_name_of_its_own(path):
    """A variable called for its having been said could be anything."""
    for node in nodes(path):
        name = None
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = node.name
        elif isinstance(node, ast.arg):
            name = node.arg
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            name = node.id if isinstance(node, ast.Name) else node.attr
        assert name is None or not VAGUE.fullmatch(name), f"{name} in line {node.lineno}"


# -- mitmproxy's own machinery -----------------------------------------------------------------------------------------

PATCHES = RUNTIME / "patches.py"
ADAPTERS = sorted(p for p in ADDONS.rglob("*.py") if not p.is_relative_to(CORE))


def names_from_mitmproxy(tree: ast.AST) -> set[str]:
    """The names in a file that stand for a module, class or function of mitmproxy's, wherever they are imported."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {(a.asname or a.name).split(".")[0] for a in node.names if a.name.split(".")[0] == "mitmproxy"}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "mitmproxy":
            found |= {a.asname or a.name for a in node.names}
    return found


def root_of(node: ast.expr) -> str | None:
    """The name with which a chain of attributes, items and calls begins."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None


def assignments(tree: ast.AST) -> list[ast.expr]:
    """Whatever is assigned to or deleted."""
    found: list[ast.expr] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.Delete):
            found += node.targets
        elif isinstance(node, ast.AugAssign | ast.AnnAssign | ast.For | ast.AsyncFor | ast.NamedExpr):
            found.append(node.target)
        elif isinstance(node, ast.withitem) and node.optional_vars is not None:
            found.append(node.optional_vars)
    return [part for target in found for part in (target.elts if isinstance(target, ast.Tuple | ast.List) else [target])]


def assigns_to_mitmproxy(source: str) -> list[int]:
    """The lines that assign to an attribute of mitmproxy's, or that could without its being seen."""
    tree = ast.parse(source)
    theirs = names_from_mitmproxy(tree)
    lines: list[int] = []
    for target in assignments(tree):
        past_attributes = any(isinstance(node, ast.Attribute) and node.attr == "__dict__" for node in ast.walk(target))
        if isinstance(target, ast.Attribute | ast.Subscript) and (past_attributes or root_of(target) in theirs):
            lines.append(target.lineno)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
            on = root_of(node.args[0]) if node.args else None
            if called in ("setattr", "delattr", "__setattr__", "__delattr__") and on not in ("self", "cls"):
                lines.append(node.lineno)
    return lines


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def uses_private_names_of_mitmproxy(source: str) -> list[int]:
    """The lines that import or look up a name that mitmproxy begins with an underscore."""
    tree = ast.parse(source)
    theirs = names_from_mitmproxy(tree)
    lines: list[int] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            lines += [node.lineno for a in node.names if a.name.startswith("mitmproxy.") and any(map(private, a.name.split(".")))]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "mitmproxy":
            words = [*(node.module or "").split("."), *(a.name for a in node.names)]
            lines += [node.lineno] * any(map(private, words))
        elif isinstance(node, ast.Attribute) and private(node.attr):
            lines += [node.lineno] * (root_of(node) in theirs)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", None) in ("getattr", "hasattr") and len(node.args) > 1:
            name = node.args[1]
            if isinstance(name, ast.Constant) and isinstance(name.value, str) and private(name.value):
                lines.append(node.lineno)
    return lines


@pytest.mark.parametrize("path", ADAPTERS, ids=lambda p: str(p.relative_to(ADDONS)))
def test_only_the_table_of_patches_assigns_to_mitmproxy(path):
    if path != PATCHES:
        assert assigns_to_mitmproxy(path.read_text()) == []


@pytest.mark.parametrize("path", ADAPTERS, ids=lambda p: str(p.relative_to(ADDONS)))
def test_only_runtime_uses_private_names_of_mitmproxy(path):
    if not path.is_relative_to(RUNTIME):
        assert uses_private_names_of_mitmproxy(path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "from mitmproxy import http\nhttp.Headers.get = None",
        "from mitmproxy.net.http import http1 as parser\nparser.read_request_head = None",
        "def f():\n    import mitmproxy.http\n    mitmproxy.http.Headers.get = None",
        "from mitmproxy import ctx\nctx.master.addons.chain[0] = None",
        "from mitmproxy import ctx\none, ctx.master.addons = 1, 2",
        "from mitmproxy import ctx\ndel ctx.master.addons.trigger",
        "from mitmproxy import ctx\nctx.master.count += 1",
        "setattr(thing, name, value)",
        "object.__setattr__(thing, name, value)",
        "thing.__dict__[name] = value",
    ],
)
def test_an_assignment_to_mitmproxy_is_seen(source):
    assert assigns_to_mitmproxy(source)


@pytest.mark.parametrize(
    "source",
    [
        "from mitmproxy.proxy.layers.http import _http1",
        "from mitmproxy.proxy.layers.http._http1 import Http1Server",
        "import mitmproxy.proxy.layers.http._http1",
        "from mitmproxy import ctx\nctx.master._legacy_log_events",
        "getattr(master, '_legacy_log_events', None)",
    ],
)
def test_a_private_name_of_mitmproxy_is_seen(source):
    assert uses_private_names_of_mitmproxy(source)


@pytest.mark.parametrize(
    "source",
    [
        "from mitmproxy import http\ndef hook(flow: http.HTTPFlow) -> None:\n    flow.response = http.Response.make(503)",
        "from mitmproxy import ctx\nself._count = ctx.options.count",
        "from __future__ import annotations\nself.__class__.__name__",
    ],
)
def test_what_mitmproxy_publishes_may_be_used(source):
    assert assigns_to_mitmproxy(source) == uses_private_names_of_mitmproxy(source) == []


MAX_FILE_LINES, MAX_CLASS_LINES, MAX_FUNCTION_LINES = 350, 250, 60

SIZED = sorted(ADDONS.rglob("*.py"))


@pytest.mark.parametrize("path", SIZED, ids=lambda p: str(p.relative_to(ADDONS)))
def test_no_file_class_or_function_is_too_long(path):
    assert len(path.read_text().splitlines()) <= MAX_FILE_LINES
    for node in nodes(path):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            most = MAX_CLASS_LINES if isinstance(node, ast.ClassDef) else MAX_FUNCTION_LINES
            assert node.end_lineno - node.lineno + 1 <= most, node.name
