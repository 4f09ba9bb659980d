"""A route's conditions as an expression of CEL, the language of Bifrost's routing rules: as much of it as routes can hold to.

What can be said is a list of conditions that must all hold. The rest of the language is refused, naming the part that stops it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

Conditions = dict[str, Any]
"""The conditions of a route as the policy writes them; ``team_name`` and its like stand for ids that are to be looked up."""

FIELDS: Mapping[str, str] = {
    "provider": "provider",
    "virtual_key_id": "virtual_key",
    "user_id": "user",
    "team_id": "team",
    "customer_id": "customer",
    "project_id": "project",
    "virtual_key_name": "virtual_key_name",
    "team_name": "team_name",
    "customer_name": "customer_name",
    "hours": "hours",
    "timezone": "timezone",
}
"""Variables that are compared with ``==``, and the condition each is. ``hours`` and ``timezone`` are ours, not Bifrost's."""

CLASS_HEADER = "x-claude-code-request-class"

_STRING = r'"(?:[^"\\]|\\.)*"|\'[^\'\\]*\''
_EQUAL = re.compile(rf"(\w+)\s*==\s*({_STRING})")
_SWAPPED = re.compile(rf"({_STRING})\s*==\s*(\w+)")
_CALL = re.compile(rf"(model|request_class)\.(startsWith|endsWith|contains|glob)\(\s*({_STRING})\s*\)")
_HEADER = re.compile(rf"headers\[\s*({_STRING})\s*\]\s*==\s*({_STRING})")
_ABOVE = re.compile(r"budget_used\s*>\s*(\d+(?:\.\d+)?)")
_PART = re.compile(rf"{_STRING}|&&|\|\||[()\[\]]|!=|!(?!=)|[^\s\"'&|()\[\]!]+|\s+|.", re.DOTALL)

_GLOBBING = frozenset("*?[")

MAX_LENGTH = 4000
"""Characters of an expression."""


class UnsupportedExpression(ValueError):
    """An expression, or a part of one, that no route can hold to."""


def parse(expression: str) -> Conditions:
    """Return the conditions that an expression says must all hold; none for ``true``. Raises UnsupportedExpression."""
    if len(expression) > MAX_LENGTH:
        raise UnsupportedExpression(f"an expression has at most {MAX_LENGTH} characters")
    found: Conditions = {}
    for term in _terms(expression):
        name, value = _condition(term)
        if found.setdefault(name, value) != value:
            raise UnsupportedExpression(f"'{term}' and another condition on the same can never both hold, or cannot both be said")
    return found


def _terms(expression: str) -> Iterator[str]:
    """Yield what is joined by ``&&``, without the parentheses around it."""
    text = _unwrapped(expression.strip())
    if text in ("", "true"):
        return
    parts, depth, start, at = [], 0, 0, 0
    for found in _PART.finditer(text):
        part, at = found[0], found.end()
        if part in ("||", "!", "!="):
            raise UnsupportedExpression(
                f"{part} is not supported: a route is taken where all of its conditions hold; make two rules"
            )
        depth += (part in "([") - (part in ")]") if len(part) == 1 else 0
        if depth < 0:
            break
        if part == "&&" and depth == 0:
            parts.append(text[start : found.start()])
            start = at
    if depth != 0:
        raise UnsupportedExpression("a bracket is missing")
    if not parts:
        yield text
        return
    for one in (*parts, text[start:]):
        if not one.strip():
            raise UnsupportedExpression("a condition is missing beside &&")
        yield from _terms(one)


def _unwrapped(text: str) -> str:
    """Return a text without parentheses around the whole of it."""
    while text.startswith("(") and text.endswith(")"):
        depth = 0
        for found in _PART.finditer(text):
            depth += (found[0] == "(") - (found[0] == ")")
            if depth == 0:
                if found.end() < len(text):
                    return text
                break
        if depth != 0:
            return text
        text = text[1:-1].strip()
    return text


def _condition(term: str) -> tuple[str, Any]:
    """Return one condition's name and value. Raises UnsupportedExpression."""
    if found := _CALL.fullmatch(term):
        name = "model" if found[1] == "model" else "class"
        text = _string(found[3])
        if found[2] == "glob":
            return name, text
        before, after = {"startsWith": ("", "*"), "endsWith": ("*", ""), "contains": ("*", "*")}[found[2]]
        return name, before + _plain(text, term) + after
    if found := _HEADER.fullmatch(term):
        if _string(found[1]).lower() != CLASS_HEADER:
            raise UnsupportedExpression(f"'{term}' is not supported: of the headers a route looks at {CLASS_HEADER} alone")
        return "class", _plain(_string(found[2]), term)
    if found := _ABOVE.fullmatch(term):
        if (percent := Decimal(found[1])) > 100:
            raise UnsupportedExpression(f"'{term}' can never hold: budget_used is in percent")
        # A decimal, as the policy's parser has them: 0.8 is to be written as 0.8.
        return "budget_used_above", percent / 100
    pair = _EQUAL.fullmatch(term)
    swapped = _SWAPPED.fullmatch(term) if pair is None else None
    if pair is None and swapped is None:
        raise UnsupportedExpression(f"'{term[:200]}' is not supported; {_KNOWN}")
    variable, text = (pair[1], pair[2]) if pair is not None else (swapped[2], swapped[1]) if swapped is not None else ("", "")
    if variable in ("model", "request_class"):
        return "model" if variable == "model" else "class", _plain(_string(text), term)
    if variable not in FIELDS:
        raise UnsupportedExpression(f"'{variable}' is not supported in a condition; {_KNOWN}")
    return FIELDS[variable], _string(text)


_KNOWN = (
    'a condition is such as model == "gpt-4o", model.startsWith("claude-"), provider == "openai", team_id == "team-engineering", '
    f'headers["{CLASS_HEADER}"] == "subagent" or budget_used > 80, and they are joined by &&'
)


def _string(literal: str) -> str:
    if literal.startswith("'"):
        return literal[1:-1]
    try:
        return str(json.loads(literal))
    except ValueError as e:
        raise UnsupportedExpression(f"{literal[:80]} has an escape that is not supported") from e


def _plain(text: str, term: str) -> str:
    if not text or not _GLOBBING.isdisjoint(text):
        raise UnsupportedExpression(
            f"'{term}' is not supported: {'* ? and [ stand for patterns in a route' if text else 'it is empty'}"
        )
    return text


def render(when: Mapping[str, Any], *, without: str | None = None) -> str:
    """Return the expression that says a route's conditions, but for one; ``true`` where there is none."""
    variables = {field: variable for variable, field in FIELDS.items()}
    terms = []
    for name, value in when.items():
        if value is None or name == without:
            continue
        if name in ("model", "class"):
            terms.append(_pattern("model" if name == "model" else "request_class", value))
        elif name == "budget_used_above":
            terms.append(f"budget_used > {Decimal(str(value)) * 100:f}")
        else:
            terms.append(f"{variables[name]} == {json.dumps(value, ensure_ascii=False)}")
    return " && ".join(terms) or "true"


def _pattern(variable: str, pattern: str) -> str:
    bare = pattern.strip("*")
    for method, before, after in (("startsWith", "", "*"), ("endsWith", "*", ""), ("contains", "*", "*")):
        if bare and _GLOBBING.isdisjoint(bare) and pattern == before + bare + after:
            return f"{variable}.{method}({json.dumps(bare, ensure_ascii=False)})"
    text = json.dumps(pattern, ensure_ascii=False)
    return f"{variable} == {text}" if pattern and _GLOBBING.isdisjoint(pattern) else f"{variable}.glob({text})"
