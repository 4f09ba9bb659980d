"""The table of patches: each row fits the mitmproxy we run with, and refuses or degrades where it does not."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import pkgutil
import sys
from types import ModuleType, SimpleNamespace

import pytest
from mitmproxy import ctx
from mitmproxy.master import Master
from mitmproxy.options import Options
from mitmproxy.version import VERSION

from runtime import patches
from runtime.patches import PATCHES, Patch

ROWS = pytest.mark.parametrize("row", PATCHES, ids=lambda row: row.name)
TARGETS = pytest.mark.parametrize(
    ("row", "attribute"), [pytest.param(row, name, id=f"{row.name}-{name}") for row in PATCHES for name in row.known]
)


@pytest.fixture(autouse=True)
def _no_patch_applied(monkeypatch):
    async def make() -> Master:
        return Master(Options())

    loop = asyncio.new_event_loop()
    master = loop.run_until_complete(make())
    master._legacy_log_events.uninstall()
    monkeypatch.setattr(ctx, "master", master, raising=False)
    monkeypatch.setattr(patches, "applied", set())
    yield
    loop.close()


@pytest.fixture
def exits(monkeypatch):
    """The reasons for which the process would have ended."""
    reasons: list[str] = []

    def exit_with_error(why: str) -> None:
        reasons.append(why)
        raise SystemExit(1)

    monkeypatch.setattr(patches, "exit_with_error", exit_with_error)
    return reasons


@pytest.fixture
def moved(monkeypatch):
    """Points a row at a stand-in for its target, in which attributes may be missing or changed."""

    def move(row: Patch, **changes: object) -> tuple[Patch, SimpleNamespace]:
        owner = pkgutil.resolve_name(row.owner)
        found = {name: getattr(owner, name) for name in row.known} | changes
        module = ModuleType("stand_in")
        module.target = SimpleNamespace(**{name: value for name, value in found.items() if value is not None})
        monkeypatch.setitem(sys.modules, "stand_in", module)
        return dataclasses.replace(row, owner="stand_in:target"), module.target

    return move


@ROWS
def test_every_row_fits_this_mitmproxy_and_replaces_only_what_it_checks(row):
    assert row.mismatch() is None
    if row.name != "dispatch":
        assert set(row.replacements(pkgutil.resolve_name(row.owner))) <= set(row.known)


@TARGETS
def test_a_row_whose_target_is_missing_refuses_to_start_or_is_left_out(row, attribute, moved, exits, caplog):
    broken, target = moved(row, **{attribute: None})
    before = dict(vars(target))
    what = f"stand_in:target.{attribute}"
    assert broken.mismatch() == what
    line = f"patch {row.name} does not fit mitmproxy {VERSION} ({what} is missing or has changed): {row.without_it}"
    with caplog.at_level(logging.WARNING, "sluicegate"):
        if row.on_mismatch == "refuse":
            with pytest.raises(SystemExit):
                patches.put_in_place(broken)
            assert (exits, caplog.messages) == ([line], [])
        else:
            patches.put_in_place(broken)
            assert (exits, caplog.messages) == ([], [line])
    assert patches.applied == set()
    assert dict(vars(target)) == before


@TARGETS
def test_a_row_whose_target_takes_other_arguments_does_not_fit(row, attribute, moved):
    if row.known[attribute] is not None:
        broken, _ = moved(row, **{attribute: lambda one, two, three, four: None})
        assert broken.mismatch() == f"stand_in:target.{attribute}"


@ROWS
def test_a_row_whose_owner_is_gone_does_not_fit(row):
    for owner in ("mitmproxy.no_such_module:Thing", "mitmproxy.http:NoSuchClass"):
        assert dataclasses.replace(row, owner=owner).mismatch() == owner


def test_a_replacement_that_needs_what_is_gone_does_not_fit_either(moved, exits, caplog):
    row = next(p for p in PATCHES if p.name == "content_length")
    broken, _ = moved(row)
    patches.put_in_place(dataclasses.replace(broken, replacements=lambda owner: {"x": owner.no_longer_here}))
    assert "no_longer_here" in caplog.text
    assert (exits, patches.applied) == ([], set())


def test_a_row_is_applied_once(moved, exits):
    row, target = moved(next(p for p in PATCHES if p.name == "content_length"))
    patches.put_in_place(row)
    first = target.parse_content_length
    patches.put_in_place(row)
    assert target.parse_content_length is first
    assert first("12") == 12
    assert patches.applied == {"content_length"}


def test_what_guards_security_refuses():
    assert {row.name for row in PATCHES if row.on_mismatch == "refuse"} == {"trailers", "answer_size", "dial", "listen"}
