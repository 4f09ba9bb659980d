"""Operations on a policy's entities, for the API and the command line: save, delete, rotate, expire, top up."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sluicegate.policy.editing.draft import ConflictError, Draft, DraftEntry, EditError, Fields, Value, make_id
from sluicegate.policy.entities import KINDS, REDACTED, Kind, id_of
from sluicegate.policy.raises import with_raise
from sluicegate.policy.secrets import ENV, is_reference, resolve
from sluicegate.providers.known import ALWAYS_GOVERNED
from sluicegate.windows import iso, parse_iso, parse_period, window

KEYS = KINDS["virtual_keys"]


@dataclass(frozen=True, slots=True)
class Saved:
    """An entity after a change, what was created with it, and a new secret, which is shown only now."""

    entry: DraftEntry
    created: tuple[DraftEntry, ...] = ()
    secret: str | None = None

    @property
    def is_new(self) -> bool:
        """Return whether the entity is new."""
        return self.entry.before is None


def generate_value() -> str:
    """Return a random value for a virtual key, of 256 bits."""
    return "sk-sg-" + secrets.token_urlsafe(32)


def hash_value(value: str) -> str:
    """Return the hash that the policy keeps of a value."""
    return "sha256:" + hashlib.sha256(value.encode()).hexdigest()


def create(draft: Draft, kind: Kind, fields: Fields, *, only: bool = False) -> Saved:
    """Create an entity; never change one. A new key without a value is given a secret one.

    What is the same as an existing entity but for its id is that entity, unless it is a key.
    An id made from a name gets a number where it is in use; with ``only``, a name that leads to an existing entity is a conflict
    instead. Raises ConflictError, which names the existing entity, or EditError.
    """
    field = {"providers": "provider", "model_configs": "model_name"}.get(kind.name) or ("id" if fields.get("id") else "name")
    id_or_name = fields.get(field)
    if not isinstance(id_or_name, str) or not id_or_name:
        raise EditError(f"{field}: '{field}' is required here", field)
    if kind.name == "model_configs":
        id_or_name = id_of(kind, fields)
    if field == "name":
        if only:
            require_new(_any_of_name(draft, kind, id_or_name), id_or_name, field)
        elif kind is not KEYS and (same := draft.same_as(kind, fields)) is not None:
            # The same request, sent again: a key would need a value of its own, but nothing else does.
            return Saved(same)
        id_or_name = draft.free_id(kind, make_id(kind, id_or_name, field))
    else:
        require_new(draft.alike(kind, id_or_name), id_or_name, field)
    return _save(draft, kind, id_or_name, fields, generate=True)


def _any_of_name(draft: Draft, kind: Kind, name: str) -> DraftEntry | None:
    try:
        return draft.find(kind, name)
    except ConflictError as e:
        return draft.entries(kind)[e.details["candidates"][0]]


def require_new(existing: DraftEntry | None, id_or_name: str, field: str) -> None:
    """Refuse to create what exists. Raises ConflictError."""
    if existing is None:
        return
    kind, name = existing.kind, (existing.after or {}).get("name")
    named = f"{kind.singular} '{existing.id}'" + (f" ({name})" if name and name != existing.id else "")
    advice = "" if field in ("model_name", "provider") else ", or give the new one an id of its own"
    raise ConflictError(
        f"{field}: '{id_or_name}' is taken by the {named.replace('_', ' ', 1)}: change that one{advice}",
        field,
        existing=existing.id,
    )


def upsert(
    draft: Draft, kind: Kind, id_or_name: str, fields: Fields, *, demo_keys: bool = True, only_create: bool = False
) -> Saved:
    """Change the entity with this id or name, or create it with this id. A team it refers to is created if missing.

    A new key without a value is a demo key, whose value is its id; where those are not allowed it is an error. With
    ``only_create`` an existing entity is a conflict. Raises ConflictError or EditError.
    """
    entry = draft.find(kind, id_or_name)
    if only_create:
        field = {"providers": "provider", "model_configs": "model_name"}.get(kind.name, "id")
        require_new(entry or draft.alike(kind, id_or_name), id_or_name, field)
    if kind.name == "model_configs" and entry is None:
        provider, _, model = id_or_name.partition("/")
        is_provider = model and (provider in ALWAYS_GOVERNED or draft.find(KINDS["providers"], provider) is not None)
        parts = {"model_name": model, "provider": provider} if is_provider else {"model_name": id_or_name}
        fields = {**parts, **fields}
    if kind is KEYS and entry is None and not demo_keys and fields.get("value") is None and fields.get("value_hash") is None:
        raise EditError("value: a gateway that listens beyond its machine needs keys with a value: POST creates one", "value")
    if kind is KEYS and entry is not None and (entry.after or {}).get("kind") == "session":
        _require_no_demo_key(fields)
    return _save(draft, kind, entry.id if entry else id_or_name, fields, generate=False, create_teams=True)


def _require_no_demo_key(fields: Fields) -> None:
    """Refuse to make a key of the kind ``session``, which has no value, one whose value is its id. Raises EditError."""
    has_value = fields.get("value") is not None or fields.get("value_hash") is not None
    if fields.get("kind", "session") != "session" and not has_value:
        raise EditError("value: a key of the kind session has none, so send one with another kind; its id is not a secret", "value")


def _save(draft: Draft, kind: Kind, name: str, fields: Fields, *, generate: bool, create_teams: bool = False) -> Saved:
    fields = {k: v for k, v in fields.items() if k != "provider" or kind.name != "providers"}
    if kind.name not in ("providers", "model_configs") and fields.get("id", name) != name:
        raise EditError(f"id: '{fields['id']}' is not '{name}': an id cannot be changed, because usage is counted under it", "id")
    known = len(draft.created)
    present = draft.entries(kind).get(name)
    secret = None
    if kind is KEYS:
        secret = _normalize_value(fields, generate=generate and (present is None or present.after is None))
    entry = draft.upsert(kind, name, fields, create_teams=create_teams)
    if kind.name == "model_configs" and id_of(kind, entry.after or {}) != name:
        raise EditError(
            "model_name: changing the model or provider of a model config is not supported: delete it and create another",
            "model_name",
        )
    return Saved(entry, tuple(draft.created[known:]), secret)


def _normalize_value(fields: dict[str, Any], *, generate: bool) -> str | None:
    """Bring a key's value into the form the policy keeps; return the secret if one was generated."""
    value = fields.get("value")
    if value == REDACTED:
        raise EditError("value: this stands for a value that is not shown; leave it out to keep it", "value")
    if value is not None and fields.get("value_hash") is not None:
        raise EditError("value_hash: give either value or value_hash, not both", "value_hash")
    secret = None
    if generate and value is None and fields.get("value_hash") is None:
        value = secret = generate_value()
    # Only a hash is kept: more people and tools read the policy file than may know its keys.
    if isinstance(value, str) and not is_reference(value, (ENV,)):
        fields["value_hash"] = hash_value(_require_sendable(value))
        fields["value"] = None
    elif value is not None:
        fields["value_hash"] = None
    elif fields.get("value_hash") is not None:
        fields["value"] = None
    return secret


