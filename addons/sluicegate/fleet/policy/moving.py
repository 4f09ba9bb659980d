"""Moving a policy from files into the store, and back into files. An invalid one never enters the store."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from sluicegate.atomic_write import stage, sync_folder
from sluicegate.fleet.policy.opening import reached_from, server_of_local, table_of
from sluicegate.fleet.policy.table import PolicyTable, Version, is_file_name
from sluicegate.policy.audit_trail import AuditEntry
from sluicegate.policy.diff import Difference, compare_policies, summarize
from sluicegate.policy.loader import PolicyError, load, policy_files, policy_from_files, read_files
from sluicegate.policy.model import Policy
from sluicegate.policy.source import Written
from sluicegate.yaml_document import Problem

FOLDER = Path("store")


class MoveError(Exception):
    """A policy cannot be moved; the message says why and what to do."""


class Push(NamedTuple):
    """What would be put into the store, and what that would change."""

    files: Mapping[str, str]
    policy: Policy
    present: Version | None
    changes: Sequence[Difference]
    """Compared with the policy that the store has; none where it has none."""

    @property
    def revision_before(self) -> str:
        """Return the revision that the store has; empty where it has none."""
        return "" if self.present is None else self.present.revision


class Store(NamedTuple):
    """The store's policy for one command."""

    table: PolicyTable
    node: str
    address: str


def store_of(path: Path, env: Mapping[str, str]) -> Store:
    """Return the store that a policy names, whether it is kept there or not. Raises PolicyError, StateError or StoreError."""
    server = server_of_local(path, env) or load(path, env=env, now=0).server
    reached = reached_from(server, env)
    return Store(table_of(reached), reached.name, str(reached.address()))


def plan_push(store: Store, path: Path, env: Mapping[str, str], now: int) -> Push:
    """Check the policy in a file or folder, and compare it with the store's. Raises PolicyError, MoveError or FleetError."""
    data = read_files(path)
    policy = policy_from_files(path, data, env=env, now=now)
    if policy.file.policy.source == "store":
        raise MoveError(f"{path} only says that the policy is in the store: name the file that has the policy")
    try:
        files = {file.name: text.decode() for file, text in data.items()}
    except UnicodeDecodeError as e:
        raise PolicyError([Problem(str(path), 0, "", "is not UTF-8 text")]) from e
    if bad := [name for name in files if not is_file_name(name)]:
        raise MoveError(f"{bad[0]}: a policy in the store has files that are named like policy.yaml or policy.yml")
    present = store.table.newest()
    before = None if present is None else _policy_of(present, env, now)
    changes = compare_policies(before.file, policy.file) if before is not None else []
    return Push(files, policy, present, changes)


def push(store: Store, planned: Push, who: str, note: Callable[[Sequence[AuditEntry], str, str], None]) -> int:
    """Put a planned policy into the store; return its number. ``note`` writes the audit trail, before.

    Raises MoveError where the store's policy has changed meanwhile, FleetError, or what ``note`` raises.
    """
    before, after = planned.revision_before, planned.policy.revision
    entries = [AuditEntry("push", *change) for change in planned.changes] or [AuditEntry("push", "policy", "text", None, None)]
    note(entries, before, after)
    summary = summarize(list(planned.changes)) if planned.present is not None else "the first policy"
    expected = 0 if planned.present is None else planned.present.number
    number = store.table.put(expected, planned.files, Written(after, who, "push", summary), store.node)
    if number is None:
        note([AuditEntry("push not applied", "policy", "text", None, None)], before, before)
        raise MoveError("the policy in the store has changed meanwhile: look at it again, by --dry-run")
    return number


def pull(version: Version, folder: Path, *, replace: bool, write: bool) -> list[Path]:
    """Write a version's files into a folder, readable by its owner alone; return those that differ. Raises MoveError or OSError.

    A file that is there and differs is replaced only if ``replace``. The folder is made, if it does not exist.
    """
    if not version.files:
        raise MoveError(f"version {version.number} in the store, revision {version.revision}, is none that sluicegate has written")
    present = {file.name: file.read_bytes() for file in policy_files(folder)} if folder.is_dir() else {}
    wanted = {name: text.encode() for name, text in version.files.items()}
    if stray := sorted(present.keys() - wanted.keys()):
        raise MoveError(f"{folder} has other files of a policy ({', '.join(stray)}): name an empty folder")
    differ = [name for name, data in wanted.items() if present.get(name) != data]
    if (there := [name for name in differ if name in present]) and not replace:
        raise MoveError(f"{folder} has another {', '.join(there)}: --replace replaces it")
    if write and differ:
        folder.mkdir(parents=True, exist_ok=True)
        for name in differ:
            os.replace(stage(folder / name, wanted[name], 0o600), folder / name)
        sync_folder(folder)
    return [folder / name for name in differ]


def _policy_of(version: Version, env: Mapping[str, str], now: int) -> Policy | None:
    """Return the policy of a version; None where this program cannot read it."""
    try:
        return policy_from_files(FOLDER, {FOLDER / n: t.encode() for n, t in version.files.items()}, env=env, now=now)
    except PolicyError:
        return None
