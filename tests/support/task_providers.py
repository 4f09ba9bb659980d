"""Providers that have an agent do a task with its own tools: two calls at once, then a text. Each speaks its API's exact wire form.

A request is judged as strictly as the API judges it, and refused in its words. Streams are cut into chunks at any byte.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from support.fake_provider import Peer, Script, Seen, event, plain
from support.model_apis import data
from support.request_rules import chat_problems, gemini_problems, messages_problems

type Fields = dict[str, Any]
type Calls = list[tuple[str, Fields]]

DONE = "Both files are there."
CONTENTS = {"one.txt": "erste Zeile: äöü €\n", "two.txt": "second line\n"}
FAILURE = "The account of this fake provider is closed"
THOUGHT = "Two files are asked for: ä, and another."
SIGNATURE = "EqQBCkYIBxgCKkBzaWduZWQ+/w=="
THOUGHT_SIGNATURE = "CiQB0e2Kb3R0aG91Z2h0LXNpZ25h+/c="
TOKENS_NEW, TOKENS_CACHED, TOKENS_OUT = 200, 800, 40
TOKENS_IN = TOKENS_NEW + TOKENS_CACHED

CHUNK_BYTES = 61
"""No event ends where a chunk does, and some chunks end within a character."""

PROMPT = "Prompt of the test:"
"""What every prompt begins with, so that it is found among what a client says besides."""

FAIL, CUT, WRITE = "fail now", "break off now", "make the files in "
"""What prompts ask for: an error, an answer that breaks off once, the task. Anything else is answered by a short text."""


def pieces_of(text: str) -> list[str]:
    """Return a text in pieces, as models write it."""
    return [text[at : at + 7] for at in range(0, len(text), 7)]


def calls_of(tools: list[str], folder: str) -> Calls:
    """Return the calls that write the two files, of tools that an agent offers; none for what offers no such tools."""
    (one, said), (two, shell) = ((f"{folder}/{name}", content) for name, content in CONTENTS.items())
    command = f"printf '%s' '{shell}' > {two}"
    run = {"command": command, "description": "Write a file"}
    if "Write" in tools:
        return [("Write", {"file_path": one, "content": said}), ("Bash", run)]
    if "write_file" in tools:
        return [("write_file", {"file_path": one, "content": said}), ("run_shell_command", run | {"is_background": False})]
    if "write" in tools and "bash" in tools:
        return [("write", {"filePath": one, "content": said}), ("bash", run)]
    if "exec" in tools:
        # Codex: one call at a time, of a tool that takes JavaScript as free text.
        both = json.dumps(f"printf '%s' '{said}' > {one}; {command}")
        return [("exec", {"input": f"const done = await tools.exec_command({{cmd: {both}}});\ntext(done.output);\n"})]
    if "exec_command" in tools:
        return [("exec_command", {"cmd": f"printf '%s' '{said}' > {one}"}), ("exec_command", {"cmd": command})]
    if "shell_command" in tools:
        return [("shell_command", {"command": f"printf '%s' '{said}' > {one}"}), ("shell_command", {"command": command})]
    return []


@dataclass
class Api(ABC):
    """A provider's API, and what has been asked of it."""

    complaints: list[str] = field(default_factory=list)
    """What was wrong with requests, in the words with which they were refused."""
    asked: list[Fields] = field(default_factory=list)
    has_broken: bool = False

    paths: ClassVar[tuple[str, ...]]
    conversation: ClassVar[str]
    """The field of a body that holds what was said."""
    result: ClassVar[str]
    """What a tool's result is known by in the conversation's JSON."""

    @abstractmethod
    def problems(self, body: Fields, seen: Seen) -> Iterator[str]:
        """Yield why the API would refuse a request."""

    @abstractmethod
    def error(self, status: int, words: str) -> Fields:
        """Return the body of an error."""

    @abstractmethod
    def tools(self, body: Fields) -> list[str]:
        """Return the names of the tools that a request offers."""

    @abstractmethod
    def calling(self, calls: Calls, body: Fields) -> list[bytes]:
        """Return the events of an answer that calls tools, after thinking."""

    @abstractmethod
    def saying(self, text: str) -> list[bytes]:
        """Return the events of an answer of text."""

    @abstractmethod
    def whole(self, text: str) -> Fields:
        """Return an answer that is not streamed."""

    def is_stream(self, body: Fields, path: str) -> bool:
        """Return whether a request asks for a stream."""
        return bool(body.get("stream")) or path.endswith(":streamGenerateContent")

    def words(self, body: Fields) -> str:
        """Return the JSON of the conversation since the last prompt."""
        return json.dumps(body[self.conversation], ensure_ascii=False).rpartition(PROMPT)[2]

    def answer(self, peer: Peer, seen: Seen) -> None:
        """Answer a request."""
        self.script(seen)(peer, seen)

    def script(self, seen: Seen) -> Script:
        """Return how a request is answered."""
        path = seen.target.partition("?")[0]
        if not path.endswith(self.paths):
            return plain(b"{}", 404)
        body: Fields = json.loads(seen.body)
        self.asked.append(body)
        problems = list(self.problems(body, seen))
        self.complaints += problems
        if problems:
            return plain(json.dumps(self.error(400, problems[0])).encode(), 400)
        words = self.words(body)
        if FAIL in words:
            return plain(json.dumps(self.error(403, FAILURE)).encode(), 403)
        if not self.is_stream(body, path):
            return plain(json.dumps(self.whole(DONE)).encode())
        found = re.search(WRITE + r"([\w/.-]+)", words)
        calls = calls_of(self.tools(body), found[1]) if found and self.result not in words else []
        if CUT in words and not self.has_broken:
            self.has_broken = True
            return broken(self.saying(DONE))
        return in_chunks(b"".join(self.calling(calls, body) if calls else self.saying(DONE)))


