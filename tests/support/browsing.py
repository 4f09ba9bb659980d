"""A browser on the dashboard, and the errors watched for while it is driven."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, field
from typing import Any

from playwright.sync_api import Page

from support.harness import Gateway

CHROMIUM = shutil.which("chromium-headless-shell") or shutil.which("chromium") or "/usr/bin/chromium-headless-shell"
"""The headless shell, which has the same engine and opens a page in a quarter of the time; else the whole browser."""
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

EVIL = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
"""A name that is an attack wherever it is read as markup."""


VERA = "a-viewer-s-token"
"""The token of an operator who may only read."""


def until(page: Page, expression: str, arg: Any = None, timeout: float = 15) -> None:
    """Wait until an expression is true. Playwright's own waiting needs eval, which the pages' policy forbids."""
    deadline = time.monotonic() + timeout
    while not page.evaluate(expression, arg):
        assert time.monotonic() < deadline, f"never true: {expression}\n{page.locator('body').inner_text()[:2000]}"
        page.wait_for_timeout(40)


@dataclass
class Watched:
    """A page, and what it did that it should not have done."""

    page: Page
    gateway: Gateway
    errors: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)

    expected: tuple[str, ...] = ("401 (Unauthorized)",)
    """Errors that may occur: the browser counts the 401 before signing in as one."""

    def record_error(self, error: str) -> None:
        """Record an error on the console."""
        if not any(e in error for e in self.expected):
            self.errors.append(error)

    def assert_quiet(self) -> None:
        """Assert that nothing failed and no other server was contacted; forget what was recorded."""
        errors, strangers = self.errors[:], self.strangers[:]
        self.errors.clear()
        self.strangers.clear()
        assert not errors, errors
        assert not strangers, strangers

    def go(self, where: str = "#/") -> Page:
        """Open a page of the dashboard and wait until its content is there."""
        self.page.goto(f"{self.gateway.url}/{where}")
        return self.settled()

    def settled(self) -> Page:
        """Return the page, once nothing on it is still being fetched for the first time."""
        self.page.wait_for_selector("h1")
        until(
            self.page,
            "!document.querySelector('.loading') && ![...document.querySelectorAll('.stat dd')].some(d => d.textContent === '…')",
        )
        return self.page
