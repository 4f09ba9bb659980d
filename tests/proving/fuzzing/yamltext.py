"""YAML as it should not be written: policies after random mutations, noise, and small text that expands to much."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import strategies as st

from proving.fuzzing.policyreader import Files

SECRETS = ("sk-ant-a-provider-key-in-clear", "sk-vk-a-virtual-key-in-clear")

Pairs = list[tuple[str, Any]]
"""A mapping as written: keys may occur twice."""


class Raw(str):
    """A value that is written verbatim, however YAML reads it."""


def budget() -> Pairs:
    """Return a budget with all it can have."""
    when = [("calendar_aligned", Raw("true")), ("timezone", "Europe/Berlin")]
    return [("max_limit", Raw("50.5")), ("reset_duration", "1M"), ("enforcement", "hard"), *when]


def rate() -> Pairs:
    """Return a rate limit with all it can have."""
    calls: Pairs = [("request_max_limit", Raw("5")), ("request_reset_duration", "1h"), ("max_concurrent", Raw("3"))]
    return [*calls, ("token_max_limit", Raw("500")), ("token_reset_duration", "1d"), ("calendar_aligned", Raw("true"))]


def whole() -> Pairs:
    """Return a policy with a value in every field."""
    key: Pairs = [("id", "vk-a"), ("name", "A"), ("value", SECRETS[1]), ("team_id", "t"), ("user_id", "u"), ("project_id", "p")]
    key += [("is_active", Raw("true")), ("expires_at", "2030-01-01T00:00:00Z"), ("budget", budget()), ("rate_limit", rate())]
    config: Pairs = [("provider", "anthropic"), ("allowed_models", ["claude-*"]), ("weight", Raw("1.0")), ("budgets", [budget()])]
    provider = [
        ("base_url", "https://api.anthropic.com/prefix"),
        ("hosts", ["claude.example.com"]),
        ("keys", [[("name", "k1"), ("value", SECRETS[0]), ("weight", Raw("2"))], [("name", "k2"), ("value", "env.SET")]]),
        ("budget", budget()),
    ]
    return [
        ("version", Raw("1")),
        ("providers", [("anthropic", provider), ("openai", [("simulate", Raw("true"))])]),
        ("customers", [[("id", "c"), ("budget", budget())]]),
        ("teams", [[("id", "t"), ("customer_id", "c"), ("budgets", [budget()])]]),
        ("users", [[("id", "u"), ("team_id", "t")]]),
        ("projects", [[("id", "p"), ("rate_limit", rate())]]),
        ("virtual_keys", [[*key, ("provider_configs", [config])], [("id", "vk-b"), ("value_hash", "sha256:" + "0" * 64)]]),
        ("model_configs", [[("model_name", "claude-opus-*"), ("provider", "anthropic"), ("budget", budget())]]),
        ("egress", [("default", "deny"), ("allow", ["*.example.com"]), ("deny", ["10.0.0.1"])]),
        ("server", [("hosts", ["gateway.example.com"]), ("allow_plaintext", Raw("false"))]),
        ("unpriced", "fallback"),
        ("fallback_price", [("input", Raw("1")), ("output", Raw("2.5"))]),
        ("audit", "required"),
        ("required_headers", ["x-project"]),
    ]


WORDS = sorted(set(re.findall(r'"([a-z_]{2,})"', json.dumps(whole()))) | {"description", "trust_user_header", "allow_id_as_value"})

RENAMED = [*WORDS, "<<", "[]", "? ", "1", '""', "*x", "&x a", "x: y", "ü"]

FITTING: dict[str, list[str]] = {
    "reset_duration": [
        "1s",
        "0s",
        "999999s",
        "36500d",
        "36501d",
        "999999w",
        "1200M",
        "999999M",
        "100Y",
        "999999Y",
        "never",
        "-1d",
        "1.5h",
        "１d",
    ],
    "timezone": [
        "UTC",
        "Europe",
        "Europe/",
        "../../etc/passwd",
        "/etc/localtime",
        "posixrules",
        "Etc/GMT+14",
        "Africa/Monrovia",
        '"a\\0"',
    ],
    "expires_at": [
        "9999-12-31T23:59:59.999999-23:59",
        "0001-01-01T00:00:00+23:59",
        "2027-W01-1",
        "24:00",
        "20270101T000000,5Z",
        "2020-01-01",
    ],
    "value": [
        "env.",
        "env.SET",
        "env.=",
        '"env.\\0"',
        "file:",
        "file:/",
        "file:~nobody-here/x",
        '"file:\\0"',
        "file:/dev/zero",
        "file:.",
        '"a\\nb"',
    ],
    "value_hash": ["sha256:", "sha256:" + "F" * 64, "sha256:" + "f" * 64, "sha256:" + "0" * 64, SECRETS[1]],
    "base_url": [
        "http://[::1]:8080",
        "http://[::::]",
        "http://[1]",
        "https://.",
        "https://..",
        "http://a:0",
        "http://a:99999",
        "http://a:00080",
        "http://-",
    ],
    "hosts": [
        "[*]",
        "['*.']",
        "['.']",
        "['...']",
        "['[']",
        "['[!]']",
        "[api.openai.com]",
        "[127.0.0.1]",
        "['[::1]']",
        "['a:1']",
        "[A.B.]",
    ],
    "max_limit": ["0", "1e9", "1e-9", "1e-10", "1000000000.000000001", "'5'", "-0.0", "1_000", "0x1F"],
    "weight": ["0", "1e-400", "1e999", ".nan", "999999999", "-0.0"],
    "request_max_limit": ["0", "9007199254740991", "9007199254740992", "1.0", "'1'"],
    "allowed_models": ["[]", "['*']", "['[']", "['[!a']", "['']", "[" + "a*" * 90 + "]"],
    "model_name": ["'['", "'*'", "'[!]'", "' '", "ü"],
    "required_headers": ["['']", "['x: y']", '["a\\r\\nb"]', "[ü]", "[host]", "[authorization]"],
    "allow": ["['[']", "['*']", "[127.0.0.1, '::1']", "['**.**']"],
    "input": ["0", "1e9", "1000000001", "1e999999999", "0.00000000000001"],
    "above": ["0", "-1", "1e9", "1e999999", "0.5"],
    "from": ["2026-01-01", "x", "9999-12-31", "0001-01-01", "5"],
    "until": ["2020-01-01", "never", "null"],
    "us_multiplier": ["0", "1e9", "-1"],
    "is_active": ["false", "yes", "0", "null"],
    "provider": ["anthropic", "openai", "Anthropic", "antropic"],
    "team_id": ["t", "u", "null", "T"],
}
"""Values at the edge of what a field may hold, by the field's name."""