def in_chunks(stream: bytes) -> Script:
    """Return a stream that is cut anywhere."""

    def run(peer: Peer, _: Seen) -> None:
        peer.head(200, "content-type: text/event-stream", "transfer-encoding: chunked")
        for at in range(0, len(stream), CHUNK_BYTES):
            peer.chunk(stream[at : at + CHUNK_BYTES])
        peer.end()

    return run


def broken(events: list[bytes]) -> Script:
    """Return a stream that breaks off after two events."""

    def run(peer: Peer, _: Seen) -> None:
        peer.head(200, "content-type: text/event-stream", "transfer-encoding: chunked")
        for piece in events[:2]:
            peer.chunk(piece)
        peer.reset()

    return run


CHAT_USAGE = {
    "prompt_tokens": TOKENS_IN,
    "completion_tokens": TOKENS_OUT,
    "total_tokens": TOKENS_IN + TOKENS_OUT,
    "prompt_tokens_details": {"cached_tokens": TOKENS_CACHED, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
}
CHAT_HEAD = {"id": "chatcmpl-C1", "created": 1_790_000_000, "model": "gpt-4.1-2025-04-14", "service_tier": "default"}


class Chat(Api):
    """OpenAI's Chat Completions, with reasoning as DeepSeek and vLLM show it: as text that comes back with its calls."""

    paths = ("/chat/completions",)
    conversation = "messages"
    result = '"role": "tool"'

    def problems(self, body: Fields, seen: Seen) -> Iterator[str]:
        """Judge the key, the fields, the tools and the order of calls and results."""
        return chat_problems(body, seen, THOUGHT)

    def error(self, status: int, words: str) -> Fields:
        """Return OpenAI's error."""
        return {"error": {"message": words, "type": "invalid_request_error", "param": None, "code": None}}

    def tools(self, body: Fields) -> list[str]:
        """Return the functions' names."""
        return [t["function"]["name"] for t in body.get("tools", ())]

    def calling(self, calls: Calls, body: Fields) -> list[bytes]:
        """Return each call's arguments in many pieces."""
        begin: Fields = {"role": "assistant", "content": None, "refusal": None}
        deltas: list[Fields] = [begin, *({"reasoning_content": piece} for piece in pieces_of(THOUGHT))]
        for at, (name, arguments) in enumerate(calls):
            begun = {"index": at, "id": f"call_{at}aB3", "type": "function", "function": {"name": name, "arguments": ""}}
            deltas.append({"tool_calls": [begun]})
            text = json.dumps(arguments, ensure_ascii=False)
            deltas += [{"tool_calls": [{"index": at, "function": {"arguments": piece}}]} for piece in pieces_of(text)]
        return self.stream(deltas, "tool_calls")

    def saying(self, text: str) -> list[bytes]:
        """Return the text in pieces."""
        begun: Fields = {"role": "assistant", "content": "", "refusal": None}
        return self.stream([begun, *({"content": piece} for piece in pieces_of(text))], "stop")

    def stream(self, deltas: list[Fields], reason: str) -> list[bytes]:
        """Return the chunks of these deltas, and the usage."""
        head = CHAT_HEAD | {"object": "chat.completion.chunk", "system_fingerprint": "fp_1"}

        def chunk(delta: Fields, finish: str | None = None) -> bytes:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
            return data(head | {"choices": [choice], "usage": None, "obfuscation": "x1"})

        usage = data(head | {"choices": [], "usage": CHAT_USAGE, "obfuscation": ""})
        return [*map(chunk, deltas), chunk({}, reason), usage, b"data: [DONE]\n\n"]

    def whole(self, text: str) -> Fields:
        """Return a completion."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        return CHAT_HEAD | {"object": "chat.completion", "choices": [choice], "usage": CHAT_USAGE}


MESSAGES_HEAD: Fields = {"id": "msg_01A", "type": "message", "role": "assistant", "model": "claude-opus-5-5"}
MESSAGES_USAGE: Fields = {"input_tokens": TOKENS_NEW, "cache_creation_input_tokens": 0, "cache_read_input_tokens": TOKENS_CACHED}


class Messages(Api):
    """Anthropic's Messages."""

    paths = ("/v1/messages",)
    conversation = "messages"
    result = '"tool_result"'

    def problems(self, body: Fields, seen: Seen) -> Iterator[str]:
        """Judge the key, the fields, the tools, the order of calls and results, and signatures."""
        return messages_problems(body, seen, (THOUGHT, SIGNATURE))

    def error(self, status: int, words: str) -> Fields:
        """Return Anthropic's error."""
        kind = "permission_error" if status == 403 else "invalid_request_error"
        return {"type": "error", "error": {"type": kind, "message": words}, "request_id": "req_1"}

    def tools(self, body: Fields) -> list[str]:
        """Return the tools' names."""
        return [t["name"] for t in body.get("tools", ())]

    def calling(self, calls: Calls, body: Fields) -> list[bytes]:
        """Return signed thinking where it was asked for, then the calls, each one's arguments in many pieces."""
        blocks: list[tuple[Fields, list[Fields]]] = []
        if body.get("thinking", {}).get("type") in ("adaptive", "enabled"):
            thinking: list[Fields] = [{"type": "thinking_delta", "thinking": p} for p in pieces_of(THOUGHT)]
            signature = {"type": "signature_delta", "signature": SIGNATURE}
            blocks.append(({"type": "thinking", "thinking": "", "signature": ""}, [*thinking, signature]))
        for at, (name, arguments) in enumerate(calls):
            pieces = ("", *pieces_of(json.dumps(arguments, ensure_ascii=False)))
            deltas: list[Fields] = [{"type": "input_json_delta", "partial_json": p} for p in pieces]
            blocks.append(({"type": "tool_use", "id": f"toolu_0{at}X", "name": name, "input": {}}, deltas))
        return self.stream(blocks, "tool_use")

    def saying(self, text: str) -> list[bytes]:
        """Return the text in pieces."""
        return self.stream(
            [({"type": "text", "text": ""}, [{"type": "text_delta", "text": p} for p in pieces_of(text)])], "end_turn"
        )

    def stream(self, blocks: list[tuple[Fields, list[Fields]]], reason: str) -> list[bytes]:
        """Return the events of these blocks, each with its deltas."""
        begun = MESSAGES_HEAD | {"content": [], "stop_reason": None, "usage": MESSAGES_USAGE | {"output_tokens": 1}}
        events = [event("message_start", message=begun), event("ping")]
        for at, (block, deltas) in enumerate(blocks):
            events.append(event("content_block_start", index=at, content_block=block))
            events += [event("content_block_delta", index=at, delta=delta) for delta in deltas]
            events.append(event("content_block_stop", index=at))
        ended = {"stop_reason": reason, "stop_sequence": None}
        return [*events, event("message_delta", delta=ended, usage={"output_tokens": TOKENS_OUT}), event("message_stop")]

    def whole(self, text: str) -> Fields:
        """Return a message."""
        usage = MESSAGES_USAGE | {"output_tokens": TOKENS_OUT}
        ended = {"stop_reason": "end_turn", "stop_sequence": None, "usage": usage}
        return MESSAGES_HEAD | {"content": [{"type": "text", "text": text}]} | ended


class Gemini(Api):
    """Google's generateContent: a call has no id, and the first of an answer a signature that must come back with it."""

    paths = (":streamGenerateContent", ":generateContent")
    conversation = "contents"
    result = '"functionResponse"'

    def problems(self, body: Fields, seen: Seen) -> Iterator[str]:
        """Judge the key, the fields, the tools' schemas, the order of calls and results, and signatures."""
        return gemini_problems(body, seen, THOUGHT_SIGNATURE)

    def error(self, status: int, words: str) -> Fields:
        """Return Google's error."""
        name = "PERMISSION_DENIED" if status == 403 else "INVALID_ARGUMENT"
        return {"error": {"code": status, "message": words, "status": name}}

    def tools(self, body: Fields) -> list[str]:
        """Return the functions' names."""
        return [d["name"] for t in body.get("tools", ()) for d in t.get("functionDeclarations", ())]

    def calling(self, calls: Calls, body: Fields) -> list[bytes]:
        """Return a thought where it was asked for, then each call in one piece."""
        parts: list[Fields] = [{"functionCall": {"name": name, "args": arguments}} for name, arguments in calls]
        parts[0]["thoughtSignature"] = THOUGHT_SIGNATURE
        if body.get("generationConfig", {}).get("thinkingConfig", {}).get("includeThoughts"):
            parts.insert(0, {"text": THOUGHT, "thought": True})
        return [*(self.chunk([part]) for part in parts), self.chunk([{"text": ""}], is_last=True)]

    def saying(self, text: str) -> list[bytes]:
        """Return the text in pieces."""
        *pieces, last = pieces_of(text)
        return [*(self.chunk([{"text": piece}]) for piece in pieces), self.chunk([{"text": last}], is_last=True)]

    def chunk(self, parts: list[Fields], *, is_last: bool = False) -> bytes:
        """Return an event, which ends as Google's do."""
        return b"data: " + json.dumps(self.response(parts, is_last=is_last), ensure_ascii=False).encode() + b"\r\n\r\n"

    def response(self, parts: list[Fields], *, is_last: bool) -> Fields:
        """Return a response, which counts thoughts apart."""
        finish = {"finishReason": "STOP"} if is_last else {}
        counts = {"promptTokenCount": TOKENS_IN, "cachedContentTokenCount": TOKENS_CACHED}
        counts |= {"candidatesTokenCount": TOKENS_OUT - 12, "thoughtsTokenCount": 12}
        usage = {
            **counts,
            "totalTokenCount": TOKENS_IN + TOKENS_OUT,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": TOKENS_IN}],
        }
        candidate = {"content": {"parts": parts, "role": "model"}, "index": 0} | finish
        return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "gemini-3.5-flash", "responseId": "r1A"}

    def whole(self, text: str) -> Fields:
        """Return a response that is all."""
        return self.response([{"text": text}], is_last=True)
