"""What one gateway does to erase a person: out of its policy, its journals, its records and all that it keeps beside them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from sluicegate.calls.personal_data import Person
from sluicegate.fleet.erasure.carrying_out import Outcome
from sluicegate.limits.ledger import forget_counter
from sluicegate.logs.entry_erasure import entry_without
from sluicegate.logs.erasure import Erasure
from sluicegate.policy.audit_trail import AuditEntry, AuditTrailError
from sluicegate.policy.editing import people
from sluicegate.policy.editing.draft import Draft, EditError
from sluicegate.policy.editing.permission import why_read_only
from sluicegate.policy.editing.writer import RevisionMismatchError
from sluicegate.policy.model import Policy
from sluicegate.policy.source import PolicyLockedError, PolicyNotWritableError
from sluicegate.services import Services
from sluicegate.storage.errors import StoreError
from sluicegate.storage.journal_erasure import erase_from_journals
from sluicegate.storage.journal_rotation import rotate
from sluicegate.storage.store import FILENAME
from sluicegate.web.errors import ApiError
from sluicegate.windows import iso
from sluicegate.workers.worker import worker_folders

logger = logging.getLogger("sluicegate")

PAUSE_S = 0.02

JOURNAL_WAIT_S, JOURNAL_PAUSE_S = 10.0, 0.1
"""For how long a journal that refuses to be written is waited for, and how long between two attempts."""

OF_WORKERS = "several workers have records of the user: stop the gateway, and erase with sluicegate user erase"

CARRY_OUT_S = 3600.0
"""How long an erasure may take that another node was asked for, before it is begun again."""


def follow_erasures(services: Services) -> None:
    """Carry out from now on what other nodes are asked to erase. In the proxy's loop."""
    erasing = None if services.fleet is None else services.fleet.shipping.asked
    if erasing is None:
        return
    loop = asyncio.get_running_loop()

    def carry_out(person: Person, who: str) -> Outcome:
        try:
            return asyncio.run_coroutine_threadsafe(_carry_out(services, person, who), loop).result(CARRY_OUT_S)
        except Exception as e:
            # Whatever it was, it is tried again; the others see what this node waits for.
            logger.warning("A person could not be erased, as the fleet was asked to: %s", e)
            return Outcome(waits_for=str(e) or type(e).__name__)

    erasing.erase_entry, erasing.carry_out = entry_without, carry_out


async def _carry_out(services: Services, person: Person, who: str) -> Outcome:
    if services.worker is not None:
        return Outcome(waits_for=OF_WORKERS)
    if is_governed(services.policy, person):
        if why := why_read_only(services.policy_watcher, over_http=True):
            return Outcome(waits_for=f"{why}; take the user and the keys out of it")
        try:
            await anyio.to_thread.run_sync(
                lambda: services.policy_writer.change(lambda draft: leave(draft, person), who=who, action="erase")
            )
        except (EditError, RevisionMismatchError, PolicyNotWritableError, PolicyLockedError, AuditTrailError) as e:
            return Outcome(waits_for=str(e))
    if count := calls_under_way(services, person):
        return Outcome(waits_for=f"{count} of the user's calls are still under way")
    return Outcome(await erase_files(services, person, who))


def is_governed(policy: Policy, person: Person) -> bool:
    """Return whether a policy has a person, or keys of theirs."""
    return any(key in policy.virtual_keys for key in person.keys) or any(u.id == person.user_id for u in policy.file.users)


def leave(draft: Draft, person: Person) -> None:
    """Take a person out of a policy, with the keys."""
    if person.user_id in draft.entries(people.USERS):
        people.delete_user(draft, person.user_id, with_keys=True, detach=True, now=0)


def calls_under_way(services: Any, person: Person) -> int:
    """Return how many of the person's calls have not ended."""
    return sum(1 for c in services.live_calls.running.values() if c.principal and person.made(c.principal._asdict()))


async def erase_files(
    services: Any,
    person: Person,
    who: str,
    lock: contextlib.AbstractContextManager[Any] | None = None,
    done: Callable[[int], None] = lambda _: None,
) -> int:
    """Erase a person, who can make no more calls, from all that this gateway keeps; return how many calls that was about.

    ``done`` is called with that number in the same thread, under the ``lock``. Raises ApiError where a journal cannot be written.
    """
    await _begin_new_journal(services)
    for counter in [c for c in services.ledger.counters if person.owns_counter(c)]:
        forget_counter(services.ledger, counter)
        if services.fleet is not None:
            services.fleet.standing.forget(counter)
    erasure = Erasure(services.database, person, lambda: time.sleep(PAUSE_S))

    def work() -> int:
        services.history.wait()
        services.sign_ins.end_all_of(person.user_id)
        services.content.delete(erasure.call_ids())
        services.client_telemetry.file.erase(person.keys)
        services.prompt_watch.erase(person.user_id, person.pseudonym, person.keys)
        for owned in ({"user_id": person.user_id}, *({"virtual_key_id": key} for key in person.keys)):
            services.answers.clear(owned)
            services.semantic.clear(owned)
        erase_from_journals(services.journal.path, person)
        _erase_from_workers(services.state_dir, person, services.clock())
        with services.logs.retention.lock:
            count = erasure.run()
            services.logs.index.discard()
        revision = services.policy.revision
        entry = AuditEntry("erase", "user", person.pseudonym, None, {"calls": count, "keys": len(person.keys)})
        services.audit_trail.write([entry], at=iso(services.clock()), who=person.without(who), before=revision, after=revision)
        done(count)
        return count

    def locked() -> int:
        with lock or contextlib.nullcontext():
            return work()

    return await anyio.to_thread.run_sync(locked)


def _erase_from_workers(state_dir: Path, person: Person, now: int) -> None:
    """Erase a person from what workers have left in their folders, which nobody uses now."""
    for folder in worker_folders(state_dir):
        rotate(folder / "audit.jsonl", now, None, 1)
        erase_from_journals(folder / "audit.jsonl", person)
        if (folder / FILENAME).exists():
            Erasure(folder / FILENAME, person, lambda: time.sleep(PAUSE_S)).run()


async def _begin_new_journal(services: Any) -> None:
    """Begin a journal whose first line says that earlier ones are being rewritten, and note that the table agrees with it.

    A disk or a lock that refuses for a moment is waited for. Raises ApiError if it goes on.
    """
    await _until_written(services)
    rotate(services.journal.path, services.clock(), None, 1)
    # Without an id it is nobody's record, so whoever reads calls skips it. What the disk refuses stays in the backlog.
    with contextlib.suppress(OSError):
        services.journal.append({"kind": "erasure", "at": iso(services.clock())})
    services.writer.want_agreement()
    await _until_written(services)


async def _until_written(services: Any) -> None:
    """Write what the journal and the database still lack. Raises ApiError if they refuse it for ``JOURNAL_WAIT_S``."""
    for _ in range(round(JOURNAL_WAIT_S / JOURNAL_PAUSE_S)):
        with contextlib.suppress(OSError, StoreError):
            services.journal.catch_up()
            await services.writer.commit_all()
            services.writer.flush()
            if not services.journal.backlog:
                return
        await anyio.sleep(JOURNAL_PAUSE_S)
    message = f"{services.journal.path} or the database cannot be written now; erase the user again later"
    raise ApiError(503, "unavailable", message, headers={"retry-after": f"{JOURNAL_WAIT_S:.0f}"})
