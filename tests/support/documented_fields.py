"""Every field of a model call's body that the three APIs document, and the most a provider can bill because of it.

Sources: the parameter types of the providers' own Python libraries, read on 2026-11-27: anthropic 2.14.0
(``types/beta/message_create_params.py`` and the types it names), openai 3.57.0 (``types/chat/completion_create_params.py``,
``types/responses/response_create_params.py``, ``tool_param.py``, ``response_input_item_param.py``), google-genai 3.6.1
(``types.py``: ``GenerateContentConfig``, ``Content``, ``Part``, ``Tool``). What they can cost is written down from the documentation
of each field, without regard to how the gateway reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Body = dict[str, Any]


@dataclass(frozen=True)
class Effect:
    """The most a provider can do because of a field, beyond reading the body once and writing its limit."""

    reads_window: bool = False
    """It may read more than is in the body, up to the context window."""
    rounds: int = 0
    """Rounds of a server tool, after each of which the model reads everything again."""
    others: tuple[tuple[str, int | None], ...] = ()
    """Models that read everything once more, and the most each writes; None for the model's own maximum."""
    summaries: int = 0
    """Times the model summarises everything before it reads, writing up to its own maximum."""
    writes: int = 0
    """Tokens that may be written where this is more than the body's limit."""
    writes_freely: bool = False
    candidates: int = 1
    prompts: int = 1
    prompt_tokens: int = 0
    """Tokens that the provider adds to the prompt."""
    fast: bool = False
    us: bool = False
    tiers: tuple[str, ...] = ()
    """Service tiers at which the provider may serve the call; empty where the field says nothing about it."""
    searches: int = 0
    files: int = 0
    sessions: int = 0
    other_rates: bool = False
    """Billed at rates that no price table of text has: such a call must have no bound at all."""


NOTHING = Effect()
WINDOW = Effect(reads_window=True)
SERVER_LOOP = Effect(reads_window=True, rounds=10)
"""Anthropic stops its sampling loop after ten rounds by default."""
OTHER_RATES = Effect(reads_window=True, other_rates=True)


@dataclass(frozen=True)
class Field:
    """One documented field or type: a body that uses it, and what it can cost."""

    name: str
    body: Body
    effect: Effect = NOTHING


def _user(*blocks: Any) -> Body:
    return {"messages": [{"role": "user", "content": list(blocks)}]}


def _assistant(*blocks: Any) -> Body:
    return {"messages": [{"role": "assistant", "content": list(blocks)}]}


def _tool(**fields: Any) -> Body:
    return {"tools": [fields]}


def _returned(*content: Any) -> Body:
    return _user({"type": "tool_result", "tool_use_id": "t", "content": list(content)})


_SOURCES = {
    "base64": {"type": "base64", "media_type": "image/png", "data": "AAAA"},
    "url": {"type": "url", "url": "https://x.example"},
    "file": {"type": "file", "file_id": "file_1"},
}
_TEXT = {"type": "text", "text": "t"}

