"""Chromium, and a gateway whose books hold a company's hundred thousand calls."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, sync_playwright

import company
from browsing import CHROMIUM, EVIL, FLAGS, Watched
from harness import Gateway

BUSY = 17
"""How much more the company does here than in the demo, and may spend."""

POLICY = re.sub(
    r"max_limit: (\d+)\.00",
    lambda m: f"max_limit: {int(m[1]) * BUSY}.00",
    company.POLICY.replace("name: Platform,", f"name: '{EVIL}',"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Browsers last: what drives one keeps a loop running in this thread, in which nobody else's could begin."""
    items.sort(key=lambda item: "browser" in item.path.parts)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        running.close()


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with a history of a hundred thousand calls."""
    folder = tmp_path_factory.mktemp("company")
    gateway = Gateway(folder, POLICY)
    made = company.play(gateway.policy, gateway.state, busy=BUSY)
    assert made > 100_000
    with gateway:
        # The logs' index follows the calls; pages are timed on one that has caught up.
        while (reply := gateway.admin("/api/logs?limit=1")).status == 503:
            time.sleep(0.2)
        assert reply.status == 200
        yield gateway


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Gateway]:
    """A gateway nobody has used yet."""
    with Gateway(tmp_path, company.POLICY) as gateway:
        yield gateway


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Watched]]:
    """Opens a browser of one's own on a gateway, signed in unless ``token`` is None. After the test: no error, no stranger."""
    contexts, watched = [], []

    def open_page(gateway: Gateway, token: str | None = "", **options: Any) -> Watched:
        context = browser.new_context(**({"viewport": {"width": 1440, "height": 900}} | options))
        context.set_default_timeout(15_000)
        contexts.append(context)
        if token is not None:
            said = context.request.post(
                f"{gateway.url}/api/session/login", data={"token": token or gateway.token}, headers={"origin": gateway.url}
            )
            assert said.status == 200, said.text()
            context.add_init_script(f"try {{ localStorage.setItem('sluicegate-place', '{said.json()['place']}') }} catch {{}}")
        seen = Watched(context.new_page(), gateway)
        watched.append(seen)
        own = urlsplit(gateway.url).netloc
        seen.page.on("pageerror", lambda e: seen.errors.append(str(e)))
        seen.page.on("console", lambda m: seen.said(m.text) if m.type == "error" else None)
        seen.page.on(
            "request",
            lambda r: (
                seen.strangers.append(r.url) if urlsplit(r.url).netloc != own and not r.url.startswith(("data:", "blob:")) else None
            ),
        )
        return seen

    yield open_page
    for context in contexts:
        context.close()
    for seen in watched:
        assert seen.errors == []
        assert seen.strangers == []
