"""Erasing a user over REST: out of the policy, then out of every record. What was begun is noted until it is whole."""

from __future__ import annotations

import re
import secrets
import time
from pathlib import Path
from typing import Any

import orjson
from pydantic import Field

from sluicegate.atomic_write import write_private
from sluicegate.calls.personal_data import Person
from sluicegate.database import connection
from sluicegate.fleet.erasure.carrying_out import Erasing, Outcome
from sluicegate.fleet.store.protocol import FleetError
from sluicegate.logs.erasure import Erasure
from sluicegate.policy.editing.permission import why_read_only
from sluicegate.policy.model import Policy
from sluicegate.policy.source import PolicyNotWritableError
from sluicegate.web.endpoint import ApiRequest, ApiResponse, Endpoint, write_endpoint
from sluicegate.web.erasing import OF_WORKERS, PAUSE_S, calls_under_way, erase_files, is_governed, leave
from sluicegate.web.errors import ApiError
from sluicegate.web.responses import ResponseModel
from sluicegate.web.routes.erasures import ErasedOnNode, asked_of_fleet, erasing_of, nodes_of_erasure

PATH = "/api/governance/users/{id}/erase"

NOTES = "erasing.json"
"""Who is being erased, in the state folder: repeating an erasure that was cut off finishes it under the same pseudonym."""

_RECORDS_OF_USER = [
    f"SELECT 1 FROM {table} WHERE user_id = ? LIMIT 1"  # noqa: S608
    for table in ("calls", "past_calls", "connections", "adjustments")
]
_KEYS_OF_USER = [f"SELECT DISTINCT virtual_key_id FROM {table} WHERE user_id = ?" for table in ("calls", "past_calls")]  # noqa: S608
_OTHERS_CALLS = [
    f"SELECT 1 FROM {table} WHERE virtual_key_id = ? AND user_id IS NOT ? LIMIT 1"  # noqa: S608
    for table in ("calls", "past_calls")
]


class UserErased(ResponseModel):
    """A user whose personal data is gone, or would be."""

    message: str
    pseudonym: str | None = Field(description="What stands in the place of the user's id; null: nothing was erased.")
    deleted: list[str] = Field(description="The keys that were deleted from the policy with the user.")
    calls: int = Field(description="Calls on record that the user made; what they cost stays counted.")
    nodes: list[ErasedOnNode] | None = Field(
        description="How far the gateways are that share a store with this one, which goes on by itself; null: there is only one."
    )


def endpoints() -> list[Endpoint]:
    """Declare the path."""
    return [write_endpoint("POST", PATH, _erase, "Erase a user's personal data, on every gateway; sums stay", UserErased)]


async def _erase(request: ApiRequest) -> ApiResponse:
    if request.services.worker is not None and not request.dry_run:
        raise ApiError(409, "conflict", OF_WORKERS)
    services, name = request.services, request.path["id"]
    erasing = erasing_of(services)
    found = await request.run_in_thread(lambda: _person(services.state_dir, services.database, services.policy, name))
    if erasing is not None and not request.dry_run:
        # Another node may have been asked: then under the pseudonym that it chose.
        found = await asked_of_fleet(request, lambda: erasing.asked_for(name)) or found
    if found is None:
        raise ApiError(404, "not_found", f"User not found: neither the policy nor a record knows '{name}'")
    person = found
    erasure = Erasure(services.database, person, lambda: time.sleep(PAUSE_S))
    if request.dry_run:
        calls = await request.run_in_thread(erasure.call_ids)
        message = f"User {person.user_id} would be erased: {len(calls)} calls, {len(person.keys)} keys"
        planned = {"message": message, "pseudonym": None, "deleted": _keys_in(services.policy, person), "calls": len(calls)}
        return ApiResponse(planned | {"nodes": None})
    deleted = _keys_in(services.policy, person)
    has_to_leave = is_governed(services.policy, person)
    if has_to_leave and (why := why_read_only(services.policy_watcher, over_http=request.is_over_http)):
        raise PolicyNotWritableError(f"{why}; take the user and the keys out of it first, then erase", lasting=True)
    await request.run_in_thread(lambda: _note(services.state_dir, person))
    if erasing is None:
        return await _erase_here(request, person, deleted, None, has_to_leave)
    # From here on this node goes on by itself, as the others do, should it be cut off.
    erasing.by_hand.add(person.pseudonym)
    try:
        await asked_of_fleet(request, lambda: erasing.begin(person, person.without(request.caller.name)))
        return await _erase_here(request, person, deleted, erasing, has_to_leave)
    finally:
        erasing.by_hand.discard(person.pseudonym)


async def _erase_here(
    request: ApiRequest, person: Person, deleted: list[str], erasing: Erasing | None, has_to_leave: bool
) -> ApiResponse:
    services = request.services
    if has_to_leave:
        await request.edit_policy(lambda draft: leave(draft, person), "erase")
    if count := calls_under_way(services, person):
        raise ApiError(
            409,
            "conflict",
            f"{count} of the user's calls are still under way, and no new one can begin: "
            + ("repeat this once they have ended" if erasing is None else "the user is erased once they have ended"),
        )

    def done(count: int) -> None:
        if erasing is not None:
            erasing.finish(person, Outcome(count))
        _note(services.state_dir, person, is_done=True)

    lock = None if erasing is None else erasing.lock
    try:
        calls_erased = await erase_files(services, person, request.caller.name, lock, done)
    except FleetError as e:
        why = f"the user is erased here, and will be in the store once it answers again: {e}"
        raise ApiError(503, "gateway_error", why, headers={"retry-after": "5"}) from e
    nodes = await nodes_of_erasure(request, erasing, person.pseudonym)
    message = f"User erased: {calls_erased} calls are on record as {person.pseudonym}, and every sum is as it was"
    if waiting := [node["node"] for node in nodes or () if node["done_at"] is None]:
        message += f"; still to come: {', '.join(waiting)}"
    if kept := sorted(path.name for path in services.state_dir.glob("before-restore-*")):
        message += f"; what was there before a restore still tells of the user, so delete {', '.join(kept)} too"
    return ApiResponse(
        {"message": message, "pseudonym": person.pseudonym, "deleted": deleted, "calls": calls_erased, "nodes": nodes},
        revision=services.policy.revision,
    )