def _require_sendable(value: str) -> str:
    """Refuse a value that a client could not send in a header. Raises EditError."""
    if not value.isascii() or not value.isprintable() or " " in value or not 8 <= len(value) <= 512:
        raise EditError("value: a key's value is 8 to 512 printable ASCII characters without spaces, or env.NAME", "value")
    return value


def rotate(draft: Draft, id_or_name: str, *, grace: str | None, value: str | None, now: int, env: Mapping[str, str]) -> Saved:
    """Give a key a new value; the previous one is accepted for ``grace``, a duration, or no longer at all."""
    entry = draft.get(KEYS, id_or_name)
    present = entry.after or {}
    fields: dict[str, Any] = {"value": value}
    secret = _normalize_value(fields, generate=True)
    old = current_value_hash(entry.id, present, env)
    if old == fields.get("value_hash"):
        raise EditError("value: the key already has this value", "value")
    fields |= {"previous_value_hash": None, "previous_expires_at": None}
    if grace is not None and old is not None:
        try:
            until = window(parse_period(grace), now, now)[1]
        except ValueError as e:
            raise EditError(f"grace: {e}", "grace") from e
        if until is None:
            raise EditError("grace: a previous value cannot be accepted forever; write a duration such as 1h", "grace")
        fields |= {"previous_value_hash": old, "previous_expires_at": iso(until)}
    return Saved(draft.upsert(KEYS, entry.id, fields), secret=secret)


