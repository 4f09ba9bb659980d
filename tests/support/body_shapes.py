"""Bodies that are made to be expensive: small values without end, deep nesting, long names, numbers, strings and gaps."""

from __future__ import annotations

from collections.abc import Callable, Mapping

MODEL = b'"model":"claude-opus-5-5"'


def repeated(piece: bytes, size: int) -> bytes:
    """Return a list of one piece again and again, of about this size."""
    return b"[" + b",".join([piece] * max(1, (size - 2) // (len(piece) + 1))) + b"]"


def field(name: str, value: bytes) -> bytes:
    """Return a body with one field besides its model."""
    return b"{" + MODEL + b',"' + name.encode() + b'":' + value + b"}"


def content(value: bytes) -> bytes:
    """Return a body of one message."""
    return field("messages", b'[{"role":"user","content":' + value + b"}]")


def text(piece: bytes, size: int) -> bytes:
    """Return a body of one text, made of one piece again and again."""
    return content(b'"' + piece * (size // len(piece)) + b'"')


def numbered(size: int) -> bytes:
    """Return the members of an object, each of a name of its own."""
    return b",".join(b'"k%08d":1' % i for i in range(size // 13))


IMAGE = b'[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"%s"}}]'

SHAPES: Mapping[str, Callable[[int], bytes]] = {
    "empty blocks": lambda size: content(repeated(b"{}", size)),
    "text blocks": lambda size: content(repeated(b'{"type":"text","text":"a"}', size)),
    "numbers": lambda size: content(repeated(b"0.5", size)),
    "strings": lambda size: content(repeated(b'""', size)),
    "lists": lambda size: content(repeated(b"[]", size)),
    "deep lists": lambda size: content(b"[" * (size // 2) + b"]" * (size // 2)),
    "deep objects": lambda size: content(b'{"a":' * (size // 6) + b"1" + b"}" * (size // 6)),
    "one text": lambda size: text(b"x", size),
    "one wide character": lambda size: content(b'"\xf0\x9f\x98\x80' + b"x" * size + b'"'),
    "escapes": lambda size: text(rb"\u0041", size),
    "quotes": lambda size: text(rb"\"", size),
    "surrogates": lambda size: text(rb"\ud83d", size),
    "image": lambda size: content(IMAGE % (b"A" * size)),
    "spaces before": lambda size: b" " * size + content(b'"hi"'),
    "spaces inside": lambda size: content(b" " * size + b'"hi"'),
    "long number": lambda size: field("max_tokens", b"1" * size),
    "long model": lambda size: b'{"model":"' + b"x" * size + b'"}',
    "list for a model": lambda size: b'{"model":' + repeated(b"{}", size) + b"}",
    "list for a number": lambda size: field("max_tokens", repeated(b"{}", size)),
    "long name": lambda size: field("x" * size, b"1"),
    "many fields": lambda size: b"{" + MODEL + b"," + numbered(size) + b"}",
    "one field again and again": lambda size: b"{" + MODEL + b"," + b", ".join([b'"a": 1'] * (size // 8)) + b"}",
    "tools": lambda size: field("tools", repeated(b"{}", size)),
    "fields of a tool": lambda size: field("tools", b"[{" + numbered(size) + b"}]"),
    "models of a tool": lambda size: field("tools", b'[{"type":"x","y":' + repeated(b'{"model":"a"}', size) + b"}]"),
    "models": lambda size: field("models", repeated(b'"a"', size)),
    "messages": lambda size: field("messages", repeated(b'{"role":"user","content":""}', size)),
    "items": lambda size: field("input", repeated(b'{"role":"user","content":""}', size)),
    "items with tools": lambda size: field("input", repeated(b'{"tools":[{}]}', size)),
    "items of two kinds": lambda size: field("input", repeated(b'{"tools":[{}]},[1]', size)),
    "parts": lambda size: field("contents", b'[{"parts":' + repeated(b'{"inlineData":{"data":""}}', size) + b"}]"),
    "quotes alone": lambda size: b'"' * size,
    "braces alone": lambda size: b"{" * size,
    "zeros": lambda size: bytes(size),
}
"""By what is made without end: a body of about so many bytes."""
