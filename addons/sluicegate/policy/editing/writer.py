"""Changing the policy where it is kept: one change at a time, validated whole, recorded in the audit trail, replaced atomically.

No change is lost to another writer: the policy's source excludes others or notices them (``policy.source``), and the change
is then made again on what they have written. The new policy is in force when ``change`` returns.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sluicegate.background import low_priority
from sluicegate.policy.audit_trail import AuditEntry, AuditTrail
from sluicegate.policy.diff import Difference, compare_policies, summarize
from sluicegate.policy.editing.draft import ConflictError, Draft, DraftEntry, EditError
from sluicegate.policy.editing.permission import why_read_only
from sluicegate.policy.editing.secret_targets import forbidden_uses
from sluicegate.policy.editing.yaml_patch import Change, NotPatchableError, rewrite
from sluicegate.policy.loader import PolicyError, build_policy, revision_of
from sluicegate.policy.model import Policy
from sluicegate.policy.source import FilesChangedError, PolicyLockedError, PolicyNotWritableError, Reading, Written
from sluicegate.policy.watcher import ActivePolicy, PolicyWatcher
from sluicegate.windows import iso
from sluicegate.yaml_document import Document, Problem, parse

MAX_ATTEMPTS = 5
"""How often a change is tried while other writers keep saving the files."""

RETRIES_EXHAUSTED = "other writers keep changing the policy files while this change is made; try again"

_OF_ENTITY = re.compile(r"^(\w+\[\d+\]|providers\.[\w-]+)(\.|(?=\[)|$)")
"""The part of a problem's path that names the entity."""


class RevisionMismatchError(Exception):
    """A change made for another revision of the policy; ``revision`` is the present one."""

    def __init__(self, revision: str) -> None:
        super().__init__(f"the policy has changed: its revision is now {revision}; read it again and repeat the change")
        self.revision = revision


class _Files(NamedTuple):
    """The policy's files as they were read for a change."""

    reading: Reading
    docs: Sequence[Document]
    revision: str

    @property
    def data(self) -> Mapping[Path, bytes]:
        """Their contents."""
        return self.reading.data


