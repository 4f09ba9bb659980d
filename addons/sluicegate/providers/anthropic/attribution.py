"""Claude Code's attribution: a block of the system prompt that names its version and differs in each call.

Anthropic takes it out before it caches a prompt. Whoever compares prompts, or sends them elsewhere, must leave it out too.
"""

from __future__ import annotations

ATTRIBUTION_PREFIX = "x-anthropic-billing-header:"
"""How the text of such a block begins. Source: Claude Code 2.1.332, 2026-11."""
