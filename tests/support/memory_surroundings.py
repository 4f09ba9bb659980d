"""What stands around mitmproxy's layers on a wire in memory: who calls hooks, where handlers are found, the patches of answers."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from typing import Any

import pytest

from runtime.patches import PATCHES
from runtime.requests import addressing
from support.memory_wire import MemoryWire


def find_handlers(patch: pytest.MonkeyPatch, current: dict[str, Any], *modules: Any) -> None:
    """Have modules find the handler of ``current["wire"]``.

    Whom a client came from is not looked up: that would open a policy and a store.
    """

    def handlers() -> dict[str, Any]:
        handler = current["wire"].handler
        return {handler.client.id: handler}

    for module in modules:
        patch.setattr(module, "connection_handlers", handlers)
    patch.setattr(addressing, "note_source", lambda request, client: None)


def patch_answers(patch: pytest.MonkeyPatch) -> None:
    """Put the patches in place by which mitmproxy reads answers."""
    for row in PATCHES:
        if row.name in ("trailers", "answer_size"):
            owner = pkgutil.resolve_name(row.owner)
            for name, new in row.replacements(owner).items():
                patch.setattr(owner, name, new)


def call_hooks(wire: MemoryWire, call: Callable[[Any], Any]) -> None:
    """Have a wire's hooks of flows called by ``call``, which returns what of one is to be awaited, unless they have begun."""

    async def handle_hook(hook: Any) -> None:
        is_of_flow = hasattr(hook, "flow")
        rest = getattr(hook, "sluicegate_begun", None)
        if rest is None and is_of_flow:
            rest = call(hook)
        elif rest is None and hook.name in wire.handler.hook_handlers:
            wire.handler.hook_handlers[hook.name](*hook.args())
        if rest is not None:
            await rest
        if is_of_flow:
            await hook.flow.wait_for_resume()

    wire.handler.handle_hook = handle_hook
