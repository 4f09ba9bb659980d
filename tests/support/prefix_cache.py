"""Providers' prompt caches, written from their documentation: what each request reads, writes and pays for in full.

It works on parsed bodies and whole prefixes, and shares nothing with what is tested.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

MINUTE = 60_000


def tokens_of(block: Any) -> int:
    return len(orjson.dumps(block)) // 4 + 1


def _without_marks(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_marks(v) for k, v in value.items() if k != "cache_control"}
    return [_without_marks(v) for v in value] if isinstance(value, list) else value


def _mark(block: Any) -> str | None:
    control = block.get("cache_control") if isinstance(block, dict) else None
    return None if not control else control.get("ttl", "5m")


@dataclass
class Entry:
    ready: int
    used: int
    lifetime: int


@dataclass
class Used:
    """Tokens of one request, by how they are billed."""

    input: int = 0
    read: int = 0
    write_5m: int = 0
    write_1h: int = 0

    def anthropic(self, output: int = 50) -> dict[str, Any]:
        return {
            "input_tokens": self.input,
            "cache_read_input_tokens": self.read,
            "cache_creation_input_tokens": self.write_5m + self.write_1h,
            "cache_creation": {"ephemeral_5m_input_tokens": self.write_5m, "ephemeral_1h_input_tokens": self.write_1h},
            "output_tokens": output,
        }


@dataclass
class Anthropic:
    """Anthropic's cache: breakpoints, tools before system before messages, 20 blocks looked back, two lifetimes."""

    minimums: Mapping[str, int] = field(default_factory=dict)
    entries: dict[str, Entry] = field(default_factory=dict)

    def serve(self, body: dict[str, Any], at: int, *, betas: str = "", latency: int = 800) -> Used:
        prefix = json.dumps(["model", body["model"], sorted(betas.split(","))])
        prefixes: list[str] = []
        sizes: list[int] = []
        marks: list[str | None] = []

        def add(block: Any) -> None:
            nonlocal prefix
            written = orjson.dumps(_without_marks(block))
            prefix = str(hash((prefix, written)))
            prefixes.append(prefix)
            sizes.append(len(written) // 4 + 1)
            marks.append(_mark(block))

        for tool in body.get("tools", []):
            add(tool)
        prefix += json.dumps(body.get("speed"))
        system = body.get("system", [])
        for block in [{"type": "text", "text": system}] if isinstance(system, str) else system:
            if not block["text"].startswith("x-anthropic-billing-header"):
                add(block)
        contents = [b for m in body["messages"] if isinstance(m["content"], list) for b in m["content"]]
        has_image = any(block["type"] == "image" for block in contents)
        prefix += json.dumps([body.get("tool_choice"), body.get("thinking"), has_image])
        for message in body["messages"]:
            content = message["content"]
            for block in [{"type": "text", "text": content}] if isinstance(content, str) else content:
                add([message["role"], block])
                marks[-1] = _mark(block)
        if (control := body.get("cache_control")) is not None:
            marks[-1] = control.get("ttl", "5m")
        return self._settle(body["model"], prefixes, sizes, marks, at, latency)

    def _settle(self, model: str, prefixes: list[str], sizes: list[int], marks: list[Any], at: int, latency: int) -> Used:
        ends = list(itertools.accumulate(sizes))
        points = [i for i, mark in enumerate(marks) if mark]
        found = -1
        for point in points:
            for i in range(point, max(-1, point - 20), -1):
                entry = self.entries.get(prefixes[i])
                if entry is not None and entry.ready <= at and at - entry.used <= entry.lifetime:
                    found = max(found, i)
                    break
        for i in [*points, found]:
            entry = self.entries.get(prefixes[i]) if i <= found and i >= 0 else None
            if entry is not None and entry.ready <= at and at - entry.used <= entry.lifetime:
                entry.used = at + latency
        used = Used(read=ends[found] if found >= 0 else 0)
        done = used.read
        for point in points:
            if point <= found or ends[point] < self.minimums.get(model, 1024):
                continue
            part, done = ends[point] - done, ends[point]
            lifetime = 60 * MINUTE if marks[point] == "1h" else 5 * MINUTE
            if marks[point] == "1h":
                used.write_1h += part
            else:
                used.write_5m += part
            self.entries[prefixes[point]] = Entry(at + latency, at + latency, lifetime)
        used.input = ends[-1] - done
        return used


@dataclass
class Automatic:
    """A cache without breakpoints: the longest prefix of whole blocks, in steps of tokens, from a least length on."""

    least: int = 1024
    step: int = 128
    lifetime: int = 5 * MINUTE
    writes: bool = False
    seen: dict[str, Entry] = field(default_factory=dict)

    def serve(self, model: str, blocks: list[Any], at: int, *, salt: Any = None, latency: int = 800) -> Used:
        prefix, total, read = json.dumps([model, salt]), 0, 0
        new: list[str] = []
        for block in blocks:
            prefix = str(hash((prefix, orjson.dumps(block))))
            total += tokens_of(block)
            entry = self.seen.get(prefix)
            if entry is not None and entry.ready <= at and at - entry.used <= self.lifetime and total >= self.least:
                entry.used = at + latency
                read = total - total % self.step
            else:
                new.append(prefix)
        for name in new:
            self.seen[name] = Entry(at + latency, at + latency, self.lifetime)
        rest = total - read
        return Used(input=0 if self.writes else rest, read=read, write_5m=rest if self.writes else 0)
