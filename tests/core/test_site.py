"""The site of the documentation: every page is in its menu, every link leads somewhere, nothing comes from another server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOWHERE = {name: "http://127.0.0.1:9" for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")}
"""Whatever asks for something over a network fails."""


def build(folder: Path, config: Path = ROOT / "mkdocs.yml") -> subprocess.CompletedProcess[str]:
    # Not --quiet: it hides warnings from --strict too.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(config), "-d", str(folder)]
    env = os.environ | NOWHERE | {"NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = build(folder)
    assert done.returncode == 0, done.stderr
    return folder


class Loads(HTMLParser):
    """What a browser fetches by itself to show a page, and what one may click on."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: set[str] = set()
        self.linked: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        at = {name: value or "" for name, value in attrs}
        if tag == "a":
            self.linked.add(at.get("href", ""))
        elif tag == "link" and at.get("rel") not in ("canonical", "next", "prev"):
            self.fetched.add(at.get("href", ""))
        self.fetched |= {at["src"]} if "src" in at else set()


def test_no_page_needs_another_server(site):
    for page in site.rglob("*.html"):
        text = page.read_text()
        base = site if page.name == "404.html" else page.parent
        for target in Loads(text).fetched:
            assert target.startswith("data:") or (base / target.lstrip("/").split("#")[0].split("?")[0]).exists(), (
                page.name,
                target,
            )
        assert "fonts.googleapis" not in text


def test_the_site_has_every_page_and_the_files_that_they_link_to(site):
    made = {str(p.relative_to(site).with_suffix(".md")) for p in site.rglob("*.html")} - {"404.md"}
    written = {str(p.relative_to(ROOT / "docs")) for p in (ROOT / "docs").rglob("*.md")}
    shown = {name for name in made if name.startswith("files/")}
    assert made - shown == written | {"index.md", "changes.md", "contributing.md", "report.md"}
    assert {"files/policies/quickstart.yaml.md", "files/policies/acme.yaml.md", "files/deploy.md"} <= shown


def test_the_first_page_is_the_readme(site):
    index = (site / "index.html").read_text()
    for heading in re.findall(r"^## (.+)$", (ROOT / "README.md").read_text(), re.MULTILINE):
        assert f">{heading}<" in index
    assert {"install.html", "files/policies/acme.yaml.html", "changes.html"} <= Loads(index).linked
    assert {"img/overview-light.png#only-light", "img/overview-dark.png#only-dark"} <= Loads(index).fetched


def test_each_cell_says_which_column_it_is_of(site):
    """On phones, where rows are lists."""
    page = (site / "policy.html").read_text()
    assert '<td data-column="meaning">Dollars that may be spent in the period; 0 refuses everything.</td>' in page
    assert "<td>" not in page


def test_the_search_index_has_every_section(site):
    index = (site / "search/search_index.json").read_text()
    assert '"location":"policy.html#budgets"' in index
    assert '"location":"index.html#start"' in index


def test_a_broken_link_ends_the_build(tmp_path):
    """The checks that the site's configuration asks for, on a site of one page."""
    settings = (ROOT / "mkdocs.yml").read_text()
    (validation,) = re.findall(r"^validation:\n(?:  .*\n)+", settings, re.MULTILINE)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/index.md").write_text("[a](nowhere.md) [b](#not-here)")
    (tmp_path / "mkdocs.yml").write_text(f"site_name: a\ntheme: {{name: null, custom_dir: theme}}\nplugins: []\n{validation}")
    (tmp_path / "theme").mkdir()
    (tmp_path / "theme/main.html").write_text("{{ page.content }}")
    done = build(tmp_path / "site", tmp_path / "mkdocs.yml")
    assert done.returncode != 0
    assert "'nowhere.md'" in done.stderr
    assert "'#not-here'" in done.stderr
