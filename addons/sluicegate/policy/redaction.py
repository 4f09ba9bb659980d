"""Removing the secrets from a policy's text that is shown or kept in the history, and restoring them.

A placeholder names the location of its secret: ``<secret virtual_keys/vk-dev-alice/value_hash>`` stands for the value
there. So a text can be edited, kept and restored without showing a secret. Secrets are restored only where the
schema has secrets: else a policy could be made to show one as the name of a team.
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
from sluicegate.policy.fields import Model
from sluicegate.policy.secrets import ENV, FILE, is_reference
from sluicegate.yaml_document import MAX_DEPTH, YAML_LOADER, Location, Problem, dotted

PLACEHOLDER = re.compile(r"<secret ([^<>\s]+)>")
"""A placeholder of a secret."""

_SECRET_PATTERN = re.compile(r"sk-[\w-]{16,}|sha256:[0-9a-f]{64}|AIza[\w-]{30,}|https://hooks\.slack\.com/\S+")
"""Keys, hashes and webhooks as people leave them in comments."""

_TOKEN_PATTERNS = tuple(map(re.compile, (r"[\w./:+=-]+", r"[\w./:+-]+", r"[\w./+-]+")))
"""How a comment is split into words that may be secrets: ``key`` as well as ``value:key``."""

_MIN_SECRET_LENGTH = 8
"""Characters a secret needs to be looked for in comments; a shorter one would be found by accident."""

_ANCHOR_OR_TAG = re.compile(r"(?:[&!]\S*\s+)+")
"""An anchor or tag before a value."""


class NotRedactableError(Exception):
    """A text whose secrets cannot be reliably told from the rest of it."""


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value or key of a text, at the characters ``[start, end)``."""

    location: Location
    start: int
    end: int
    value: str
    line: int
    is_key: bool
    is_block: bool
    is_anchor: bool
    """An alias may repeat it elsewhere in the text."""


@dataclass(frozen=True, slots=True)
class RedactedText:
    """A text without secrets, and the original text of each secret, by its name."""

    text: str
    secrets: Mapping[str, str] = field(repr=False)


def redact(text: str, file: str = "") -> RedactedText:
    """Remove the secrets from a file's text. Raises NotRedactableError or yaml.YAMLError; then the text must not be shown."""
    found = list(scalars(text))
    item_names = _item_names(found)
    secrets: dict[str, str] = {}
    names: dict[int, str] = {}
    """The names of secrets by where they start."""
    values: dict[str, str] = {}
    for scalar in found:
        if not _is_secret(scalar):
            continue
        name = _secret_name(scalar, item_names)
        while name in secrets:
            name += "+"
        raw = text[scalar.start : scalar.end]
        secrets[name] = json.dumps(scalar.value) if scalar.is_block or "\n" in raw else raw
        names[scalar.start] = name
        if len(scalar.value) >= _MIN_SECRET_LENGTH:
            values[scalar.value] = name
    comments = _CommentRedactor(file, values, secrets)
    parts: list[str] = []
    at = 0
    for scalar in found:
        parts.append(comments.redact(text[at : scalar.start]))
        raw = text[scalar.start : scalar.end]
        if scalar.start in names:
            quote = raw[0] if raw[0] in "'\"" and len(raw) > 1 else ""
            raw = f"{quote}<secret {names[scalar.start]}>{quote}" + ("\n" if scalar.is_block else "")
        parts.append(raw)
        at = scalar.end
    parts.append(comments.redact(text[at:]))
    shown = "".join(parts)
    release_gradually(parts)
    # Only reading the result again makes sure: an alias, for example, would still show what its anchor hides.
    is_equivalent = _is_equivalent(found, shown, set(names))
    release_gradually(found)
    if not is_equivalent:
        raise NotRedactableError("the secrets cannot be removed from this policy's text: write them without anchors")
    return RedactedText(shown, secrets)


class _CommentRedactor:
    """Removes from comments what repeats a secret of the policy and what looks like one; adds the latter to ``secrets``."""

    def __init__(self, file: str, names: Mapping[str, str], secrets: dict[str, str]) -> None:
        self.file, self.names, self.secrets = file, names, secrets
        self.count = 0
        # Nearly all of ten thousand secrets are single words, which are looked up; only the others are searched for.
        self.multi_word = [v for v in names if not _TOKEN_PATTERNS[0].fullmatch(v)]

    def redact(self, part: str) -> str:
        """Return the text between two values without secrets."""
        if "#" not in part:
            return part
        for value in self.multi_word:
            part = part.replace(value, f"<secret {self.names[value]}>")
        for words in _TOKEN_PATTERNS:
            part = words.sub(lambda m: f"<secret {self.names[m[0]]}>" if m[0] in self.names else m[0], part)
        return _SECRET_PATTERN.sub(self._hide, part)

    def _hide(self, match: re.Match[str]) -> str:
        name = f"comments/{self.file}/{self.count}"
        self.count += 1
        self.secrets[name] = match[0]
        return f"<secret {name}>"


def _is_equivalent(was: Sequence[Scalar], shown: str, hidden: set[int]) -> bool:
    """Return whether a redacted text has the same keys and values as before, except for the secrets."""
    for a, b in zip_longest(was, scalars(shown)):
        if a is None or b is None or a.location != b.location:
            return False
        if a.start in hidden:
            if a.is_anchor or PLACEHOLDER.fullmatch(b.value) is None:
                return False
        elif a.value != b.value or PLACEHOLDER.search(a.value):
            return False
    return True


