"""OpenAI's APIs: chat completions and responses, as Codex and Qwen Code use them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from sluicegate.providers.base import RequestBody, UsageReader, clean_path, find_base64, has_escaped_letters, parse_count
from sluicegate.values import Kind, RequestFacts, Usage


class OpenAIUsage(UsageReader):
    """Usage of one answer: OpenAI counts cached tokens as part of the input, we keep them apart."""

    def feed_event(self, event: str, data: bytes) -> None:
        """Read one server-sent event."""
        if data == b"[DONE]":
            self.finished = True
            return
        if b'"usage"' in data:
            self.read_json(data)
        if b'"delta"' in data:
            # The envelope around a delta takes some 200 bytes; parsing each one to know exactly would cost CPU per chunk.
            self.delivered_bytes += max(0, len(data) - 200)
        if event in ("response.completed", "response.incomplete"):
            self.finished = True
        elif event in ("error", "response.failed"):
            self.error = event

    def read_json(self, body: bytes) -> None:
        """Read an answer, or the event that carries one."""
        try:
            value: Any = orjson.loads(body)
        except orjson.JSONDecodeError:
            return
        if isinstance(value, dict) and isinstance(value.get("response"), dict):
            value = value["response"]
        usage = value.get("usage") if isinstance(value, dict) else None
        if not isinstance(usage, dict):
            return
        prompt = parse_count(usage.get("input_tokens", usage.get("prompt_tokens")))
        output = parse_count(usage.get("output_tokens", usage.get("completion_tokens", 0)))
        if prompt is None or output is None:
            # An invalid count is not zero: without usage the call is charged its estimate.
            self.usage = None
            return
        details = usage.get("input_tokens_details") or usage.get("prompt_tokens_details")
        cached = min(prompt, (parse_count(details.get("cached_tokens")) or 0) if isinstance(details, dict) else 0)
        model, tier = value.get("model"), value.get("service_tier")
        self.usage = Usage(
            input_tokens=prompt - cached,
            output_tokens=output,
            cache_read_tokens=cached,
            model=model if isinstance(model, str) else None,
            service_tier=tier if isinstance(tier, str) else None,
        )
        # A streamed chat chunk with usage may be followed by more; a plain answer and a Responses object are whole.
        if "choices" not in value or value.get("object") == "chat.completion":
            self.finished = True


class OpenAI:
    """The API of api.openai.com."""

    name = "openai"
    base_url = "https://api.openai.com"
    hosts = frozenset({"api.openai.com"})

    def classify(self, method: str, path: str) -> Kind:
        """Return ``messages`` for whatever might run a model: every POST but the few known to be free."""
        clean = clean_path(path)
        if method in ("GET", "HEAD", "OPTIONS", "DELETE"):
            return "other"
        if clean.endswith("/responses/input_tokens"):
            return "count_tokens"
        return "other" if clean.startswith(("/v1/files", "/v1/uploads")) else "messages"

    def creates_batch(self, method: str, path: str) -> bool:
        """Return whether the request starts a batch: many calls under one request."""
        return method == "POST" and clean_path(path).endswith("/batches")

    def read_request(self, body: bytes, path: str) -> RequestFacts | str:
        """Read the facts of a chat or responses body."""
        request = RequestBody(body)
        model, stream = request.model(), request.flag("stream")
        caps = [request.count(n) for n in ("max_output_tokens", "max_completion_tokens", "max_tokens")]
        if (request.count("n") or 1) > 1:
            return "'n' above 1 is not supported: every choice would be billed"
        tool_types = request.tool_types()
        if request.problem or model is None:
            return request.problem or "no model"
        images, payload_bytes = find_base64(body)
        has_server_tool = any(kind not in ("function", "custom") for kind in tool_types)
        return RequestFacts(
            model=model,
            stream=stream,
            max_tokens=next((c for c in caps if c is not None), None),
            body_bytes=len(body),
            text_bytes=len(body) - payload_bytes,
            images=images,
            # An earlier answer named by id brings its whole conversation along.
            adds_input=has_server_tool
            or b'"previous_response_id"' in body
            or b"image_url" in body
            or b'"file_id"' in body
            or has_escaped_letters(body),
        )

    def usage_reader(self) -> UsageReader:
        """Return a reader for one answer."""
        return OpenAIUsage()

    def auth_headers(self, key: str) -> Iterable[tuple[str, str]]:
        """Return the key as a bearer token."""
        return [("authorization", f"Bearer {key}")]

    def error_body(self, family: str, message: str, status: int) -> bytes:
        """Return an error body in OpenAI's form."""
        return orjson.dumps({"error": {"type": family, "code": family, "message": message, "param": None}})
