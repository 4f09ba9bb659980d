"""A call that has ended, as its record says."""

from __future__ import annotations

from typing import Any

CALL: dict[str, Any] = {
    "id": "call_1",
    "started_at": "2026-11-27T10:00:00.500Z",
    "latency_ms": 1_512,
    "virtual_key_id": "vk-alice",
    "user_id": "alice",
    "team_id": "team-a",
    "provider": "anthropic",
    "model_requested": "claude-opus-5-5",
    "model_served": "claude-opus-5-5-20260922",
    "outcome": "completed",
    "reason": None,
    "status": 200,
    "input_tokens": 10,
    "output_tokens": 20,
    "cache_read_tokens": 300,
    "cache_write_5m_tokens": 4_000,
    "cache_write_1h_tokens": 50_000,
    "cost_usd": "0.0123",
    "estimated": 0,
}
