"""Every way a request can be written that two readers might read in two ways is refused, and the usual ways are not."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.request_grammar import (
    CLIENT_ADDRESSES,
    HOP_BY_HOP,
    METHODS,
    REDIRECTIONS,
    first_problem,
    path_problem,
    removed_headers,
    replace_fields,
)
from sluicegate.values import Reason

JSON = ("Content-Type", "application/json")


def problem(*headers, method="POST", target="/v1/messages", version="HTTP/1.1", authority="", host="gateway:8080", model=True):
    """What is wrong with a request that is otherwise as clients write it; ``host`` None leaves that header out."""
    named = [*([("Host", host)] if host is not None else []), *headers]
    fields = tuple((n.encode("latin-1"), v.encode("latin-1")) for n, v in named)
    values = {}
    for name, value in named:
        values.setdefault(name.lower(), []).append(value)
    target = target if isinstance(target, bytes) else target.encode()
    return first_problem(method.encode("latin-1"), target, version, authority, fields, values, model)


def words(*headers, **parts):
    found = problem(*headers, **parts)
    assert found is not None
    assert found.message.startswith("Invalid request: ")
    assert (found.reason, found.status) == (Reason.INVALID_REQUEST, None)
    return found.message


USUAL_TARGETS = [
    "/",
    "/v1/messages",
    "/v1/messages?beta=true",
    "/v1/messages/count_tokens?beta=true",
    "/v1/models?limit=1000&after_id=claude-haiku-4-5",
    "/v1/models/claude-sonnet-4-5@20250929",
    "/v1/models/ft:gpt-5:acme::x1",
    "/v1/responses/resp_1?include[]=a&include[]=b&stream=true",
    "/v1/responses/resp_1?include%5B%5D=a&include%5B%5D=b",
    "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse",
    "/v1beta/models?pageSize=50&pageToken=Cg%3D%3D",
    "/api/web/domain_info?domain=b%C3%BCcher.example",
    "/v1/.well-known/a..b/...",
    "/v1/messages?",
]


@pytest.mark.parametrize("target", USUAL_TARGETS)
def test_the_targets_of_clients_pass(target):
    assert problem(JSON, target=target) is None
    assert problem(method="GET", target=target) is None


PATHS = [
    *("", "*", "v1/messages", "http:/x", "?a=1", "#"),
    *("//v1/messages", "/v1//messages", "/v1/messages/", "/v1/messages//", "//", "/v1/messages/?beta=true"),
    *("/./v1/messages", "/v1/.", "/v1/./messages", "/../v1/messages", "/v1/..", "/v1/../../../admin/keys", "/v1/x/../messages"),
    *("/v1/%2e/messages", "/v1/%2E%2e/messages", "/v1/.%2e/messages", "/v1/%252e%252e/messages", "/%2e%2e"),
    *(
        "/v1%2fmessages",
        "/v1%2Fmessages",
        "/v1%5cmessages",
        "/v1\\messages",
        "/v1/..\\messages",
        "/v1%252fmessages",
        "/v1%c0%afmessages",
    ),
    *(
        "/v1/messages;x",
        "/v1;x=1/messages",
        "/v1/messages%3Bx",
        "/v1/..;/messages",
        "/v1/messages#x",
        "/v1/messages%23",
        "/v1/messages%3Fbeta=true",
    ),
    *(
        "/v1/%6dessages",
        "/v1/messages%20",
        "/v1/messages%00",
        "/v1/messages%0d%0aX:y",
        "/v1/messages%09",
        "/v1/messages%7f",
        "/v1/m%25essages",
    ),
    *("/v1/messages%", "/v1/messages%2", "/v1/messages%zz", "/v1/messages%u002e", "/v1/%EF%BC%8Fmessages", "/v1/%E2%80%AEmessages"),
    *(
        b"/v1/\xc3\xa9",
        b"/v1/\xff",
        b"/v1/messages\x00",
        b"/v1/messages\x01",
        b"/v1/messages\x7f",
        b"/v1/messages x",
        b"/v1/messages\n",
        b"/v1/\tmessages",
    ),
    *('/v1/"messages"', "/v1/<x>", "/v1/{x}", "/v1/[x]", "/v1/a|b", "/v1/a^b", "/v1/`a`"),
    *("/" + "a" * 2048, "/a" * 1025),
]


@pytest.mark.parametrize("path", PATHS, ids=lambda p: repr(p)[:40])
def test_no_path_reads_in_two_ways(path):
    assert re.match("Invalid request: its (path|query) ", words(target=path))


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/v1/../admin", "'.' or '..' segment"),
        ("/v1/%2e%2e/admin", "percent-encoded"),
        ("/v1//messages", "an empty segment"),
        ("/v1/messages;x", "';'"),
        ("v1", "does not begin with '/'"),
        ("/" + "a" * 3000, "longer than 2048 bytes"),
    ],
)
def test_the_words_say_what_is_wrong_with_a_path(path, said):
    assert said in words(target=path)


@given(st.text(alphabet="/.%2eEfF5cC;?#a\\V1:é\x00 ", max_size=24))
def test_a_path_that_passes_stays_where_it_is_however_it_is_read(text):
    """Decoded or not, resolved or not, cut at a parameter or not: it is the same path."""
    path = "/" + text
    if path_problem.__wrapped__(path.encode()) is not None:
        return
    assert unquote(path) == path
    segments = path[1:].split("/")
    assert not {".", ".."} & set(segments)
    assert path == "/" or all(segments)
    assert not set(path) & set("\\;?#%")


QUERIES = [
    *(
        "a=1&a=2",
        "beta=true&beta=true",
        "alt=sse&ALT=json",
        "pageSize=1&page_size=2",
        "alt=sse&%61lt=json",
        "include=a&include[]=b",
        "a&a",
    ),
    *(
        "_method=GET",
        "_METHOD=get",
        "X-HTTP-Method-Override=GET",
        "x_http_method=GET",
        "http_method=GET",
        "%5Fmethod=GET",
        "httpMethod=POST",
        "_method[]=GET",
    ),
    *("$httpMethod=GET", "$alt=proto", "%24alt=json", "$.xgafv=1", "$key=1"),
    *("=1", "a=1&=2", "&&", "a=1&", "%5B%5D=1"),
    *("a=1;b=2", "a=1#b", "a=\\", 'a="', "a=<", "a=`", b"a=\xff", b"a=\xc3\xa9", b"a= b", b"a=\x00", b"a=\r\n"),
    *("a=%", "a=%2", "a=%zz", "a=%0d%0a", "a=%00", "a=%7f", "a=%ff", "a=%c0%af", "a=%2561", "%2561=1"),
    "a=" + "x" * 8200,
]


@pytest.mark.parametrize("query", QUERIES, ids=lambda q: repr(q)[:40])
def test_no_query_reads_in_two_ways(query):
    query = query if isinstance(query, bytes) else query.encode()
    assert words(target=b"/v1/messages?" + query).startswith("Invalid request: its query")


@pytest.mark.parametrize("query", ["model=dear", "beta=true&Model=dear", "mod%65l=dear", "model_id=a", "models[]=a"])
def test_a_query_says_nothing_that_the_body_of_a_model_call_says(query):
    assert "name it in the body only" in words(target=f"/v1/messages?{query}")
    assert problem(method="GET", target=f"/v1/models?{query}", model=False) is None


@pytest.mark.parametrize(
    "query", ["fields=candidates", "FIELDS=a", "callback=x", "alt=proto", "alt=media", "alt", "alt=", "alt=sse%20", "alt=SSE"]
)
def test_a_model_calls_answer_keeps_its_form_and_its_usage(query):
    assert "its usage could not be read" in words(target=f"/v1beta/models/gemini-2.5-pro:generateContent?{query}")
    assert problem(method="GET", target=f"/v1beta/models?{query}", model=False) is None


def test_no_header_takes_the_usage_out_of_an_answer():
    assert "x-goog-fieldmask" in words(("X-Goog-FieldMask", "candidates"))
    assert problem(("X-Goog-FieldMask", "models"), method="GET", model=False) is None


@pytest.mark.parametrize(
    "method", ["", "post", "Post", "TRACE", "CONNECT", "PRI", "BREW", "P\xd6ST", "POST ", "GET /v1/models", "*"]
)
def test_no_other_method_is_known(method):
    assert "its method is not one of GET, HEAD, DELETE, OPTIONS, POST, PUT, PATCH" in words(method=method)


@pytest.mark.parametrize("method", METHODS)
def test_the_methods_of_the_apis_pass(method):
    assert problem(method=method) is None


@pytest.mark.parametrize("version", ["HTTP/1.2", "HTTP/2.0", "HTTP/9.9", "HTTP/0.9", ""])
def test_no_other_version_is_known(version):
    assert "neither HTTP/1.1 nor HTTP/1.0" in words(version=version)


@pytest.mark.parametrize(
    "name",
    [
        *("X-HTTP-Method-Override", "x-http-method-override", "X-HTTP-Method", "X-Method-Override", "X-Method", "Method-Override"),
        *("X_HTTP_METHOD_OVERRIDE", "X-HTTP_Method-Override", "x_http_method", "X_Method_Override"),
    ],
)
@pytest.mark.parametrize("value", ["POST", "GET", ""])
def test_no_header_names_another_method(name, value):
    assert name.lower() in words((name, value))
    assert name.lower() in words((name, value), method="GET")


@pytest.mark.parametrize(
    "name",
    [
        "Content_Length",
        "Transfer_Encoding",
        "content_type",
        "Content_Encoding",
        "X_Forwarded_Host",
        "x-original_url",
        "Proxy_Connection",
    ],
)
def test_an_underscore_is_no_dash(name):
    assert "write it with dashes" in words((name, "1"))


def test_other_underscores_are_names():
    """Codex sends them."""
    assert problem(("session_id", "1"), ("conversation_id", "2"), JSON) is None


@pytest.mark.parametrize("value", ["a\x00b", "a\rb", "a\nb", "a\r\n b", "a\x0bb", "a\x7f", "\x1b[31m"])
def test_no_control_character_is_in_a_value(value):
    assert "control character" in words(("x-a", value))


@pytest.mark.parametrize("value", ["a\tb", "caf\xe9", "", "a" * 60_000])
def test_other_values_are_the_clients(value):
    assert problem(("x-a", value), JSON) is None


@pytest.mark.parametrize(
    "name", ["Host", "Content-Type", "Content-Length", "Content-Encoding", "Transfer-Encoding", "Expect", "Anthropic-Version"]
)
def test_what_counts_once_is_there_once(name):
    value = {"Host": "gateway:8080", "Content-Type": "application/json", "Transfer-Encoding": "chunked"}.get(name, "1")
    twice = ((name, value), (name.lower(), value)) if name != "Host" else ((name, value),)
    assert f"'{name.lower()}' twice" in words(*twice)


def test_lists_may_be_in_several_fields():
    assert problem(("anthropic-beta", "a"), ("anthropic-beta", "b"), ("accept", "*/*"), ("accept", "text/plain")) is None


@pytest.mark.parametrize(
    "host", ["gateway", "127.0.0.1:8080", "[::1]", "[::1]:8080", "a_b.example.", "API.Anthropic.com:443", "xn--bcher-kva"]
)
def test_hosts_pass(host):
    assert problem(host=host) is None


@pytest.mark.parametrize(
    "host",
    [
        *(
            "",
            " ",
            "a b",
            "a,b",
            "a/b",
            "a@b",
            "user:pw@a",
            "a?b",
            "a#b",
            "a:b",
            "a:",
            "a:1:2",
            ":80",
            "a:99999",
            "a:123456",
            "a:\xb2",
        ),
        *("[", "[::1", "::1", "[::1%25eth0]", "[::1]x", "b\xfccher", "a%2eb", "-a", "a\\b", "a;b", "*"),
    ],
)
def test_other_hosts_are_refused(host):
    assert "Host header is not a host and port" in words(host=host)


def test_http_1_1_needs_a_host_and_others_do_not():
    assert "no Host header" in words(host=None)
    assert problem(host=None, version="HTTP/1.0") is None
    assert problem(host=None, version=None) is None


@pytest.mark.parametrize(
    ("host", "authority"),
    [
        ("a.example", "a.example"),
        ("A.example.", "a.EXAMPLE"),
        ("a.example", "a.example:80"),
        ("a.example:80", "a.example"),
        ("[::1]:80", "[0::1]:80"),
    ],
)
def test_host_and_authority_agree(host, authority):
    assert problem(host=host, authority=authority) is None


@pytest.mark.parametrize(
    ("host", "authority"),
    [
        ("a.example", "b.example"),
        ("a.example:80", "a.example:81"),
        ("a.example", "127.0.0.1"),
        ("a", "a.example"),
        ("a.example", "\xff"),
    ],
)
def test_host_and_authority_never_disagree(host, authority):
    assert "another host than the request itself" in words(host=host, authority=authority)


@pytest.mark.parametrize(
    "value",
    [
        "identity",
        "gzip",
        "gzip, chunked",
        "chunked, chunked",
        "chunked,",
        ",chunked",
        "chunked;q=1",
        "x",
        "",
        "\x0bchunked",
        "chunked\xa0",
    ],
)
def test_no_other_transfer_coding_is_read(value):
    assert re.search("transfer-encoding|control character", words(("Transfer-Encoding", value)))


@pytest.mark.parametrize("value", ["chunked", "Chunked", "CHUNKED"])
def test_chunked_passes(value):
    assert problem(("Transfer-Encoding", value), JSON) is None


@pytest.mark.parametrize("value", ["200-ok", "100-continue, x", "100-continue; a", "", "1"])
def test_only_a_continue_is_expected(value):
    assert "expects something else" in words(("Expect", value))
    assert problem(("Expect", "100-Continue"), JSON) is None


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS"])
def test_these_methods_have_no_body(method):
    assert f"a {method} has no body" in words(("Content-Length", "5"), method=method)
    assert f"a {method} has no body" in words(("Transfer-Encoding", "chunked"), method=method)
    assert problem(("Content-Length", "0"), method=method) is None


@pytest.mark.parametrize(
    "value",
    [
        *(
            "application/json",
            "application/json; charset=utf-8",
            'Application/JSON ;charset="UTF-8"',
            "application/json;charset=us-ascii",
        ),
        *("application/vnd.acme+json", "text/json", "text/plain; charset=utf8"),
    ],
)
def test_json_in_utf_8_passes(value):
    assert problem(("Content-Type", value)) is None


@pytest.mark.parametrize(
    "value",
    [
        *(
            "application/json; charset=utf-16",
            "application/json;charset=UTF-7",
            'application/json; a=b; charset="utf-16le"',
            "text/plain; charset=latin1",
        ),
        *(
            "application/json; charset=utf-8; charset=utf-32",
            "application/json; charset*=utf-16",
            "application/json; charset=",
            "application/json;charset",
        ),
        *(
            "application/x-protobuf",
            "application/grpc",
            "application/x-www-form-urlencoded",
            "Application/X-WWW-Form-Urlencoded; charset=utf-8",
            "multipart/form-data; boundary=x",
            "application/xml",
            "json",
            "",
            "application/json, text/plain",
        ),
    ],
)
def test_a_model_call_in_another_type_or_charset_is_refused(value):
    assert re.search("charset|content-type", words(("Content-Type", value)))


def test_only_a_model_calls_type_is_judged_but_every_charset():
    assert problem(("Content-Type", "multipart/form-data; boundary=x"), model=False) is None
    assert "charset" in words(("Content-Type", "application/json; charset=utf-16"), model=False)


@pytest.mark.parametrize(
    "value", ["gzip", "br", "zstd", "identity, gzip", "gzip, identity", "x-gzip", "deflate", ",", "chunked", "\xff"]
)
def test_a_model_calls_body_is_not_packed(value):
    found = problem(("Content-Encoding", value), JSON)
    assert (found.reason, found.status) == (Reason.UNSUPPORTED, None)
    assert value in found.message
    assert problem(("Content-Encoding", value), JSON, model=False) is None


@pytest.mark.parametrize("value", ["identity", "Identity", "", " "])
def test_a_body_that_says_it_is_not_packed_passes(value):
    assert problem(("Content-Encoding", value), JSON) is None


UPGRADES = ["websocket", "WebSocket", "h2", "TLS/1.0", "h2c, websocket", "websocket, h2c", "h2c/1", "HTTP/2.0", "h2c;q=1", "\xff"]


@pytest.mark.parametrize("value", UPGRADES)
def test_no_request_leaves_http(value):
    found = problem(("Upgrade", value), ("Connection", "Upgrade"))
    assert (found.reason, found.status) == (Reason.UNSUPPORTED, 426)
    assert problem(("Upgrade", "h2c"), ("Upgrade", value)).status == 426


@pytest.mark.parametrize("values", [["h2c"], ["H2C"], ["h2c", "h2c"], ["h2c, H2c"], ["h2c,"], [""]])
def test_an_offer_of_http_2_is_ignored_and_not_sent_on(values):
    headers = [("Upgrade", v) for v in values] + [("Connection", "Upgrade, HTTP2-Settings"), ("HTTP2-Settings", "AAMAAABk")]
    assert problem(*headers, JSON) is None
    assert sent_on(*headers) == []


@pytest.mark.parametrize(
    "name",
    [
        "host",
        "Content-Length",
        "transfer-encoding",
        "content-type",
        "anthropic-version",
        "anthropic-beta",
        "x-api-key",
        "Content_Length",
        "cookie",
    ],
)
def test_connection_names_nothing_that_a_request_needs(name):
    assert f"names '{name}'" in words(("Connection", f"close, {name}"))


@pytest.mark.parametrize("value", ["a b", "a;b", '"a"', "\xff", "close, (x)"])
def test_connection_names_headers(value):
    assert "not a list of names" in words(("Connection", value))


def sent_on(*headers):
    """The names of headers that reach a provider, in lower case."""
    values = {}
    for name, value in headers:
        values.setdefault(name.lower(), []).append(value)
    fields = tuple((n.encode("latin-1"), v.encode("latin-1")) for n, v in headers)
    return [n.decode().lower() for n, _ in replace_fields(fields, {}, False, removed_headers(values))]


@pytest.mark.parametrize(
    ("connection", "left"),
    [
        (["close"], ["x-a", "x-b", "x_a"]),
        (["keep-alive", "close"], ["x-a", "x-b", "x_a"]),
        (["X-A"], ["x-b", "x_a"]),
        (["close,x-a ,, x-B"], ["x_a"]),
        (["close", "x-a", "x-b"], ["x_a"]),
        (["x_a"], ["x-a", "x-b"]),
        ([], ["x-a", "x-b", "x_a"]),
    ],
)
def test_what_connection_names_is_not_sent_on(connection, left):
    headers = [("Connection", v) for v in connection] + [("X-A", "1"), ("x-b", "2"), ("x_a", "3")]
    assert sent_on(*headers) == left


@pytest.mark.parametrize("name", sorted(CLIENT_ADDRESSES | HOP_BY_HOP | REDIRECTIONS))
def test_what_concerns_one_connection_or_claims_another_target_or_sender_is_not_sent_on(name):
    assert sent_on((name.decode().title(), "x"), ("X-A", "1")) == ["x-a"]
    assert problem((name.decode().title(), "h2c"), JSON) is None


def test_fields_are_replaced_where_they_first_stood():
    fields = ((b"A", b"1"), (b"Host", b"x"), (b"TE", b"trailers"), (b"b", b"2"), (b"HOST", b"y"))
    assert replace_fields(fields, {b"host": b"z", b"c": b"3"}, True, HOP_BY_HOP) == (
        (b"A", b"1"),
        (b"Host", b"z"),
        (b"b", b"2"),
        (b"c", b"3"),
    )
    assert replace_fields(((b"A", b"1"),), {b"host": b"z"}, False, HOP_BY_HOP) == ((b"A", b"1"),)
    assert replace_fields(((b"A", b"1"),), {b"host": b"z"}, True, HOP_BY_HOP) == ((b"A", b"1"), (b"host", b"z"))
