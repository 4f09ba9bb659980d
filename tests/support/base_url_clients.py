"""Programs that take nothing but a base URL and a key: the requests each makes, in the shape of its public source or of a run.

``seen`` says where a shape is from. Texts are shortened; names, order and types of fields, and headers, are the program's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

type Fields = dict[str, Any]
type Api = Literal["chat", "responses", "messages"]

PATHS: dict[Api, str] = {"chat": "/v1/chat/completions", "responses": "/v1/responses", "messages": "/v1/messages"}
QUESTION: Fields = {"role": "user", "content": "Which files are there?"}
LIST_FILES = {"type": "object", "properties": {"path": {"type": "string", "description": "where"}}, "required": ["path"]}
USAGE = {"stream": True, "stream_options": {"include_usage": True}}


def function(name: str, **more: Any) -> Fields:
    """Return a tool in the form of Chat Completions."""
    return {"type": "function", "function": {"name": name, "description": "List files", "parameters": LIST_FILES, **more}}


def called(name: str, content: str | None = "", **more: Any) -> list[Fields]:
    """Return the question, the call of a tool, and its result."""
    call = {"id": "call_0aB3", "type": "function", "function": {"name": name, "arguments": '{"path":"."}'}}
    result = {"role": "tool", "tool_call_id": "call_0aB3", "content": "one.txt"}
    return [QUESTION, {"role": "assistant", "content": content, "tool_calls": [call], **more}, result]


@dataclass(frozen=True)
class Client:
    """What a program sends."""

    name: str
    seen: str
    headers: Mapping[str, str]
    bodies: Mapping[str, Fields]
    """Request bodies by what they are for; all but those that say ``stream`` are answered whole."""
    api: Api = "chat"
    models: str = ""
    """The path at which it lists models, if it does."""
    dropped: Mapping[str, str] = field(default_factory=dict)
    """Headers of an account, which must not go on with the gateway's key."""


OPENAI_JS = {
    "accept": "application/json",
    "x-stainless-lang": "js",
    "x-stainless-os": "Linux",
    "x-stainless-arch": "x64",
    "x-stainless-runtime": "node",
    "x-stainless-runtime-version": "v20.20.2",
    "x-stainless-retry-count": "0",
    "connection": "keep-alive",
}
SYSTEM: Fields = {"role": "system", "content": "You are an assistant."}