def current_value_hash(name: str, present: Fields, env: Mapping[str, str]) -> str | None:
    """Return the present hash of a key's value, None where its variable is not set."""
    if present.get("value_hash"):
        return str(present["value_hash"])
    if present.get("value") is None:
        return hash_value(name)
    value = resolve(present["value"], env, sources=(ENV,)).value
    return hash_value(value) if value is not None else None


def expire(draft: Draft, id_or_name: str, *, expires_at: str | None, now: int) -> Saved:
    """Let a key expire at a time, or now."""
    entry = draft.get(KEYS, id_or_name)
    return Saved(draft.upsert(KEYS, entry.id, {"expires_at": expires_at or iso(now)}))


def top_up(draft: Draft, kind: Kind, id_or_name: str, *, amount: Decimal, reset_duration: str | None = None) -> Saved:
    """Raise a budget by an amount in dollars, for good. Where there are several, ``reset_duration`` chooses one."""
    return _with_budget(draft, kind, id_or_name, reset_duration, lambda b: b | {"max_limit": Decimal(str(b["max_limit"])) + amount})


def raise_until(
    draft: Draft, kind: Kind, id_or_name: str, *, amount: Decimal, until: str, now: int, reset_duration: str | None = None
) -> Saved:
    """Raise a budget by an amount in dollars until a time, from which on it is as before. Raises EditError."""
    if parse_iso(until) <= now:
        raise EditError(f"until: {until} is not in the future", "until")
    return _with_budget(draft, kind, id_or_name, reset_duration, lambda b: with_raise(b, amount, until, now))


def set_raises(draft: Draft, id_or_name: str, owner: str | None, reset_duration: str, raises: list[dict[str, Any]]) -> Saved:
    """Put these raises in the place of a key's budget's: one of the key itself, or of its provider config for ``owner``."""
    entry = draft.get(KEYS, id_or_name)
    present = entry.after or {}

    def changed(part: Fields) -> Value:
        def of(budget: Fields) -> Value:
            return {**budget, "raises": raises} if budget.get("reset_duration") == reset_duration else {**budget}

        more: Value = {"budget": of(part["budget"])} if part.get("budget") else {}
        return more | ({"budgets": [of(b) for b in part["budgets"]]} if part.get("budgets") else {})

    if owner is None:
        return Saved(draft.upsert(KEYS, entry.id, changed(present)))
    configs = [{**c, **changed(c)} if c.get("provider") == owner else c for c in present.get("provider_configs") or ()]
    return Saved(draft.upsert(KEYS, entry.id, {"provider_configs": configs}))


def _with_budget(
    draft: Draft, kind: Kind, id_or_name: str, reset_duration: str | None, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> Saved:
    """Change one budget of an entity: the only one, or the one with this period. Raises ConflictError."""
    entry = draft.get(kind, id_or_name)
    present = entry.after or {}
    budgets = [b for b in (present.get("budget"), *(present.get("budgets") or ())) if b]
    fitting = [b for b in budgets if reset_duration in (None, b.get("reset_duration"))]
    if not fitting:
        raise ConflictError(
            f"{kind.singular} '{entry.id}' has no budget{f' that resets every {reset_duration}' if reset_duration else ''}"
        )
    if len(fitting) > 1:
        raise ConflictError(
            f"{kind.singular} '{entry.id}' has several budgets: choose one by its reset_duration",
            "reset_duration",
            candidates=[b.get("reset_duration") for b in fitting],
        )
    raised = change(fitting[0])
    if fitting[0] is present.get("budget"):
        return Saved(draft.upsert(kind, entry.id, {"budget": raised}))
    return Saved(draft.upsert(kind, entry.id, {"budgets": [raised if b is fitting[0] else b for b in present["budgets"]]}))


def delete(draft: Draft, kind: Kind, id_or_name: str, *, detach: bool = False) -> tuple[DraftEntry, list[DraftEntry]]:
    """Delete an entity; return it and those that referred to it, which are changed only with ``detach``."""
    entry = draft.get(kind, id_or_name)
    return entry, draft.delete(entry, detach=detach)
