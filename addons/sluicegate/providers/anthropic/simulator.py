"""A simulated Anthropic API, for demos, tests and trying out policies without spending: ``providers.anthropic.simulate: true``.

It speaks the real protocol: event streams in chunks, usage with caching, proper errors. An instruction in square
brackets in the last user message says how to answer:

    [simulate cost=2.00]                      usage whose list price is that many dollars (by output tokens)
    [simulate input=1000 output=50]           also cache_read= cache_write_5m= cache_write_1h= web_search=
    [simulate status=529]                     an error status; status=429 also takes retry_after=5
    [simulate times=1 status=429]             only the first N times that this instruction is sent
    [simulate error=overloaded_error]         an error event in the middle of the stream
    [simulate cut]                            the connection breaks in the middle of the stream
    [simulate slow=2]                         take this many seconds to answer
    [simulate tool=Bash {"command": "date"}]  a tool call; the turn after it ends with a text

To run it alone: ``python -m sluicegate.providers.anthropic.simulator --port 9000``.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import socket
import threading
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from sluicegate.pricing.prices import Prices
from sluicegate.values import Usage

MODELS = ("claude-opus-5-5", "claude-sonnet-5-5", "claude-sonnet-5", "claude-haiku-5-5")

ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    529: "overloaded_error",
}

PRICES_AT = 1_795_000_000_000
"""When the prices that ``cost=`` is computed with are read, epoch milliseconds: any time after the last price change."""

_INSTRUCTION = re.compile(r"\[simulate([^\[\]]*(?:\{[^\]]*\})?)\]")
_TOOL = re.compile(r"tool=(\w+)\s*(\{.*\})?", re.DOTALL)


class SimulatedApi:
    """The API's routes and its memory: which prompt prefixes are cached, how often an instruction was sent."""

    def __init__(self) -> None:
        self.prices = Prices.load()
        self.cached_prefixes: set[str] = set()
        self.times_sent: Counter[str] = Counter()
        self.last_serial = 0

    def app(self) -> Starlette:
        """Return the API as an ASGI application."""
        return Starlette(
            routes=[
                Route("/v1/messages", self.messages, methods=["POST"]),
                Route("/v1/messages/count_tokens", self.count_tokens, methods=["POST"]),
                Route("/v1/models", self.models, methods=["GET"]),
                Route("/api/hello", lambda _: Response(b""), methods=["GET", "HEAD"]),
                Route("/{path:path}", self.not_found, methods=["GET", "POST", "PUT", "DELETE", "PATCH"]),
            ]
        )

    async def not_found(self, request: Request) -> Response:
        """Answer every other path with 404."""
        await request.body()
        return error_response(404, f"{request.url.path} is not simulated")

    async def models(self, request: Request) -> Response:
        """List the models."""
        if (error := require_key(request)) is not None:
            return error
        data = [{"type": "model", "id": m, "display_name": m, "created_at": "2026-10-07T00:00:00Z"} for m in MODELS]
        return JSONResponse({"data": data, "has_more": False, "first_id": MODELS[0], "last_id": MODELS[-1]})

    async def count_tokens(self, request: Request) -> Response:
        """Count tokens by the size of the body."""
        if (error := require_key(request)) is not None:
            return error
        return JSONResponse({"input_tokens": len(await request.body()) // 3})

    async def messages(self, request: Request) -> Response:
        """Answer a model call."""
        raw = await request.body()
        if (error := require_key(request)) is not None:
            return error
        try:
            body = json.loads(raw)
            model, messages = body["model"], body["messages"]
            if not isinstance(model, str) or not isinstance(messages, list):
                raise TypeError
        except (ValueError, KeyError, TypeError):
            return error_response(400, "messages must be a list and model a string")
        instruction, has_tool_result = read_instruction(messages)
        self.times_sent[instruction] += 1
        settings = dict(re.findall(r"(\w+)=([\w.]+)", _TOOL.sub("", instruction)))
        is_used_up = "times" in settings and self.times_sent[instruction] > int(settings["times"])
        if "slow" in settings and not body.get("stream"):
            await asyncio.sleep(min(float(settings["slow"]), 30))
        if "status" in settings and not is_used_up:
            headers = {"retry-after": settings["retry_after"]} if "retry_after" in settings else None
            return error_response(int(settings["status"]), "Simulated error", headers)
        content: list[dict[str, Any]] = [{"type": "text", "text": reply_text(messages, has_tool_result)}]
        tool = _TOOL.search(instruction)
        if tool and not has_tool_result:
            content = [
                {
                    "type": "tool_use",
                    "id": f"toolu_sim_{self.next_id()}",
                    "name": tool[1],
                    "input": json.loads(tool[2] or "{}"),
                }
            ]
        usage = self.usage(settings, model, raw, body, content)
        message = {
            "id": f"msg_sim_{self.next_id()}",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": content,
            "stop_reason": "tool_use" if content[0]["type"] == "tool_use" else "end_turn",
            "stop_sequence": None,
            "usage": usage,
        }
        if not body.get("stream"):
            return JSONResponse(message)
        return StreamingResponse(
            stream(message, settings, is_cut="cut" in instruction.split()),
            media_type="text/event-stream",
            headers={"cache-control": "no-cache"},
        )

    def next_id(self) -> str:
        """Return an id that has not been used."""
        self.last_serial += 1
        return f"{self.last_serial:08d}"

    def usage(
        self, settings: dict[str, str], model: str, raw: bytes, body: dict[str, Any], content: list[dict[str, Any]]
    ) -> dict[str, Any]:
        """Return the usage asked for, or a plausible one for the size: a prefix seen before is read from the cache."""
        counts: dict[str, int] = {
            k: int(settings[k])
            for k in ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h", "web_search")
            if k in settings
        }
        if "cost" in settings:
            cost_per_million = self.prices.cost(Usage(output_tokens=1_000_000), model, PRICES_AT) or 1
            counts = {"output": round(float(settings["cost"]) * 1e9 * 1_000_000 / cost_per_million)}
        elif not counts:
            size = max(1, len(raw) // 3)
            prefix = hashlib.sha256(json.dumps([model, body.get("tools"), str(body.get("system"))[-4000:]]).encode()).hexdigest()
            stable = max(0, size - 200) if "cache_control" in raw.decode("utf-8", "replace") else 0
            kind = "cache_read" if prefix in self.cached_prefixes else "cache_write_1h" if b'"1h"' in raw else "cache_write_5m"
            counts = {"input": size - stable, "output": max(1, len(json.dumps(content)) // 3)} | ({kind: stable} if stable else {})
            self.cached_prefixes.add(prefix)
        write_5m, write_1h = counts.get("cache_write_5m", 0), counts.get("cache_write_1h", 0)
        usage: dict[str, Any] = {
            "input_tokens": counts.get("input", 0),
            "cache_creation_input_tokens": write_5m + write_1h,
            "cache_read_input_tokens": counts.get("cache_read", 0),
            "cache_creation": {"ephemeral_5m_input_tokens": write_5m, "ephemeral_1h_input_tokens": write_1h},
            "output_tokens": counts.get("output", 1),
            "service_tier": "standard",
        }
        if "web_search" in counts:
            usage["server_tool_use"] = {"web_search_requests": counts["web_search"]}
        return usage


def read_instruction(messages: list[Any]) -> tuple[str, bool]:
    """Return the last instruction a user wrote, and whether a tool result has followed it."""
    has_tool_result, instruction = False, ""
    for message in messages:
        if not isinstance(message, dict) or message.get("role") != "user":
            continue
        content = message.get("content")
        blocks = content if isinstance(content, list) else [{"type": "text", "text": content}]
        for block in blocks:
            if not isinstance(block, dict):
                continue
            if block.get("type") == "tool_result":
                has_tool_result = True
            elif isinstance(block.get("text"), str) and (found := _INSTRUCTION.findall(block["text"])):
                instruction, has_tool_result = found[-1].strip(), False
    return instruction, has_tool_result


def reply_text(messages: list[Any], has_tool_result: bool) -> str:
    """Return what the simulated model says."""
    if has_tool_result:
        for message in reversed(messages):
            content = message.get("content") if isinstance(message, dict) else None
            for block in content if isinstance(content, list) else ():
                if isinstance(block, dict) and block.get("type") == "tool_result":
                    shown = block.get("content")
                    text = shown if isinstance(shown, str) else json.dumps(shown)
                    return f"The tool said: {text[:500]}"
    return "Hello from the simulated provider."


async def stream(message: dict[str, Any], settings: dict[str, str], *, is_cut: bool) -> AsyncIterator[bytes]:
    """Yield the message as the API streams it."""

    def event(kind: str, **fields: Any) -> bytes:
        return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields}, separators=(',', ':'))}\n\n".encode()

    usage = message["usage"]
    pause_s = min(float(settings.get("slow", 0)), 60) / 4
    opening = message | {"content": [], "stop_reason": None, "usage": usage | {"output_tokens": 1}}
    yield event("message_start", message=opening)
    yield event("ping")
    for index, block in enumerate(message["content"]):
        if block["type"] == "text":
            yield event("content_block_start", index=index, content_block={"type": "text", "text": ""})
            deltas = [{"type": "text_delta", "text": p} for p in re.findall(r".{1,12}", block["text"], re.DOTALL)]
        else:
            yield event("content_block_start", index=index, content_block=block | {"input": {}})
            text = json.dumps(block["input"])
            deltas = [{"type": "input_json_delta", "partial_json": p} for p in re.findall(r".{1,16}", text, re.DOTALL)]
        for number, content_delta in enumerate(deltas):
            if pause_s and number < 4:
                await asyncio.sleep(pause_s)
            yield event("content_block_delta", index=index, delta=content_delta)
            await asyncio.sleep(0)
            if number == 1 and "error" in settings:
                yield event("error", error={"type": settings["error"], "message": "Simulated error"})
                return
            if number == 1 and is_cut:
                raise ConnectionResetError("simulated cut")
        yield event("content_block_stop", index=index)
    final_delta = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    yield event("message_delta", delta=final_delta, usage=usage)
    yield event("message_stop")


def require_key(request: Request) -> Response | None:
    """Return an error if the request carries no key at all."""
    if request.headers.get("x-api-key") or request.headers.get("authorization"):
        return None
    return error_response(401, "x-api-key header is required")


def error_response(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    """Return an error as Anthropic writes it."""
    kind = ERRORS.get(status, "api_error")
    return JSONResponse({"type": "error", "error": {"type": kind, "message": message}}, status_code=status, headers=headers)


class Simulator:
    """The API on a loopback port, served from a thread with its own event loop."""

    def __init__(self, port: int = 0) -> None:
        self._socket = socket.create_server(("127.0.0.1", port))
        self.port: int = self._socket.getsockname()[1]
        # It speaks no WebSocket, whose library takes as long to import as all else here.
        config = uvicorn.Config(
            SimulatedApi().app(), http="h11", ws="none", lifespan="off", log_level="critical", log_config=None, access_log=False
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="sluicegate-simulator", daemon=True)

    @property
    def base_url(self) -> str:
        """Return the URL it listens on."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start serving; the port accepts connections from the constructor on."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving."""
        self._server.should_exit = True
        self._thread.join(3)

    def wait(self) -> None:
        """Wait until it is stopped."""
        self._thread.join()


def main() -> None:
    """Serve alone until interrupted."""
    import argparse

    parser = argparse.ArgumentParser(description="A simulated Anthropic API on loopback.")
    parser.add_argument("--port", type=int, default=0)
    simulator = Simulator(parser.parse_args().port)
    simulator.start()
    print(f"simulated Anthropic API on {simulator.base_url}", flush=True)
    try:
        simulator.wait()
    except KeyboardInterrupt:
        simulator.stop()


if __name__ == "__main__":
    main()