ODD = [
    *(
        "",
        "~",
        "null",
        "true",
        "no",
        "0",
        "-1",
        "1e999",
        "-1e-999",
        "1e-7",
        ".inf",
        "-.inf",
        ".nan",
        "0x1F",
        "1_000",
        "1:30",
        "9" * 30,
        "9" * 60,
    ),
    *(
        "9007199254740993",
        "[]",
        "{}",
        "[[]]",
        "{a: {}}",
        "[~]",
        "!!int '5'",
        "'5'",
        '"\\0"',
        '"\\ud83d"',
        '"\\n\\t"',
        '"a\\u2028b"',
        "'   '",
    ),
    *("\u202e", "ü", "Ⅷ", "٣", "|\n  x", ">-\n  y", "? x", "- -", "*x", "&x 1", "&x [*x]", "<<", "=", "@", "`", "x" * 5000),
    *("!!python/object/apply:os.system [true]", "!!binary aGk=", "!!set {a}", "!!timestamp 2020-01-01", "2020-01-01"),
    *(v for values in FITTING.values() for v in values if SECRETS[1] not in v),
]
"""Values, as written, that some reader may not expect."""


def written(value: Any, flow: bool, indent: int = 0) -> str:
    """Return a value as YAML, in one line or indented."""
    pad = "\n" + "  " * indent
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False) if flow or not re.fullmatch(r"[A-Za-z][\w/-]*", value) else value
    mapping = bool(value) and all(isinstance(v, tuple) for v in value)
    if not value:
        return "[]"
    if flow:
        if mapping:
            return "{" + ", ".join(f"{k}: {written(v, True)}" for k, v in value) + "}"
        return "[" + ", ".join(written(v, True) for v in value) + "]"
    if mapping:
        return "".join(f"{pad}{k}: {written(v, False, indent + 1)}" for k, v in value)
    return "".join(f"{pad}- {written(v, True)}" for v in value)


