"""Chromium, and a gateway with a company's calls: a hundred thousand in the long form, a tenth of that in the short one.

Opening the dashboard costs a second of a processor, going to another page of it a fifth of that. So what needs no browser of
its own is done on one page of a browser that stays open, see ``walk`` and ``walk_small``.
"""

from __future__ import annotations

import multiprocessing
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from proving import company
from support.api import token_hash
from support.browsing import EVIL, FLAGS, VERA, Watched, chromium
from support.harness import Gateway

LONG, SHORT = (17, 100_000), (2, 10_000)
"""By form of the tests: the factor by which the company's calls and budgets exceed those of the demo, and how many that is at least."""

SCREEN: dict[str, Any] = {"viewport": {"width": 1440, "height": 900}, "reduced_motion": "reduce"}
"""Nothing pulses: without a graphics card a moving dot on a page costs a processor a third of its time."""


def policy_of(busy: int) -> str:
    """Return the company's policy, a team of which has a name that is an attack."""
    text = company.POLICY.replace("name: Platform,", f"name: '{EVIL}',")
    text = re.sub(r"max_limit: (\d+)\.00", lambda m: f"max_limit: {int(m[1]) * busy}.00", text)
    return text + f"operators:\n  - {{id: vera, role: viewer, token_hash: '{token_hash(VERA)}'}}\n"


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium. It ends with the last test in this folder: Playwright keeps a loop running in this thread, where no other can start."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield running
        running.close()


def fill(policy: Path, state: Path, busy: int, least: int) -> None:
    """Record the company's calls."""
    assert company.play(policy, state, busy=busy) > least


@pytest.fixture(scope="package", autouse=True)
def books(
    request: pytest.FixtureRequest, is_long: bool, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Gateway, Any] | None]:
    """Yield a gateway that has not been started and the process that fills its books, None if no test asks for it."""
    if not any("site" in getattr(item, "fixturenames", ()) for item in request.session.items):
        yield None
        return
    busy, least = LONG if is_long else SHORT
    gateway = Gateway(tmp_path_factory.mktemp("company"), policy_of(busy))
    filling = multiprocessing.get_context("spawn").Process(target=fill, args=(gateway.policy, gateway.state, busy, least))
    filling.start()
    yield gateway, filling
    filling.kill()


@pytest.fixture(scope="package")
def site(books: tuple[Gateway, Any]) -> Iterator[Gateway]:
    """Yield a gateway with the company's history of calls."""
    gateway, filling = books
    filling.join()
    assert filling.exitcode == 0
    with gateway:
        # The logs' index follows the calls; pages are timed on one that has caught up.
        while (reply := gateway.admin("/api/logs?limit=1")).status == 503:
            time.sleep(0.05)
        assert reply.status == 200
        yield gateway


@pytest.fixture(scope="package")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Yield a gateway with the company's policy and no calls but those that tests make."""
    with Gateway(tmp_path_factory.mktemp("small"), company.POLICY) as gateway:
        yield gateway


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Gateway]:
    """Yield a gateway without calls."""
    with Gateway(tmp_path, company.POLICY) as gateway:
        yield gateway


def watch(context: BrowserContext, gateway: Gateway, token: str | None) -> Watched:
    """Return a page of a browser, signed in unless ``token`` is None; its errors are recorded."""
    context.set_default_timeout(60_000)
    if token is not None:
        said = context.request.post(
            f"{gateway.url}/api/session/login", data={"token": token or gateway.token}, headers={"origin": gateway.url}
        )
        assert said.status == 200, said.text()
        context.add_init_script(f"try {{ localStorage.setItem('sluicegate-session-path', '{said.json()['place']}') }} catch {{}}")
    seen = Watched(context.new_page(), gateway)
    own = urlsplit(gateway.url).netloc

    def asked(url: str) -> None:
        if urlsplit(url).netloc != own and not url.startswith(("data:", "blob:")):
            seen.strangers.append(url)

    seen.page.on("dialog", seen.answer)
    seen.page.on("pageerror", lambda e: seen.errors.append(str(e)))
    seen.page.on("console", lambda m: seen.record_error(m.text) if m.type == "error" else None)
    seen.page.on("request", lambda r: asked(r.url))
    return seen


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Watched]]:
    """Open a browser of its own on a gateway, signed in unless ``token`` is None; assert after the test that it had no error and contacted no other server."""
    watched = []

    def open_page(gateway: Gateway, token: str | None = "", **options: Any) -> Watched:
        watched.append(watch(browser.new_context(**(SCREEN | options)), gateway, token))
        return watched[-1]

    yield open_page
    for seen in watched:
        seen.page.context.close()
    for seen in watched:
        seen.assert_quiet()


@pytest.fixture(scope="package")
def walking(browser: Browser, site: Gateway) -> Iterator[Watched]:
    """Yield one browser page for many views of the company."""
    with browser.new_context(**SCREEN) as context:
        yield watch(context, site, "")


@pytest.fixture(scope="package")
def walking_small(browser: Browser, small: Gateway) -> Iterator[Watched]:
    """Yield one browser page for many views of the small gateway."""
    with browser.new_context(**SCREEN) as context:
        yield watch(context, small, "")


def strolling(seen: Watched) -> Iterator[Callable[[str], Page]]:
    """Yield what opens a page of the dashboard in the light theme on a wide screen, and leave the last one after the test."""

    def go(where: str) -> Page:
        if seen.page.evaluate("!document.querySelector('.shell nav[aria-label]')"):
            seen.go(where)
        seen.page.set_viewport_size(SCREEN["viewport"])
        seen.page.emulate_media(color_scheme="light")
        seen.open(where)
        return seen.page

    yield go
    seen.leave()
    seen.assert_quiet()


@pytest.fixture
def walk(walking: Watched) -> Iterator[Callable[[str], Page]]:
    """Open a page of the company's dashboard, within the browser's document."""
    yield from strolling(walking)


@pytest.fixture
def walk_small(walking_small: Watched) -> Iterator[Callable[[str], Page]]:
    """Open a page of the small gateway's dashboard, within the browser's document."""
    yield from strolling(walking_small)


@pytest.fixture
def first_visit(walking: Watched) -> Iterator[Callable[[str], Page]]:
    """Open a page by its address as if for the first time: nothing is loaded and no file is stored."""
    devtools = walking.page.context.new_cdp_session(walking.page)

    def go(where: str) -> Page:
        walking.page.goto("about:blank")
        devtools.send("Network.clearBrowserCache")
        walking.page.set_viewport_size(SCREEN["viewport"])
        walking.page.emulate_media(color_scheme="light")
        return walking.go(where)

    yield go
    walking.leave()
    devtools.detach()
    walking.assert_quiet()
