"""Dispatch: mitmproxy's hooks reach whoever has something to do, and nobody else; the time each addon takes is counted.

mitmproxy asks each of its 36 addons at each hook of each call, which is nearly half of what a call costs. Here the
answer is remembered per hook, and an addon of mitmproxy's own whose options are at their defaults is passed over until
one of them changes. Order, error handling and halting stay mitmproxy's. Nothing is ever removed.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import logging
import types
from collections.abc import Callable, Coroutine, Generator, Iterable
from time import perf_counter_ns as clock_ns
from typing import Any, NoReturn

from mitmproxy import ctx, exceptions, flow, hooks
from mitmproxy.addonmanager import AddonManager, safecall, traverse

from flow import Addon, services

logger = logging.getLogger("sluicegate")

IDLE: dict[str, tuple[str, ...]] = {
    "anticache": ("anticache",),
    "anticomp": ("anticomp",),
    "blocklist": ("block_list",),
    "maplocal": ("map_local",),
    "mapremote": ("map_remote",),
    "modifybody": ("modify_body",),
    "modifyheaders": ("modify_headers",),
    "proxyauth": ("proxyauth",),
    "save": ("save_stream_file",),
    "savehar": ("hardump",),
    "stickyauth": ("stickyauth",),
    "stickycookie": ("stickycookie",),
    "upstreamauth": ("upstream_auth",),
}
"""mitmproxy's addons that do nothing to a flow while these options are at their defaults, read in 12.2 and 12.3."""

KNOWN = {
    "trigger": ["self", "event"],
    "trigger_event": ["self", "event"],
    "handle_lifecycle": ["self", "event"],
    "register": ["self", "addon"],
    "remove": ["self", "addon"],
    "clear": ["self"],
}
"""What of mitmproxy's addon manager is replaced or wrapped, and the arguments it must take for that."""

Step = tuple[Callable[..., Any], list[int] | None]
"""A hook to call, and where to add its nanoseconds and count; None for mitmproxy's own."""


def idle(addon: object, options: Any) -> bool:
    """Whether an addon of mitmproxy's own would look at its options and do nothing."""
    kind = type(addon)
    names = IDLE.get(kind.__name__.lower()) if kind.__module__.startswith("mitmproxy.addons.") else None
    return bool(names) and all(n in options and getattr(options, n) == options.default(n) for n in names or ())


def is_ours(addon: object) -> bool:
    """Whether an addon is of the chain and no part of mitmproxy itself."""
    return not isinstance(addon, types.ModuleType) and not type(addon).__module__.startswith("mitmproxy.")


def counted(addon: object) -> str:
    """The name an addon's time is counted under."""
    return type(addon).__name__.lower()


def unknown(manager: object) -> str | None:
    """What of the addon manager is not as we know it; None if all is."""
    if not isinstance(getattr(manager, "chain", None), list):
        return "chain"
    for name, wanted in KNOWN.items():
        method = getattr(AddonManager, name, None)
        if method is None or list(inspect.signature(method).parameters) != wanted:
            return name
    return None


class Dispatch(Addon):
    """Puts itself in place of the addon manager's dispatching methods, once per process."""

    def running(self) -> None:
        """mitmproxy: all addons are there."""
        super().running()
        manager = ctx.master.addons
        if getattr(manager, "remembers_hooks", False):
            return
        if (what := unknown(manager)) is not None:
            logger.warning("mitmproxy's addon manager has changed (%s): hooks are dispatched its own, slower way", what)
        else:
            Remembering(manager, services().hook_time)
            services().chain = lambda: [counted(a) for a in traverse(manager.chain) if is_ours(a)]