def places(value: Any) -> Iterator[tuple[list[Any], int]]:
    """Yield every place in a policy: the list that holds it, and the index."""
    for i, item in enumerate(value if isinstance(value, list) else ()):
        yield value, i
        yield from places(item[1] if isinstance(item, tuple) else item)


@st.composite
def mutants(draw: st.DrawFn, valid: Callable[[], Pairs] = whole) -> Files:
    """Return a valid file after random mutations, or two files that make one policy."""
    policy: Any = valid()
    strokes = ["fitting"] if draw(st.booleans()) else ["fitting", "odd", "odd", "delete", "twice", "rename", "wrap", "move"]
    for _ in range(draw(st.integers(1, 4))):
        stroke = draw(st.sampled_from(strokes))
        ways = [(h, i) for h, i in places(policy) if stroke != "fitting" or (isinstance(h[i], tuple) and h[i][0] in FITTING)]
        if not ways:
            continue
        holder, i = draw(st.sampled_from(ways))
        was = holder[i]
        key, value = was if isinstance(was, tuple) else (None, was)
        fresh: Any = value
        match stroke:
            case "fitting":
                fresh = Raw(draw(st.sampled_from(FITTING[str(key)])))
            case "odd":
                fresh = Raw(draw(st.sampled_from(ODD)))
            case "delete":
                del holder[i]
                continue
            case "twice":
                holder.insert(i, was)
                continue
            case "rename":
                # A secret in a field of another name cannot be recognised.
                secret = key in ("value", "keys", "virtual_keys")
                key = key and draw(st.sampled_from(["valeu", "value_hash", "ü"] if secret else RENAMED))
            case "wrap":
                fresh = draw(st.sampled_from([[value], [[value]], [("budget", value)], [("id", value)]]))
            case "move":
                fresh = draw(st.sampled_from([whole()[1][1], whole()[6][1], "x" * 200, list(map(str, range(50)))]))
        holder[i] = fresh if key is None else (key, fresh)
    cut = draw(st.sampled_from([0, 0, 0, 1, 5, 9])) if valid is whole else 0
    flow = draw(st.booleans())
    parts = [p for p in (policy[:cut], policy[cut:]) if p]
    return {f"{n}.yaml": written(p, flow).lstrip("\n").encode("utf-8", "surrogatepass") for n, p in zip("ab", parts, strict=False)}


FRAGMENTS = [
    *(
        "version: 1\n",
        "- ",
        "{",
        "}",
        "[",
        "]",
        ",",
        ": ",
        "&a ",
        "*a",
        "<<: *a\n",
        "? ",
        "! ",
        "!!map ",
        "|",
        ">",
        "\t",
        "%YAML 1.1\n",
        "---\n",
    ),
    *("...\n", "'", '"', "\\", "#", "\n", "\r", "  ", "\x00", "\ufeff", "\x85", "\u2028", "@", "`", *(f"{w}: " for w in WORDS)),
]


