"""Which metrics and labels a PromQL expression names. A small reader for checking names; promtool checks the grammar."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|\'[^\']*\'|\[[^\]]*\]|[A-Za-z_:][\w:]*|[{}(),]|=~|!~|!=|==?|[^\s\w"]|[\d.]+\w*')
_GROUPING = ("by", "without", "on", "ignoring", "group_left", "group_right")
_WORDS = (*_GROUPING, "and", "or", "unless", "bool", "offset", "inf", "nan")


@dataclass
class Named:
    """``matched``: metric to the labels its selectors name. ``grouped``: labels in by, on and the like."""

    matched: dict[str, set[str]] = field(default_factory=dict)
    grouped: set[str] = field(default_factory=set)


def names(expr: str) -> Named:
    """Read an expression."""
    tokens = [t for t in _TOKEN.findall(expr) if not t.startswith(("[", '"', "'"))]
    found, metric, i = Named(), "", 0
    while i < len(tokens):
        token, after = tokens[i], tokens[i + 1] if i + 1 < len(tokens) else ""
        if token.lower() in _GROUPING and after == "(":
            end = tokens.index(")", i)
            found.grouped |= {t for t in tokens[i + 2 : end] if t != ","}
            i = end
        elif token == "{":
            end = tokens.index("}", i)
            found.matched.setdefault(metric, set()).update(t for t in tokens[i + 1 : end] if t.isidentifier())
            i = end
        elif re.fullmatch(r"[A-Za-z_:][\w:]*", token) and after not in ("(", "by", "without") and token.lower() not in _WORDS:
            metric = token
            found.matched.setdefault(metric, set())
        i += 1
    return found
