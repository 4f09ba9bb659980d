"""The dashboard's files, as they lie in ``static/``. They hold nothing secret and are open to everyone."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from sluicegate.web.auth import error

STATIC = Path(__file__).parent / "static"

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
}
"""By suffix; anything else is shown as text."""

POLICY = (
    "default-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)

WHERE = """\
sluicegate. The dashboard is this address in a browser.

/setup              what to type on a developer machine
/health             how the gateway is
/api/openapi.json   what can be asked of it, with the admin token
"""


class File(NamedTuple):
    """A file as it was read, and how it looked then."""

    look: tuple[int, int]
    content: bytes
    etag: str


class StaticFiles:
    """A folder's files by their names in it. Only what was found in the folder is looked up, so no name leads out of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._paths: dict[str, Path] = {}
        self._files: dict[str, File] = {}

    def find(self, name: str) -> File | None:
        """The file of this name as it is now. Blocking."""
        if name not in self._paths:
            found = (p for p in self.folder.rglob("*") if p.is_file())
            names = {p.relative_to(self.folder).as_posix(): p for p in found}
            self._paths = {n: p for n, p in names.items() if not any(part.startswith(".") for part in n.split("/"))}
        path = self._paths.get(name)
        try:
            at = path.stat() if path is not None else None
            if path is None or at is None:
                return None
            look, known = (at.st_mtime_ns, at.st_size), self._files.get(name)
            if known is None or known.look != look:
                content = path.read_bytes()
                known = self._files[name] = File(look, content, f'"{hashlib.sha256(content).hexdigest()[:20]}"')
        except OSError:
            return None
        return known


def routes(folder: Path = STATIC) -> list[Route]:
    """``/`` and ``/static/...``."""
    files = StaticFiles(folder)

    async def serve(request: Request, name: str) -> Response:
        found = await anyio.to_thread.run_sync(files.find, name)
        if found is None:
            return JSONResponse(error("not_found", "There is no such file"), 404)
        # The browser asks each time whether its copy is still the one, so that an upgrade shows at once.
        headers = {"etag": found.etag, "cache-control": "no-cache", "content-security-policy": POLICY}
        if found.etag in (tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")):
            return Response(status_code=304, headers=headers)
        return Response(found.content, headers=headers, media_type=TYPES.get(Path(name).suffix, "text/plain; charset=utf-8"))

    async def start(request: Request) -> Response:
        if "text/html" in request.headers.get("accept", ""):
            return await serve(request, "index.html")
        return PlainTextResponse(WHERE)

    async def file(request: Request) -> Response:
        return await serve(request, request.path_params["name"])

    return [Route("/", start), Route("/static/{name:path}", file)]