CLIENTS = (
    Client(
        "LibreChat",
        "its documentation of default parameters",
        {**OPENAI_JS, "user-agent": "OpenAI/JS 5.8.2", "x-stainless-package-version": "5.8.2"},
        {
            "plain": {
                "model": "gpt-4.1",
                "temperature": 1,
                "top_p": 1,
                "presence_penalty": 0,
                "frequency_penalty": 0,
                "user": "LibreChat_User_ID",
                "stream": True,
                "messages": [QUESTION],
            },
            "title": {
                "model": "gpt-4.1",
                "temperature": 0.2,
                "presence_penalty": 0,
                "frequency_penalty": 0,
                "messages": [QUESTION],
            },
        },
        models="/v1/models",
    ),
    Client(
        "Open WebUI",
        "backend/open_webui/routers/openai.py of 2026",
        {
            "accept": "*/*",
            "user-agent": "Python/3.11 aiohttp/3.12.15",
            "x-openwebui-user-name": "Alice%20A",
            "x-openwebui-user-id": "8f1c",
            "x-openwebui-user-email": "alice@example.com",
            "x-openwebui-user-role": "user",
            "x-openwebui-chat-id": "5b1d",
        },
        {
            "plain": {
                "stream": True,
                "model": "gpt-4.1",
                "messages": [SYSTEM, QUESTION],
                "stream_options": {"include_usage": True},
            },
            "title": {"model": "gpt-4.1", "messages": [QUESTION], "stream": False, "max_completion_tokens": 1000},
            "tools": {"model": "gpt-4.1", "messages": [SYSTEM, *called("list_files")], "tools": [function("list_files")], **USAGE},
        },
        models="/v1/models",
    ),
    Client(
        "Cursor",
        "requests of its ask mode in a pull request of another gateway",
        {"accept": "*/*", "user-agent": "Go-http-client/2.0"},
        {
            "tools": {
                "model": "gpt-4.1",
                "messages": [*called("read_file", None), {"role": "user", "content": "What does it print?"}],
                "tools": [function("read_file")],
            }
        },
        models="/v1/models",
    ),
    Client(
        "Cline",
        "a run of its command line, 3.0.65",
        {"accept": "*/*", "user-agent": "ai-sdk/openai-compatible/3.0.37 ai-sdk/provider-utils/5.0.30 runtime/bun/1.3.13"},
        {
            "plain": {
                "model": "gpt-4.1",
                "messages": [SYSTEM, QUESTION],
                "tools": [function("read_files")],
                "tool_choice": "auto",
                **USAGE,
            },
            "tools": {
                "model": "gpt-4.1",
                "messages": [SYSTEM, *called("read_files")],
                "tools": [function("read_files")],
                "tool_choice": "auto",
                **USAGE,
            },
        },
    ),
    Client(
        "aider",
        "a run of 0.86.2",
        {
            "accept": "application/json",
            "user-agent": "OpenAI/Python 2.20.0",
            "x-stainless-lang": "python",
            "x-stainless-package-version": "2.20.0",
            "x-stainless-os": "Linux",
            "x-stainless-arch": "x64",
            "x-stainless-runtime": "CPython",
            "x-stainless-runtime-version": "3.11.7",
            "x-stainless-async": "false",
            "x-stainless-raw-response": "true",
            "x-stainless-retry-count": "0",
            "x-stainless-read-timeout": "600.0",
        },
        {
            "plain": {
                "messages": [
                    SYSTEM,
                    {"role": "user", "content": "I switched to a new code base."},
                    {"role": "assistant", "content": "Ok."},
                    QUESTION,
                    {"role": "system", "content": "# *SEARCH/REPLACE block* Rules:"},
                ],
                "model": "gpt-4.1",
                "stream": True,
                "temperature": 0,
            }
        },
    ),
    Client(
        "Continue",
        "a run of its command line, 1.5.47",
        {**OPENAI_JS, "user-agent": "ls/JS 5.23.2", "x-stainless-package-version": "5.23.2"},
        {
            "plain": {
                "model": "gpt-4.1",
                "messages": [SYSTEM, QUESTION],
                "stream": True,
                "tools": [function("Read")],
                "stream_options": {"include_usage": True},
            },
            "tools": {
                "model": "gpt-4.1",
                "messages": [SYSTEM, *called("List")],
                "stream": True,
                "tools": [function("List")],
                "stream_options": {"include_usage": True},
            },
        },
    ),
    Client(
        "Zed",
        "crates/open_ai/src/open_ai.rs of 2026",
        {"accept": "*/*", "user-agent": "Zed/1.0.0 (linux; x86_64)"},
        {
            "plain": {
                "model": "gpt-4.1",
                "messages": [SYSTEM, QUESTION],
                **USAGE,
                "max_completion_tokens": 32768,
                "temperature": 1.0,
                "prompt_cache_key": "thread-1",
            },
            "tools": {
                "model": "gpt-4.1",
                "messages": [SYSTEM, *called("list_directory", None)],
                **USAGE,
                "max_completion_tokens": 32768,
                "temperature": 1.0,
                "parallel_tool_calls": False,
                "tools": [function("list_directory")],
            },
        },
    ),
    Client(
        "Zed, Responses",
        "its documentation, and crates/open_ai",
        {"accept": "*/*", "user-agent": "Zed/1.0.0 (linux; x86_64)"},
        {
            "plain": {
                "model": "gpt-4.1",
                "instructions": "You are an assistant.",
                "input": [
                    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Which files are there?"}]}
                ],
                "include": ["reasoning.encrypted_content"],
                "stream": True,
                "store": False,
                "parallel_tool_calls": False,
            }
        },
        api="responses",
    ),
    Client(
        "Goose",
        "crates/goose/src/providers/openai.rs of 2026",
        {"accept": "*/*", "goose-session-id": "20261127_1"},
        {
            "plain": {"model": "gpt-4.1", "messages": [SYSTEM, QUESTION], **USAGE},
            "tools": {
                "model": "gpt-4.1",
                "messages": [SYSTEM, *called("developer__text_editor", None)],
                "tools": [function("developer__text_editor")],
                **USAGE,
            },
        },
        models="/v1/models",
        dropped={"openai-organization": "org-1", "openai-project": "proj-1"},
    ),
    Client(
        "n8n",
        "packages/nodes-base/credentials/OpenAiApi.credentials.ts",
        {**OPENAI_JS, "user-agent": "OpenAI/JS 4.103.0", "x-stainless-package-version": "4.103.0"},
        {"plain": {"model": "gpt-4.1", "temperature": 0.7, "messages": [QUESTION]}},
        models="/v1/models",
        dropped={"openai-organization": ""},
    ),
    Client(
        "Zed, Anthropic",
        "its documentation of Anthropic-compatible endpoints",
        {"accept": "*/*", "user-agent": "Zed/1.0.0 (linux; x86_64)", "anthropic-version": "2023-06-01"},
        {
            "plain": {
                "model": "claude-opus-5-5",
                "max_tokens": 32000,
                "messages": [{"role": "user", "content": [{"type": "text", "text": "Which files are there?"}]}],
                "system": "You are an assistant.",
                "temperature": 1.0,
                "stream": True,
            }
        },
        api="messages",
    ),
    Client(
        "LibreChat, Anthropic",
        "its documentation of custom endpoints with provider: anthropic",
        {**OPENAI_JS, "user-agent": "Anthropic/JS 0.56.0", "anthropic-version": "2023-06-01"},
        {
            "plain": {
                "model": "claude-opus-5-5",
                "max_tokens": 8192,
                "messages": [{"role": "user", "content": "Which files are there?"}],
                "stream": True,
            }
        },
        api="messages",
        models="/v1/models",
    ),
)
