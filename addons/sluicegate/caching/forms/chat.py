"""Both forms of an answer of OpenAI's Chat Completions API."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from sluicegate.caching.forms.lossless import put, require
from sluicegate.translation.answers.chat_writer import DONE
from sluicegate.translation.answers.framing import data_event

_TEXTS = ("content", "refusal", "reasoning_content", "reasoning", "reasoning_text")
"""Members of a message that a stream sends in pieces."""

_OF_CHOICE = ("index", "message", "delta", "logprobs")
_KINDS = ("function", "custom")
_PIECES = {"function": "arguments", "custom": "input"}
"""What of a call comes in pieces, by its kind."""


def as_stream(completion: dict[str, Any], *, has_usage: bool) -> Iterator[bytes]:
    """Yield the events of a completion, with a chunk that says its usage where the client asked for one. Raises LossyError."""
    choices = completion.get("choices")
    require(isinstance(choices, list) and choices and completion.get("usage"), "not a completion")
    assert isinstance(choices, list)
    head = {
        name: value for name, value in completion.items() if name not in ("choices", "usage", "object") and not _is_nothing(value)
    }
    require(all(isinstance(value, str | int | float) for value in head.values()), "a member of unknown form")
    head["object"] = "chat.completion.chunk"
    usage = {"usage": None} if has_usage else {}
    for choice in choices:
        for content in _choices(choice):
            yield data_event({**head, "choices": [content], **usage})
    if has_usage:
        yield data_event({**head, "choices": [], "usage": completion["usage"]})
    yield DONE


def _choices(choice: Any) -> Iterator[dict[str, Any]]:
    """Yield a choice as the chunks of a stream have it."""
    require(isinstance(choice, dict) and isinstance(choice.get("message"), dict), "a choice without a message")
    message, probabilities = choice["message"], choice.get("logprobs")
    index = choice.get("index", 0)

    def chunk(delta: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None, **more}

    yield chunk({"role": message.get("role", "assistant"), "content": "" if message.get("content") is not None else None})
    for name, value in message.items():
        if name in _TEXTS and value:
            require(isinstance(value, str), f"{name} is not text")
    for name in (*_TEXTS[2:], *_TEXTS[:2]):
        if text := message.get(name):
            shown, probabilities = (probabilities, None) if name in ("content", "refusal") else (None, probabilities)
            yield chunk({name: text}, logprobs=shown)
    for number, call in enumerate(message.get("tool_calls") or ()):
        for entry in _call_pieces(call, number):
            yield chunk({"tool_calls": [entry]})
    for name, value in message.items():
        if name not in ("role", "tool_calls", *_TEXTS):
            require(_is_nothing(value), f"a member of unknown kind: {name}")
    more = {name: value for name, value in choice.items() if name not in (*_OF_CHOICE, "finish_reason") and not _is_nothing(value)}
    require(all(isinstance(value, str | int | float) for value in more.values()), "a choice of unknown form")
    yield chunk({}, logprobs=probabilities, finish_reason=choice.get("finish_reason"), **more)


def _call_pieces(call: Any, number: int) -> Iterator[dict[str, Any]]:
    require(isinstance(call, dict) and call.get("type", "function") in _KINDS, "a call of unknown kind")
    kind = call.get("type", "function")
    content, piece = call.get(kind), _PIECES[kind]
    require(isinstance(content, dict) and isinstance(content.get(piece), str) and call.get("index", number) == number, "no call")
    assert isinstance(content, dict)
    yield {**call, "index": number, "type": kind, kind: {**content, piece: ""}}
    if content[piece]:
        yield {"index": number, kind: {piece: content[piece]}}


def as_whole(chunks: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the completion of a stream. Raises LossyError."""
    whole: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    usage: Any = None
    for chunk in chunks:
        for name, value in chunk.items():
            if name == "usage":
                usage = value or usage
            elif name == "created":
                whole.setdefault(name, value)
            elif name not in ("choices", "object", "obfuscation") and not _is_nothing(value):
                require(isinstance(value, str | int | float), f"a member of unknown form: {name}")
                put(whole, name, value)
        require(isinstance(chunk.get("choices"), list), "a chunk without choices")
        for choice in chunk["choices"]:
            require(isinstance(choice, dict) and isinstance(choice.get("index", 0), int), "a choice of unknown form")
            _add_choice(choices.setdefault(choice.get("index", 0), {}), choice)
    require(choices and usage and all(choice.get("finish_reason") for choice in choices.values()), "a stream without an end")
    finished = [_finished(index, choice) for index, choice in sorted(choices.items())]
    return {**whole, "object": "chat.completion", "choices": finished, "usage": usage}


def _add_choice(choice: dict[str, Any], content: dict[str, Any]) -> None:
    message = choice.setdefault("message", {})
    for name, value in content.items():
        if name == "logprobs" and value is not None:
            require(isinstance(value, dict), "logprobs of unknown form")
            known = choice.get("logprobs") or {}
            choice["logprobs"] = known | {kind: [*(known.get(kind) or ()), *more] for kind, more in value.items() if more}
        elif name == "delta":
            _add_delta(message, value)
        elif name not in _OF_CHOICE and not _is_nothing(value):
            require(isinstance(value, str | int | float), f"a choice of unknown form: {name}")
            put(choice, name, value)


def _add_delta(message: dict[str, Any], delta: Any) -> None:
    require(isinstance(delta, dict | None), "a delta of unknown form")
    for name, value in (delta or {}).items():
        if name in _TEXTS and value is not None:
            require(isinstance(value, str), f"{name} is not text")
            message[name] = (message.get(name) or "") + value
        elif name == "tool_calls":
            for entry in value or ():
                _add_call(message.setdefault("tool_calls", {}), entry)
        elif name == "role":
            put(message, name, value)
        else:
            require(_is_nothing(value), f"a member of unknown kind: {name}")


def _add_call(calls: dict[int, dict[str, Any]], entry: Any) -> None:
    require(isinstance(entry, dict) and isinstance(entry.get("index"), int), "a call without a number")
    call = calls.setdefault(entry["index"], {})
    for name, value in entry.items():
        if name in _KINDS and isinstance(value, dict):
            content = call.setdefault(name, {})
            for inner, more in value.items():
                if inner == _PIECES[name] and isinstance(more, str):
                    content[inner] = content.get(inner, "") + more
                elif not _is_nothing(more):
                    put(content, inner, more)
        elif name != "index" and not _is_nothing(value):
            put(call, name, value)


def _finished(index: int, choice: dict[str, Any]) -> dict[str, Any]:
    content = dict(choice["message"])
    calls = content.pop("tool_calls", {})
    message = {"role": "assistant", "content": None, "refusal": None, **content}
    if calls:
        require(sorted(calls) == list(range(len(calls))), "calls out of order")
        message |= {"content": message["content"] or None, "tool_calls": [_whole_call(call) for _, call in sorted(calls.items())]}
    return {"index": index, "logprobs": None, **choice, "message": message}


def _whole_call(call: dict[str, Any]) -> dict[str, Any]:
    """Return a call with what a whole answer always says of one."""
    kind = call.get("type", "function")
    require(kind in _KINDS and set(call) & set(_KINDS) == {kind} and call.get("id"), "a call of unknown form")
    return {"type": kind, **call, kind: {_PIECES[kind]: "", **call[kind]}}


def _is_nothing(value: Any) -> bool:
    """Return whether a member says no more than its absence."""
    return value is None or value in ([], {}, "")
