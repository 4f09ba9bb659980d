"""The types of the policy file's fields: what one value may be, and what is wrong with it in words.

Each type is a validator with the JSON schema that editors and OpenAPI show for it.
"""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal
from ipaddress import ip_network
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from sluicegate.addresses import is_host, refusal_of_server, split_port
from sluicegate.policy.secrets import is_reference, refusal_of_spelling
from sluicegate.providers.endpoints import METHODS, parse_endpoint
from sluicegate.providers.known import PROVIDER_NAME
from sluicegate.values import MAX_COST_NANO, NANO
from sluicegate.windows import iso, parse_iso, parse_period


def _network(value: str) -> str:
    try:
        network = ip_network(value)
    except ValueError as e:
        raise ValueError("write a network such as 10.0.0.0/8, whose bits after the prefix are zero, or one address") from e
    if network.prefixlen == 0:
        raise ValueError("this network is everybody: name the proxies' own")
    return str(network)


class Model(BaseModel):
    """A mapping that accepts no unknown key: a misspelt limit must not silently be ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _duration(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("write a duration such as 1h, 1d or 1M, or never")
    parse_period(value)
    return value


def _zone(value: str) -> str:
    parse_period("1d", timezone=value)
    return value


def _signed_money(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | Decimal | float):
        raise ValueError("write an amount in dollars, such as -20 or 0.12, without quotes")
    amount = Decimal(str(value))
    # The size first: a huge number cannot be rounded to nine decimals.
    if not amount.is_finite() or abs(amount) * NANO > MAX_COST_NANO or amount != round(amount, 9):
        raise ValueError("an amount is at most a million dollars and has at most nine decimals")
    return amount


def _call_cost(value: Any) -> Any:
    amount = _signed_money(value)
    if amount < 0:
        raise ValueError("a call cannot cost less than nothing")
    return amount


def _money(value: Any) -> Any:
    # A bool is an int in Python, but `max_limit: true` is not an amount.
    if isinstance(value, bool) or not isinstance(value, int | Decimal | float):
        raise ValueError("write an amount in dollars, such as 50.00, without quotes")
    try:
        amount = Decimal(str(value))
    except ArithmeticError as e:
        raise ValueError("write an amount in dollars, such as 50.00") from e
    if not amount.is_finite():
        raise ValueError("an amount must be finite")
    if amount < 0:
        raise ValueError("an amount cannot be negative; 0 refuses everything")
    if amount > 1_000_000_000 or amount != round(amount, 9):
        raise ValueError("an amount is at most a billion dollars and has at most nine decimals")
    return amount


def _count(value: Any) -> Any:
    # 100.0 is a whole number too; beyond 2^53 JavaScript cannot represent every integer.
    if isinstance(value, Decimal) and value.is_finite() and value == value.to_integral_value() and value < 1 << 53:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("write a whole number")
    if not 0 <= value < 1 << 53:
        raise ValueError("write a number from 0 up; 0 refuses everything")
    return value


def _weight(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise ValueError("write a number, such as 1.0")
    number = float(value)
    if not 0 <= number < 1e9:
        raise ValueError("a weight cannot be negative")
    return number


def _id(value: Any) -> Any:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._@:+-]{0,127}", value):
        raise ValueError("an id is 1 to 128 letters, digits and . _ @ : + - and begins with a letter or digit")
    return value


def _key_id(value: Any) -> Any:
    if value in ("quota", "bulk"):
        raise ValueError("is a path of the API next to the keys, so it cannot be the id of a key")
    return _id(value)


def _printable(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"


def _text(value: str) -> str:
    if not 0 < len(value) <= 500 or not all(map(_printable, value)):
        raise ValueError("write one line of 1 to 500 printable characters")
    return value


def _email(value: str) -> str:
    if not re.fullmatch(r"[^\s@<>,;:\"()\[\]\\]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*", value) or len(value) > 254:
        raise ValueError("write one address such as ops@example.com")
    return value


def _pattern(value: str) -> str:
    if value.lower().startswith("regex:"):
        raise ValueError("regex: entries are not supported; write a model's name or a glob such as gpt-4o-*")
    return _text(value)


def _prose(value: str) -> str:
    if not 0 < len(value) <= 4000 or not all(_printable(c) or c in "\n\t" for c in value):
        raise ValueError("write 1 to 4000 printable characters")
    return value


def _secret(value: str) -> str:
    if problem := refusal_of_spelling(value):
        raise ValueError(problem)
    return _prose(value)


def check_instant(value: Any) -> Any:
    """Refuse what is not a time that can be kept and shown. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError("write a time such as 2027-01-01T00:00:00Z (RFC3339)")
    try:
        # The time is shown to people once it has passed, and Python's calendar ends with the year 9999.
        iso(parse_iso(value))
    except (ValueError, OverflowError) as e:
        raise ValueError("write a time such as 2027-01-01T00:00:00Z (RFC3339)") from e
    return value


