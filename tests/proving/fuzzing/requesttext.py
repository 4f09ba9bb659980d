"""Parts of requests that two readers might read differently."""

from __future__ import annotations

PATHS = [
    *(b"/v1/messages",) * 6,
    *(
        b"/v1/messages?a=1&b=%zz",
        b"//v1/messages",
        b"/v1/./messages",
        b"/v1/%6dessages",
        b"/V1/MESSAGES/",
        b"/v1/messages/count_tokens/..",
    ),
    *(
        b"/v1/messages/count_tokens",
        b"/anthropic/v1/messages",
        b"/anthropic/anthropic/v1/messages",
        b"/openai/v1/messages",
        b"/v1/models",
    ),
    *(
        b"/v1/m\xffessages",
        b"/v1/\xc3\xa9/messages",
        b"/v1/messages\x00",
        b"/v1/messages\x01",
        b"/v1/messages#x",
        b"/v1\\messages",
        b"/v1/messages;x",
    ),
    *(
        b"/v1/%2e%2e/v1/messages",
        b"/v1/%252e%252e/messages",
        b"/v1/messages%00",
        b"/v1/messages%0d%0aX:y",
        b"/" + b"a" * 9000,
        b"/v1/" + b"../" * 999,
    ),
    *(
        b"/",
        b"*",
        b"/health",
        b"/metrics",
        b"/api/usage",
        b"/api/governance/\xff",
        b"/setup",
        b"/ca.pem",
        b"/api/hello",
        b"/mcp-registry/x",
        b"/favicon.ico",
    ),
    *(
        b"/v1/messages?_method=GET",
        b"/v1/messages?beta=true&BETA=false",
        b"/v1/messages?%24httpMethod=GET",
        b"/v1/messages?a=1;b=2",
        b"/v1/messages?a=%0d%0aX:y",
        b"/v1/messages?a=%c0%af",
    ),
    *(
        b"/v1/messages%3Fbeta=true",
        b"/v1/..;/messages",
        b"/v1/.%2e/messages",
        b"/v1/x/..%5cmessages",
        b"/v1/%u002e/messages",
        b"/v1/%c0%ae%c0%ae/messages",
        b"/anthropic//v1/messages",
        b"/anthropic/../v1/messages",
        b"/anthropic/api/v1/messages",
    ),
    *(
        b"/genai/v1beta/models/x:generateContent",
        b"/genai/v1beta/models/\xff:generateContent",
        b"/v1/messages/batches",
        b"/api/web/x?\xff",
    ),
]
METHODS = [
    *(b"POST",) * 8,
    b"GET",
    b"HEAD",
    b"PUT",
    b"BREW",
    b"post",
    b"OPTIONS",
    b"TRACE",
    b"CONNECT",
    b"P\xd6ST",
    b"A" * 300,
    b"PRI",
    b"",
    b"(x)",
]
VERSIONS = [*(b"HTTP/1.1",) * 9, b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/9.9", b"http/1.1", b"HTTP/1.1 x", b""]
ORIGINS = [
    *(
        b"http://%s" % h
        for h in (b"api.anthropic.com", b"API.ANTHROPIC.COM.", b"api.anthropic.com:1", b"user:pw@api.anthropic.com")
    ),
    *(
        b"https://api.openai.com",
        b"http://127.0.0.1:{port}",
        b"http://localhost:{port}",
        b"http://127.0.0.1:{trap}",
        b"http://localhost:{trap}",
    ),
    *(
        b"http://[::1]:{trap}",
        b"http://0x7f000001:{trap}",
        b"http://127.1:{trap}",
        b"http://[::ffff:127.0.0.1]:{trap}",
        b"http://0:{trap}",
    ),
    *(
        b"http://127.0.0.1:{own}",
        b"http://localhost:{own}",
        b"http://example.invalid",
        b"ftp://api.anthropic.com",
        b"http://\xff",
        b"http://a b",
    ),
    *(
        b"http://xn--\xe9",
        b"http://api.anthropic.com\x00.x",
        b"http://[",
        b"http://:80",
        b"http://a:99999",
        b"http://" + b"a" * 300,
        b"//api.anthropic.com",
    ),
]
"""Beginnings of absolute targets; ``{port}`` is the provider's, ``{trap}`` the trap's, ``{own}`` the gateway's."""

HOSTS = [
    *(
        b"localhost",
        b"127.0.0.1",
        b"api.anthropic.com",
        b"api.anthropic.com.",
        b"API.anthropic.com:443",
        b"api.openai.com",
        b"127.0.0.1:{port}",
    ),
    *(
        b"127.0.0.1:{trap}",
        b"example.invalid",
        b"",
        b" ",
        b"a:\xc2\xb2",
        b"\xff",
        b"a:b:c",
        b"[::1]:80",
        b"[",
        b"localhost:99999",
        b"a" * 5000,
        b"a,b",
    ),
]
FIELDS: list[tuple[bytes, bytes]] = [
    *(
        (n, v)
        for n in (b"x-a", b"cookie", b"anthropic-beta")
        for v in (b"1", b"\xff\xfe", b"a\rb", b"a\x00b", b"a\x0bb", b"", b"\xe2\x80\xae", b"x" * 40_000)
    ),
    *(
        (b"x-a", v)
        for v in (
            b"1\r\n folded",
            b"1\r\n\tx-api-key: {key}",
            b"1\n folded",
            b"1\rx-b: 2",
            b"1\nx-b: 2",
            b"1\n\nGET / HTTP/1.1",
            b"1\r\n",
        )
    ),
    *(
        (n, b"1")
        for n in (
            b"x a",
            b"x-a ",
            b" x-a",
            b"x\xffa",
            b"x\x00a",
            b"x(a)",
            b"",
            b":",
            b"x-" + b"a" * 20_000,
            b"X_API_KEY",
            b"x-bf-vk ",
        )
    ),
    *((b"connection", v) for v in (b"keep-alive", b"x-api-key", b"x-claude-code-session-id, host", b"upgrade", b"te", b"\xff")),
    *(
        (b"upgrade", v)
        for v in (b"websocket", b"h2c", b"H2C, websocket", b"\xff", b"TLS/1.0", b"H2C", b"h2c, h2c", b"\th2c", b"h2c;q=1")
    ),
    *(
        (b"connection", v)
        for v in (b"Upgrade, HTTP2-Settings", b"HTTP2-Settings", b"content-length", b"x-a, x_a", b"close\x0b", b"a b")
    ),
    *((n, b"AAMAAABkAARAAAAAAAIAAAAA") for n in (b"http2-settings", b"HTTP2_Settings")),
    *((n, b"chunked") for n in (b"transfer_encoding", b"transfer-encoding\x85", b"transfer-encoding\xa0", b"transfer-encoding\t")),
    *(
        (n, b"7")
        for n in (b"content_length", b"content-length\xa0", b"content-length\x00", b"content\r\n-length", b"content-length\n")
    ),
    *((n, b"GET") for n in (b"x-http-method", b"x_http_method_override", b"x-method-override", b"x-original-method")),
    *((n, b"/v1/models") for n in (b"x-rewrite-url", b"x-original-uri", b"x-forwarded-prefix", b"x_original_url")),
    *((b"content-type", v) for v in (b"application/json; charset=utf-16", b"application/x-protobuf", b"application/json")),
    *((b"expect", v) for v in (b"100-continue", b"100-Continue, x", b"200-ok")),
    *(
        (b"user-agent", v)
        for v in (b"claude-cli/2.1", b"codex\xff", b"\x1b[31m", b"a" * 1000, b"\xf0\x9f\x98\x80", b"\xed\xa0\x80")
    ),
    *((n, v) for n in (b"x-bf-user-id", b"x-claude-code-agent-id") for v in (b"bob", b"a" * 129, b"\xff", b"a\x00", b"' OR 1=1")),
    *(
        (n, b"x")
        for n in (b"proxy-connection", b"x-bf-vk", b"x-sluicegate-reason", b"proxy-authorization", b"keep-alive", b"te", b"trailer")
    ),
    *((b"x-http-method-override", v) for v in (b"GET", b"DELETE")),
    *(
        (b"x-forwarded-host", b"api.openai.com"),
        (b"x-original-url", b"/v1/models"),
        (b"forwarded", b"host=x"),
        (b"origin", b"http://evil.test"),
    ),
    *((b"accept-encoding", v) for v in (b"gzip", b"\xff", b"")),
    *((b"content-encoding", v) for v in (b"gzip", b"identity", b"\xff")),
    *((b"authorization", v) for v in (b"Bearer \xff", b"Basic \xff", b"Bearer {key}\xff")),
]
FRAMING: list[tuple[bytes, ...]] = [
    *((b"content-length: {n}",),) * 10,
    *((b"transfer-encoding: chunked",),) * 3,
    *((b"content-length: {n}", b"transfer-encoding: chunked"), (b"transfer-encoding: chunked", b"content-length: {n}"), ()),
    *(
        (b"content-length: {n}", b"content-length: {n}"),
        (b"content-length: {n}", b"content-length: 0"),
        (b"content-length: {n}, {n}",),
    ),
    *(
        (b"content-length: +{n}",),
        (b"content-length: 0{n}",),
        (b"content-length: -1",),
        (b"content-length: \xc2\xb2",),
        (b"content-length: ",),
    ),
    *(
        (b"content-length: " + b"9" * 30,),
        (b"content-length: 0",),
        (b"content-length: 0x10",),
        (b"content-length : {n}",),
        (b"content-length: 3",),
    ),
    *(
        (b"content-length: " + v,)
        for v in (b"1_0", b"{n} ", b"{n},", b"\x0b{n}", b"{n}\x0b", b"{n}Z", b"{n}\x00", b"{n}\r0", b"{n}\n0")
    ),
    *((b"content-length: ", b"content-length: {n}"), (b"content-length: {n}", b"content-length:"), (b"content-length {n}",)),
    *(
        (b"transfer-encoding: " + v, b"content-length: {n}")
        for v in (b",chunked", b"chunked,", b"\xa0chunked", b"'chunked'", b"chunke\nd")
    ),
    *(
        (b"transfer-encoding: " + v,)
        for v in (b",chunked", b"\tchunked", b"chunked;a=b", b"chunked\r\n ", b"chunked\x00", b"CHUNKED")
    ),
    *(
        (b"transfer-encoding: chunked",) * 2,
        (b"transfer-", b"encoding: chunked", b"content-length: {n}"),
        (b": a", b"content-length: {n}"),
    ),
    *((b"transfer-encoding: identity",), (b"transfer-encoding: gzip, chunked",), (b"transfer-encoding: chunked, chunked",)),
    *((b"transfer-encoding: xchunked", b"content-length: {n}"), (b"transfer-encoding:\x0bchunked", b"content-length: {n}")),
    *((b"transfer-encoding: chunked", b"transfer-encoding: identity"), (b"Transfer-Encoding : chunked", b"content-length: {n}")),
]
CHUNKS = [
    *(b"{n:x}\r\n{body}\r\n0\r\n\r\n",) * 5,
    *(
        b'{n:x};ext="\xff"\r\n{body}\r\n0\r\n\r\n',
        b"0{n:x}\r\n{body}\r\n00\r\n\r\n",
        b"{n:x}\n{body}\n0\n\n",
        b"{n:x}\r\n{body}\r\n0\r\nx-api-key: {key}\r\n\r\n",
    ),
    *(
        b"0x{n:x}\r\n{body}\r\n0\r\n\r\n",
        b"-1\r\n{body}\r\n0\r\n\r\n",
        b"ffffffffffffffff\r\n{body}",
        b"{n:x}\r\n{body}0\r\n\r\n",
        b"\r\n",
        b"0\r\n\r\n",
        b"{body}",
    ),
    *(
        size + b"\r\n{body}\r\n0\r\n\r\n"
        for size in (b"+{n:x}", b"{n:x}_0", b"0_{n:x}", b"\t{n:x}", b" {n:x}", b"{n:x}\r;a", b"{n:x};\n", b"{n:x}\x00")
    ),
    *(
        b"{n:x}\r\n{body}" + end
        for end in (b"\n0\r\n\r\n", b"XX0\r\n\r\n", b"\r\n\r\n0\r\n\r\n", b"\r\n-0x0\r\n\r\n", b"\r\n0\n\r\n")
    ),
    *(
        b"{n:x}\r\n{body}\r\n" + end
        for end in (b"0\r\nX:POST / HTTP/1.1\r\n\r\n", b"0\r\n\rX\r\n\r\n", b"\r\n\r\n", b"0;a\r\n\r\n")
    ),
    *(
        b"{n:x} \r\n{body}\r\n0\r\n\r\n",
        b"{n:x}\r\n{body}\r\n0\r\ntrailer\r\n\r\n",
        b"{n:x}" + b" " * 9000 + b"\r\n{body}\r\n0\r\n\r\n",
    ),
]
"""Chunked bodies, valid and not."""

ENDS = [*(b"\r\n",) * 12, b"\n", b"\r", b"\n\r", b"\r\r\n", b""]