class PolicyWriter:
    """Writes changes of one policy to its files. Blocking: call it in a thread."""

    def __init__(self, watcher: PolicyWatcher, audit_trail: AuditTrail | None, clock: Callable[[], int]) -> None:
        self.watcher, self.audit_trail, self.clock = watcher, audit_trail, clock

    def change[T](
        self,
        work: Callable[[Draft], T],
        *,
        who: str,
        action: str,
        if_match: Callable[[str], bool] = lambda _: True,
        write: bool = True,
        secrets_stay: bool = False,
        created: Collection[str] = (),
    ) -> tuple[T, Policy]:
        """Let ``work`` change a draft, put it in force, and return the result of ``work`` with the changed policy.

        ``if_match`` decides whether the present revision is the one the change is for; without ``write`` everything is
        checked and nothing changed. With ``secrets_stay``, as for all that comes over HTTP, no reference may be added and no
        secret sent elsewhere, except for the references in ``created``, and a policy managed in git is not changed. Raises
        EditError, RevisionMismatchError, PolicyNotWritableError, PolicyLockedError or AuditTrailError, then nothing was changed.
        """
        with self._exclusive(over_http=secrets_stay and write), low_priority():
            for _ in range(MAX_ATTEMPTS):
                files = self._read(if_match)
                _require_valid(files.docs)
                draft = Draft(files.docs)
                result = work(draft)
                changes = draft.changes()
                if not changes:
                    return result, self.watcher.current
                texts, docs = _rewritten(files, changes)
                if secrets_stay and (found := self.forbidden_uses(files.docs, docs, created)):
                    field = _OF_ENTITY.sub("", found[0].path)
                    raise EditError(f"{field}: {found[0].message}", field)
                policy = self._checked(files, docs, texts)
                if not write:
                    return result, policy
                try:
                    entries = [_entry(action, c.kind.singular, c.id, c.before, c.after) for c in changes]
                    self._replace(files, texts, policy, entries, who, entries[0].action if len(entries) == 1 else action)
                except FilesChangedError:
                    continue
                return result, policy
            raise PolicyLockedError(RETRIES_EXHAUSTED)

    def replace_files(
        self,
        contents: Callable[[Mapping[Path, bytes]], Mapping[Path, bytes]],
        *,
        who: str,
        action: str,
        if_match: Callable[[str], bool],
        write: bool = True,
        secrets_stay: bool = False,
    ) -> Policy:
        """Replace whole files, even invalid ones, and return the policy they make.

        ``contents`` takes the content of each file and returns the new content of those that change. ``secrets_stay`` is as
        for ``change``. Raises PolicyError with every problem of the result, or what ``change`` raises; then nothing was changed.
        """
        with self._exclusive(over_http=secrets_stay and write), low_priority():
            for _ in range(MAX_ATTEMPTS):
                files = self._read(if_match)
                # An edit by hand that the watcher has not seen yet is put in force first, so that the history has it.
                if self.watcher.has_changed():
                    self.watcher.reload()
                texts = {f: data for f, data in contents(files.data).items() if data != files.data[f]}
                docs = [parse(texts[Path(d.file)], d.file) if Path(d.file) in texts else d for d in files.docs]
                if secrets_stay:
                    self.require_secrets_stay(files.docs, docs)
                policy = self._policy_from(files, docs, texts)
                if not texts or not write:
                    return policy
                found = compare_policies(self.watcher.current.file, policy.file)
                entries = [_entry(action, *d) for d in found] or [AuditEntry(action, "policy", "text", None, None)]
                try:
                    self._replace(files, texts, policy, entries, who, action)
                except FilesChangedError:
                    continue
                return policy
            raise PolicyLockedError(RETRIES_EXHAUSTED)

    def require_secrets_stay(self, before: Sequence[Document], after: Sequence[Document]) -> None:
        """Refuse files that name secrets anew or send them elsewhere, before anything is read for them. Raises PolicyError."""
        if found := self.forbidden_uses(before, after):
            raise PolicyError(found)

    def forbidden_uses(self, before: Sequence[Document], after: Sequence[Document], created: Collection[str] = ()) -> list[Problem]:
        """Return which secrets of changed files were neither in the files before nor are in force, for that use."""
        written = [doc.value for doc in before]
        found = forbidden_uses(written, after, created, self.watcher.env)
        if found:
            # Usually the same as before; reading a large policy once more takes seconds.
            in_force = [parse(data, file.name).value for file, data in self.watcher.active.files.items()]
            found = forbidden_uses([*in_force, *written], after, created, self.watcher.env)
        return found

    @contextlib.contextmanager
    def _exclusive(self, over_http: bool) -> Iterator[None]:
        """Exclude other writers from where the policy is kept."""
        if why := why_read_only(self.watcher, over_http=over_http):
            raise PolicyNotWritableError(why, lasting=True)
        with self.watcher.source.exclusive():
            yield

    def _read(self, if_match: Callable[[str], bool]) -> _Files:
        try:
            reading = self.watcher.source.read_for_change()
        except OSError as e:
            raise ConflictError(f"the policy cannot be read: {e.strerror}") from e
        if not if_match(revision := revision_of(reading.data)):
            raise RevisionMismatchError(revision)
        return _Files(reading, [parse(content, str(file)) for file, content in reading.data.items()], revision)

    def _policy_from(self, files: _Files, docs: Sequence[Document], texts: Mapping[Path, bytes]) -> Policy:
        """Return the policy the changed files make, validated like any other. Raises PolicyError."""
        revision = revision_of({file: texts.get(file, data) for file, data in files.data.items()})
        policy = build_policy(self.watcher.path, docs, revision, env=self.watcher.env, now=self.clock())
        self.watcher.require(policy)
        return policy

    def _checked(self, files: _Files, docs: Sequence[Document], texts: Mapping[Path, bytes]) -> Policy:
        """Return the policy the changed files make. Raises EditError naming the field, ConflictError for an old mistake."""
        try:
            return self._policy_from(files, docs, texts)
        except PolicyError as e:
            raise self._refused(e, files) from e

    def _refused(self, error: PolicyError, files: _Files) -> EditError:
        """Return why the policy refuses a change: a mistake in the change itself, or one that was already in the files."""
        try:
            build_policy(self.watcher.path, files.docs, files.revision, env=self.watcher.env, now=self.clock())
        except PolicyError as before:
            return ConflictError(f"the policy on disk has a mistake; correct it first: {before.problems[0]}")
        first = error.problems[0]
        field = _OF_ENTITY.sub("", first.path)
        if field.startswith("providers."):
            # A name that is none: the message quotes it.
            field = "provider"
        return EditError(f"{field}: {first.message}" if field else first.message, field or None)

    def _replace(
        self,
        files: _Files,
        texts: Mapping[Path, bytes],
        policy: Policy,
        entries: Sequence[AuditEntry],
        who: str,
        action: str,
    ) -> None:
        """Get the new files ready, compare, record, replace.

        Raises FilesChangedError, PolicyNotWritableError or AuditTrailError.
        """
        before, after, at = files.revision, policy.revision, iso(self.clock())
        differ = [e for e in entries if e.before is not None or e.after is not None]
        summary = summarize([Difference(e.entity_kind, e.entity_id, e.before, e.after) for e in differ])
        with self.watcher.source.replacing(files.reading, texts) as replacement:
            replacement.check()
            # Recorded before the change: a change that cannot be recorded must not be made.
            if self.audit_trail is not None:
                self.audit_trail.write(entries, at=at, who=who, before=before, after=after)
            with self.watcher.lock:
                try:
                    # Compared again, because recording took time in which an editor may have saved.
                    fingerprint = replacement.put(Written(after, who, action, summary))
                except (FilesChangedError, OSError, PolicyNotWritableError) as e:
                    if self.audit_trail is not None and not getattr(e, "is_unknown", False):
                        undone = [AuditEntry(f"{e.action} not applied", e.entity_kind, e.entity_id, None, None) for e in entries]
                        self.audit_trail.write(undone, at=at, who=who, before=before, after=before)
                    raise
                new_files = {f: texts.get(f, data) for f, data in files.data.items()}
                self.watcher.activate(ActivePolicy(policy, new_files, self.clock(), who, action), fingerprint)