def _hash(value: str) -> str:
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", value):
        raise ValueError("write sha256: and 64 hexadecimal digits, as `sluicegate key hash` prints them")
    return value


def _url(value: str) -> str:
    if not re.fullmatch(
        r"https?://[A-Za-z0-9._-]+(:\d{1,5})?(/[A-Za-z0-9._~/-]*)?|https?://\[[0-9a-fA-F:]+\](:\d{1,5})?(/[A-Za-z0-9._~/-]*)?",
        value,
    ):
        raise ValueError("write a URL such as https://api.anthropic.com, without user, query or fragment")
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError as e:
        raise ValueError("the host is not a name or address, or the port is not a number from 1 to 65535") from e
    if port == 0:
        raise ValueError("the host is not a name or address, or the port is not a number from 1 to 65535")
    if re.search(r"/\.{0,2}/|/\.{1,2}$", parts.path):
        raise ValueError("its path has an empty, '.' or '..' segment, which servers read in two ways: write it without")
    if why := refusal_of_server(parts.hostname or ""):
        raise ValueError(why)
    return value


def _percent(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 100:
        raise ValueError("a threshold is a whole number of percent from 1 to 100")
    return value


def _body_objects(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int) or not 1_000 <= value <= 1_000_000:
        raise ValueError("write a whole number from 1000 to 1000000")
    return value


def _upstream_proxy(value: str) -> str:
    if value == "direct" or is_reference(value):
        return value
    if "@" in value:
        raise ValueError("a proxy's credentials are not written into the policy; name its whole URL as env.NAME or file:PATH")
    if not re.fullmatch(r"http://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(:\d{1,5})?/?", value):
        raise ValueError("is not a proxy's URL; write http://proxy:3128, env.NAME, file:PATH or direct")
    return value


def _file_path(value: str) -> str:
    if not value.startswith(("/", "~/")) or "\0" in value:
        raise ValueError("is not an absolute path, such as /etc/sluicegate/ca.pem")
    return value


def _webhook_url(value: str) -> str:
    if problem := refusal_of_spelling(value):
        raise ValueError(problem)
    if not is_reference(value):
        check_webhook_url(value)
    return value


def check_webhook_url(value: str) -> None:
    """Refuse what is not a webhook's URL. Raises ValueError without naming the URL: anyone who knows it can post to it."""
    try:
        parts = urlsplit(value)
        is_valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and parts.username is None
    except ValueError:
        is_valid = False
    if not is_valid or "#" in value or not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError("write env.NAME, file:PATH or a URL such as https://hooks.example.com/..., without user or fragment")
    if refusal_of_server(parts.hostname or ""):
        raise ValueError("its host is not a name that every reader reads alike, or a link-local, unspecified or reserved address")


def _allowed_path(value: str) -> str:
    parse_endpoint(value)
    return value


def _host(value: str) -> str:
    name, port = split_port(value)
    if not is_host(name) or "*" in value:
        raise ValueError("write a host name or an address, without scheme, path or *")
    return name if port is None else f"{name}:{port}"


def _host_pattern(value: str) -> str:
    if "*" not in value:
        return _host(value)
    if not re.fullmatch(r"[A-Za-z0-9._*:-]{1,253}", value):
        raise ValueError("write a host name, or a glob such as *.example.com, without scheme or path")
    return value.lower().rstrip(".")


_INSTANT_PATTERN = (
    r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|1\d|2[0-8])T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,6})?(Z|[+-](0\d|1[0-2]):[0-5]\d)$"
)
_HOST = {"type": "string", "minLength": 1, "maxLength": 261}
_HASH = {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}
_DURATION = {"type": "string", "pattern": "^([1-9][0-9]{0,5}[smhdwMY]|never)$", "examples": ["30s", "5m", "1h", "1d", "1w", "1M"]}

_ID = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._@:+-]{0,127}$"}

