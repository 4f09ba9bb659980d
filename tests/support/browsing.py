"""A browser on the dashboard, and the errors watched for while it is driven."""

from __future__ import annotations

import math
import shutil
import time
from dataclasses import dataclass, field
from typing import Any

from playwright.sync_api import Dialog, Page

from support.harness import Gateway


def chromium() -> str:
    """Return the headless shell, which has the same engine and opens a page in a quarter of the time; else the whole browser.

    Asked for when it is needed: the tests may be imported while it is still being installed.
    """
    return shutil.which("chromium-headless-shell") or shutil.which("chromium") or "/usr/bin/chromium-headless-shell"


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


OPEN_TIMEOUT_S = 30.0


def until(page: Page, expression: str, arg: Any = None, timeout: float = 60) -> None:
    """Wait until an expression is true. Playwright's own waiting needs eval, which the pages' policy forbids."""
    deadline = time.monotonic() + timeout
    while not page.evaluate(expression, arg):
        assert time.monotonic() < deadline, f"never true: {expression}\n{page.locator('body').inner_text()[:2000]}"
        page.wait_for_timeout(40)


OPEN = """async ([where, patience]) => {
  const reached = async (ready) => {
    for (const end = performance.now() + patience; !ready(); await new Promise((again) => setTimeout(again, 10)))
      if (performance.now() > end) throw new Error(`${where} never came: ${document.body.innerText.slice(0, 2000)}`);
  };
  const title = () => document.querySelector('h1')?.textContent;
  location.hash = '#/-';
  await reached(() => title() === 'Page not found');
  const begin = performance.now();
  location.hash = where;
  await reached(() => title() && title() !== 'Page not found' && SETTLED);
  return performance.now() - begin;
}"""
"""Go to a page by its address as a link does, by way of one that does not exist so that nothing of another page is left."""

LEAVE = """() => new Promise((left) => {
  localStorage.removeItem('sluicegate-theme');
  if (location.hash === '#/-') return left();
  addEventListener('hashchange', () => left(), {once: true});
  location.hash = '#/-';
})"""
"""Leave a page, until what that asks has been answered."""

SETTLED = """!document.querySelector('.loading')
  && ![...document.querySelectorAll('.stat dd')].some(d => d.textContent === '…')
  && ![...document.querySelectorAll('figure.chart')].some(c => !c.querySelector('canvas, .chart-table'))"""
"""True once nothing on a page is still being fetched for the first time, and all charts, which come a moment later, are drawn."""


@dataclass
class Watched:
    """A page, and what it did that it should not have done."""

    page: Page
    gateway: Gateway
    errors: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)

    opened_ms: float = math.inf
    """How long the last page that was opened within the document took."""

    asked: list[str] = field(default_factory=list)
    """What the browser has asked: a question's words, or "beforeunload"."""

    stays: bool = False
    """The answer to such questions: whether to stay. Otherwise what is asked about is lost."""

    expected: tuple[str, ...] = ("401 (Unauthorized)",)
    """Errors that may occur: the browser counts the 401 before signing in as one."""

    def answer(self, dialog: Dialog) -> None:
        """Answer a question of the browser's."""
        self.asked.append(dialog.message if dialog.type == "confirm" else dialog.type)
        if self.stays:
            dialog.dismiss()
        else:
            dialog.accept()

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
        until(self.page, SETTLED)
        return self.page

    def open(self, where: str) -> float:
        """Go to a page of the dashboard within the browser's document; return the milliseconds until its content was there.

        That takes a processor a fifth of the time of ``go``, which fetches and runs all scripts again.
        """
        self.opened_ms = float(self.page.evaluate(OPEN.replace("SETTLED", SETTLED), [where, OPEN_TIMEOUT_S * 1000]))
        return self.opened_ms

    def leave(self) -> None:
        """Leave the page that is shown, so that it polls nothing, and forget what a person has chosen and a test has allowed."""
        self.stays = False
        self.page.evaluate(LEAVE)
        self.expected = Watched.expected
        self.asked.clear()