def restore_secrets(text: str, secrets: Mapping[str, str], file: str = "") -> tuple[str, list[Problem]]:
    """Return a text with its secrets restored, and what is wrong with placeholders. Raises yaml.YAMLError."""
    parts: list[str] = []
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
                problems.append(Problem(file, scalar.line, dotted(scalar.location), why))
        parts += (comment(text[at : scalar.start]), raw)
        at = scalar.end
    parts.append(comment(text[at:]))
    whole = "".join(parts)
    release_gradually(parts)
    return whole, problems


def _placement_error(scalar: Scalar, seen: re.Match[str], secrets: Mapping[str, str]) -> str | None:
    name = seen[1]
    parts = name.rstrip("+").split("/")
    if scalar.is_key or seen[0] != scalar.value or not _is_secret_path(scalar.location):
        return f"{seen[0]} stands for a secret and is allowed only where the secret is"
    if scalar.is_anchor:
        return f"{seen[0]} stands for a secret and cannot be repeated: write it without anchor"
    if (parts[0], parts[-1]) != (scalar.location[0], scalar.location[-1]):
        return f"{seen[0]} is another kind of secret than the one that belongs here"
    if name not in secrets:
        return f"{seen[0]} is no longer in the policy, and secrets are kept nowhere else: write a new one"
    return None


# -- where secrets are ------------------------------------------------------------------------------------------------


@cache
def _secret_paths() -> frozenset[Location]:
    """Return where the schema has secrets, with ``*`` for any name or number."""
    return frozenset(_secret_fields(schema.PolicyFile, ()))


def _secret_fields(model: type[Model], location: Location) -> Iterator[Location]:
    for name, info in model.model_fields.items():
        # Fields without a repr are secrets; so are hashes, because a weak secret can be guessed from its hash.
        if not info.repr or name.endswith("_hash"):
            yield (*location, name)
            if getattr(info.annotation, "__origin__", None) is dict:
                yield (*location, name, "*")
        for inner, many in _models(info.annotation):
            yield from _secret_fields(inner, (*location, name, "*") if many else (*location, name))


def _models(annotation: Any, many: bool = False) -> Iterator[tuple[type[Model], bool]]:
    if isinstance(annotation, type) and issubclass(annotation, Model):
        yield annotation, many
    for part in get_args(annotation):
        yield from _models(part, many or getattr(annotation, "__origin__", None) in (tuple, dict))


def _is_secret_path(location: Location) -> bool:
    return any(
        len(p) == len(location) and all(a in ("*", b) for a, b in zip(p, location, strict=True)) for p in _of_length(len(location))
    )


@cache
def _of_length(length: int) -> tuple[Location, ...]:
    return tuple(p for p in _secret_paths() if len(p) == length)


def _is_secret(scalar: Scalar) -> bool:
    if scalar.is_key or not scalar.value or not _is_secret_path(scalar.location):
        return False
    return not is_reference(scalar.value, (ENV,) if scalar.location[0] == "virtual_keys" else (ENV, FILE))


def _item_names(found: Sequence[Scalar]) -> Mapping[Location, str]:
    """Return the id or name of each list item, by its location."""
    named: dict[Location, str] = {}
    for scalar in found:
        item, key = scalar.location[:-1], scalar.location[-1:]
        fits = not scalar.is_key and re.fullmatch(r"[\w.@:-]{1,128}", scalar.value)
        if fits and (key == ("id",) or (key == ("name",) and item not in named)):
            named[item] = scalar.value
    return named


def _secret_name(scalar: Scalar, named: Mapping[Location, str]) -> str:
    location = scalar.location
    parts = [named.get(location[: i + 1], str(p)) if isinstance(p, int) else p for i, p in enumerate(location)]
    return "/".join(re.sub(r"[^\w.@:-]", "_", p) for p in parts)


# -- where values are in a text ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class _OpenCollection:
    """A list or mapping whose end has not been reached."""

    location: Location
    is_list: bool
    count: int = 0
    key: str | None = None
    """The key whose value comes next."""

    def advance(self, event: yaml.NodeEvent) -> tuple[Location, bool]:
        """Return the location of the next node in it, and whether the node is a key."""
        if self.is_list:
            self.count += 1
            return (*self.location, self.count - 1), False
        if self.key is None and isinstance(event, yaml.ScalarEvent):
            self.key = str(event.value)
            return (*self.location, self.key), True
        location, self.key = (*self.location, self.key or ""), None
        return location, False


def scalars(text: str) -> Iterator[Scalar]:
    """Return every value and key of a YAML text in order. Raises yaml.YAMLError."""
    stack: list[_OpenCollection] = []
    # The parser does not count a byte order mark as a character.
    shift = text.startswith("\ufeff")
    for event in yaml.parse(text, Loader=YAML_LOADER):
        if isinstance(event, yaml.CollectionEndEvent):
            stack.pop()
            continue
        if not isinstance(event, yaml.NodeEvent):
            continue
        location, is_key = stack[-1].advance(event) if stack else ((), False)
        if isinstance(event, yaml.CollectionStartEvent):
            if len(stack) >= MAX_DEPTH:
                raise yaml.YAMLError("nested too deeply")
            stack.append(_OpenCollection(location, isinstance(event, yaml.SequenceStartEvent)))
        elif isinstance(event, yaml.ScalarEvent) and event.start_mark and event.end_mark:
            start, end = event.start_mark.index + shift, event.end_mark.index + shift
            if (before := _ANCHOR_OR_TAG.match(text, start, end)) is not None:
                start = before.end()
            line = event.start_mark.line + 1
            yield Scalar(location, start, end, event.value, line, is_key, event.style in ("|", ">"), event.anchor is not None)
