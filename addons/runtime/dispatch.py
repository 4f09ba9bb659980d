"""Dispatch: a hook reaches only addons that have something to do, and the time each of ours takes is measured.

mitmproxy looks in each of its 37 addons at each hook of each call, which is nearly half of what a call costs. Here the
answer is cached per hook, and an addon of mitmproxy's own whose options are at their defaults is skipped until one of
them changes. Order, error handling and halting stay mitmproxy's. Nothing is ever removed.
"""

from __future__ import annotations

import dataclasses
import inspect
import logging
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
from functools import partial
from operator import attrgetter
from time import perf_counter as clock_s
from typing import Any, NoReturn

from mitmproxy import exceptions, flow, hooks
from mitmproxy.addonmanager import safecall, traverse
from mitmproxy.addons.termlog import TermLogHandler

from flow import services
from runtime import hooks_at_once
from runtime.console.console_lines import shows_connections

logger = logging.getLogger("sluicegate")

IDLE_AT_DEFAULTS: dict[str, tuple[str, ...]] = {
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

IDLE_AT: dict[str, tuple[str, object]] = {"dumper": ("flow_detail", 0), "onboarding": ("onboarding", False)}
"""Likewise, while an option has the value that we set where the user has set none (options.py, console_lines.py)."""

Step = tuple[Callable[..., Any], list[float] | None, str | None]
"""A hook to call, its ``[seconds, count]`` to add to, None for mitmproxy's own, and the mark of the flows it is called for."""

Turn = tuple[list[Step], bool]
"""The hooks of an addon in mitmproxy's list and of those below it, and whether any of them is measured."""

Begun = tuple[Any, list[float] | None, float]
"""What a hook has returned that has to be awaited, what its time is added to, and when it began."""

Calls = Generator[Begun, None, None]
"""The calls of one hook on all addons, up to the next thing to be awaited."""


def is_idle(addon: object, options: Any) -> bool:
    """Return whether an addon of mitmproxy's own would do nothing with its present options."""
    kind = type(addon)
    if not kind.__module__.startswith("mitmproxy.addons."):
        return False
    name = kind.__name__.lower()
    if name == "updatealtsvc":
        # For a reverse proxy only.
        return not any(mode.startswith("reverse") for mode in options.mode)
    if name in IDLE_AT:
        option, value = IDLE_AT[name]
        return option in options and getattr(options, option) == value
    names = IDLE_AT_DEFAULTS.get(name)
    return bool(names) and all(n in options and getattr(options, n) == options.default(n) for n in names or ())


def is_ours(addon: object) -> bool:
    """Return whether an addon is not part of mitmproxy itself."""
    return not isinstance(addon, types.ModuleType) and not type(addon).__module__.startswith("mitmproxy.")


def addon_name(addon: object) -> str:
    """Return the name an addon's time is measured under: its class's ``name``, as for mitmproxy, else the class in lower case."""
    kind = type(addon)
    return getattr(kind, "name", None) or kind.__name__.lower()


def cached_dispatch(manager: Any) -> dict[str, Any]:
    """Return methods for mitmproxy's addon manager that dispatch from a cache and measure into ``services().hook_time``."""
    services().chain = lambda: [addon_name(a) for a in traverse(manager.chain) if is_ours(a)]
    cached = CachedDispatch(manager, services().hook_time)
    hooks_at_once.dispatch[:] = [cached]
    return cached.methods()


class CachedDispatch:
    """The addon manager's dispatch from a cache, which is dropped when options or addons change, by a reload too."""

    def __init__(self, manager: Any, time_spent: dict[tuple[str, str], list[float]]) -> None:
        self.manager, self.time_spent = manager, time_spent
        self.turns: dict[str, list[Turn]] = {}
        self.readers: dict[type[hooks.Hook], Callable[[Any], Any] | None] = {}
        """By kind of hook, what reads its one argument; None where it has none or several."""
        manager.master.options.changed.connect(self.invalidate)
        self.set_log_level()

    def methods(self) -> dict[str, Any]:
        """Return the replacements for the addon manager's own methods."""
        changes = {name: self.invalidating(getattr(self.manager, name)) for name in ("register", "remove", "clear")}
        return changes | {
            "trigger": self.trigger,
            "trigger_event": self.trigger_event,
            "handle_lifecycle": self.handle_lifecycle,
        }

    def invalidate(self, updated: Iterable[str] = ()) -> None:
        """Drop the cache: with other options, an idle addon may no longer be idle."""
        self.turns = {}
        self.set_log_level()

    def set_log_level(self) -> None:
        """Keep mitmproxy from formatting log lines on connections and streams that no handler reads, at 100 us each."""
        # mitmproxy's legacy handler hands each line to the hook add_log, which usually no addon has.
        legacy = getattr(self.manager.master, "_legacy_log_events", None)
        log = logging.getLogger("mitmproxy.proxy.server")
        readers = [h for h in (*logging.getLogger().handlers, *log.handlers) if h is not legacy or self.turns_of("add_log")]
        quiet = logging.NOTSET if shows_connections(self.manager.master.options) else logging.WARNING
        levels = (max(h.level, quiet) if isinstance(h, TermLogHandler) else h.level for h in readers)
        log.setLevel(min(levels, default=logging.WARNING))

    def invalidating(self, change: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a change of the chain so that the cache is dropped before and after it: hooks also run during it."""

        def changed(*args: Any) -> Any:
            self.invalidate()
            try:
                return change(*args)
            finally:
                self.invalidate()

        return changed

    def turns_of(self, name: str) -> list[Turn]:
        """Return the addons that have this hook, a turn per addon of the chain; an error ends only its own, as in mitmproxy."""
        found = self.turns.get(name)
        if found is None:
            found = []
            for top in self.manager.chain:
                if steps := [s for a in traverse([top]) if not self.is_skipped(a, name) and (s := self.step(a, name))]:
                    found.append((steps, any(spent is not None for _, spent, _ in steps)))
            self.turns[name] = found
        return found

    def is_skipped(self, addon: object, name: str) -> bool:
        """Return whether the addon need not be called; start, end and options concern every addon."""
        return name not in ("running", "done", "configure") and is_idle(addon, self.manager.master.options)

    def step(self, addon: object, name: str) -> Step | None:
        """Return the addon's hook of this name; None if it has none."""
        hook = getattr(addon, name, None)
        if not hook or isinstance(hook, types.ModuleType):
            return None
        if not callable(hook):
            # Raised only when it is called, as in mitmproxy: it ends this addon's turn, and no other's.
            return partial(raise_not_callable, f"Addon handler {name} ({addon}) not callable"), None, None
        if not is_ours(addon):
            return hook, None, None
        return hook, self.time_spent.setdefault((addon_name(addon), name), [0.0, 0]), getattr(addon, "marks", {}).get(name)

    def trigger(self, event: hooks.Hook) -> None:
        """Call a hook that cannot be awaited: for changed options, and for each line of the log."""
        for steps, _ in self.turns_of(event.name):
            try:
                for hook, *_ in steps:
                    if inspect.iscoroutinefunction(hook):
                        raise exceptions.AddonManagerError(f"Async handler {event.name} cannot be called from sync context")
                    hook(*event.args())
            except exceptions.AddonHalt:
                return
            except Exception:
                log_or_raise()

    async def trigger_event(self, event: hooks.Hook) -> None:
        """Call a hook on every addon that has it."""
        calls = self.calls(event)
        for begun in calls:
            # This takes all that follow.
            await self.finish(calls, begun)

    def calls(self, event: hooks.Hook) -> Calls:
        """Call a hook on every addon that has it; yield what has to be awaited. What that raises is thrown in here."""
        try:
            found, read = self.turns[event.name], self.readers[type(event)]
        except KeyError:
            found, read = self.look_up(event)
        if not found:
            return
        # Called by its one argument where there is one, as in every hook of a flow: that is much faster than by a sequence.
        subject, args = (None, event.args()) if read is None else (read(event), ())
        for steps, is_timed in found:
            try:
                began = clock_s() if is_timed else 0.0
                for hook, spent, mark in steps:
                    if mark is not None and not hasattr(subject, mark):
                        # Most hooks are for few flows.
                        continue
                    result = hook(*args) if read is None else hook(subject)
                    if result is not None and inspect.isawaitable(result):
                        yield result, spent, began
                        # What it took has been counted; the next hook starts from here.
                        began = clock_s()
                    elif spent is not None:
                        # One hook's end is the next one's beginning: reading the clock costs as much as a small hook does.
                        ended = clock_s()
                        spent[0] += ended - began
                        spent[1] += 1
                        began = ended
            except exceptions.AddonHalt:
                call_after_halt(found, args if read is None else (subject,))
                return
            except Exception:
                log_or_raise()

    async def finish(self, calls: Calls, begun: Begun) -> None:
        """Await what a hook has begun, and call and await those that follow."""
        step: Callable[[], Begun]
        while True:
            try:
                rest = rest_of(*begun)
                if rest is not None:
                    await rest
                step = calls.__next__
            except BaseException as e:
                step = partial(calls.throw, e)
            try:
                begun = step()
            except StopIteration:
                return

    def look_up(self, event: hooks.Hook) -> tuple[list[Turn], Callable[[Any], Any] | None]:
        """Find the addons that have a hook and what reads its one argument, and remember both."""
        names = [field.name for field in dataclasses.fields(event)]  # type: ignore[arg-type]
        read = self.readers[type(event)] = attrgetter(*names) if len(names) == 1 else None
        return self.turns_of(event.name), read

    async def handle_lifecycle(self, event: hooks.Hook) -> None:
        """Call a hook of a flow's or connection's life, and ``update`` after it where an addon has that."""
        begun = getattr(event, "sluicegate_begun", None)
        if begun is not None:
            await begun
            return
        await self.trigger_event(event)
        await self.update(event)

    async def update(self, event: hooks.Hook) -> None:
        """Call ``update`` after a hook of a flow's life, where an addon has that."""
        # Absent means not looked up yet; an empty list means that no addon has the hook, which is the usual case.
        if self.turns.get("update", True):
            subject = event.args()[0]
            if isinstance(subject, flow.Flow):
                await self.trigger_event(hooks.UpdateHook([subject]))

    def begin(self, event: hooks.Hook) -> Coroutine[Any, Any, None] | None:
        """Call a hook of a flow's life up to the first that may wait; return what is left to be awaited, None if it is over."""
        calls = self.calls(event)
        try:
            for begun in calls:
                return self.finish_lifecycle(event, calls, begun)
        except Exception as e:
            # What mitmproxy handles itself, where it awaits this.
            return failing(e)
        return self.update(event) if self.turns.get("update", True) else None

    async def finish_lifecycle(self, event: hooks.Hook, calls: Calls, begun: Begun) -> None:
        """Finish what ``begin`` has begun."""
        await self.finish(calls, begun)
        await self.update(event)


def call_after_halt(found: Iterable[Turn], args: Iterable[Any]) -> None:
    """Call a halted hook on the addons that it may not be kept from: else calls would leave that none of ours has seen."""
    for steps, _ in found:
        for hook, *_ in steps:
            if getattr(getattr(hook, "__self__", None), "is_called_after_halt", False):
                try:
                    hook(*args)
                except Exception:
                    log_or_raise()


def rest_of(result: Any, spent: list[float] | None, began: float) -> Awaitable[Any] | None:
    """Return what is still to be awaited of what a hook has returned; None for nothing."""
    if spent is not None and inspect.iscoroutine(result):
        return first_wait(result, spent, began)
    return result if inspect.isawaitable(result) else None


def first_wait(hook: Coroutine[Any, Any, Any], spent: list[float], began: float) -> Measured | None:
    """Run a hook up to where it waits, and return the rest of it; None if it is over: nearly every hook waits for nothing."""
    rest = None
    try:
        rest = Measured(hook, hook.send(None), spent)
    except StopIteration:
        pass
    spent[0] += clock_s() - began
    spent[1] += 1
    return rest


class Measured:
    """The rest of a hook that waits, run so that only its own steps are measured and not what others do meanwhile."""

    def __init__(self, hook: Coroutine[Any, Any, Any], awaited: Any, spent: list[float]) -> None:
        """``awaited`` is what the hook waits for."""
        self.hook, self.awaited, self.spent = hook, awaited, spent

    def __await__(self) -> Generator[Any, Any, None]:
        # The hook is driven by hand: time is taken around each step and not while it is suspended.
        step: Callable[[Any], Any]
        awaited = self.awaited
        while True:
            try:
                step, argument = self.hook.send, (yield awaited)
            except BaseException as thrown:
                step, argument = self.hook.throw, thrown
            began = clock_s()
            try:
                awaited = step(argument)
            except StopIteration:
                return
            finally:
                self.spent[0] += clock_s() - began


async def failing(error: Exception) -> None:
    """Raise where it is awaited."""
    raise error


def raise_not_callable(why: str, *_: object) -> NoReturn:
    """Raise in place of a hook that cannot be called."""
    raise exceptions.AddonManagerError(why)


def log_or_raise() -> None:
    """Log the exception being handled, or raise it again if it is one that mitmproxy handles itself."""
    with safecall():
        raise
