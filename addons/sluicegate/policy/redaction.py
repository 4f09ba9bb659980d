"""A policy's text without its secrets, as it is shown and kept in its history, and the secrets put back into it.

A secret is known by where it stands: ``<secret virtual_keys/vk-dev-alice/value_hash>`` is whatever the policy has there.
So a text can be edited, kept and restored without anybody having seen a secret. They come back only where secrets stand:
else a policy could be made to show one under another name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import zip_longest
from typing import Any, get_args

import yaml

from sluicegate.background import release_gradually
from sluicegate.policy import schema
from sluicegate.policy.secrets import ENV, FILE, is_reference
from sluicegate.yaml_document import MAX_DEPTH, YAML_LOADER, Location, Problem, dotted

PLACEHOLDER = re.compile(r"<secret ([^<>\s]+)>")
"""What stands where a secret is."""

_SECRET_PATTERN = re.compile(r"sk-[\w-]{16,}|sha256:[0-9a-f]{64}|AIza[\w-]{30,}|https://hooks\.slack\.com/\S+")
"""Keys, hashes and webhooks as people leave them in comments."""

_TOKEN_PATTERNS = tuple(map(re.compile, (r"[\w./:+=-]+", r"[\w./:+-]+", r"[\w./+-]+")))
"""What a secret is among in a comment: ``key`` as well as ``value:key``."""

_MIN_SECRET_LENGTH = 8
"""A secret's least length at which finding it in a comment is no accident."""

_ANCHOR_OR_TAG = re.compile(r"(?:[&!]\S*\s+)+")
"""An anchor or tag before a value."""


class NotRedactable(Exception):
    """The text is written so that its secrets cannot be told from the rest of it for certain."""


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value or key of a text, from ``start`` up to ``end``."""

    place: Location
    start: int
    end: int
    value: str
    line: int
    is_key: bool
    is_block: bool
    is_anchor: bool
    """It can be repeated elsewhere in the text."""


@dataclass(frozen=True, slots=True)
class RedactedText:
    """A text without secrets, and what stands in the text for each of them by its name."""

    text: str
    secrets: Mapping[str, str] = field(repr=False)


def redact(text: str, file: str = "") -> RedactedText:
    """Take the secrets out of a file's text. Raises NotRedactable or yaml.YAMLError, and then nobody may be shown the text."""
    found = list(scalars(text))
    named = _item_names(found)
    hidden = [s for s in found if _is_secret(s)]
    secrets: dict[str, str] = {}
    values: dict[str, str] = {}
    pieces: list[str] = []
    at = 0

    def comment(part: str) -> str:
        if "#" not in part:
            return part
        for value in odd:
            part = part.replace(value, f"<secret {values[value]}>")
        for words in _TOKEN_PATTERNS:
            part = words.sub(lambda m: f"<secret {values[m[0]]}>" if m[0] in values else m[0], part)

        def looks_secret(match: re.Match[str]) -> str:
            name = f"comments/{file}/{len(secrets) - len(hidden)}"
            secrets[name] = match[0]
            return f"<secret {name}>"

        return _SECRET_PATTERN.sub(looks_secret, part)

    for scalar in hidden:
        name = _secret_name(scalar, named)
        while name in secrets:
            name += "+"
        raw = text[scalar.start : scalar.end]
        secrets[name] = json.dumps(scalar.value) if scalar.is_block or "\n" in raw else raw
        if len(scalar.value) >= _MIN_SECRET_LENGTH:
            values[scalar.value] = name
    # Of ten thousand secrets nearly all are words, which are looked up instead of searched for.
    odd = [v for v in values if not _TOKEN_PATTERNS[0].fullmatch(v)]
    names = dict(zip((s.start for s in hidden), list(secrets), strict=True))
    for scalar in found:
        pieces.append(comment(text[at : scalar.start]))
        raw = text[scalar.start : scalar.end]
        if scalar.start in names:
            quote = raw[0] if raw[0] in "'\"" and len(raw) > 1 else ""
            pieces.append(f"{quote}<secret {names[scalar.start]}>{quote}" + ("\n" if scalar.is_block else ""))
        else:
            pieces.append(raw)
        at = scalar.end
    pieces.append(comment(text[at:]))
    shown = "".join(pieces)
    release_gradually(pieces)
    same = _is_equivalent(found, shown, set(names))
    release_gradually(found)
    if not same:
        raise NotRedactable("the policy is written so that its secrets cannot be taken out of it: write them without anchors")
    return RedactedText(shown, secrets)


def _is_equivalent(was: Sequence[Scalar], shown: str, hidden: set[int]) -> bool:
    """Whether the text says the same as before, but for the secrets."""
    for a, b in zip_longest(was, scalars(shown)):
        if a is None or b is None or a.place != b.place:
            return False
        if a.start in hidden:
            if a.is_anchor or PLACEHOLDER.fullmatch(b.value) is None:
                return False
        elif a.value != b.value or PLACEHOLDER.search(a.value):
            return False
    return True


def restore_secrets(text: str, secrets: Mapping[str, str], file: str = "") -> tuple[str, list[Problem]]:
    """Put secrets back into a text, and what is wrong with where they stand. Raises yaml.YAMLError."""
    pieces: list[str] = []
    problems: list[Problem] = []
    at = 0

    def comment(part: str) -> str:
        return PLACEHOLDER.sub(lambda m: secrets[m[1]] if m[1].startswith("comments/") and m[1] in secrets else m[0], part)

    for scalar in scalars(text):
        raw = text[scalar.start : scalar.end]
        if (seen := PLACEHOLDER.search(scalar.value)) is not None:
            why = _placement_error(scalar, seen, secrets)
            if why is None:
                raw = secrets[seen[1]] + ("\n" if scalar.is_block else "")
            else:
                problems.append(Problem(file, scalar.line, dotted(scalar.place), why))
        pieces += (comment(text[at : scalar.start]), raw)
        at = scalar.end
    pieces.append(comment(text[at:]))
    whole = "".join(pieces)
    release_gradually(pieces)
    return whole, problems