def bomb(kind: str, size: int) -> Files:
    """Return small text that expands to much or costs much."""
    n = size
    rows = "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, n % 40 + 1))
    text = {
        "laughs": f"version: 1\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n{rows}\n",
        "itself": "version: 1\nteams: &a [" + "*a, " * (n % 50) + "*a]",
        "itself, mapped": "version: 1\nproviders: &a {anthropic: *a, openai: *a, gemini: *a}",
        "lists": "version: 1\nteams: " + "[" * n,
        "lists, closed": "version: 1\nteams: " + "[" * n + "]" * n,
        "mappings": "version: 1\nteams: " + "{a: " * n,
        "dashes": "version: 1\nteams:\n" + "- " * n + "x",
        "questions": "? " * n,
        "indented": "".join(" " * i + "a:\n" for i in range(n % 2000)),
        "one word": "version: 1\nteams: [{id: " + "a" * n + "}]",
        "one key": "a" * n + ": 1",
        "many keys": "version: 1\n" + "".join(f"k{i}: 1\n" for i in range(n % 2000)),
        "many problems": "version: 1\nteams:\n" + "".join(f"- {{id: t, budgt: {i}}}\n" for i in range(n % 2000)),
        "number": "version: 1\nteams: [{id: a, rate_limit: {max_concurrent: " + "9" * n + "}}]",
        "exponent": "version: 1\nteams: [{id: a, budget: {max_limit: 1e" + "9" * (n % 5000) + "}}]",
        "anchors": "version: 1\nteams: [" + ", ".join(f"&b{i} x" for i in range(n % 5000)) + "]",
        "comments": "#" * n,
        "documents": "---\n" * n,
    }[kind]
    return {"a.yaml": text.encode()}


BOMBS = ["laughs", "itself", "itself, mapped", "lists", "lists, closed", "mappings", "dashes", "questions", "indented", "one word"]
BOMBS += ["one key", "many keys", "many problems", "number", "exponent", "anchors", "comments", "documents"]

noise = st.one_of(
    st.lists(st.sampled_from(FRAGMENTS), max_size=40).map(lambda x: "".join(x).encode()),
    st.lists(st.sampled_from([*FRAGMENTS, *ODD]), max_size=40).map(
        lambda x: b"version: 1\n" + "".join(x).encode("utf-8", "replace")
    ),
    st.text(max_size=200).map(lambda x: x.encode("utf-8", "surrogatepass")),
    st.binary(max_size=200),
).map(lambda data: {"a.yaml": data})
bombs = st.builds(bomb, st.sampled_from(BOMBS), st.sampled_from([3, 12, 39, 200, 1100, 4999, 100_000]))


def price_list() -> Pairs:
    """Return a price file with a value in every field."""
    rates: Pairs = [("input", Raw("5")), ("cache_write_5m", Raw("6.25")), ("cache_write_1h", Raw("10")), ("cache_read", Raw("0.5"))]
    rates += [("output", Raw("25")), ("from", "2026-01-01"), ("until", "2027-01-01T00:00:00Z"), ("above", Raw("200000"))]
    model: Pairs = [("model", "claude-*"), ("prices", [rates, rates[:5]]), ("fast", rates[:5]), ("us_multiplier", Raw("1.1"))]
    model += [("context_window", [[("tokens", Raw("200000")), ("from", "2026-04-30")]]), ("max_output", Raw("64000"))]
    model += [("service_tiers", [("priority", [rates]), ("flex", [rates[:5]])])]
    fees: Pairs = [("models", ["claude-*"]), ("web_search", Raw("10")), ("web_search_per", "prompt"), ("file_search", Raw("2.5"))]
    fees += [("code_interpreter", Raw("0.03")), ("from", "2026-01-01")]
    factor = [("models", ["claude-*"]), ("tier", "batch"), ("factor", Raw("0.5")), ("classes", ["input", "output"])]
    family = [("name", "ours"), ("models", ["claude-*"]), ("without", ["claude-2"]), ("members", ["claude-*"]), ("prices", [rates])]
    rules: Pairs = [("fees", [fees]), ("service_tiers", [factor]), ("families", [family])]
    return [("web_search", Raw("10")), ("models", [[*model, ("file_search", Raw("2.5"))]]), *rules]
