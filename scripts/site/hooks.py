"""Hooks of the site: pages made of the repository's own files, and links that lead out of ``docs``.

README, changelog and the like stay where people look for them in a repository; the site shows them as pages. Another file
that a page links to becomes a page of its own below ``files``, so that the site needs no other server.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]

PAGES = {"README.md": "index.md", "CHANGELOG.md": "changes.md", "CONTRIBUTING.md": "contributing.md", "SECURITY.md": "report.md"}
"""Pages that are files at the repository's root."""

_LINK = re.compile(r"(!?\[[^\]]*\])\(([^)\s#]+)(#[^)\s]*)?\)")
_CODE = re.compile(r"(```.*?^```|`[^`\n]*`)", re.MULTILINE | re.DOTALL)
_TABLE = re.compile(r"<table>.*?</table>", re.DOTALL)
_TAG = re.compile(r"<[^>]*>")
_LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".json": "json"}


def source_of(page: str) -> str:
    """Return a page's file, from the repository's root."""
    return next((source for source, made in PAGES.items() if made == page), f"docs/{page}")


def page_of(source: str) -> str:
    """Return the page or asset of the site that shows a file of the repository."""
    if source in PAGES:
        return PAGES[source]
    return source.removeprefix("docs/") if source.startswith("docs/") else f"files/{source}.md"


def links(page: str, text: str) -> list[tuple[str, str]]:
    """Return the links that lead to files: as written, and from the repository's root."""
    folder = posixpath.dirname(source_of(page))
    found = []
    for part in _CODE.split(text)[::2]:
        for _, target, _ in _LINK.findall(part):
            if ":" not in target:
                found.append((target, posixpath.normpath(posixpath.join(folder, target))))
    return found


def rewritten(page: str, text: str) -> str:
    """Return a page whose links lead to the site's pages, and whose screenshots follow its colours."""
    targets = dict(links(page, text))

    def replace(match: re.Match[str]) -> str:
        name, target, fragment = match[1], match[2], match[3] or ""
        if target not in targets:
            return match[0]
        target = posixpath.relpath(page_of(targets[target]), posixpath.dirname(page) or ".")
        if name.startswith("!") and target.endswith("-light.png"):
            dark = target.replace("-light.png", "-dark.png")
            return f"{name}({target}#only-light){name}({dark}#only-dark)"
        return f"{name}({target}{fragment})"

    parts = _CODE.split(text)
    return "".join(_LINK.sub(replace, part) if i % 2 == 0 else part for i, part in enumerate(parts))


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are not in ``docs``."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    wanted = set()
    for file in files.documentation_pages():
        wanted |= {source for _, source in links(file.src_uri, file.content_string) if page_of(source).startswith("files/")}
    for source in sorted(wanted):
        files.append(File.generated(config, page_of(source), content=_shown(source)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Rewrite the links of a page, and give the first one a title that is not the site's name again."""
    if page.file.src_uri == "index.md":
        page.meta["title"] = "A gateway for AI coding agents"
    return rewritten(page.file.src_uri, markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Write on each cell which column it is of: on phones a row is shown as a list, see ``site.css``."""
    return _TABLE.sub(_labelled, html)


def _labelled(table: re.Match[str]) -> str:
    names = [_TAG.sub("", name) for name in re.findall(r"<th[^>]*>(.*?)</th>", table[0], re.DOTALL)]
    rows = table[0].split("<tr>")
    for i, row in enumerate(rows):
        columns = iter(names)
        rows[i] = re.sub(r"<td(?=[ >])", lambda _, columns=columns: f'<td data-column="{next(columns, "")}"', row)
    return "<tr>".join(rows)


def _shown(source: str) -> str:
    path = ROOT / source
    if path.is_dir():
        names = sorted(str(p.relative_to(path)) for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
        return f"# {source}/\n\nThe files in this folder of the repository:\n\n" + "\n".join(f"- `{name}`" for name in names) + "\n"
    return f"# {source}\n\n~~~~ {_LANGUAGES.get(path.suffix, 'text')}\n{path.read_text().rstrip()}\n~~~~\n"
