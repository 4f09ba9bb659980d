"""The exact cache of one gateway: kept answers in memory and on disk, and the calls that wait for one that is under way.

Looking up a call that has no kept answer costs the short part of its key and a look into a table. Whatever touches the
disk is done by one thread.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from sluicegate.caching.answer_file import FILENAME, AnswerFile
from sluicegate.caching.cache_key import CacheKey, KnownKeys
from sluicegate.caching.coalescing import PendingAnswer, PendingAnswers
from sluicegate.caching.entry import Entry, identity_of
from sluicegate.caching.file_thread import FileThread
from sluicegate.caching.forms.asked import FORM_TAGS, Asked
from sluicegate.caching.forms.conversion import content_type, converted, fits
from sluicegate.caching.keyed_hash import KeyedHash
from sluicegate.caching.pacing import Replays
from sluicegate.caching.rules import ExactRules, RulesOfPolicy
from sluicegate.policy.model import Policy

logger = logging.getLogger("sluicegate")

MAX_MEMORY_BYTES = 32 << 20
"""Bytes of answers that are kept in memory as well."""

OBJECT_BYTES = 1024
"""What an answer takes in memory besides its body: more than the body itself where that is small."""

MAX_QUEUED_BYTES = 64 << 20
"""Bytes of answers that may wait to be written; those beyond it are not kept."""

CLOSE_TIMEOUT_S = 10.0

_TRIMMED_AT_ONCE = 64
"""Steps of one run of housekeeping."""


class Keepable(Protocol):
    """An answer that is to be kept."""

    @property
    def size(self) -> int:
        """Return the bytes of its body."""

    def entry(self, key: bytes) -> Entry:
        """Return it as it is kept by a key."""


class AnswerCache:
    """Kept answers. Methods are for the event loop unless they say otherwise."""

    def __init__(self, state_dir: Path) -> None:
        self.file = AnswerFile(state_dir / FILENAME)
        self.pending, self.replays = PendingAnswers(), Replays()
        self.hits = self.misses = self.stores = self.saved_nano = self.dropped = 0
        """Since the gateway started; money in nano-dollars."""
        self.rules = RulesOfPolicy(lambda policy: ExactRules.of(policy.file.cache.exact))
        self.hashed: KeyedHash | None = None
        """What keys are made with; None until the file is open."""
        self._known = KnownKeys()
        """The keys that the file has."""
        self._hot: OrderedDict[bytes, Entry] = OrderedDict()
        """Answers by key; those in another form than they were kept in by key and form."""
        self._hot_bytes = self._queued_bytes = self._followed = 0
        self.is_shared = False
        """Whether other workers use the file too."""
        self._used: dict[bytes, tuple[int, int, int]] = {}
        self._lock = threading.Lock()
        self._worker: FileThread | None = None

    async def open(self) -> KeyedHash | None:
        """Return what keys are made with; the file is opened by the first caller. None while it cannot be."""
        if self.hashed is None:
            await self._in_thread(self._open)
        return self.hashed

    def may_have(self, key: CacheKey) -> bool:
        """Return whether there may be a kept answer: False is certain, and takes no look at the disk, nor at the whole body."""
        return self._known.has_short(key.short)

    async def find(self, key: bytes, now: int, ttl_ms: int, asked: Asked) -> Entry | None:
        """Return a kept answer that is no older than this, in the form that is asked for."""
        found = self._in_memory(key)
        if found is None and key in self._known:
            found = await self._in_thread(lambda: self._get(key))
        return await self.in_form(found, asked) if found is not None and found.is_fresh(now, ttl_ms) else None

    async def in_form(self, entry: Entry, asked: Asked) -> Entry | None:
        """Return an answer in the form that is asked for; None where it would lose something."""
        if fits(entry.body, asked):
            return entry
        found = self._in_memory(entry.key + asked.tag)
        if found is not None and (found.at, found.answer_id) == (entry.at, entry.answer_id):
            return found
        return await self._in_thread(lambda: self._convert(entry, asked))

    def note_hit(self, entry: Entry, now: int, saved_nano: int) -> None:
        """Count a use of an answer."""
        self.hits += 1
        self.saved_nano += saved_nano
        with self._lock:
            hits, saved, _ = self._used.get(entry.key, (0, 0, 0))
            self._used[entry.key] = hits + 1, saved + saved_nano, now

    def keep(self, answer: Keepable, pending: PendingAnswer, rules: ExactRules) -> None:
        """Keep an answer and give it to whoever waits for it, once a thread has read its id and made its key."""
        if self._queued_bytes > MAX_QUEUED_BYTES // 2:
            # Much waits for the thread: rather take the time here than hold the bodies of calls, too.
            _ = pending.key.whole
        size = answer.size + pending.key.held_bytes
        if self._queued_bytes + size > MAX_QUEUED_BYTES:
            self.dropped += 1
            self.pending.finish(pending, "not_shared")
            return
        self._queued_bytes += size
        loop = asyncio.get_running_loop()
        self._thread().hand(partial(self._keep, answer, pending, size, rules.max_bytes, loop))

    # -- any thread --

    def housekeep(self, now: int, policy: Policy) -> None:
        """Delete what is too old or too much, and note what was used. Blocking."""
        if not self.file.is_there:
            return
        # What was kept before the cache was turned off still grows old.
        self._blocking(self._open)
        if self.is_shared:
            self._blocking(self._follow)
        with self._lock:
            used, self._used = self._used, {}
        if used:
            self._blocking(lambda: self.file.note_hits(used))
        for step in range(_TRIMMED_AT_ONCE):
            gone = self._blocking(lambda: self.file.trim(now, self.rules(policy).max_bytes))
            self._forget(gone)
            if not gone:
                if step:
                    self._blocking(self.file.settle)
                return

    def forget(self, owned: Mapping[str, str]) -> None:
        """Forget what another worker has deleted: answers of those whom columns of the file name."""
        with self._lock:
            gone = [entry.key for entry in self._hot.values() if entry.owner.fits(owned, entry.model)]
        self._forget(gone)
        self.pending.clears += 1

    def clear(self, owned: Mapping[str, str] | None = None) -> int:
        """Delete the answers of those whom columns of the file name, all by default; return how many. Blocking."""
        if not self.file.is_there:
            return 0
        count, named = 0, owned or {}
        # Answers under way may be among those that are to go: they are given to whoever waits, and not kept.
        self.pending.clears += 1
        while gone := self._blocking(lambda: self._clear(named)):
            count += gone
        return count

    def matching(self, owned: Mapping[str, str] | None = None) -> int:
        """Return how many answers ``clear`` would delete. Blocking."""
        if not self.file.is_there:
            return 0
        return self._blocking(lambda: self.file.matching(owned or {}))

    def page(self, limit: int, before: int | None, owned: Mapping[str, str]) -> list[dict[str, Any]]:
        """Return kept answers, newest first, without their bodies. Blocking."""
        if not self.file.is_there:
            return []
        return self._blocking(lambda: self.file.page(limit, before, owned))

    def close(self) -> None:
        """Write what is waiting, and close the file. Blocking."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()
        with self._lock:
            used, self._used = self._used, {}
        if used:
            self.file.note_hits(used)
        self.file.close()

    # -- the worker's thread --

    def _open(self) -> None:
        if self.hashed is None:
            self._known.add(self.file.kept_keys())
            self.hashed = KeyedHash(self.file.secret) if self.file.secret else None

    def _follow(self) -> None:
        """Learn what other workers have kept."""
        self._followed, keys = self.file.keys_since(self._followed)
        self._known.add(keys)

    def _get(self, key: bytes) -> Entry | None:
        """Read an answer from the file, and remember it before it can be deleted there."""
        found = self.file.get(key)
        if found is not None:
            self._remember(found)
        return found

    def _convert(self, entry: Entry, asked: Asked) -> Entry | None:
        body = converted(entry.body, asked)
        if body is None:
            return None
        found = replace(entry, body=body, content_type=content_type(asked.shape))
        if entry.key in self._known:
            self._remember(found, entry.key + asked.tag)
        return found

    def _clear(self, owned: Mapping[str, str]) -> int:
        """Delete some answers, and return how many; 0 once all are gone, in memory too."""
        gone = self.file.clear(owned)
        self._forget(gone)
        if not gone:
            with self._lock:
                # The file has lost them where it was damaged.
                left = [entry.key for entry in self._hot.values() if entry.owner.fits(owned, entry.model)]
            self._forget(left)
        return len(gone)

    def _keep(self, answer: Keepable, pending: PendingAnswer, size: int, max_bytes: int, loop: asyncio.AbstractEventLoop) -> None:
        result: Entry | None = None
        try:
            entry = answer.entry(pending.key.whole)
            answer_id, created_s = identity_of(entry.body)
            entry = replace(entry, answer_id=answer_id, created_s=created_s)
            gone = self.file.put(entry, max_bytes) if pending.clears == self.pending.clears else None
            if gone is not None:
                self._known.add((entry.key,))
                self._forget(gone)
                self._remember(entry)
                self.stores += 1
            result = entry
        except ValueError as e:
            # msgspec's errors are of this kind. What nobody here can read is not an answer to give again.
            logger.debug("an answer is not kept: %s", e)
        finally:
            self._queued_bytes -= size
            try:
                loop.call_soon_threadsafe(self.pending.finish, pending, result or "not_shared")
            except RuntimeError:
                # The loop has ended, and whoever waited with it.
                pass

    def _in_memory(self, key: bytes) -> Entry | None:
        with self._lock:
            found = self._hot.get(key)
            if found is not None:
                self._hot.move_to_end(key)
            return found

    def _remember(self, entry: Entry, key: bytes | None = None) -> None:
        with self._lock:
            key = key or entry.key
            self._hot_bytes -= _room_of(self._hot.pop(key, None))
            if len(entry.body) <= MAX_MEMORY_BYTES // 4:
                self._hot[key] = entry
                self._hot_bytes += _room_of(entry)
            while self._hot_bytes > MAX_MEMORY_BYTES:
                _, oldest = self._hot.popitem(last=False)
                self._hot_bytes -= _room_of(oldest)

    def _forget(self, keys: list[bytes]) -> None:
        with self._lock:
            for key in keys:
                for form in (b"", *FORM_TAGS):
                    self._hot_bytes -= _room_of(self._hot.pop(key + form, None))
            self._known.discard(keys)

    def _thread(self) -> FileThread:
        if self._worker is None:
            self._worker = FileThread("sluicegate-cache")
        return self._worker

    async def _in_thread[T](self, work: Callable[[], T]) -> T:
        return await asyncio.wrap_future(self._thread().submit(work))

    def _blocking[T](self, work: Callable[[], T]) -> T:
        return self._thread().submit(work).result()


def _room_of(entry: Entry | None) -> int:
    """Return the bytes of memory that an answer takes."""
    return 0 if entry is None else OBJECT_BYTES + len(entry.body)
