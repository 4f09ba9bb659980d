"""Lines of the log: a call's record or a message as one line of text or of JSON.

A line never holds another one: whatever clients and providers have named is quoted where it has spaces or control characters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

import orjson

from sluicegate.values import TOKEN_COLUMNS
from sluicegate.windows import iso

Format = Literal["text", "json"]

FORMATS: tuple[Format, ...] = ("text", "json")

LEVELS = {10: "debug", 20: "info", 21: "info", 30: "warning", 40: "error", 50: "error"}
"""Names of logging's levels, mitmproxy's ``ALERT`` included."""

MAX_NAME_CHARACTERS = 200
"""Characters of a name that are printed; the model's comes from the client and may be of any length."""

_PLAIN = re.compile(r"[!#-<>-~]+")
"""What needs no quotes in a line of text: printable ASCII without spaces, quotes and ``=``."""


class FormatError(ValueError):
    """No format of this name."""


def chosen_format(option: str, env: Mapping[str, str]) -> Format:
    """Return the format of the log: the option's, else SLUICEGATE_LOG_FORMAT's, else text. Raises FormatError."""
    chosen = option or env.get("SLUICEGATE_LOG_FORMAT", "") or "text"
    for known in FORMATS:
        if chosen == known:
            return known
    source = "--log-format" if option else "SLUICEGATE_LOG_FORMAT"
    raise FormatError(f"{source} {chosen}: the log is written as text or as json")


def call_as_json(at_ms: int, record: Mapping[str, Any]) -> str:
    """Return the record of a call that ended at ``at_ms``, epoch milliseconds, as a line of JSON."""
    return orjson.dumps(
        {
            "time": iso(at_ms),
            "level": "info",
            "event": "call",
            "id": record["id"],
            "key": record["virtual_key_id"],
            "user": _shortened(record["user_id"]),
            "team": record["team_id"],
            "provider": record["provider"],
            "model": _shortened(_model(record)),
            "decision": record["outcome"],
            "reason": record["reason"],
            "status": record["status"],
            "tokens": _tokens(record),
            "input_tokens": record["input_tokens"],
            "output_tokens": record["output_tokens"],
            "cost_usd": record["cost_usd"],
            "estimated": bool(record["estimated"]),
            "ms": record["latency_ms"],
        }
    ).decode()


def call_as_text(at_ms: int, record: Mapping[str, Any]) -> str:
    """Return the record of a call that ended at ``at_ms`` as a line of text, without what does not apply to it."""
    words = [f"{iso(at_ms)} call {record['outcome']}"]
    if record["reason"] is not None:
        words.append(f"reason={record['reason']}")
    if record["status"] is not None:
        words.append(f"status={record['status']}")
    for name, value in (("key", record["virtual_key_id"]), ("user", record["user_id"]), ("model", _model(record))):
        if value is not None:
            words.append(f"{name}={_quoted(value)}")
    sign = "~" if record["estimated"] else ""
    words += [
        f"provider={record['provider']}",
        f"tokens={sign}{_tokens(record)}",
        f"cost={sign}${record['cost_usd']}",
        f"ms={record['latency_ms']}",
        f"id={record['id']}",
    ]
    return " ".join(words)


def message_as_json(at_ms: int, level: int, message: str, **more: Any) -> str:
    """Return a message of the log as a line of JSON; ``at_ms`` is epoch milliseconds, ``more`` what else is known."""
    line = {"time": iso(at_ms), "level": LEVELS.get(level, "info"), "event": "log", "message": message}
    line |= {name: value for name, value in more.items() if value is not None}
    try:
        return orjson.dumps(line, default=str).decode()
    except TypeError:
        # Half a surrogate pair, as Python has for bytes of a file's name that are no UTF-8.
        return orjson.dumps({k: ascii(v)[1:-1] if isinstance(v, str) else v for k, v in line.items()}, default=str).decode()


def message_as_text(at_ms: int, level: int, message: str, client: str | None = None) -> str:
    """Return a message of the log as text: of several lines where the message is, such as a traceback."""
    origin = f"[{client}] " if client else ""
    return f"{iso(at_ms)} {LEVELS.get(level, 'info')} {origin}{message}"


def _model(record: Mapping[str, Any]) -> str | None:
    """Return the model that served a call, or the one it asked for if none did."""
    model: str | None = record["model_served"] or record["model_requested"]
    return model


def _tokens(record: Mapping[str, Any]) -> int:
    return sum([record[name] for name in TOKEN_COLUMNS])


def _shortened(value: str | None) -> str | None:
    return value if value is None or len(value) <= MAX_NAME_CHARACTERS else value[:MAX_NAME_CHARACTERS] + "..."


def _quoted(value: str) -> str:
    short = _shortened(value) or ""
    return short if _PLAIN.fullmatch(short) else orjson.dumps(ascii(short)[1:-1]).decode()
