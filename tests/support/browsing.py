"""A browser on the dashboard, and what is watched while it is driven."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, field
from typing import Any

from playwright.sync_api import Page

from support.harness import Gateway

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
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
"""A name that is an attack, wherever it is taken for markup."""


VERA = "a-viewer-s-token"
"""Somebody who may look and not change."""


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
    """What may be among the errors: that nobody is signed in yet is an answer that the browser counts as one."""

    def said(self, error: str) -> None:
        """Take note of an error on the console."""
        if not any(e in error for e in self.expected):
            self.errors.append(error)

    def assert_quiet(self) -> None:
        """Nothing went wrong on it, and nobody else was asked for anything. What was noted is forgotten."""
        errors, strangers = self.errors[:], self.strangers[:]
        self.errors.clear()
        self.strangers.clear()
        assert errors == []
        assert strangers == []

    def go(self, where: str = "#/") -> Page:
        """Open a place of the dashboard and wait until what it shows is there."""
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
