"""Restoring an old policy: what that would do, in words, and which revocations stay as they are. Pure.

A key that was disabled, expired, deleted or rotated since, and an operator who lost access, was revoked for a reason that an old
text does not know. So these stay unless they are asked for by name. Texts have placeholders for secrets here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

from sluicegate.policy.editing.draft import EditError
from sluicegate.policy.editing.yaml_patch import Change, rewrite
from sluicegate.policy.entities import KINDS, id_of
from sluicegate.policy.errors import did_you_mean
from sluicegate.windows import parse_iso
from sluicegate.yaml_document import Document

VALUE_FIELDS = ("value", "value_hash", "previous_value_hash", "previous_expires_at")

MAX_CHARACTERS = 80
"""Characters of a value that are shown."""

MAX_DIFFERENCES = 20
"""Differences between two long values that are listed."""

Since = Callable[[str, str, str], str | None]
"""Takes a kind, an id and what was done (``disabled``, ``deleted``, ``rotated``); returns the day, None where it is not known."""


class Effect(NamedTuple):
    """One thing that a restore does, or leaves as it is."""

    kind: str
    id: str
    text: str
    loosens: bool
    """Whether somebody may do or spend more than before."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The texts to put in force, what that does, and the revocations that stay."""

    texts: Mapping[str, str]
    effects: Sequence[Effect]
    kept: Sequence[Effect]


def plan_restore(
    now: Sequence[Document], then: Sequence[Document], texts: Mapping[str, str], asked: Collection[str], since: Since
) -> Plan:
    """Plan to put the files ``then``, which have these texts, in force instead of ``now``.

    ``asked`` are the ids of keys and operators whose revocations are undone. Raises EditError for an id that has none, and
    NotPatchableError.
    """
    present = {section: _entities(now, section) for section in ("virtual_keys", "users", "operators")}
    made: list[Effect] = []
    kept: list[Effect] = []
    new_texts, new_docs = dict(texts), list(then)
    for number, doc in enumerate(then):
        changes = []
        for section, read in (("virtual_keys", _key), ("users", _user), ("operators", _operator)):
            for position, entity in enumerate(_of(doc.value, section) or ()):
                name = str(entity.get("id"))
                value, found = read(present[section].get(name), entity, since)
                if name in asked:
                    made += [Effect(f.kind, f.id, f.asked, True) for f in found]
                    continue
                kept += [Effect(f.kind, f.id, f.kept, False) for f in found]
                if value != entity:
                    changes.append(Change(section, position, value))
        if changes:
            new_texts[doc.file], new_docs[number] = rewrite(doc, texts[doc.file], changes)
    revoked = {e.id for e in (*made, *kept)}
    for name in asked:
        if name not in revoked:
            raise EditError(f"also_re_enable: nothing of '{name}' was revoked since{did_you_mean(name, revoked)}", "also_re_enable")
    return Plan(new_texts, [*made, *_differences(now, new_docs, {(e.kind, e.id) for e in made})], kept)


class _Revocation(NamedTuple):
    kind: str
    id: str
    kept: str
    asked: str


def _key(now: Mapping[str, Any] | None, then: dict[str, Any], since: Since) -> tuple[dict[str, Any] | None, list[_Revocation]]:
    """Return an old key with the revocations of today, None if it was deleted, and these revocations."""
    name = str(then.get("id"))
    found: list[_Revocation] = []

    def add(kept: str, asked: str) -> None:
        found.append(_Revocation("virtual_key", name, kept, asked))

    def day(done: str) -> str:
        at = since("virtual_key", name, done)
        return f"{done} {at}" if at else f"{done} since"

    if now is None:
        add(f"key {name}, {day('deleted')}, stays deleted", f"brings back key {name}, {day('deleted')}")
        return None, found
    value = dict(then)
    if now.get("is_active") is False and then.get("is_active") is not False:
        value["is_active"] = False
        add(f"key {name}, {day('disabled')}, stays disabled", f"re-enables key {name}, {day('disabled')}")
    if (end := now.get("expires_at")) is not None and _instant(end) < _instant(then.get("expires_at")):
        value["expires_at"] = end
        later = f"at {then['expires_at']}" if then.get("expires_at") else "never"
        add(f"key {name} expires at {end}, as now", f"lets key {name} expire {later} instead of at {end}")
    if any(now.get(f) != then.get(f) for f in VALUE_FIELDS):
        value = {f: v for f, v in value.items() if f not in VALUE_FIELDS} | {f: now[f] for f in VALUE_FIELDS if f in now}
        add(f"key {name}, {day('rotated')}, keeps its present value", f"brings back the old value of key {name}, {day('rotated')}")
    return value, found


