"""Take the documentation's screenshots: the dashboard's pages, in both themes, of a simulated company in mid-afternoon."""

from __future__ import annotations

import datetime
import json
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

from playwright.sync_api import sync_playwright

from proving import company
from proving.demo import ROOT, Gateway, keep_calling
from support.browsing import FLAGS, chromium

PAGES = {
    "overview": "#/",
    "budgets": "#/budgets",
    "calls": "#/calls/{call}",
    "key": "#/keys/vk-heidi",
    "features": "#/features",
    "policy": "#/policy",
    "health": "#/health",
}

CLICKED = {"features": "Enable semantic caching"}
"""By page, the button whose dialog is on its picture."""


def main() -> int:
    """Take all screenshots and return 0."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs/img"
    target.mkdir(parents=True, exist_ok=True)
    # A zone such as Etc/GMT-5, which is five hours ahead, in which it is between four and five in the afternoon now.
    ahead = (16 - datetime.datetime.now(datetime.UTC).hour + 11) % 24 - 11
    with tempfile.TemporaryDirectory(prefix="sluicegate-screenshots-") as name:
        folder = Path(name)
        (folder / "policy.yaml").write_text(company.POLICY)
        company.play(folder / "policy.yaml", folder / "state", offset=ahead * company.HOUR)
        gateway, stopping = Gateway(folder, 0, company.POLICY), threading.Event()
        try:
            gateway.wait()
            threading.Thread(target=keep_calling, args=(gateway, stopping), daemon=True).start()
            time.sleep(12)
            take(gateway, target, f"Etc/GMT{-ahead:+d}")
        finally:
            stopping.set()
            gateway.stop()
    return 0


def take(gateway: Gateway, target: Path, zone: str) -> None:
    """Write the screenshots, a file for each page and theme."""
    url, token = f"http://127.0.0.1:{gateway.port}", (gateway.folder / "state/admin-token").read_text().strip()
    request = urllib.request.Request(
        f"{url}/api/logs?limit=1&outcome=completed&min_cost=0.02&user=alice", headers={"authorization": f"Bearer {token}"}
    )
    call = json.loads(urllib.request.urlopen(request).read())["logs"][0]["id"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        for theme in ("light", "dark"):
            context = browser.new_context(viewport={"width": 1240, "height": 740}, color_scheme=theme, timezone_id=zone)
            login = context.request.post(f"{url}/api/session/login", data={"token": token}, headers={"origin": url})
            context.add_init_script(
                f"try {{ localStorage.setItem('sluicegate-session-path', '{login.json()['place']}') }} catch {{}}"
            )
            page = context.new_page()
            page.goto(f"{url}/#/")
            page.wait_for_timeout(4000)
            for name, where in PAGES.items():
                page.goto(f"{url}/{where.format(call=call)}")
                page.locator(".loading").first.wait_for(state="detached")
                page.wait_for_timeout(1500)
                if name in CLICKED:
                    page.get_by_role("button", name=CLICKED[name]).click()
                    page.locator("dialog .diff").wait_for()
                # Hide where this machine keeps its temporary files.
                page.evaluate(
                    "folder => { for (const e of document.querySelectorAll('dd.mono'))"
                    " if (e.textContent.includes(folder)) e.textContent = e.textContent.replace(folder, '/etc/sluicegate'); }",
                    str(gateway.folder),
                )
                page.screenshot(path=target / f"{name}-{theme}.png")
        browser.close()


if __name__ == "__main__":
    sys.exit(main())
