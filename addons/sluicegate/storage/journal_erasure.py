"""Taking a person out of the journal's files but the current one, each of which is replaced whole."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import orjson

from sluicegate.atomic_write import sync_folder
from sluicegate.calls.personal_data import Person
from sluicegate.storage.journal_files import other_files

STAGED = "erasing.db"
"""Name of a file that is being written: with this ending it is not taken for a journal."""


def erase_from_journals(path: Path, person: Person) -> int:
    """Rewrite every journal beside the current one that tells of a person; return how many lines were changed. Raises OSError."""
    count = 0
    staged = path.with_name(STAGED)
    for file in other_files(path):
        try:
            changed = _write_without(file, staged, person)
        except FileNotFoundError:
            # Deleted for its age meanwhile.
            continue
        if changed:
            # Files are put in order by their times, and deleted by them.
            at = file.stat()
            if os.geteuid() == 0:
                # What root has made the gateway's own user could not read.
                os.chown(staged, at.st_uid, at.st_gid)
            shutil.copystat(file, staged)
            os.replace(staged, file)
        count += changed
    staged.unlink(missing_ok=True)
    sync_folder(path.parent)
    return count


def _write_without(file: Path, staged: Path, person: Person) -> int:
    count = 0
    with file.open("rb") as lines, os.fdopen(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
        for line in lines:
            try:
                record = orjson.loads(line)
                erased = person.erase(record) if isinstance(record, dict) else record
            except (ValueError, KeyError, TypeError):
                erased = record = None
                if person.is_in(line.decode("utf-8", "replace")):
                    # A damaged line is nobody's record, and what else it tells of the person cannot be told.
                    count += 1
                    continue
            if erased is not None and erased != record:
                out.write(orjson.dumps(erased, option=orjson.OPT_APPEND_NEWLINE))
                count += 1
            else:
                out.write(line)
        out.flush()
        os.fsync(out.fileno())
    return count