MESSAGES: tuple[Field, ...] = (
    # -- top level
    Field("billing_policy", {"billing_policy": {"type": "billing_policy", "bill_to": "self"}}),
    Field("cache_control", {"cache_control": {"type": "ephemeral", "ttl": "1h"}}),
    Field("compaction", {"compaction": {"type": "summarize"}}, Effect(summaries=1)),
    Field("container", {"container": {"id": None, "skills": [{"type": "anthropic", "skill_id": "pptx"}]}}, SERVER_LOOP),
    Field("context_management", {"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}}),
    Field("context_management", {"context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}}),
    Field("context_management", {"context_management": {"edits": [{"type": "compact_20260112"}]}}, Effect(summaries=1)),
    Field("diagnostics", {"diagnostics": {"previous_message_id": "msg_1"}}),
    Field("fallback_credit_token", {"fallback_credit_token": "token"}),
    Field("fallbacks", {"fallbacks": [{"model": "claude-fable-5-1"}]}, Effect(others=(("claude-fable-5-1", 0),))),
    Field("fallbacks", {"fallbacks": [{"model": "claude-haiku-4-5", "max_tokens": 9000, "speed": "fast"}]}, Effect(others=(("claude-haiku-4-5", 9000),))),
    Field("fallbacks", {"fallbacks": "default"}, Effect(others=(("claude-opus-5", 0),))),
    Field("inference_geo", {"inference_geo": "us"}, Effect(us=True)),
    Field("inference_geo", {"inference_geo": "global"}),
    Field("mcp_servers", {"mcp_servers": [{"type": "url", "url": "https://x.example", "name": "n"}]}, SERVER_LOOP),
    Field("metadata", {"metadata": {"user_id": "u"}}),
    Field("output_config", {"output_config": {"effort": "max", "format": {"type": "json_schema", "schema": {}}, "task_budget": {"type": "tokens", "total": 90_000}}}),
    Field("output_format", {"output_format": {"type": "json_schema", "schema": {}}}),
    Field("service_tier", {"service_tier": "auto"}, Effect(tiers=("standard", "priority"))),
    Field("service_tier", {"service_tier": "standard_only"}, Effect(tiers=("standard",))),
    Field("speed", {"speed": "fast"}, Effect(fast=True)),
    Field("speed", {"speed": "standard"}),
    Field("stop_sequences", {"stop_sequences": ["x"]}),
    Field("stream", {"stream": True}),
    Field("system", {"system": "s"}),
    Field("system", {"system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}]}),
    Field("temperature", {"temperature": 0.5}),
    Field("thinking", {"thinking": {"type": "enabled", "budget_tokens": 20_000}}, Effect(writes=20_000)),
    Field("thinking", {"thinking": {"type": "adaptive", "display": "omitted"}}),
    Field("thread", {"thread": {"type": "create"}}),
    Field("thread", {"thread": {"type": "continue", "previous_message_id": "msg_1"}}, WINDOW),
    Field("tool_choice", {"tool_choice": {"type": "any", "disable_parallel_tool_use": True}}, Effect(prompt_tokens=700)),
    Field("top_k", {"top_k": 5}),
    Field("top_p", {"top_p": 0.5}),
    Field("user_profile_id", {"user_profile_id": "p"}),
    Field("workspace_id", {"workspace_id": "w"}),
    # -- content
    Field("text", _user(_TEXT | {"cache_control": {"type": "ephemeral"}, "citations": None})),
    *(Field(f"image, {name}", _user({"type": "image", "source": source}), WINDOW) for name, source in _SOURCES.items()),
    *(Field(f"document, {name}", _user({"type": "document", "source": source}), WINDOW) for name, source in _SOURCES.items()),
    Field("document, text", _user({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "t"}})),
    Field("document, content", _user({"type": "document", "source": {"type": "content", "content": [_TEXT]}, "title": "t"})),
    Field("document, content of images", _user({"type": "document", "source": {"type": "content", "content": [{"type": "image", "source": _SOURCES["url"]}]}}), WINDOW),
    Field("document, cited", _user({"type": "document", "source": {"type": "text", "data": "a. b."}, "citations": {"enabled": True}}), WINDOW),
    Field("search_result", _user({"type": "search_result", "source": "s", "title": "t", "content": [_TEXT]})),
    Field("search_result, cited", _user({"type": "search_result", "source": "s", "title": "t", "content": [_TEXT], "citations": {"enabled": True}}), WINDOW),
    Field("thinking block", _assistant({"type": "thinking", "thinking": "t", "signature": "abc="})),
    Field("redacted_thinking", _assistant({"type": "redacted_thinking", "data": "abc="})),
    Field("tool_use", _assistant({"type": "tool_use", "id": "t", "name": "n", "input": {"url": "https://x.example"}})),
    Field("tool_result", _returned(_TEXT)),
    *(Field(f"tool_result, image, {name}", _returned({"type": "image", "source": source}), WINDOW) for name, source in _SOURCES.items()),
    Field("tool_result, document", _returned({"type": "document", "source": _SOURCES["url"]}), WINDOW),
    Field("tool_result, tool_reference", _returned({"type": "tool_reference", "tool_name": "n"})),
    Field("tool_result, browser_state", _returned({"type": "browser_state", "tabs": []}), WINDOW),
    Field("server_tool_use", _assistant({"type": "server_tool_use", "id": "t", "name": "web_fetch", "input": {}}), SERVER_LOOP),
    Field("web_search_tool_result", _assistant({"type": "web_search_tool_result", "tool_use_id": "t", "content": [{"type": "web_search_result", "encrypted_content": "abc="}]}), WINDOW),
    Field("web_fetch_tool_result", _assistant({"type": "web_fetch_tool_result", "tool_use_id": "t", "content": {}}), WINDOW),
    Field("advisor_tool_result", _assistant({"type": "advisor_tool_result", "tool_use_id": "t", "content": {}}), WINDOW),
    Field("code_execution_tool_result", _assistant({"type": "code_execution_tool_result", "tool_use_id": "t", "content": {}}), WINDOW),
    Field("bash_code_execution_tool_result", _assistant({"type": "bash_code_execution_tool_result", "tool_use_id": "t", "content": {}}), WINDOW),
    Field("text_editor_code_execution_tool_result", _assistant({"type": "text_editor_code_execution_tool_result", "tool_use_id": "t", "content": {}}), WINDOW),
    Field("tool_search_tool_result", _assistant({"type": "tool_search_tool_result", "tool_use_id": "t", "content": {}}), WINDOW),
    Field("mcp_tool_use", _assistant({"type": "mcp_tool_use", "id": "t", "name": "n", "server_name": "s", "input": {}}), WINDOW),
    Field("mcp_tool_result", _assistant({"type": "mcp_tool_result", "tool_use_id": "t", "content": []}), WINDOW),
    Field("mcp_tool_listing", _assistant({"type": "mcp_tool_listing", "mcp_server_name": "s", "tools": []}), SERVER_LOOP),
    Field("container_upload", _user({"type": "container_upload", "file_id": "f"}), WINDOW),
    Field("compaction block", _assistant({"type": "compaction", "content": "t"})),
    Field("compaction block, encrypted", _assistant({"type": "compaction", "content": None, "encrypted_content": "abc="}), WINDOW),
    Field("fallback", _assistant({"type": "fallback", "from": {"model": "a"}, "to": {"model": "b"}, "trigger": None})),
    Field("tool_addition", {"messages": [{"role": "system", "content": [{"type": "tool_addition", "tool": {"type": "tool_reference", "name": "n"}}]}]}),
    Field("tool_addition, definition", {"messages": [{"role": "system", "content": [{"type": "tool_addition", "tool": {"type": "tool_definition", "definition": {"type": "web_fetch_20260318", "name": "web_fetch"}}}]}]}, SERVER_LOOP),
    Field("tool_removal", {"messages": [{"role": "system", "content": [{"type": "tool_removal", "tool": {"type": "tool_reference", "name": "n"}}]}]}),
    # -- tools
    Field("custom tool", _tool(type="custom", name="n", description="d", input_schema={"type": "object"}, input_examples=[], strict=True, defer_loading=False, eager_input_streaming=True, allowed_callers=["direct"])),
    *(Field(name, _tool(type=name, name="bash"), Effect(prompt_tokens=325)) for name in ("bash_20241022", "bash_20250124")),
    *(Field(name, _tool(type=name, name="editor"), Effect(prompt_tokens=700)) for name in ("text_editor_20241022", "text_editor_20250124", "text_editor_20250429")),
    Field("text_editor_20250728", _tool(type="text_editor_20250728", name="editor", max_characters=9), Effect(prompt_tokens=700)),
    Field("memory_20250818", _tool(type="memory_20250818", name="memory"), Effect(prompt_tokens=1300)),
    *(Field(name, _tool(type=name, name="computer", display_width_px=9, display_height_px=9), Effect(prompt_tokens=1300)) for name in ("computer_20241022", "computer_20250124", "computer_20251124")),
    *(Field(name, _tool(type=name), WINDOW) for name in ("browser_toolset_20260801", "computer_toolset_20260801")),
    *(Field(name, _tool(type=name, name="code_execution"), SERVER_LOOP) for name in ("code_execution_20250522", "code_execution_20250825", "code_execution_20260120", "code_execution_20260521")),
    *(Field(name, _tool(type=name, name="web_search"), Effect(reads_window=True, rounds=10, searches=50)) for name in ("web_search_20250305", "web_search_20260209", "web_search_20260318")),
    Field("web_search, max_uses", _tool(type="web_search_20260318", name="web_search", max_uses=3), Effect(reads_window=True, rounds=10, searches=3)),
    *(Field(name, _tool(type=name, name="web_fetch"), SERVER_LOOP) for name in ("web_fetch_20250910", "web_fetch_20260209", "web_fetch_20260309", "web_fetch_20260318")),
    Field("advisor_20260301", _tool(type="advisor_20260301", name="advisor", model="claude-fable-5-1"), Effect(reads_window=True, rounds=10, others=(("claude-fable-5-1", None),) * 10)),
    Field("advisor_20260301, limited", _tool(type="advisor_20260301", name="advisor", model="claude-fable-5-1", max_uses=2, max_tokens=3000), Effect(reads_window=True, rounds=10, others=(("claude-fable-5-1", 3000),) * 2)),
    *(Field(name, _tool(type=name, name=name), SERVER_LOOP) for name in ("tool_search_tool_bm25", "tool_search_tool_bm25_20251119", "tool_search_tool_regex_20251119")),
    Field("mcp_toolset", _tool(type="mcp_toolset", mcp_server_name="n"), SERVER_LOOP),
)  # fmt: skip

_CHAT_TOOL_CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
_TIERS = ("standard", "priority")

CHAT: tuple[Field, ...] = (
    # -- top level
    Field("audio", {"audio": {"voice": "v", "format": "wav"}, "modalities": ["text", "audio"]}, OTHER_RATES),
    Field("frequency_penalty", {"frequency_penalty": 1}),
    Field("function_call", {"function_call": "auto"}),
    Field("functions", {"functions": [{"name": "f", "description": "d", "parameters": {}}]}),
    Field("logit_bias", {"logit_bias": {"50256": -100}}),
    Field("logprobs", {"logprobs": True}),
    Field("max_tokens", {"max_tokens": 500}),
    Field("metadata", {"metadata": {"k": "v"}}),
    Field("modalities", {"modalities": ["text"]}),
    Field("moderation", {"moderation": {"model": "gpt-5.4"}}, Effect(others=(("gpt-5.4", 0),))),
    Field("n", {"n": 5}, Effect(candidates=5)),
    Field("parallel_tool_calls", {"parallel_tool_calls": False}),
    Field("prediction", {"prediction": {"type": "content", "content": "t" * 300}}, Effect(writes_freely=True, writes=300)),
    Field("presence_penalty", {"presence_penalty": 1}),
    Field("prompt_cache_key", {"prompt_cache_key": "k"}),
    Field("prompt_cache_options", {"prompt_cache_options": {"mode": "explicit", "ttl": "30m"}}),
    Field("prompt_cache_retention", {"prompt_cache_retention": "24h"}),
    Field("reasoning_effort", {"reasoning_effort": "high"}),
    Field("response_format", {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}}}),
    Field("safety_identifier", {"safety_identifier": "s"}),
    Field("seed", {"seed": 1}),
    *(Field("service_tier", {"service_tier": tier}, Effect(tiers=tiers)) for tier, tiers in (("auto", _TIERS), ("default", ("standard",)), ("flex", ("flex", "standard")), ("scale", _TIERS), ("priority", _TIERS), ("fast", _TIERS))),
    Field("stop", {"stop": ["x"]}),
    Field("store", {"store": True}),
    Field("stream_options", {"stream": True, "stream_options": {"include_usage": True, "include_obfuscation": False}}),
    Field("temperature", {"temperature": 0.5}),
    Field("tool_choice", {"tool_choice": {"type": "function", "function": {"name": "f"}}}),
    Field("top_logprobs", {"top_logprobs": 5}),
    Field("top_p", {"top_p": 0.5}),
    Field("user", {"user": "u"}),
    Field("verbosity", {"verbosity": "low"}),
    Field("web_search_options", {"web_search_options": {"search_context_size": "high"}}, Effect(reads_window=True, searches=5)),
    # -- messages
    Field("text", _user({"type": "text", "text": "t", "prompt_cache_breakpoint": {"mode": "explicit"}})),
    Field("image_url", _user({"type": "image_url", "image_url": {"url": "https://x.example", "detail": "high"}}), WINDOW),
    Field("image_url, data", _user({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}), WINDOW),
    Field("input_audio", _user({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}), OTHER_RATES),
    Field("file, data", _user({"type": "file", "file": {"file_data": "AAAA", "filename": "f"}}), WINDOW),
    Field("file, id", _user({"type": "file", "file": {"file_id": "f"}}), WINDOW),
    Field("refusal", _assistant({"type": "refusal", "refusal": "t"})),
    Field("tool_calls", {"messages": [{"role": "assistant", "content": None, "tool_calls": [_CHAT_TOOL_CALL]}, {"role": "tool", "tool_call_id": "c", "content": "t"}]}),
    Field("function message", {"messages": [{"role": "function", "name": "f", "content": "t"}]}),
    Field("developer message", {"messages": [{"role": "developer", "content": "t", "name": "n"}]}),
    Field("assistant audio", {"messages": [{"role": "assistant", "audio": {"id": "a"}}]}, WINDOW),
    # -- tools
    Field("function tool", _tool(type="function", function={"name": "f", "parameters": {}, "strict": True})),
    Field("custom tool", _tool(type="custom", custom={"name": "f", "format": {"type": "text"}})),
)  # fmt: skip


def _item(**fields: Any) -> Body:
    return {"input": [fields]}


def _said(**part: Any) -> Body:
    return _item(type="message", role="user", content=[part])


_LOOP = Effect(reads_window=True, rounds=60)
"""OpenAI documents no limit of rounds; sixty are more than any answer on record has had."""

RESPONSES: tuple[Field, ...] = (
    # -- top level
    Field("access_programs", {"access_programs": {"cyber": "standard"}}),
    Field("background", {"background": False}),
    Field("background_options", {"background_options": {"completion_window": "soonest"}}),
    Field("context_management", {"context_management": [{"type": "compaction", "compact_threshold": 1000}]}, Effect(summaries=1)),
    Field("conversation", {"conversation": {"id": "c"}}, WINDOW),
    Field("image", {"image": {"context_compression": "auto"}}),
    Field("include", {"include": ["reasoning.encrypted_content"]}),
    Field("instructions", {"instructions": "t"}),
    Field("max_tool_calls", {"max_tool_calls": 4}),
    Field("metadata", {"metadata": {"k": "v"}}),
    Field("moderation", {"moderation": {"model": "gpt-5.4"}}, Effect(others=(("gpt-5.4", 0),))),
    Field("parallel_tool_calls", {"parallel_tool_calls": True}),
    Field("previous_response_id", {"previous_response_id": "r"}, WINDOW),
    Field("prompt", {"prompt": {"id": "p", "variables": {}}}, _LOOP),
    Field("prompt_cache_key", {"prompt_cache_key": "k"}),
    Field("prompt_cache_options", {"prompt_cache_options": {"mode": "implicit"}}),
    Field("prompt_cache_retention", {"prompt_cache_retention": "24h"}),
    Field("reasoning", {"reasoning": {"effort": "max", "summary": "auto", "context": "all_turns"}}),
    Field("reasoning, pro", {"reasoning": {"mode": "pro"}}, _LOOP),
    Field("safety_identifier", {"safety_identifier": "s"}),
    *(Field("service_tier", {"service_tier": tier}, Effect(tiers=tiers)) for tier, tiers in (("auto", _TIERS), ("default", ("standard",)), ("flex", ("flex", "standard")), ("priority", _TIERS))),
    Field("store", {"store": True}),
    Field("stream_options", {"stream": True, "stream_options": {"include_obfuscation": False}}),
    Field("temperature", {"temperature": 0.5}),
    Field("text", {"text": {"verbosity": "low", "format": {"type": "json_schema", "name": "n", "schema": {}}}}),
    Field("tool_choice", {"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": []}}),
    Field("top_logprobs", {"top_logprobs": 5}),
    Field("top_p", {"top_p": 0.5}),
    Field("truncation", {"truncation": "auto"}),
    Field("user", {"user": "u"}),
    # -- items
    Field("message, easy", _item(role="user", content="t")),
    Field("input_text", _said(type="input_text", text="t")),
    Field("input_image, url", _said(type="input_image", image_url="https://x.example", detail="high"), WINDOW),
    Field("input_image, data", _said(type="input_image", image_url="data:image/png;base64,AAAA", detail="low"), WINDOW),
    Field("input_image, id", _said(type="input_image", file_id="f", detail="low"), WINDOW),
    Field("input_file, url", _said(type="input_file", file_url="https://x.example"), WINDOW),
    Field("input_file, data", _said(type="input_file", file_data="AAAA", filename="f"), WINDOW),
    Field("input_file, id", _said(type="input_file", file_id="f"), WINDOW),
    Field("input_audio", _said(type="input_audio", input_audio={"data": "AAAA", "format": "wav"}), OTHER_RATES),
    Field("output_text", _item(type="message", role="assistant", id="m", status="completed", content=[{"type": "output_text", "text": "t", "annotations": []}, {"type": "refusal", "refusal": "t"}])),
    Field("reasoning item", _item(type="reasoning", id="r", summary=[], encrypted_content="abc=")),
    Field("reasoning item, by id", _item(type="reasoning", id="r", summary=[]), WINDOW),
    Field("function_call", _item(type="function_call", call_id="c", name="f", arguments="{}")),
    Field("function_call_output", _item(type="function_call_output", call_id="c", output="t")),
    Field("function_call_output, image", _item(type="function_call_output", call_id="c", output=[{"type": "input_image", "image_url": "https://x.example"}]), WINDOW),
    Field("custom_tool_call", _item(type="custom_tool_call", call_id="c", name="f", input="t")),
    Field("custom_tool_call_output", _item(type="custom_tool_call_output", call_id="c", output="t")),
    Field("local_shell_call", _item(type="local_shell_call", id="i", call_id="c", status="completed", action={"type": "exec", "command": ["ls"], "env": {}})),
    Field("local_shell_call_output", _item(type="local_shell_call_output", id="i", output="t")),
    Field("apply_patch_call", _item(type="apply_patch_call", call_id="c", status="completed", operation={"type": "delete_file", "path": "p"})),
    Field("apply_patch_call_output", _item(type="apply_patch_call_output", call_id="c", status="completed", output="t")),
    Field("computer_call", _item(type="computer_call", id="i", call_id="c", action={}, pending_safety_checks=[], status="completed"), WINDOW),
    Field("computer_call_output", _item(type="computer_call_output", call_id="c", output={"type": "computer_screenshot", "file_id": "f"}), WINDOW),
    Field("shell_call", _item(type="shell_call", call_id="c", action={"commands": ["ls"]}), WINDOW),
    Field("shell_call_output", _item(type="shell_call_output", call_id="c", output=[]), WINDOW),
    Field("file_search_call", _item(type="file_search_call", id="i", queries=[], status="completed", results=[]), WINDOW),
    Field("web_search_call", _item(type="web_search_call", id="i", status="completed", action={}), WINDOW),
    Field("code_interpreter_call", _item(type="code_interpreter_call", id="i", code="c", container_id="c", outputs=[], status="completed"), WINDOW),
    Field("image_generation_call", _item(type="image_generation_call", id="i", result=None, status="completed"), WINDOW),
    Field("tool_search_call", _item(type="tool_search_call", arguments={}), WINDOW),
    Field("tool_search_output", _item(type="tool_search_output", call_id="c", tools=[]), WINDOW),
    Field("additional_tools", _item(type="additional_tools", role="developer", tools=[{"type": "function", "name": "f", "parameters": {}, "strict": False}])),
    Field("additional_tools, server", _item(type="additional_tools", role="developer", tools=[{"type": "web_search"}]), Effect(reads_window=True, rounds=60, searches=60)),
    Field("configuration_update", _item(type="configuration_update"), WINDOW),
    Field("compaction item", _item(type="compaction", encrypted_content="abc="), WINDOW),
    Field("compaction_trigger", _item(type="compaction_trigger"), Effect(summaries=1)),
    Field("item_reference", _item(type="item_reference", id="i"), WINDOW),
    Field("item_reference, untyped", _item(id="i"), WINDOW),
    Field("mcp_list_tools", _item(type="mcp_list_tools", id="i", server_label="s", tools=[]), WINDOW),
    Field("mcp_approval_request", _item(type="mcp_approval_request", id="i", arguments="{}", name="n", server_label="s"), _LOOP),
    Field("mcp_approval_response", _item(type="mcp_approval_response", approval_request_id="i", approve=True), _LOOP),
    Field("mcp_call", _item(type="mcp_call", id="i", arguments="{}", name="n", server_label="s"), WINDOW),
    Field("program", _item(type="program", id="i", call_id="c", code="c", fingerprint="f"), WINDOW),
    Field("program_output", _item(type="program_output", id="i", call_id="c", result="r", status="completed"), WINDOW),
    # -- tools
    Field("function tool", _tool(type="function", name="f", parameters={}, strict=True)),
    Field("custom tool", _tool(type="custom", name="f", format={"type": "text"})),
    Field("namespace", _tool(type="namespace", name="n", description="d", tools=[{"type": "function", "name": "f"}])),
    Field("local_shell", _tool(type="local_shell"), Effect(prompt_tokens=1000)),
    Field("apply_patch", _tool(type="apply_patch"), Effect(prompt_tokens=1000)),
    Field("shell, local", _tool(type="shell", environment={"type": "local"}), Effect(prompt_tokens=1000)),
    Field("shell, container", _tool(type="shell", environment={"type": "container_auto"}), Effect(reads_window=True, rounds=60, sessions=1)),
    Field("tool_search, client", _tool(type="tool_search", execution="client"), Effect(prompt_tokens=1000)),
    Field("tool_search", _tool(type="tool_search"), _LOOP),
    *(Field(name, _tool(type=name), Effect(prompt_tokens=1000)) for name in ("computer", "computer_use_preview")),
    *(Field(name, _tool(type=name), Effect(reads_window=True, rounds=60, searches=60)) for name in ("web_search", "web_search_2025_08_26", "web_search_preview", "web_search_preview_2025_03_11")),
    Field("file_search", _tool(type="file_search", vector_store_ids=["v"]), Effect(reads_window=True, rounds=60, files=60)),
    Field("code_interpreter", _tool(type="code_interpreter", container={"type": "auto"}), Effect(reads_window=True, rounds=60, sessions=60)),
    Field("code_interpreter, large", _tool(type="code_interpreter", container={"type": "auto", "memory_limit": "64g"}), OTHER_RATES),
    Field("programmatic_tool_calling", _tool(type="programmatic_tool_calling"), _LOOP),
    Field("image_generation", _tool(type="image_generation"), OTHER_RATES),
    Field("image_generation, model", _tool(type="image_generation", model="gpt-image-2"), OTHER_RATES),
    Field("mcp", _tool(type="mcp", server_label="s", server_url="https://x.example"), _LOOP),
    Field("mcp, connector", _tool(type="mcp", server_label="s", connector_id="connector_gmail"), _LOOP),
)  # fmt: skip


def _part(**fields: Any) -> Body:
    return {"contents": [{"role": "user", "parts": [fields]}]}


def _config(**fields: Any) -> Body:
    return {"generationConfig": fields}


GEMINI: tuple[Field, ...] = (
    # -- top level, in both spellings where Google reads both
    Field("cachedContent", {"cachedContent": "cachedContents/c"}, WINDOW),
    Field("cached_content", {"cached_content": "cachedContents/c"}, WINDOW),
    Field("systemInstruction", {"systemInstruction": {"parts": [{"text": "t"}]}}),
    Field("system_instruction", {"system_instruction": {"parts": [{"text": "t"}]}}),
    Field("safetySettings", {"safetySettings": [{"category": "c", "threshold": "t"}]}),
    Field("toolConfig", {"toolConfig": {"functionCallingConfig": {"mode": "ANY"}}}),
    Field("labels", {"labels": {"k": "v"}}),
    Field("store", {"store": True}),
    *(Field("serviceTier", {"serviceTier": tier}, Effect(tiers=tiers)) for tier, tiers in (("flex", ("flex", "standard")), ("standard", ("standard",)), ("priority", _TIERS))),
    # -- generationConfig
    Field("candidateCount", _config(candidateCount=4), Effect(candidates=4)),
    Field("candidate_count", {"generation_config": {"candidate_count": 4}}, Effect(candidates=4)),
    Field("thinkingConfig", _config(thinkingConfig={"thinkingBudget": 24_576, "includeThoughts": True}), Effect(writes=24_576)),
    Field("thinking_config", {"generation_config": {"thinking_config": {"thinking_budget": 24_576}}}, Effect(writes=24_576)),
    Field("thinkingConfig, dynamic", _config(thinkingConfig={"thinkingBudget": -1})),
    Field("thinkingConfig, level", _config(thinkingConfig={"thinkingLevel": "HIGH"})),
    *(Field(name, _config(**{name: value})) for name, value in (("temperature", 1), ("topP", 0.9), ("topK", 5), ("stopSequences", ["x"]), ("seed", 1), ("presencePenalty", 1), ("frequencyPenalty", 1), ("responseLogprobs", True), ("logprobs", 3), ("responseMimeType", "application/json"), ("responseSchema", {}), ("responseJsonSchema", {}), ("mediaResolution", "MEDIA_RESOLUTION_HIGH"))),
    Field("responseModalities, audio", _config(responseModalities=["AUDIO"]), OTHER_RATES),
    Field("responseModalities, image", _config(responseModalities=["TEXT", "IMAGE"]), OTHER_RATES),
    Field("speechConfig", _config(speechConfig={}, responseModalities=["AUDIO"]), OTHER_RATES),
    Field("imageConfig", _config(imageConfig={}, responseModalities=["IMAGE"]), OTHER_RATES),
    Field("routingConfig", _config(routingConfig={"autoMode": {}}), OTHER_RATES),
    Field("modelSelectionConfig", _config(modelSelectionConfig={}), OTHER_RATES),
    # -- parts
    Field("text", _part(text="t", thought=True, thoughtSignature="abc=")),
    Field("functionCall", _part(functionCall={"id": "i", "name": "f", "args": {"url": "u"}})),
    Field("functionResponse", _part(functionResponse={"name": "f", "response": {"output": "t"}, "willContinue": False})),
    Field("functionResponse, parts", _part(functionResponse={"name": "f", "response": {}, "parts": [{"inlineData": {"mimeType": "image/png", "data": "AAAA"}}]}), WINDOW),
    Field("executableCode", _part(executableCode={"code": "c", "language": "PYTHON"})),
    Field("codeExecutionResult", _part(codeExecutionResult={"outcome": "OUTCOME_OK", "output": "t"})),
    Field("inlineData", _part(inlineData={"mimeType": "image/png", "data": "AAAA"}), WINDOW),
    Field("inline_data", _part(inline_data={"mime_type": "application/pdf", "data": "AAAA"}), WINDOW),
    Field("inlineData, audio", _part(inlineData={"mimeType": "audio/mp3", "data": "AAAA"}), OTHER_RATES),
    Field("fileData", _part(fileData={"mimeType": "video/mp4", "fileUri": "u"}), OTHER_RATES),
    Field("file_data", _part(file_data={"mime_type": "image/png", "file_uri": "u"}), WINDOW),
    Field("fileData, untyped", _part(fileData={"fileUri": "u"}), OTHER_RATES),
    Field("videoMetadata", _part(fileData={"mimeType": "video/mp4", "fileUri": "u"}, videoMetadata={"fps": 24}), OTHER_RATES),
    Field("toolCall", _part(toolCall={"toolType": "GOOGLE_SEARCH_WEB", "args": {}}), WINDOW),
    Field("toolResponse", _part(toolResponse={"toolType": "GOOGLE_SEARCH_WEB", "response": {}}), WINDOW),
    # -- tools
    Field("functionDeclarations", _tool(functionDeclarations=[{"name": "f", "parametersJsonSchema": {}}])),
    Field("computerUse", _tool(computerUse={"environment": "ENVIRONMENT_BROWSER"}), Effect(prompt_tokens=2000)),
    *(Field(name, _tool(**{name: {}}), Effect(reads_window=True, rounds=5)) for name in ("codeExecution", "code_execution", "urlContext", "url_context", "fileSearch")),
    *(Field(name, _tool(**{name: {}}), Effect(reads_window=True, rounds=5, searches=20)) for name in ("googleSearch", "google_search", "googleSearchRetrieval")),
    Field("mcpServers", _tool(mcpServers=[{"name": "n"}]), Effect(reads_window=True, rounds=5)),
    *(Field(name, _tool(**{name: {}}), OTHER_RATES) for name in ("googleMaps", "enterpriseWebSearch", "parallelAiSearch", "exaAiSearch", "retrieval")),
)  # fmt: skip