def _user(now: Mapping[str, Any] | None, then: dict[str, Any], since: Since) -> tuple[dict[str, Any] | None, list[_Revocation]]:
    """Return the same for a user: one that was disabled stays so. A deleted one may come back: without keys it can do nothing."""
    if now is None or now.get("is_active") is not False or then.get("is_active") is False:
        return then, []
    name = str(then.get("id"))
    at = since("user", name, "disabled")
    day = f"disabled {at}" if at else "disabled since"
    words = f"user {name}, {day}, stays disabled", f"re-enables user {name}, {day}"
    return {**then, "is_active": False}, [_Revocation("user", name, *words)]


def _operator(now: Mapping[str, Any] | None, then: dict[str, Any], since: Since) -> tuple[dict[str, Any] | None, list[_Revocation]]:
    """Return the same for an operator: access and role are never given back."""
    name = str(then.get("id"))
    if now is None:
        return None, [_Revocation("operator", name, f"operator {name} stays removed", f"gives operator {name} access again")]
    if now.get("role") == "viewer" and then.get("role") == "admin":
        words = f"operator {name} stays a viewer", f"makes operator {name} an admin again"
        return {**then, "role": "viewer"}, [_Revocation("operator", name, *words)]
    return then, []


# -- differences in words ---------------------------------------------------------------------------------------------


def _differences(now: Sequence[Document], then: Sequence[Document], reported: Collection[tuple[str, str]]) -> Iterator[Effect]:
    """Yield what differs, except for what ``said`` has of the entities' own being there."""
    named = {k.name: (k.singular, k.singular.replace("_", " ")) for k in KINDS.values()} | {"operators": ("operator", "operator")}
    for section, (kind, label) in named.items():
        old, new = _entities(now, section), _entities(then, section)
        label = "key" if kind == "virtual_key" else label
        for name in {**old, **new}:
            before, after = old.get(name), new.get(name)
            if before is None and (kind, name) not in reported:
                yield Effect(kind, name, f"brings back {label} {name}, which is gone now", True)
            elif after is None:
                yield Effect(kind, name, f"deletes {label} {name}", kind not in ("virtual_key", "operator"))
            elif before is not None and before != after:
                skipped = ("is_active", "expires_at", "role") if (kind, name) in reported else ()
                yield from _changes(kind, name, f"{label} {name}", before, after, skipped)
    for section in {**_sections(now), **_sections(then)}:
        before, after = _sections(now).get(section), _sections(then).get(section)
        if before != after:
            yield Effect("policy", section, f"changes {section}: {_difference(before, after)}", True)


def _changes(
    kind: str, name: str, owner: str, before: Mapping[str, Any], after: Mapping[str, Any], skipped: Collection[str]
) -> Iterator[Effect]:
    for field in {**before, **after}:
        old, new = before.get(field), after.get(field)
        if old == new or field in VALUE_FIELDS or field in skipped:
            continue
        if field == "is_active" and new is False:
            yield Effect(kind, name, f"disables {owner}", False)
            continue
        if field in ("budget", "rate_limit") and isinstance(old or {}, dict) and isinstance(new or {}, dict):
            yield from _limit_changes(kind, name, owner, field, old or {}, new or {})
        else:
            loosens = field != "expires_at" or _instant(new) > _instant(old)
            yield Effect(kind, name, f"changes {field} of {owner}: {_difference(old, new)}", loosens)