def _placement_error(scalar: Scalar, seen: re.Match[str], secrets: Mapping[str, str]) -> str | None:
    name = seen[1]
    parts = name.rstrip("+").split("/")
    if scalar.is_key or seen[0] != scalar.value or not _is_secret_path(scalar.place):
        return f"{seen[0]} stands for a secret and can only be where the secret is"
    if scalar.is_anchor:
        return f"{seen[0]} stands for a secret and cannot be repeated: write it without anchor"
    if (parts[0], parts[-1]) != (scalar.place[0], scalar.place[-1]):
        return f"{seen[0]} is another kind of secret than the one that belongs here"
    if name not in secrets:
        return f"{seen[0]} is not in the policy any more and secrets are kept nowhere else: write a new one"
    return None


# -- where secrets stand ----------------------------------------------------------------------------------------------


@cache
def _secret_paths() -> frozenset[Location]:
    """Where the schema has secrets, ``*`` for any name or number."""
    return frozenset(_secret_fields(schema.PolicyFile, ()))


def _secret_fields(model: type[schema.Model], place: Location) -> Iterator[Location]:
    for name, info in model.model_fields.items():
        # What is not even shown to developers is shown to nobody; a hash of a weak secret can be guessed from.
        if not info.repr or name.endswith("_hash"):
            yield (*place, name)
        for inner, many in _models(info.annotation):
            yield from _secret_fields(inner, (*place, name, "*") if many else (*place, name))


def _models(annotation: Any, many: bool = False) -> Iterator[tuple[type[schema.Model], bool]]:
    if isinstance(annotation, type) and issubclass(annotation, schema.Model):
        yield annotation, many
    for part in get_args(annotation):
        yield from _models(part, many or getattr(annotation, "__origin__", None) in (tuple, dict))


def _is_secret_path(place: Location) -> bool:
    return any(len(p) == len(place) and all(a in ("*", b) for a, b in zip(p, place, strict=True)) for p in _of_length(len(place)))


@cache
def _of_length(length: int) -> tuple[Location, ...]:
    return tuple(p for p in _secret_paths() if len(p) == length)


def _is_secret(scalar: Scalar) -> bool:
    if scalar.is_key or not scalar.value or not _is_secret_path(scalar.place):
        return False
    return not is_reference(scalar.value, (ENV,) if scalar.place[0] == "virtual_keys" else (ENV, FILE))


def _item_names(found: Sequence[Scalar]) -> Mapping[Location, str]:
    """What the items of lists are called, by their ids and names."""
    named: dict[Location, str] = {}
    for scalar in found:
        item, called = scalar.place[:-1], scalar.place[-1:]
        fits = not scalar.is_key and re.fullmatch(r"[\w.@:-]{1,128}", scalar.value)
        if fits and (called == ("id",) or (called == ("name",) and item not in named)):
            named[item] = scalar.value
    return named


def _secret_name(scalar: Scalar, named: Mapping[Location, str]) -> str:
    place = scalar.place
    parts = [named.get(place[: i + 1], str(p)) if isinstance(p, int) else p for i, p in enumerate(place)]
    return "/".join(re.sub(r"[^\w.@:-]", "_", p) for p in parts)


# -- where values stand in a text -------------------------------------------------------------------------------------


@dataclass(slots=True)
class _OpenCollection:
    place: Location
    is_list: bool
    count: int = 0
    key: str | None = None


def scalars(text: str) -> Iterator[Scalar]:
    """Every value and key of a YAML text in order. Raises yaml.YAMLError."""
    stack: list[_OpenCollection] = []
    # A byte order mark is no character to the parser.
    shift = text.startswith("\ufeff")
    for event in yaml.parse(text, Loader=YAML_LOADER):
        if isinstance(event, yaml.CollectionEndEvent):
            stack.pop()
            continue
        if not isinstance(event, yaml.NodeEvent):
            continue
        top = stack[-1] if stack else None
        is_key = top is not None and not top.is_list and top.key is None and isinstance(event, yaml.ScalarEvent)
        place = top.place if top is not None else ()
        if top is not None and top.is_list:
            place, top.count = (*place, top.count), top.count + 1
        elif top is not None and is_key:
            top.key = str(getattr(event, "value", ""))
            place = (*place, top.key)
        elif top is not None:
            place, top.key = (*place, top.key or ""), None
        if isinstance(event, yaml.CollectionStartEvent):
            if len(stack) >= MAX_DEPTH:
                raise yaml.YAMLError("nested too deeply")
            stack.append(_OpenCollection(place, isinstance(event, yaml.SequenceStartEvent)))
        elif isinstance(event, yaml.ScalarEvent) and event.start_mark and event.end_mark:
            start, end = event.start_mark.index + shift, event.end_mark.index + shift
            if (before := _ANCHOR_OR_TAG.match(text, start, end)) is not None:
                start = before.end()
            line = event.start_mark.line + 1
            yield Scalar(place, start, end, event.value, line, is_key, event.style in ("|", ">"), event.anchor is not None)
