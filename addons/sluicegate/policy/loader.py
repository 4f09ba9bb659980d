"""Reading a policy: a file or a folder becomes a snapshot, or a list of every mistake with its location and fix."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from sluicegate.policy import schema
from sluicegate.policy.builder import SnapshotBuilder
from sluicegate.policy.defaults import with_defaults
from sluicegate.policy.errors import describe_errors
from sluicegate.policy.merging import MergedPolicy
from sluicegate.policy.model import Policy
from sluicegate.policy.references import check_references
from sluicegate.yaml_document import Document, Problem, parse

NON_POLICY_FILES = ("prices.yaml", "prices.yml")
"""Files in a policy folder that are not part of the policy."""


class PolicyError(Exception):
    """A policy that cannot be used; ``problems`` is everything wrong with it, ``str()`` the same with one per line."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


def load(path: Path | str, *, env: Mapping[str, str], now: int) -> Policy:
    """Load the policy from a file or folder. Raises PolicyError with everything that is wrong with it, OSError never."""
    path = Path(path)
    return policy_from_files(path, read_files(path), env=env, now=now)


def read_files(path: Path) -> dict[Path, bytes]:
    """Return the contents of a policy's files, in the order they are merged. Raises PolicyError where one cannot be read."""
    try:
        return {file: file.read_bytes() for file in policy_files(path)}
    except OSError as e:
        raise PolicyError([Problem(str(path), 0, "", f"the policy cannot be read: {e.strerror or e}")]) from e


def policy_files(path: Path) -> list[Path]:
    """Return the files a policy consists of, in the order they are merged. Raises OSError."""
    if not path.is_dir():
        return [path]
    return sorted(
        p
        for p in path.iterdir()
        # Editors and Kubernetes leave hidden and half-written files in the folder.
        if p.suffix in (".yaml", ".yml")
        and not p.name.startswith((".", "#", "~"))
        and p.name not in NON_POLICY_FILES
        and p.is_file()
    )


def revision_of(files: Mapping[Path, bytes]) -> str:
    """Return the revision of a policy: 12 hexadecimal digits of a hash over its files' names and contents."""
    digest = hashlib.sha256()
    for file, data in files.items():
        digest.update(file.name.encode() + b"\0" + data + b"\0")
    return digest.hexdigest()[:12]


def policy_from_files(path: Path, files: Mapping[Path, bytes], *, env: Mapping[str, str], now: int) -> Policy:
    """Build the policy from files' contents. Raises PolicyError with everything that is wrong with it."""
    return build_policy(path, [parse(data, str(file)) for file, data in files.items()], revision_of(files), env=env, now=now)


def build_policy(path: Path, docs: Sequence[Document], revision: str, *, env: Mapping[str, str], now: int) -> Policy:
    """Build the policy from parsed files. Raises PolicyError with everything that is wrong with it."""
    if not docs:
        raise PolicyError([Problem(str(path), 0, "", "the folder has no .yaml file")])
    # What could not be parsed is reported alone: everything after it would be a consequence.
    if problems := [p for d in docs for p in d.problems]:
        raise PolicyError(problems)
    merged = MergedPolicy(docs)
    parsed: schema.PolicyFile | None = None
    try:
        parsed = schema.PolicyFile.model_validate(with_defaults(merged.values))
    except ValidationError as e:
        for location, message in describe_errors(e, schema.PolicyFile):
            merged.report(location, message)
    check_references(merged)
    if parsed is None or merged.problems:
        raise _error(merged)
    policy = SnapshotBuilder(parsed, env, merged.report).build(str(path), revision, now)
    if merged.problems:
        raise _error(merged)
    return policy


def _error(merged: MergedPolicy) -> PolicyError:
    return PolicyError(sorted(merged.problems, key=lambda p: (p.file, p.line)))
