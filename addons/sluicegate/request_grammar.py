"""The grammar of a governed request: what two readers could read in two ways is refused, in words that say what is wrong.

Servers, frameworks and proxies differ in how they read a request's less usual parts. A call is judged here and served
elsewhere, so it may contain only what everyone reads alike (RFC 9110, 9112, 9113 and 3986). What concerns one connection
only is removed: it was meant for us.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from urllib.parse import unquote_to_bytes

from sluicegate.addresses import split_port
from sluicegate.values import Reason

HeaderFields = tuple[tuple[bytes, bytes], ...]
"""Header fields as they were sent, in their order."""

HeaderValues = Mapping[str, Sequence[str]]
"""Header values by lower-case name."""

BODILESS_METHODS = ("GET", "HEAD", "DELETE", "OPTIONS")
"""Methods whose requests have no body here: servers differ in whether they read one, so it could become the next request."""

METHODS = (*BODILESS_METHODS, "POST", "PUT", "PATCH")
"""The methods of the providers' APIs, as they are written: some servers take ``post`` for ``POST``, others do not."""

_METHODS, _BODILESS = frozenset(m.encode() for m in METHODS), frozenset(m.encode() for m in BODILESS_METHODS)

MAX_PATH_BYTES, MAX_QUERY_BYTES = 2048, 8192
"""The longest path and query; known clients need some hundred bytes, and servers cut or refuse at 8 KB."""

HOP_BY_HOP = frozenset((b"connection", b"keep-alive", b"te", b"trailer", b"upgrade", b"http2-settings"))
"""Headers that concern one connection, besides ``proxy-...``; what ``Connection`` names belongs to them."""

REDIRECTIONS = frozenset(
    (
        *(b"forwarded", b"x-host", b"x-forwarded-host", b"x-forwarded-server", b"x-original-host", b"x-http-host-override"),
        *(b"x-original-url", b"x-original-uri", b"x-rewrite-url", b"x-rewrite-uri", b"x-forwarded-uri", b"x-forwarded-path"),
        *(b"x-forwarded-prefix", b"x-envoy-original-path"),
    )
)
"""Headers that some servers believe more than the request's own host or path. Reverse proxies add them, so they are removed."""

CLIENT_ADDRESSES = frozenset(
    b"x-forwarded-for x-forwarded-proto x-forwarded-port x-original-forwarded-for x-real-ip x-client-ip x-cluster-client-ip "
    b"true-client-ip cf-connecting-ip fastly-client-ip x-envoy-external-address via".split()
)
"""Headers in which proxies, or clients that pose as one, say where a request comes from: nothing that a provider should learn."""

_METHOD_OVERRIDES = (
    *("x-http-method-override", "x-http-method", "x-method-override", "x-method", "http-method-override", "method-override"),
    *("x-original-method", "x-forwarded-method", "x-envoy-original-method"),
)
"""Headers by which some frameworks take another method than the request's own."""

_OVERRIDE_PARAMETERS = frozenset(
    (
        *("method", "httpmethod", "requestmethod", "methodoverride", "httpmethodoverride"),
        *("xmethod", "xhttpmethod", "xmethodoverride", "xhttpmethodoverride"),
    )
)
"""Query parameters that do so, as letters only: ``_method``, ``X-HTTP-Method-Override``."""

_ANSWER_PARAMETERS = frozenset(("fields", "callback"))
"""Query parameters by which Google's servers leave fields out of an answer or wrap it."""

_NAMING_PARAMETERS = frozenset(("model", "models", "modelid", "modelname", "engine", "deployment"))
"""Query parameters that name a model, as letters only. Those of the body are judged, and some servers believe the query."""

_SINGLE = ("host", "content-length", "transfer-encoding", "content-type", "content-encoding", "expect", "anthropic-version")
"""Headers of which there may be one: readers differ in whether the first or the last counts."""

_ESSENTIAL = frozenset((*_SINGLE, "anthropic-beta", "accept", "cookie", "authorization", "x-api-key", "x-goog-api-key"))
"""Headers that ``Connection`` may not name, for the request would mean something else without them."""


def _underscored(names: Iterable[str]) -> Iterable[str]:
    """Yield every spelling of names in which underscores stand for dashes: CGI and its successors cannot tell them apart."""
    for name in names:
        words = name.split("-")
        for joints in product("-_", repeat=len(words) - 1):
            yield words[0] + "".join(map("".join, zip(joints, words[1:], strict=True)))


