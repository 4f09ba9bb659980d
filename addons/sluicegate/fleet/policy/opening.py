"""Where the policy of a gateway is kept, as its file says: in that file, or in the store that the file names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sluicegate.fleet.node import node_name
from sluicegate.fleet.policy.source import StoreSource
from sluicegate.fleet.policy.table import PolicyTable
from sluicegate.fleet.store.postgresql import PostgresEngine
from sluicegate.fleet.store.reach import Reached, store_address
from sluicegate.fleet.store.sqlite import FILENAME
from sluicegate.policy.file_source import FileSource
from sluicegate.policy.loader import PolicyError, build_policy, read_files, revision_of
from sluicegate.policy.model import Policy
from sluicegate.policy.server_schema import Server
from sluicegate.policy.source import PolicySource
from sluicegate.policy.store_address import VARIABLE, StoreAddressError
from sluicegate.policy.watcher import PolicyWatcher
from sluicegate.storage.errors import StoreError
from sluicegate.storage.state_folder import make_folder
from sluicegate.yaml_document import Document, Problem, parse

LOCAL = {"version": None, "policy": ("source",), "server": ("store", "store_password")}
"""What may stand in a file whose policy is in the store."""


def open_source(path: Path, state_dir: Path, env: Mapping[str, str]) -> PolicySource:
    """Return where the policy is kept; of one in the store the version in force has been fetched.

    Waits a minute for a store that cannot be reached, unless the state folder has a copy. Raises PolicyError, StateError or
    StoreError.
    """
    server = server_of_local(path, env)
    if server is None:
        return FileSource(path)
    make_folder(state_dir)
    reached = reached_from(server, env)
    source = StoreSource(path, state_dir, table_of(reached), reached.name, reached)
    source.open()
    return source


def reached_from(server: Server, env: Mapping[str, str]) -> Reached:
    """Return how the store is reached that a file's ``server`` or the environment names. Raises as ``open_source``."""
    try:
        address = store_address(server, env)
    except StoreAddressError as e:
        raise StoreError(str(e)) from e
    if address is None:
        raise StoreError(f"policy.source: neither server.store nor {VARIABLE} names the store that has the policy")
    return Reached(server, dict(env), node_name(env))


def table_of(reached: Reached) -> PolicyTable:
    """Return the table of the policy in a store, not connected yet."""
    return PolicyTable(PostgresEngine(reached.connect))


def server_of_local(path: Path, env: Mapping[str, str]) -> Server | None:
    """Return what a file says of the store that has its policy; None where the file is the policy. Raises PolicyError."""
    try:
        data = read_files(path)
    except PolicyError:
        # Reported by whoever reads the policy.
        return None
    if not any(b"source" in text and b"store" in text for text in data.values()):
        return None
    docs = [parse(text, str(file)) for file, text in data.items()]
    if not any(_is_elsewhere(doc) for doc in docs):
        return None
    policy = build_policy(path, docs, revision_of(data), env=env, now=0)
    if problems := [problem for doc in docs for problem in _beyond(doc)]:
        raise PolicyError(problems)
    return policy.server


def load_policy(path: Path, state_dir: Path, env: Mapping[str, str], now: int) -> Policy:
    """Load the policy for a command, wherever it is kept. Raises as ``open_source``."""
    return PolicyWatcher(open_source(path, state_dir, env), env, lambda: now).current


def store_name(path: Path, state_dir: Path, env: Mapping[str, str]) -> str:
    """Return the name of the store that gateways share: the file of workers, or an address. Raises as ``open_source``."""
    source = open_source(path, state_dir, env)
    if isinstance(source, StoreSource) and source.reached is not None:
        return str(source.reached.address())
    address = store_address(PolicyWatcher(source, env, lambda: 0).current.server, env)
    return FILENAME if address is None else str(address)


def _is_elsewhere(doc: Document) -> bool:
    section = doc.value.get("policy") if isinstance(doc.value, dict) else None
    return isinstance(section, dict) and section.get("source") == "store"


def _beyond(doc: Document) -> list[Problem]:
    """Return what a file has that belongs into the store."""
    why = "the policy is in the store (policy.source): this file may only say how to reach it, by server.store"
    found = []
    for name, value in doc.value.items():
        if name not in LOCAL:
            found.append(Problem(doc.file, doc.line((name,)), name, why))
        elif (allowed := LOCAL[name]) is not None and isinstance(value, dict):
            found += [Problem(doc.file, doc.line((name, key)), f"{name}.{key}", why) for key in value if key not in allowed]
    return found