class Remembering:
    """The addon manager's dispatch, from memory. Forgets when options or addons change, a script's reload included."""

    def __init__(self, manager: Any, spent: dict[tuple[str, str], list[int]]) -> None:
        self.manager, self.spent = manager, spent
        self.steps: dict[str, list[list[Step]]] = {}
        self.fields: dict[type[hooks.Hook], tuple[str, ...]] = {}
        for name in ("register", "remove", "clear"):
            setattr(manager, name, self.forgetting(getattr(manager, name)))
        manager.master.options.changed.connect(self.forget)
        manager.trigger = self.trigger
        manager.trigger_event = self.trigger_event
        manager.handle_lifecycle = self.handle_lifecycle
        manager.remembers_hooks = True
        self.hush()

    def forget(self, updated: Iterable[str] = ()) -> None:
        """Options have changed: an addon that was idle may not be any more."""
        self.steps = {}
        self.hush()

    def hush(self) -> None:
        """Let mitmproxy not make the lines on connections and streams that nobody would read, at 100 us each."""
        legacy = getattr(self.manager.master, "_legacy_log_events", None)
        lines = logging.getLogger("mitmproxy.proxy.server")
        readers = [h for h in (*logging.getLogger().handlers, *lines.handlers) if h is not legacy or self.learn("add_log")]
        lines.setLevel(min((h.level for h in readers), default=logging.WARNING))

    def forgetting(self, change: Callable[..., Any]) -> Callable[..., Any]:
        """A change of the chain that is not answered from memory of what was before it, nor during it."""

        def changed(*args: Any) -> Any:
            self.forget()
            try:
                return change(*args)
            finally:
                self.forget()

        return changed

    def learn(self, name: str) -> list[list[Step]]:
        """Who has this hook, a list per addon of the chain; one raising ends only its own list, as in mitmproxy."""
        found: list[list[Step]] = []
        for top in self.manager.chain:
            steps = [s for a in traverse([top]) if not self.passed_over(a, name) and (s := self.step(a, name))]
            if steps:
                found.append(steps)
        self.steps[name] = found
        return found

    def passed_over(self, addon: object, name: str) -> bool:
        """Whether the addon need not be asked. Beginning and end of the process, and options, are everybody's."""
        return name not in ("running", "done", "configure") and idle(addon, self.manager.master.options)

    def step(self, addon: object, name: str) -> Step | None:
        """The addon's hook of this name, if it has one."""
        hook = getattr(addon, name, None)
        if not hook or isinstance(hook, types.ModuleType):
            return None
        if not callable(hook):
            # Raised where it would be called: it ends this addon's turn, and nobody else's.
            return functools.partial(refuse, f"Addon handler {name} ({addon}) not callable"), None
        return hook, self.spent.setdefault((counted(addon), name), [0, 0]) if is_ours(addon) else None

    def trigger(self, event: hooks.Hook) -> None:
        """Call a hook from where nothing can be awaited: options, and each line of the log."""
        found = self.steps.get(event.name)
        if found is None:
            found = self.learn(event.name)
        for steps in found:
            try:
                for hook, _ in steps:
                    if inspect.iscoroutinefunction(hook):
                        raise exceptions.AddonManagerError(f"Async handler {event.name} cannot be called from sync context")
                    hook(*event.args())
            except exceptions.AddonHalt:
                return
            except Exception:
                as_mitmproxy_does()

    async def trigger_event(self, event: hooks.Hook) -> None:
        """Call a hook on everyone who has it."""
        found = self.steps.get(event.name)
        if found is None:
            found = self.learn(event.name)
        if not found:
            return
        args = self.arguments(event)
        for steps in found:
            try:
                began = clock_ns()
                for hook, spent in steps:
                    result = hook(*args)
                    if result is not None and inspect.isawaitable(result):
                        await (OwnTime(result, spent) if spent is not None and inspect.iscoroutine(result) else result)
                        began = clock_ns()
                    elif spent is not None:
                        # Where one ends the next begins: asking for the time is a fair part of a small hook.
                        now = clock_ns()
                        spent[0] += now - began
                        spent[1] += 1
                        began = now
            except exceptions.AddonHalt:
                return
            except Exception:
                as_mitmproxy_does()

    def arguments(self, event: hooks.Hook) -> list[Any]:
        """What the hook is about: its fields, whose names are looked up once per kind of hook."""
        kind = type(event)
        names = self.fields.get(kind)
        if names is None:
            names = self.fields[kind] = tuple(f.name for f in dataclasses.fields(event))  # type: ignore[arg-type]
        return [getattr(event, name) for name in names]

    async def handle_lifecycle(self, event: hooks.Hook) -> None:
        """Call a hook of a flow's or connection's life, and ``update`` after it where anybody listens to that."""
        await self.trigger_event(event)
        if self.steps.get("update", True):
            subject = self.arguments(event)[0]
            if isinstance(subject, flow.Flow):
                await self.trigger_event(hooks.UpdateHook([subject]))


class OwnTime:
    """Waits for a hook that waits, and counts what it does itself, not what others did meanwhile."""

    def __init__(self, hook: Coroutine[Any, Any, Any], spent: list[int]) -> None:
        self.hook, self.spent = hook, spent

    def __await__(self) -> Generator[Any, Any, None]:
        steps: Any = self.hook.__await__()
        step, given = steps.send, None
        self.spent[1] += 1
        while True:
            began = clock_ns()
            try:
                wanted = step(given)
            except StopIteration:
                return
            finally:
                self.spent[0] += clock_ns() - began
            try:
                step, given = steps.send, (yield wanted)
            except BaseException as thrown:
                step, given = steps.throw, thrown


def refuse(why: str, *_: object) -> NoReturn:
    """What is called in place of a hook that cannot be."""
    raise exceptions.AddonManagerError(why)


def as_mitmproxy_does() -> None:
    """Log the exception being handled, or let it go on if it is one that mitmproxy wants to see."""
    with safecall():
        raise


addons = [Dispatch()]