_REMOVED = HOP_BY_HOP | REDIRECTIONS | frozenset(n.encode() for n in _underscored(n.decode() for n in CLIENT_ADDRESSES))
_OVERRIDE_SPELLINGS = frozenset(_underscored(_METHOD_OVERRIDES))
_GUARDED = (*_SINGLE, "connection", "upgrade", "proxy-authorization", "proxy-connection", *(n.decode() for n in REDIRECTIONS))
_TWINS = frozenset(name for name in _underscored(_GUARDED) if "_" in name)
_SUSPECT = _OVERRIDE_SPELLINGS | _TWINS
"""Names of headers over which a request is refused: one look-up for each header finds none in nearly every request."""

CONTROL_CHARACTERS = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PATH = re.compile(rb"/|(?:/(?!\.\.?(?:/|\Z))[A-Za-z0-9._~!$&'()*+,=:@-]+)+")
_BEDROCK_PATH = re.compile(
    rb"(?:/[a-z0-9_-]+)?/model/(?!.*\.\.)[A-Za-z0-9](?:[A-Za-z0-9._:-]|%(?:3A|2F|3a|2f))+"
    rb"/(?:invoke(?:-with-response-stream)?|count-tokens)"
)
"""The one path with encoded characters that clients write: ids of models at Bedrock may be ARNs, with colons and a slash."""

_QUERY = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,=:@/?\[\]{}|^-]|%[0-9A-Fa-f]{2})*")
_ENCODED_TWICE = re.compile(rb"%25[0-9A-Fa-f]{2}")
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*)|\[[0-9A-Fa-f:.]+\])(?::(?:[0-9]{1,4}|[1-5][0-9]{4}|6[0-5][0-9]{3}))?")
_JSON_TYPES = re.compile(r"(?:application/(?:json|[a-z0-9.-]+\+json)|text/(?:json|plain))")
_USUAL_QUERIES = frozenset((b"", b"beta=true", b"alt=sse"))
_USUAL_TYPES = frozenset(("application/json", "application/json; charset=utf-8", "application/json;charset=utf-8"))
_USUAL_CONNECTIONS = frozenset(("keep-alive", "close", "Keep-Alive", "Close"))


FIELD_MASK_PROBLEM = "the header 'x-goog-fieldmask' leaves fields out of the answer, so that its usage could not be read"


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a request is refused. ``status`` is None where the reason has a status of its own."""

    message: str
    reason: Reason = Reason.INVALID_REQUEST
    status: int | None = None


def first_problem(
    method: bytes,
    target: bytes,
    version: str | None,
    authority: str,
    fields: HeaderFields,
    values: HeaderValues,
    is_model_call: bool,
) -> Problem | None:
    """Return why a request is refused; None if every reader reads it alike.

    ``target`` is its path and query; ``version`` is None where TLS has negotiated it; ``authority`` is the host that the
    request itself names besides its Host header, if any; ``values`` are those of all fields that were sent, while ``fields``
    are those that are left without credentials.
    """
    what = (
        method_problem(method)
        or ("it is neither HTTP/1.1 nor HTTP/1.0" if version not in (None, "HTTP/1.1", "HTTP/1.0") else None)
        or target_problem(target, is_model_call)
        or headers_problem(fields, values)
        or host_problem(values.get("host", ()), authority, version == "HTTP/1.1")
        or framing_problem(method, values)
        or (FIELD_MASK_PROBLEM if is_model_call and "x-goog-fieldmask" in values else None)
        or type_problem(values.get("content-type", ()), is_model_call)
    )
    if what is not None:
        return Problem(f"Invalid request: {what}")
    return upgrade_problem(values) or encoding_of_body_problem(values.get("content-encoding", ()), is_model_call)


def method_problem(method: bytes) -> str | None:
    """Return what is wrong with a method, in words."""
    if method in _METHODS:
        return None
    return f"its method is not one of {', '.join(METHODS)}, in capitals"


def target_problem(target: bytes, is_model_call: bool) -> str | None:
    """Return what is wrong with a path and query, in words."""
    path, has_query, query = target.partition(b"?")
    # Long paths are not cached: a caller who varies them could fill the cache with megabytes.
    what = path_problem(path) if len(path) <= 200 else path_problem.__wrapped__(path)
    if what is None and has_query and query not in _USUAL_QUERIES:
        what = query_problem(query, is_model_call)
    return what


@lru_cache(maxsize=1024)
def path_problem(path: bytes) -> str | None:
    """Return what is wrong with a path, in words. Bedrock's ids apart, no API needs one in which a character is encoded."""
    if len(path) > MAX_PATH_BYTES:
        return f"its path is longer than {MAX_PATH_BYTES} bytes"
    if _PATH.fullmatch(path) is not None:
        return None
    if not path.startswith(b"/"):
        return "its path does not begin with '/'"
    if b"%" in path and _BEDROCK_PATH.fullmatch(path) is not None:
        return None
    if b"%" in path:
        return "its path holds a percent-encoded character; write paths without"
    if re.search(rb"/\.\.?(/|\Z)", path) is not None:
        return "its path has a '.' or '..' segment"
    if b"//" in path or path.endswith(b"/"):
        return "its path has an empty segment: write one '/' between names and none at the end"
    return "its path holds a character that may not stand in one, such as ';', '#', '\\' or one outside ASCII"


