"""The shapes of real clients' bodies, in every part that their conversations have."""

from __future__ import annotations

from typing import Any

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"url": {"type": "string"}, "file_id": {"type": "string"}}}
CLAUDE_CODE: dict[str, Any] = {
    "max_tokens": 128_000,
    "stream": True,
    "thinking": {"type": "adaptive", "display": "omitted"},
    "metadata": {"user_id": '{"device_id":"0"}'},
    "output_config": {"effort": "medium"},
    "diagnostics": {"previous_message_id": None},
    "context_management": {
        "edits": [{"type": "clear_thinking_20251015", "keep": "all"}, {"type": "clear_tool_uses_20250919", "exclude_tools": ["x"]}]
    },
    "system": [{"type": "text", "text": "x-anthropic-billing-header: cch=0"}, {"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
    "tools": [{"name": "Bash", "description": "d", "input_schema": SCHEMA}, {"type": "custom", "name": "Read", "input_schema": SCHEMA}],
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "look at https://x"}]},
        {"role": "system", "content": [{"type": "text", "text": "t"}], "output_config": {"effort": "medium"}},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "", "signature": "abc="},
                {"type": "redacted_thinking", "data": "abc="},
                {"type": "tool_use", "id": "t", "name": "Bash", "input": {"source": {"type": "url", "url": "u"}}, "caller": {"type": "direct"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t", "content": "Exit code 1", "is_error": True},
                {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": '"type":"image"'}, {"type": "tool_reference", "tool_name": "Grep"}]},
            ],
        },
    ],
}  # fmt: skip
"""The shape of Claude Code 2.1.332, in every part that its conversations have."""

CODEX: dict[str, Any] = {
    "model": "gpt-6.2-sol",
    "stream": True,
    "store": False,
    "instructions": "You are Codex",
    "include": ["reasoning.encrypted_content"],
    "reasoning": {"effort": "low", "context": "all_turns"},
    "text": {"verbosity": "low"},
    "tool_choice": "auto",
    "parallel_tool_calls": False,
    "prompt_cache_key": "k",
    "client_metadata": {"thread_id": "t"},
    "input": [
        {
            "type": "additional_tools",
            "id": "at_1",
            "role": "developer",
            "tools": [
                {
                    "type": "namespace",
                    "name": "functions",
                    "description": "d",
                    "tools": [
                        {"type": "custom", "name": "exec", "format": {"type": "grammar", "syntax": "lark", "definition": "d"}},
                        {"type": "function", "name": "wait", "strict": False, "parameters": SCHEMA},
                    ],
                }
            ],
        },
        {"type": "message", "id": "msg_1", "role": "developer", "content": [{"type": "input_text", "text": "t"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "abc="},
        {"type": "function_call", "id": "fc_1", "name": "wait", "arguments": '{"url":"u"}', "call_id": "c"},
        {"type": "function_call_output", "call_id": "c", "output": "done"},
        {"type": "custom_tool_call", "id": "ct_1", "name": "exec", "input": "ls", "call_id": "d", "status": "completed"},
        {"type": "custom_tool_call_output", "call_id": "d", "output": "file"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "t", "annotations": []}]},
    ],
}
QWEN_CODE: dict[str, Any] = {
    "max_tokens": 32_768,
    "stream": True,
    "stream_options": {"include_usage": True},
    "metadata": {"sessionId": "s"},
    "tools": [{"type": "function", "function": {"name": "read_file", "parameters": SCHEMA}}],
    "messages": [
        {"role": "system", "content": "You are Qwen Code"},
        {"role": "user", "content": [{"type": "text", "text": "t", "cache_control": {"type": "ephemeral"}}]},
        {"role": "assistant", "content": "", "reasoning_content": "r", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c", "content": "image_url"},
    ],
}  # fmt: skip
GEMINI_CLI: dict[str, Any] = {
    "systemInstruction": {"role": "user", "parts": [{"text": "You are a CLI agent"}]},
    "tools": [{"functionDeclarations": [{"name": "f", "parametersJsonSchema": SCHEMA}]}],
    "generationConfig": {"temperature": 1, "topP": 0.95, "topK": 64, "thinkingConfig": {"includeThoughts": True, "thinkingBudget": 8192}},
    "contents": [
        {"role": "user", "parts": [{"text": "fileData"}]},
        {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {"url": "u"}}, "thoughtSignature": "abc="}]},
        {"role": "user", "parts": [{"functionResponse": {"id": "i", "name": "f", "response": {"output": "inlineData"}}}]},
    ],
}  # fmt: skip