Id = Annotated[str, BeforeValidator(_id), WithJsonSchema(_ID)]
KeyId = Annotated[str, BeforeValidator(_key_id), WithJsonSchema(_ID)]
Text = Annotated[str, AfterValidator(_text), WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 500})]
Email = Annotated[
    str, AfterValidator(_email), WithJsonSchema({"type": "string", "pattern": "^[^\\s@]+@[^\\s@]+$", "maxLength": 254})
]
Prose = Annotated[str, AfterValidator(_prose), WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 4000})]
SecretText = Annotated[str, AfterValidator(_secret), WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 4000})]
"""A secret, or a reference to where it is kept."""
Duration = Annotated[str, BeforeValidator(_duration), WithJsonSchema(_DURATION)]
Money = Annotated[Decimal, BeforeValidator(_money), WithJsonSchema({"type": "number", "minimum": 0, "maximum": 1e9})]
SignedMoney = Annotated[
    Decimal, BeforeValidator(_signed_money), WithJsonSchema({"type": "number", "minimum": -1e6, "maximum": 1e6})
]
CallCost = Annotated[Decimal, BeforeValidator(_call_cost), WithJsonSchema({"type": "number", "minimum": 0, "maximum": 1e6})]
Count = Annotated[int, BeforeValidator(_count), WithJsonSchema({"type": "integer", "minimum": 0, "maximum": (1 << 53) - 1})]
Weight = Annotated[float, BeforeValidator(_weight), WithJsonSchema({"type": "number", "minimum": 0, "exclusiveMaximum": 1e9})]
Instant = Annotated[
    str,
    BeforeValidator(check_instant),
    WithJsonSchema({"type": "string", "pattern": _INSTANT_PATTERN, "examples": ["2027-01-01T00:00:00Z"]}),
]
Host = Annotated[str, AfterValidator(_host), WithJsonSchema(_HOST)]
Network = Annotated[str, AfterValidator(_network), WithJsonSchema({"type": "string", "pattern": "^[0-9A-Fa-f.:]+(/[0-9]+)?$"})]
HostPattern = Annotated[str, AfterValidator(_host_pattern), WithJsonSchema(_HOST)]
AllowedPath = Annotated[
    str,
    AfterValidator(_allowed_path),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": f"^({'|'.join(METHODS)}) /[A-Za-z0-9._~@:{{}}*/-]+$",
            "maxLength": 310,
            "examples": ["POST /v1/files", "GET /v1/files/{id}"],
        }
    ),
]
"""A method and a path that a policy allows; ``{name}`` or ``*`` stands for one segment."""
Hash = Annotated[str, AfterValidator(_hash), WithJsonSchema(_HASH)]
Url = Annotated[str, AfterValidator(_url), WithJsonSchema({"type": "string", "examples": ["https://api.anthropic.com"]})]
UpstreamProxy = Annotated[
    str, AfterValidator(_upstream_proxy), WithJsonSchema({"type": "string", "examples": ["http://proxy:3128"]})
]
FilePath = Annotated[
    str, AfterValidator(_file_path), WithJsonSchema({"type": "string", "examples": ["/etc/sluicegate/company-ca.pem"]})
]
WebhookUrl = Annotated[str, AfterValidator(_webhook_url)]
Zone = Annotated[str, AfterValidator(_zone), WithJsonSchema({"type": "string", "examples": ["UTC", "Europe/Berlin"]})]
SubscriptionRule = Annotated[
    Literal["refuse", "pass"],
    Field(
        description="Claude logins (Pro, Max, Team) sent beside a virtual key in the proxy URL. refuse: with words. pass: the "
        "login goes to its own provider in place of a provider key; access and rate limits apply, and what the call would have "
        "cost is kept apart from money, as shadow_usd."
    ),
]

ProviderName = Annotated[
    str, WithJsonSchema({"type": "string", "pattern": PROVIDER_NAME.pattern, "examples": ["anthropic", "openai", "gemini", "groq"]})
]
Pattern = Annotated[str, AfterValidator(_pattern), WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 500})]
"""A model's name, or a glob over model names."""
Percent = Annotated[int, BeforeValidator(_percent), WithJsonSchema({"type": "integer", "minimum": 1, "maximum": 100})]
BodyObjects = Annotated[
    int, BeforeValidator(_body_objects), WithJsonSchema({"type": "integer", "minimum": 1_000, "maximum": 1_000_000})
]

Content = Annotated[
    Literal["off", "full"] | None,
    Field(description="Whether the bodies of requests and answers are kept; the narrowest scope that sets it decides."),
]