def query_problem(query: bytes, is_model_call: bool) -> str | None:
    """Return what is wrong with a query, in words."""
    if len(query) > MAX_QUERY_BYTES:
        return f"its query is longer than {MAX_QUERY_BYTES} bytes"
    if _QUERY.fullmatch(query) is None:
        return "its query holds a character that must be percent-encoded there, such as ';', '#' or one outside ASCII"
    if b"%" in query and (what := encoding_problem(query)) is not None:
        return what
    seen: dict[str, str] = {}
    for pair in query.split(b"&"):
        raw, _, value = pair.partition(b"=")
        name = unquote_to_bytes(raw.replace(b"+", b" ")).decode().lower()
        # Frameworks read the parameters of some APIs in either spelling: pageSize and page_size.
        letters = "".join(filter(str.isalnum, name))
        if not letters:
            return "its query has a parameter without a name"
        if letters in _OVERRIDE_PARAMETERS or name.startswith("$"):
            return f"its query's '{name[:40]}' changes how the request is read; use the method and the headers"
        if is_model_call and (letters in _ANSWER_PARAMETERS or (letters == "alt" and value not in (b"json", b"sse"))):
            return f"its query's '{name[:40]}' changes the answer's form, so that its usage could not be read"
        if is_model_call and letters in _NAMING_PARAMETERS:
            return f"its query's '{name[:40]}' names a model; name it in the body only"
        if letters in seen and not (name.endswith("[]") and name == seen[letters]):
            return f"its query has '{name[:40]}' twice"
        seen[letters] = name
    return None


def encoding_problem(query: bytes) -> str | None:
    """Return what is wrong with a query's percent-encoding, in words."""
    decoded = unquote_to_bytes(query)
    try:
        decoded.decode()
    except UnicodeDecodeError:
        return "its query's percent-encoding is not UTF-8"
    if re.search(rb"[\x00-\x1f\x7f]", decoded) is not None:
        return "its query holds an encoded control character"
    if _ENCODED_TWICE.search(query) is not None:
        return "its query is percent-encoded twice"
    return None


def headers_problem(fields: HeaderFields, values: HeaderValues) -> str | None:
    """Return what is wrong with the headers as such, in words."""
    # Some readers take a line end inside a header's value for the start of another header.
    if CONTROL_CHARACTERS.search(b"\t".join([v for _, v in fields])) is not None:
        return "a header's value holds a control character"
    if not _SUSPECT.isdisjoint(values):
        name = next(n for n in values if n in _SUSPECT)
        if name in _OVERRIDE_SPELLINGS:
            return f"the header '{name}' asks for another method than the request's own; use the method itself"
        return f"the header '{name}' is read as '{name.replace('_', '-')}' by some servers; write it with dashes"
    for name in _SINGLE:
        if name in values and len(values[name]) > 1:
            return f"it has the header '{name}' twice"
    for value in values.get("connection", ()):
        if value not in _USUAL_CONNECTIONS and (what := connection_problem(value)) is not None:
            return what
    return None