def _limit_changes(
    kind: str, name: str, owner: str, field: str, old: Mapping[str, Any], new: Mapping[str, Any]
) -> Iterator[Effect]:
    """Say how a budget or rate limit changes: each maximum with its numbers, anything else by name."""
    for part in {**old, **new}:
        if old.get(part) == new.get(part):
            continue
        what = "budget" if field == "budget" else part.removesuffix("_max_limit").removeprefix("max_") + " limit"
        if part != "max_concurrent" and not part.endswith("max_limit"):
            text = f"changes {part} of {owner}'s {field.replace('_', ' ')}: {_short(old.get(part))} becomes {_short(new.get(part))}"
            yield Effect(kind, name, text, True)
            continue
        a, b = _number(old.get(part)), _number(new.get(part))
        if a is None or b is None:
            verb, value = ("removes", a) if b is None else ("adds", b)
            yield Effect(kind, name, f"{verb} the {what} of {owner}: {value}", b is None)
        else:
            yield Effect(kind, name, f"{'raises' if b > a else 'lowers'} {owner}'s {what} from {a} to {b}", b > a)


def _sections(docs: Sequence[Document]) -> dict[str, Any]:
    return {n: v for d in docs if isinstance(d.value, dict) for n, v in d.value.items() if n not in KINDS and n != "operators"}


def _entities(docs: Sequence[Document], section: str) -> dict[str, dict[str, Any]]:
    """Return the entities of a section by id; what has another shape is left to the schema."""
    found: dict[str, dict[str, Any]] = {}
    for doc in docs:
        value = _of(doc.value, section)
        if isinstance(value, dict):
            found |= {str(name): entity or {} for name, entity in value.items()}
        elif isinstance(value, list):
            for entity in value:
                if isinstance(entity, dict):
                    found[id_of(KINDS[section], entity) if section in KINDS else str(entity.get("id"))] = entity
    return found


def _of(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _instant(text: Any) -> float:
    """Return a time that policies write, in epoch milliseconds; infinity for none."""
    try:
        return parse_iso(str(text)) if text is not None else float("inf")
    except ValueError:
        return float("inf")


def _number(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    number = Decimal(str(value)).normalize()
    return number.quantize(Decimal(1)) if number == number.to_integral_value() else number


def _difference(old: Any, new: Any) -> str:
    """Return how a value changes: from what to what, or only what differs where that would be long."""
    texts = _text(old), _text(new)
    # Two long values often begin alike: cut off, both would look the same, whatever the change lets through.
    return " becomes ".join(texts) if max(map(len, texts)) <= MAX_CHARACTERS else _listed(_parts(old, new, ""), "; ")


def _parts(old: Any, new: Any, place: str) -> Iterator[str]:
    """Yield each difference between two values, with its place in them."""
    kind = next((t for t in (dict, list) if isinstance(old, t) or isinstance(new, t)), None)
    if kind is None or not isinstance(old, kind | None) or not isinstance(new, kind | None):
        yield f"{place} {_short(old)} becomes {_short(new)}"
        return
    a, b = (_named(value) if isinstance(value, list) else value or {} for value in (old, new))
    differ = [name for name in {**a, **b} if a.get(name) != b.get(name)]
    if not differ:
        yield f"the order of {place}"
    if kind is list:
        for verb, more, less in (("gains", b, a), ("loses", a, b)):
            if items := [_short(more[name]) for name in differ if name not in less]:
                yield f"{place} {verb} {_listed(items, ', ')}".strip()
        differ = [name for name in differ if name in a and name in b]
    for name in differ:
        yield from _parts(a.get(name), b.get(name), f"{place}.{name}" if place and kind is dict else str(name))


def _named(items: list[Any]) -> dict[str, Any]:
    """Return a list's items by what tells them apart."""
    fields = ("name", "provider", "reset_duration")
    names = (next((v for f in fields if (v := _of(item, f)) is not None), item) for item in items)
    return {str(name): item for name, item in zip(names, items, strict=True)}


def _listed(texts: Iterable[str], separator: str) -> str:
    shown = [*texts]
    more = len(shown) - MAX_DIFFERENCES
    return separator.join(shown[:MAX_DIFFERENCES]) + (f" and {more} more" if more > 0 else "")


def _short(value: Any) -> str:
    text = _text(value)
    return text if len(text) <= MAX_CHARACTERS else text[: MAX_CHARACTERS - 1] + "\u2026"


def _text(value: Any) -> str:
    return "nothing" if value in (None, (), []) else str(value) if not isinstance(value, Decimal) else str(_number(value))