def _require_valid(docs: Sequence[Document]) -> None:
    """Refuse invalid files, which cannot be changed in part. Raises ConflictError."""
    for doc in docs:
        if doc.problems or not isinstance(doc.value, dict):
            why = doc.problems[0] if doc.problems else f"{doc.file}: a policy must be a mapping"
            raise ConflictError(f"the policy on disk has a mistake; correct it first: {why}")


def _rewritten(files: _Files, changes: Sequence[DraftEntry]) -> tuple[dict[Path, bytes], list[Document]]:
    """Return the new content of the files that change, and all files parsed."""
    by_file: dict[int, list[Change]] = {}
    for change in changes:
        number = change.doc
        if number is None:
            holding = [i for i, d in enumerate(files.docs) if d.value.get(change.kind.name)]
            number = holding[0] if holding else _main(files.docs)
        key = change.id if change.kind.name == "providers" else ""
        by_file.setdefault(number, []).append(Change(change.kind.name, change.position, change.after, key))
    texts: dict[Path, bytes] = {}
    docs = list(files.docs)
    paths = list(files.data)
    for number, wanted in by_file.items():
        try:
            text, docs[number] = rewrite(files.docs[number], files.data[paths[number]].decode(), wanted)
        except NotPatchableError as e:
            raise ConflictError(str(e)) from e
        texts[paths[number]] = text.encode()
    return texts, docs


def _main(docs: Sequence[Document]) -> int:
    """Return the index of the file that new sections are added to: the one with the version, or the first."""
    return next((i for i, d in enumerate(docs) if "version" in d.value), 0)


def _entry(action: str, kind: str, entity: str, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> AuditEntry:
    verb = "create" if before is None else "delete" if after is None else action
    return AuditEntry(verb, kind, entity, before, after)
