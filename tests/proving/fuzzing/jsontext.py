"""JSON as it should not be written: values of wrong types, duplicate keys, and many spellings of the same body."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from support.harness import OPUS

Pairs = list[tuple[str, Any]]
"""An object as written: keys may occur twice."""


class Raw(str):
    """Text that stands for a value, whether it is JSON or not."""


@dataclass(frozen=True)
class Spelling:
    """How a body is written, without changing what it says."""

    space: str = ""
    escaped: bool = False
    """Every letter of every text as a \\u escape."""


def body() -> Pairs:
    """Return a model call with a value in every field that is read."""
    text = [("type", "text"), ("text", "hi"), ("cache_control", [("type", "ephemeral"), ("ttl", "1h")])]
    image = [("type", "image"), ("source", [("type", "base64"), ("media_type", "image/png"), ("data", "A" * 300)])]
    return [
        ("model", OPUS),
        ("max_tokens", 64),
        ("messages", [[("role", "user"), ("content", [text, image])]]),
        ("system", [text]),
        ("tools", [[("name", "Bash"), ("input_schema", [("type", "object")])]]),
        ("metadata", [("user_id", "u")]),
        ("thinking", [("type", "enabled"), ("budget_tokens", 1024)]),
        ("stream", True),
        ("temperature", 1),
    ]


EXTRA: Pairs = [
    ("speed", "fast"),
    ("inference_geo", "us"),
    ("mcp_servers", [[("type", "url"), ("url", "https://x")]]),
    ("container", "c"),
    ("n", 2),
    ("max_completion_tokens", 5),
    ("max_output_tokens", 5),
    ("tools", [[("type", "web_search_20250305"), ("name", "web_search")]]),
    ("messages", [[("content", [[("type", "document"), ("source", [("type", "url"), ("url", "https://x")])]])]]),
    ("messages", [[("content", [[("type", "document"), ("source", [("type", "file"), ("file_id", "f")])]])]]),
    ("previous_response_id", "r"),
    ("__proto__", [("model", "x")]),
    ("Model", "claude-haiku-4-5"),
    ("model ", "claude-haiku-4-5"),
]
"""Fields that change what a call may cost, or look as if they did."""

ODD = [
    *(
        "null",
        "true",
        "false",
        "0",
        "1",
        "-1",
        "-0",
        "64.0",
        "64.5",
        "1e3",
        "1E400",
        "-1e400",
        "1e-400",
        "NaN",
        "Infinity",
        "-Infinity",
    ),
    *(
        "9" * 20,
        "9" * 400,
        "9" * 5000,
        str((1 << 40) - 1),
        str(1 << 40),
        str(1 << 63),
        str(1 << 64),
        "0x10",
        "01",
        "+1",
        ".5",
        "5.",
    ),
    *(
        '""',
        '"1"',
        '"true"',
        '"\\ud83d"',
        '"\\ude00\\ud83d"',
        '"\\u0000"',
        '"\x00"',
        '"a\tb"',
        '"\\x"',
        '"\\u00"',
        "'x'",
        '"',
        '"x' + "x" * 300 + '"',
    ),
    *(
        "[]",
        "{}",
        "[[]]",
        "[null]",
        '{"a":1,"a":2}',
        '[{"type":5},{"type":null},"x"]',
        "[" * 90 + "]" * 90,
        "[" * 1500 + "]" * 1500,
    ),
    *(
        "[" * 100_000 + "]" * 100_000,
        "[" * 5000,
        '{"a":' * 5000,
        "tru",
        "undefined",
        "",
        ",",
        "1,",
        "/* */1",
        "\ufeff1",
        "ü",
        '"ü\u202e"',
    ),
    *(
        f'"{OPUS}\\u0000"',
        f'" {OPUS} "',
        f'"{OPUS}[1m]"',
        f'"anthropic/{OPUS}"',
        f'"{OPUS.upper()}"',
        f'"{OPUS}\\n"',
        '"claude-*"',
        '"*"',
    ),
]
"""Values as they are written that a field does not expect, or that no parser should take."""

spellings = st.builds(Spelling, st.sampled_from(["", "", " ", "\n\t", " \r\n "]), st.booleans())


def written(value: Any, how: Spelling) -> str:
    """Return a value as JSON, or nearly so."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, str):
        return '"' + "".join(f"\\u{ord(c):04x}" for c in value) + '"' if how.escaped else json.dumps(value)
    if not isinstance(value, list):
        return json.dumps(value)
    s = how.space
    if value and all(isinstance(v, tuple) for v in value):
        return "{" + s + f"{s},{s}".join(f"{written(k, how)}{s}:{s}{written(v, how)}" for k, v in value) + s + "}"
    return "[" + s + f"{s},{s}".join(written(v, how) for v in value) + s + "]"


@st.composite
def calls(draw: st.DrawFn) -> Pairs:
    """Return a model call after a few random mutations."""
    made = [p for p in body() if draw(st.integers(0, 9))]
    for _ in range(draw(st.integers(0, 3))):
        match draw(st.sampled_from(["odd", "odd", "odd", "extra", "twice", "inner"])):
            case "odd":
                name = draw(st.sampled_from([k for k, _ in body()] + [k for k, _ in EXTRA]))
                made = [p for p in made if p[0] != name] + [(name, Raw(draw(st.sampled_from(ODD))))]
            case "extra":
                made.append(draw(st.sampled_from(EXTRA)))
            case "twice":
                made.append((draw(st.sampled_from(["model", "stream", "max_tokens", "tools"])), Raw(draw(st.sampled_from(ODD)))))
            case "inner":
                made.append(("messages", [[("content", Raw(draw(st.sampled_from(ODD)))), ("model", "x"), ("stream", 1)]]))
    return draw(st.permutations(made)) if draw(st.booleans()) else made