def _keys_in(policy: Policy, person: Person) -> list[str]:
    return [f"virtual_key {k}" for k in person.keys if k in policy.virtual_keys]


def _person(state_dir: Path, database: Path, policy: Policy, user_id: str) -> Person | None:
    """Return who is meant, the one of an erasure that was begun; None where neither policy nor records know the user."""
    noted = _noted(state_dir).get(user_id)
    user = next((u for u in policy.file.users if u.id == user_id), None)
    past_keys, names, key_names, is_known = _past(database, user_id, policy)
    if noted is None and user is None and not is_known:
        return None
    now_keys = (k.id for k in policy.virtual_keys.values() if k.user_id == user_id)
    if user is not None:
        names |= {user.name or "", *(text for text in user.labels.values() if "@" in text)} - {""}
    own_words = {word.lower() for text in (user_id, *names) for word in re.findall(r"\w{3,}", text)}
    key_names |= {text for k in policy.file.virtual_keys if k.user_id == user_id and (text := k.name)}
    # "Quilla's laptop" tells of her; "laptop" and "CI" are words that stand in many texts.
    names |= {text for text in key_names if own_words & set(re.findall(r"\w{3,}", text.lower()))}
    pseudonym = noted["pseudonym"] if noted else f"erased-{secrets.token_hex(8)}"
    # A key of the same id may be another user's since an erasure was begun.
    noted_keys = {k for k in (noted["keys"] if noted else ()) if k not in policy.virtual_keys}
    keys = sorted({*now_keys, *past_keys, *noted_keys})
    known = {*names, *(noted["names"] if noted else ())}
    instead = {k: f"{pseudonym}-{i}" for i, k in enumerate(keys, 1)}
    file = policy.file
    groups = [*(c.labels for c in file.customers), *(t.labels for t in file.teams), *(p.labels for p in file.projects)]
    labels = frozenset(pair for group in groups for pair in group.items())
    return Person(user_id, pseudonym, instead, tuple(sorted(known)), _shared_words(policy), labels)


def _shared_words(policy: Policy) -> frozenset[str]:
    """Return the ids of the policy in force that are not of users or keys, and the name of whoever holds the admin token."""
    file = policy.file
    ids = (
        {e.id for e in file.customers} | {e.id for e in file.teams} | {e.id for e in file.projects} | {e.id for e in file.operators}
    )
    return frozenset({"admin", *policy.providers, *ids})


def _past(database: Path, user_id: str, policy: Policy) -> tuple[set[str], set[str], set[str], bool]:
    """Return keys that were the user's alone and are gone from the policy, past names of the user and of keys.

    The last is whether any record has the user.
    """
    candidates: set[str] = set()
    names: set[str] = set()
    key_names: set[str] = set()
    with connection(database, "ro") as conn:
        is_known = any(conn.execute(sql, (user_id,)).fetchone() for sql in _RECORDS_OF_USER)
        for sql in _KEYS_OF_USER:
            candidates |= {k for (k,) in conn.execute(sql, (user_id,))}
        for kind, entity, *texts in conn.execute(
            "SELECT entity_kind, entity_id, before, after FROM admin_audit WHERE entity_kind IN ('user', 'virtual_key')"
        ):
            values = [orjson.loads(text) for text in texts if text]
            if kind == "user" and entity == user_id:
                is_known = True
                names |= {v["name"] for v in values if v.get("name")}
                names |= {text for v in values for text in (v.get("labels") or {}).values() if "@" in text}
            elif kind == "virtual_key" and any(v.get("user_id") == user_id for v in values):
                candidates.add(entity)
                if entity not in policy.virtual_keys:
                    key_names |= {v["name"] for v in values if v.get("name")}
        candidates -= {None, "", *policy.virtual_keys}
        keys = {k for k in candidates if not any(conn.execute(sql, (k, user_id)).fetchone() for sql in _OTHERS_CALLS)}
    return keys, names, key_names, is_known or bool(keys)


def _noted(state_dir: Path) -> dict[str, Any]:
    try:
        noted: dict[str, Any] = orjson.loads((state_dir / NOTES).read_bytes())
    except FileNotFoundError:
        return {}
    return noted


def _note(state_dir: Path, person: Person, *, is_done: bool = False) -> None:
    noted = _noted(state_dir)
    noted.pop(person.user_id, None)
    if not is_done:
        noted[person.user_id] = {"pseudonym": person.pseudonym, "keys": [*person.keys], "names": [*person.names]}
    path = state_dir / NOTES
    if not noted:
        path.unlink(missing_ok=True)
        return
    # Not on one line: whatever begins as a record does is taken for a journal.
    write_private(path, orjson.dumps(noted, option=orjson.OPT_INDENT_2))
