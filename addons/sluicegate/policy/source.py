"""Where a policy is kept, and how it is read and replaced there: files of this machine, unless several gateways share it.

What edits and loads a policy goes by this interface alone, so it does not know what stands behind it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from sluicegate.policy.model import Policy
from sluicegate.values import Deny, Reason

Fingerprint = tuple[Any, ...]
"""Differs once what is kept has been edited, renamed or swapped."""


class FilesChangedError(Exception):
    """Another writer changed the policy while a change of it was made."""


class PolicyLockedError(Exception):
    """A change kept waiting by other changes of the policy."""


class PolicyNotWritableError(Exception):
    """A policy that cannot be written; ``lasting`` if trying again will not help."""

    def __init__(self, message: str, *, lasting: bool, unknown: bool = False) -> None:
        super().__init__(message)
        self.lasting, self.is_unknown = lasting, unknown
        """``is_unknown``: nobody could say whether the change was made."""


class Reading(NamedTuple):
    """A policy as it was read for a change."""

    data: Mapping[Path, bytes]
    mark: Any
    """By which the source notices that it has changed since."""


class Written(NamedTuple):
    """What is noted with a new policy where its source keeps that."""

    revision: str
    who: str
    action: str
    summary: str


class Replacement(Protocol):
    """New contents that are ready to take the place of the present ones."""

    def check(self) -> None:
        """Raise FilesChangedError if the policy has changed since it was read."""

    def put(self, written: Written) -> Fingerprint:
        """Replace the contents, all or none of them; return the fingerprint from now on.

        Raises FilesChangedError, then nothing was changed; OSError or PolicyNotWritableError.
        """


class PolicySource(Protocol):
    """Where a policy is kept. Every method may block."""

    path: Path
    """What messages call it."""
    is_confirmed: bool
    """Whether what was read is what is kept, and no older copy of it."""
    error: str | None
    """Why it cannot be read at present, so that the policy may have changed; None where it can."""

    def fingerprint(self) -> Fingerprint:
        """Return the present fingerprint: cheap, asked for ten times a second."""

    def read(self) -> Mapping[Path, bytes]:
        """Return the contents of its files, in the order they are merged. Raises PolicyError."""

    def earlier(self) -> Iterator[Mapping[Path, bytes]]:
        """Yield what was kept before, newest first, for a start where the present contents are invalid."""

    def require(self, policy: Policy) -> None:
        """Refuse a policy that cannot be kept here. Raises PolicyError."""

    def why_read_only(self) -> str | None:
        """Return why it may never be changed here, and what to do instead; None where it may."""

    def is_writable(self) -> bool:
        """Return whether this process may write it."""

    def exclusive(self) -> AbstractContextManager[None]:
        """Exclude other writers. Raises PolicyLockedError or PolicyNotWritableError."""

    def read_for_change(self) -> Reading:
        """Return what is there now. Raises OSError or PolicyNotWritableError."""

    def replacing(self, reading: Reading, texts: Mapping[Path, bytes]) -> AbstractContextManager[Replacement]:
        """Get the new contents of the files that change ready. Raises OSError."""


def refusal_of_copy(source: PolicySource) -> Deny | None:
    """Return the refusal of everybody who shows a key or token while nobody can say whether it has been revoked."""
    if source.is_confirmed:
        return None
    text = "The gateway has started while the store of its policy is away, and has only an older copy; try again shortly"
    return Deny(Reason.GATEWAY_ERROR, text)
