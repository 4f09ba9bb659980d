"""The reference of the policy, made of its schema; ``PYTHONPATH=tests:addons python -m support.policy_page > docs/policy.md``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic_core import PydanticUndefined

from sluicegate.policy import (
    cache_schema,
    client_telemetry_schema,
    fields,
    key_schema,
    labels,
    otlp_schema,
    raises,
    routes,
    schema,
    server_schema,
    sign_in_schema,
)
from sluicegate.yaml_document import read_data

EXAMPLES = Path(__file__).resolve().parents[1] / "data/policy-examples.yaml"

SECTIONS: tuple[tuple[str, type[BaseModel], str], ...] = (
    ("The file", schema.PolicyFile, ""),
    ("Providers", schema.Provider, "providers.NAME"),
    ("Provider keys", key_schema.ProviderKey, "providers.NAME.keys[]"),
    ("Keys of Amazon Bedrock", key_schema.BedrockKeyConfig, "providers.NAME.keys[].bedrock_key_config"),
    ("Keys of Vertex AI", key_schema.VertexKeyConfig, "providers.NAME.keys[].vertex_key_config"),
    ("Customers", schema.Customer, "customers[]"),
    ("Teams", schema.Team, "teams[]"),
    ("Users", schema.User, "users[]"),
    ("Projects", schema.Project, "projects[]"),
    ("Virtual keys", schema.VirtualKey, "virtual_keys[]"),
    ("What a key may use", schema.ProviderConfig, "virtual_keys[].provider_configs[]"),
    ("Budgets", schema.Budget, "budget, budgets[]"),
    ("Raises", raises.Raise, "budget.raises[]"),
    ("Rate limits", schema.RateLimit, "rate_limit"),
    ("Defaults of limits", schema.Defaults, "defaults"),
    ("Models", schema.ModelConfig, "model_configs[]"),
    ("Own prices", schema.FallbackPrice, "fallback_price, providers.NAME.price"),
    ("Routes", routes.Route, "routes[]"),
    ("Conditions of a route", routes.Conditions, "routes[].when"),
    ("Targets of a route", routes.RouteTarget, "routes[].targets[]"),
    ("Retries of a route", routes.Retry, "routes[].retry"),
    ("Alerts", server_schema.Alerts, "alerts"),
    ("Webhooks", server_schema.Webhook, "alerts.webhooks[]"),
    ("Cached answers", cache_schema.Cache, "cache"),
    ("The exact cache", cache_schema.ExactCache, "cache.exact"),
    ("The semantic cache", cache_schema.SemanticCache, "cache.semantic"),
    ("Retention", server_schema.Retention, "retention"),
    ("The gateway's port", server_schema.Server, "server"),
    ("Export by OTLP", otlp_schema.Otlp, "server.otlp"),
    ("Other hosts", server_schema.Egress, "egress"),
    ("Sign-in", sign_in_schema.Oidc, "oidc"),
    ("Managed settings", sign_in_schema.ManagedSettings, "managed_settings"),
    ("Clients' telemetry", client_telemetry_schema.ClientTelemetry, "client_telemetry"),
    ("The collector of clients' telemetry", client_telemetry_schema.Forward, "client_telemetry.forward"),
    ("Operators", schema.Operator, "operators[]"),
    ("How the policy is changed", server_schema.Management, "policy"),
)
"""Heading, model and place of each section, in the order in which somebody who writes a policy meets them."""

SEE = {
    "Providers": "providers.md",
    "Budgets": "metering.md",
    "Routes": "routes.md",
    "Alerts": "alerts.md",
    "Cached answers": "caching.md",
    "Retention": "operations.md",
    "Sign-in": "sign-in.md",
    "Managed settings": "sign-in.md",
    "Clients' telemetry": "sign-in.md",
    "The gateway's port": "install.md",
    "Export by OTLP": "metrics.md",
    "Other hosts": "security.md",
    "Users": "people.md",
}
"""Pages that say more, by section."""

_KINDS = (
    ("id", fields.Id, "1 to 128 letters, digits and `. _ @ : + -`; the first is a letter or a digit"),
    ("duration", fields.Duration, "a number and `s`, `m`, `h`, `d`, `w`, `M` or `Y`, such as `1h`; or `never`"),
    ("dollars", fields.Money, "a number from 0 up with at most nine decimals, without quotes"),
    ("count", fields.Count, "a whole number from 0 up"),
    ("weight", fields.Weight, "a number from 0 up; only its ratio to the others matters"),
    ("time", fields.Instant, "RFC 3339 with a zone, such as `2027-01-01T00:00:00Z`"),
    ("time zone", fields.Zone, "an IANA name such as `Europe/Berlin`"),
    ("provider", fields.ProviderName, "the name of a provider: lower-case letters, digits, `-` and `_`"),
    ("host", fields.Host, "a host name or address, with `:port` if need be; where globs are allowed, `*.example.com`"),
    ("network", fields.Network, "CIDR, such as `10.0.0.0/8`, or one address"),
    ("hash", fields.Hash, "`sha256:` and 64 hexadecimal digits, as `sluicegate key hash` prints them"),
    ("labels", labels.Labels, "up to 16 names with values in quotes"),
    ("size", cache_schema.Size, "a whole number of bytes, or of `KB`, `MB`, `GB` or `TB`, such as `2GB`, at most `1TB`"),
    ("share", cache_schema.Share, "a number between 0 and 1, such as `0.95`"),
    ("settings", sign_in_schema.Settings, "keys and values of Claude Code's `managed-settings.json`"),
    ("fraction", routes.Fraction, "a number from 0 to 1"),
    ("percent", fields.Percent, "a whole number from 1 to 100"),
    ("text", fields.Text, "one line of up to 500 characters; a description or a secret up to 4000"),
)
"""Kinds of values: what the page calls one, its type, and what it may be."""


def page() -> str:
    """Return the page in Markdown."""
    examples = read_data(EXAMPLES)
    return "\n".join([*_head(), *(line for section in SECTIONS for line in _section(*section, examples))])


def _head() -> Iterator[str]:
    yield "# Policy reference\n"
    yield "Every key of a policy file, made from the schema that the gateway reads it with. `sluicegate check` names each"
    yield "mistake with its line; `policies/schema.json` lets editors complete and check. A key that is not on this page is refused,"
    yield "except at the top level with a name that begins with `x-`.\n"
    yield "| kind of value | what it may be |\n| --- | --- |"
    yield from (f"| {name} | {what} |" for name, _, what in _KINDS)
    yield "\nA secret is written as `env.NAME` (a variable of the gateway's environment) or `file:PATH`, whose change is noticed while"
    yield "the gateway runs. The value itself is accepted too, with a warning. *required* means that the key has no default.\n"


def _section(title: str, model: type[BaseModel], place: str, examples: dict[str, str]) -> Iterator[str]:
    yield f"## {title}\n"
    yield (f"`{place.replace(', ', '`, `')}`: " if place else "") + _sentence(_doc(model)) + _see(title) + "\n"
    yield "| key | value | default | meaning |\n| --- | --- | --- | --- |"
    written = model.model_json_schema(mode="validation")
    # What all levels have in common stands last.
    for name, info in sorted(model.model_fields.items(), key=lambda item: item[0] in schema.Limited.model_fields):
        key = info.alias or name
        assert info.description, f"{model.__name__}.{name} has no description"
        shape = written["properties"][key]
        default = "*required*" if info.is_required() else _default(info.get_default(call_default_factory=True, validated_data={}))
        yield f"| `{key}` | {_value(shape)} | {default} | {_cell(_sentence(info.description))} |"
    yield f"\n```yaml\n{examples[model.__name__].rstrip()}\n```\n"


def _doc(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").split())


def _see(title: str) -> str:
    return f" More: [{SEE[title].removesuffix('.md')}]({SEE[title]})." if title in SEE else ""


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!")) else f"{text}."


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*.", "\\*.")


def _default(value: Any) -> str:
    if value is None or value is PydanticUndefined:
        return ""
    if isinstance(value, BaseModel) or value in ((), {}):
        return ""
    return f"`{json.dumps(list(value) if isinstance(value, tuple) else value)}`".replace('"', "")


def _value(shape: dict[str, Any]) -> str:
    """Return what a key's value is, in words, from its JSON schema."""
    kind = _KIND_OF.get(_bare(shape))
    if kind is not None:
        return kind
    if "$ref" in shape:
        name = shape["$ref"].rpartition("/")[2]
        title = next(title for title, model, _ in SECTIONS if model.__name__ == name)
        return f"[{title[:1].lower()}{title[1:]}](#{title.lower().replace(' ', '-').replace(chr(39), '')})"
    if "allOf" in shape:
        return _value(shape["allOf"][0])
    if "anyOf" in shape:
        return " or ".join(dict.fromkeys(_value(one) for one in shape["anyOf"] if one.get("type") != "null"))
    if "const" in shape or "enum" in shape:
        return ", ".join(f"`{one if isinstance(one, str) else json.dumps(one)}`" for one in shape.get("enum", [shape.get("const")]))
    if shape.get("type") == "array":
        return f"list of {_value(shape['items'])}"
    if shape.get("type") == "object":
        return f"mapping of names to {_value(shape['additionalProperties'])}"
    if shape.get("type") == "boolean":
        return "`true`, `false`"
    if shape.get("type") == "integer":
        return f"{shape['minimum']} to {shape['maximum']}"
    return "text"


def _bare(shape: dict[str, Any]) -> str:
    return json.dumps({k: v for k, v in shape.items() if k not in ("title", "description", "default")}, sort_keys=True)


_KIND_OF = {_bare(TypeAdapter(kind).json_schema()): name for name, kind, _ in reversed(_KINDS)}

if __name__ == "__main__":
    print(page(), end="")
