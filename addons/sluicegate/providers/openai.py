"""OpenAI's APIs: chat completions and responses, as Codex and Qwen Code speak them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from sluicegate.providers.base import Body, UsageReader, clean_path, hides_words, media, number
from sluicegate.values import Kind, RequestFacts, Usage


class OpenAIUsage(UsageReader):
    """Usage of one answer: OpenAI counts cached tokens inside the input, we keep them apart."""

    def feed_event(self, event: str, data: bytes) -> None:
        """Take note of one server-sent event."""
        if data == b"[DONE]":
            self.finished = True
            return
        if b'"usage"' in data:
            self.read_json(data)
        if b'"delta"' in data:
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
        whole = number(usage.get("input_tokens", usage.get("prompt_tokens")))
        output = number(usage.get("output_tokens", usage.get("completion_tokens", 0)))
        if whole is None or output is None:
            # Counts that are no counts are not zero: the call is charged its estimate.
            self.usage = None
            return
        details = usage.get("input_tokens_details") or usage.get("prompt_tokens_details")
        cached = min(whole, (number(details.get("cached_tokens")) or 0) if isinstance(details, dict) else 0)
        model, tier = value.get("model"), value.get("service_tier")
        self.usage = Usage(
            input_tokens=whole - cached,
            output_tokens=output,
            cache_read_tokens=cached,
            model=model if isinstance(model, str) else None,
            service_tier=tier if isinstance(tier, str) else None,
        )
        if "choices" not in value or value.get("object") == "chat.completion":
            self.finished = True


class OpenAI:
    """The wire of api.openai.com."""

    name = "openai"
    base_url = "https://api.openai.com"
    hosts = frozenset({"api.openai.com"})

    def kind_of(self, method: str, path: str) -> Kind:
        """Whatever might run a model is ``messages``: every POST but the few known to be free."""
        clean = clean_path(path)
        if method in ("GET", "HEAD", "OPTIONS", "DELETE"):
            return "other"
        if clean.endswith("/responses/input_tokens"):
            return "count_tokens"
        return "other" if clean.startswith(("/v1/files", "/v1/uploads")) else "messages"

    def is_batch_create(self, method: str, path: str) -> bool:
        """Batches run many calls under one request."""
        return method == "POST" and clean_path(path).endswith("/batches")

    def read_request(self, body: bytes, path: str) -> RequestFacts | str:
        """Facts of a chat or responses body."""
        read = Body(body)
        model, stream = read.model(), read.flag("stream")
        caps = [read.count(n) for n in ("max_output_tokens", "max_completion_tokens", "max_tokens")]
        if (read.count("n") or 1) > 1:
            return "'n' above 1 is not supported: every choice would be billed"
        tools = read.tools()
        if read.problem or model is None:
            return read.problem or "no model"
        images, payload = media(body)
        server = any(kind not in ("function", "custom") for kind in tools)
        return RequestFacts(
            model=model,
            stream=stream,
            max_tokens=next((c for c in caps if c is not None), None),
            body_bytes=len(body),
            text_bytes=len(body) - payload,
            images=images,
            # An earlier answer named by id brings its whole conversation along.
            adds_input=server
            or b'"previous_response_id"' in body
            or b"image_url" in body
            or b'"file_id"' in body
            or hides_words(body),
        )

    def usage_reader(self) -> UsageReader:
        """A reader for one answer."""
        return OpenAIUsage()

    def credentials(self, key: str) -> Iterable[tuple[str, str]]:
        """Bearer."""
        return [("authorization", f"Bearer {key}")]

    def envelope(self, family: str, message: str, status: int) -> bytes:
        """OpenAI's error body."""
        return orjson.dumps({"error": {"type": family, "code": family, "message": message, "param": None}})