def connection_problem(value: str) -> str | None:
    """Return what is wrong with the header that names others for removal, in words."""
    for name in tokens(value):
        if _TOKEN.fullmatch(name) is None:
            return "its header 'connection' is not a list of names"
        if name.lower().replace("_", "-") in _ESSENTIAL:
            return f"its header 'connection' names '{name}', which the request cannot do without"
    return None


def host_problem(hosts: Sequence[str], authority: str, is_required: bool) -> str | None:
    """Return what is wrong with the Host header, in words."""
    if not hosts:
        return "it has no Host header" if is_required else None
    if _HOST.fullmatch(hosts[0]) is None:
        return "its Host header is not a host and port"
    if authority and hosts[0] != authority and not is_same_host(hosts[0], authority):
        return "its Host header names another host than the request itself"
    return None


def is_same_host(one: str, other: str) -> bool:
    """Return whether two hosts are the same, with the same port where both state one."""
    (name, port), (name_2, port_2) = split_port(one), split_port(other)
    return name == name_2 and (port == port_2 or port is None or port_2 is None)


def framing_problem(method: bytes, values: HeaderValues) -> str | None:
    """Return what is wrong with how the body is framed and announced, in words."""
    codings, expected = values.get("transfer-encoding"), values.get("expect")
    # Any other transfer coding would have the body judged encoded and read decoded.
    if codings and codings[0].lower() != "chunked":
        return "its transfer-encoding is not 'chunked'"
    if expected and expected[0].lower() != "100-continue":
        return "it expects something else than '100-continue'"
    if method in _BODILESS and (codings or any(v != "0" for v in values.get("content-length", ()))):
        return f"a {method.decode()} has no body"
    return None


def type_problem(types: Sequence[str], is_model_call: bool) -> str | None:
    """Return what is wrong with a body's media type, in words: read in another, it would be another call."""
    if not types or types[0] in _USUAL_TYPES:
        return None
    kind, _, parameters = types[0].lower().partition(";")
    # Not a form: in {"model":"a","x":"&model=b&"} JSON's readers find one model and a form's another.
    if is_model_call and _JSON_TYPES.fullmatch(kind.strip()) is None:
        return "the content-type of a model call is application/json"
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().startswith("charset") and value.strip().strip('"') not in ("utf-8", "utf8", "us-ascii"):
            return "its body has another charset than UTF-8"
    return None


def encoding_of_body_problem(codings: Sequence[str], is_model_call: bool) -> Problem | None:
    """Return why a model call is refused whose body would have to be unpacked to be judged."""
    if not is_model_call or not codings or codings[0].strip().lower() in ("", "identity"):
        return None
    return Problem(f"Request bodies in content-encoding {codings[0][:40]} are not supported", Reason.UNSUPPORTED)


def upgrade_problem(values: HeaderValues) -> Problem | None:
    """Return why a request to change the protocol is refused; None for an offer of cleartext HTTP/2, which may be ignored."""
    if "upgrade" not in values or all(token.lower() == "h2c" for value in values.get("upgrade", ()) for token in tokens(value)):
        return None
    return Problem("Upgrades such as WebSocket are not supported; use plain HTTP", Reason.UNSUPPORTED, 426)


def tokens(value: str) -> list[str]:
    """Return the items of a header's comma-separated list."""
    return [item for part in value.split(",") if (item := part.strip())]


def removed_headers(values: HeaderValues) -> frozenset[bytes]:
    """Return the lower-case names of the headers that are not sent on."""
    named = values.get("connection", ())
    if all(value in _USUAL_CONNECTIONS for value in named):
        return _REMOVED
    return _REMOVED.union(token.lower().encode("latin-1", "replace") for value in named for token in tokens(value))


def replace_fields(fields: HeaderFields, changed: dict[bytes, bytes], needs_host: bool, removed: frozenset[bytes]) -> HeaderFields:
    """Return the header fields with some values changed, each where it first stood, else at the end, and others removed.

    Names keep their case.
    """
    left, out = dict(changed), []
    for name, value in fields:
        low = name.lower()
        if low in changed:
            if low in left:
                out.append((name, left.pop(low)))
        elif low not in removed:
            out.append((name, value))
    return (*out, *((n, v) for n, v in left.items() if needs_host or n != b"host"))
