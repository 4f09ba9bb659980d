"""Dispatch from a cache does what mitmproxy's own does, in the same order, whatever addons do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mitmproxy import exceptions, hooks, http
from mitmproxy.addons import anticache, save
from mitmproxy.master import Master
from mitmproxy.options import Options
from mitmproxy.proxy import server_hooks
from mitmproxy.proxy.layers.http import HttpRequestHook, HttpResponseHook
from mitmproxy.test import tflow

from runtime import dispatch
from support.hypothesis_profiles import examples

DOES = st.sampled_from(["passes", "raises", "halts", "awaits", "refuses options", "has no hook", "has a word for it", "has none"])


class Actor:
    """An addon that notes that it was called, and then does something."""

    def __init__(self, name: str, does: str, inner: list[Actor], log: list[str]) -> None:
        self.name, self.does, self.log = name, does, log
        if inner:
            self.addons = inner
        if does != "has no hook":
            odd = {"awaits": self.awaited, "has a word for it": "no hook at all", "has none": ""}
            self.requestheaders = odd.get(does, self.called)

    def called(self, flow: http.HTTPFlow) -> None:
        self.log.append(self.name)
        if self.does == "raises":
            raise ValueError("meant to")
        if self.does == "halts":
            raise exceptions.AddonHalt
        if self.does == "refuses options":
            raise exceptions.OptionsError("meant to")

    async def awaited(self, flow: http.HTTPFlow) -> None:
        await asyncio.sleep(0)
        self.log.append(self.name)


def cache_dispatch_of(manager, time_spent) -> dispatch.CachedDispatch:
    """Put cached dispatch in place on one addon manager, as the patch does."""
    cached = dispatch.CachedDispatch(manager, time_spent)
    for name, method in cached.methods().items():
        setattr(manager, name, method)
    return cached


def chain(plan: list[tuple[str, list[str]]], log: list[str]) -> list[Actor]:
    return [
        Actor(f"a{i}", does, [Actor(f"a{i}.{j}", d, [], log) for j, d in enumerate(inner)], log)
        for i, (does, inner) in enumerate(plan)
    ]


async def calls(plan: list[tuple[str, list[str]]], cached: bool) -> tuple[list[str], str | None]:
    """Who was called, and what came out at the top; each hook is triggered twice, for the cache must not change it."""
    log: list[str] = []
    master = Master(Options())
    master._legacy_log_events.uninstall()
    master.addons.add(*chain(plan, log))
    if cached:
        cache_dispatch_of(master.addons, {})
    error = None
    for _ in range(2):
        try:
            await master.addons.handle_lifecycle(REQUESTHEADERS(tflow.tflow()))
        except exceptions.OptionsError as e:
            error = str(e)
    return log, error


REQUESTHEADERS = hooks.all_hooks["requestheaders"]


@settings(max_examples=examples(150))
@given(st.lists(st.tuples(DOES, st.lists(DOES, max_size=3)), max_size=5))
def test_the_same_addons_are_called_in_the_same_order(plan):
    assert asyncio.run(calls(plan, True)) == asyncio.run(calls(plan, False))


def in_loop(test):
    async def run() -> None:
        await test()

    return lambda: asyncio.run(run())


@in_loop
async def test_an_idle_addon_is_passed_over_until_its_option_changes():
    master = Master(Options())
    addon = anticache.AntiCache()
    master.addons.add(addon)
    cached = cache_dispatch_of(master.addons, {})

    async def asked() -> bool:
        flow = tflow.tflow()
        flow.request.headers["if-none-match"] = "x"
        await master.addons.handle_lifecycle(hooks.all_hooks["request"](flow))
        return "if-none-match" not in flow.request.headers

    assert not await asked()
    assert cached.turns["request"] == []
    master.options.update(anticache=True)
    assert await asked()
    master.options.update(anticache=False)
    assert not await asked()
    assert cached.turns["request"] == []


@in_loop
async def test_addons_that_come_and_go_are_seen_at_once():
    log: list[str] = []
    master = Master(Options())
    cache_dispatch_of(master.addons, {})
    event = REQUESTHEADERS(tflow.tflow())
    await master.addons.handle_lifecycle(event)
    late = Actor("late", "passes", [], log)
    master.addons.add(late)
    await master.addons.handle_lifecycle(event)
    master.addons.remove(late)
    await master.addons.handle_lifecycle(event)
    assert log == ["late"]


@in_loop
async def test_update_follows_for_those_who_listen():
    class Listener:
        def __init__(self):
            self.flows = []

        def update(self, flows):
            self.flows += flows

    master, listener = Master(Options()), Listener()
    cache_dispatch_of(master.addons, {})
    flow = tflow.tflow()
    await master.addons.handle_lifecycle(REQUESTHEADERS(flow))
    master.addons.add(listener)
    await master.addons.handle_lifecycle(REQUESTHEADERS(flow))
    await master.addons.handle_lifecycle(server_hooks.ClientConnectedHook(flow.client_conn))
    assert listener.flows == [flow]


@in_loop
async def test_time_is_counted_for_addons_that_are_not_mitmproxys():
    log: list[str] = []
    master = Master(Options())
    spent: dict[tuple[str, str], list[float]] = {}
    master.addons.add(save.Save(), Actor("mine", "passes", [], log))
    cache_dispatch_of(master.addons, spent)
    for _ in range(3):
        await master.addons.handle_lifecycle(REQUESTHEADERS(tflow.tflow()))
    assert [(k, count) for k, (_, count) in spent.items()] == [(("actor", "requestheaders"), 3)]
    assert spent["actor", "requestheaders"][0] > 0


class Waiter:
    """An addon whose hook waits as often as it is told, and may fail at its end."""

    def __init__(self, name: str, waits: int, fails: bool = False) -> None:
        self.name, self.waits, self.fails, self.done = name, waits, fails, 0

    async def requestheaders(self, flow: http.HTTPFlow) -> None:
        for _ in range(self.waits):
            await asyncio.sleep(0)
        self.done += 1
        if self.fails:
            raise ValueError("meant to")


@settings(max_examples=examples(60))
@given(st.integers(0, 3), st.integers(0, 3), st.booleans())
def test_a_hook_is_counted_once_however_often_it_waits(first, second, fails):
    async def run() -> tuple[list[int], list[float]]:
        spent: dict[tuple[str, str], list[float]] = {}
        waiters = [Waiter("a", first), Waiter("b", second, fails)]
        master = Master(Options())
        master._legacy_log_events.uninstall()
        master.addons.add(*waiters)
        cache_dispatch_of(master.addons, spent)
        await master.addons.handle_lifecycle(REQUESTHEADERS(tflow.tflow()))
        return [w.done for w in waiters], spent["waiter", "requestheaders"]

    done, (took_s, count) = asyncio.run(run())
    assert done == [1, 1]
    # One that fails before it has waited is not counted, like one that cannot wait.
    assert count == (1 if fails and not second else 2)
    assert took_s > 0


@in_loop
async def test_the_time_in_which_a_hook_waits_is_not_its_own():
    reading = iter(range(0, 10_000, 10))
    spent: dict[tuple[str, str], list[float]] = {}
    master = Master(Options())
    master.addons.add(Waiter("a", 2))
    cache_dispatch_of(master.addons, spent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dispatch, "clock_s", lambda: next(reading))
        await master.addons.handle_lifecycle(REQUESTHEADERS(tflow.tflow()))
    # Three steps, each between two readings of the clock that follow on one another.
    assert spent["waiter", "requestheaders"] == [30, 1]


def test_every_addon_that_may_be_idle_exists_with_its_options():
    from mitmproxy.addons import default_addons, dumper

    async def check() -> None:
        master = Master(Options())
        # mitmdump adds that one to the others.
        master.addons.add(*default_addons(), dumper.Dumper())
        names = {type(a).__name__.lower(): a for a in master.addons.chain}
        assert {*dispatch.IDLE_AT_DEFAULTS, *dispatch.IDLE_AT} <= set(names)
        for name, options in dispatch.IDLE_AT_DEFAULTS.items():
            assert dispatch.is_idle(names[name], master.options), name
            assert all(o in master.options for o in options)
        for name, (option, value) in dispatch.IDLE_AT.items():
            assert not dispatch.is_idle(names[name], master.options), name
            master.options.update(**{option: value})
            assert dispatch.is_idle(names[name], master.options), name
        master.options.update(mode=["regular@127.0.0.1:8080"])
        assert dispatch.is_idle(names["updatealtsvc"], master.options)
        master.options.update(mode=["regular@8080", "reverse:http://127.0.0.1:9@8081"])
        assert not dispatch.is_idle(names["updatealtsvc"], master.options)
        assert not dispatch.is_idle(names["tlsconfig"], master.options)

    asyncio.run(check())


def test_an_addon_of_somebody_elses_with_a_known_name_is_never_idle():
    class Save:
        pass

    async def check() -> None:
        assert not dispatch.is_idle(Save(), Master(Options()).options)

    asyncio.run(check())


def test_a_hook_with_a_mark_is_called_for_flows_that_have_it():
    class Marked:
        marks: ClassVar = {"request": "is_ours"}

        def __init__(self) -> None:
            self.seen: list[str] = []

        def request(self, flow: http.HTTPFlow) -> None:
            self.seen.append("request")

        def response(self, flow: http.HTTPFlow) -> None:
            self.seen.append("response")

    async def run() -> list[str]:
        addon = Marked()
        master = Master(Options())
        master.addons.add(addon)
        cached = cache_dispatch_of(master.addons, {})
        flow = tflow.tflow()
        for _ in range(2):
            await cached.trigger_event(hooks_of(flow)[0])
            await cached.trigger_event(hooks_of(flow)[1])
            flow.is_ours = True
        return addon.seen

    assert asyncio.run(run()) == ["response", "request", "response"]


def hooks_of(flow: http.HTTPFlow) -> tuple[hooks.Hook, hooks.Hook]:
    return HttpRequestHook(flow), HttpResponseHook(flow)


@in_loop
async def test_what_an_ordinary_hook_returns_is_awaited_before_the_next_addon():
    log: list[str] = []

    class Returns:
        def __init__(self, name: str, wrap: Callable[[Coroutine], Awaitable]) -> None:
            self.name, self.wrap = name, wrap

        async def rest(self) -> None:
            await asyncio.sleep(0)
            log.append(self.name)

        def requestheaders(self, flow: http.HTTPFlow) -> Awaitable:
            return self.wrap(self.rest())

    master = Master(Options())
    master.addons.add(Returns("coroutine", lambda c: c), Returns("task", asyncio.ensure_future), Actor("last", "passes", [], log))
    cache_dispatch_of(master.addons, {})
    await master.addons.handle_lifecycle(REQUESTHEADERS(tflow.tflow()))
    assert log == ["coroutine", "task", "last"]


@dataclass
class NobodysHook(hooks.Hook):
    """A hook without an argument."""


@dataclass
class PairHook(hooks.Hook):
    """A hook with two arguments."""

    flow: http.HTTPFlow
    other: str


@in_loop
async def test_hooks_with_no_argument_and_with_several_are_called_and_measured():
    class Addon:
        is_called_after_halt = True

        def __init__(self) -> None:
            self.called: list[tuple] = []

        def nobodys(self) -> None:
            self.called.append(())

        def pair(self, flow: http.HTTPFlow, other: str) -> None:
            self.called.append((flow, other))

    class Halts:
        def pair(self, flow: http.HTTPFlow, other: str) -> None:
            raise exceptions.AddonHalt

    master, addon, halts, flow = Master(Options()), Addon(), Halts(), tflow.tflow()
    spent: dict[tuple[str, str], list[float]] = {}
    cached = cache_dispatch_of(master.addons, spent)
    master.addons.add(addon)
    await cached.trigger_event(NobodysHook())
    await cached.handle_lifecycle(PairHook(flow, "x"))
    assert addon.called == [(), (flow, "x")]
    assert [spent["addon", hook][1] for hook in ("nobodys", "pair")] == [1, 1]
    master.addons.remove(addon)
    master.addons.add(halts, addon)
    addon.called.clear()
    await cached.trigger_event(PairHook(flow, "y"))
    assert addon.called == [(flow, "y")]
