"""The dashboard's files in ``static/``. They hold no secrets and are open to everyone."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from sluicegate.web.endpoint import OPEN, ApiRequest, Endpoint, read_endpoint
from sluicegate.web.errors import ApiError
from sluicegate.web.query import AnyQuery

STATIC = Path(__file__).parent / "static"

MEDIA_TYPES = {
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
"""By suffix; any other file is served as text."""

CONTENT_SECURITY_POLICY = (
    "default-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)

TERMINAL_TEXT = """\
sluicegate. Open this address in a browser for the dashboard.

/setup              what to type on a developer machine
/health             whether the gateway works
/api/openapi.json   description of the API; needs the admin token
"""


class File(NamedTuple):
    """A file as it was read, and its modification time and size then."""

    version: tuple[int, int]
    content: bytes
    etag: str


class StaticFiles:
    """A folder's files by their names in it. Only files found in the folder are served, so no name leads out of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._paths: dict[str, Path] = {}
        self._files: dict[str, File] = {}

    def find(self, name: str) -> File | None:
        """Return the file of this name as it is on disk now. Blocking."""
        if name not in self._paths:
            self._paths = self._scan()
        path = self._paths.get(name)
        if path is None:
            return None
        try:
            stat = path.stat()
            version, file = (stat.st_mtime_ns, stat.st_size), self._files.get(name)
            if file is None or file.version != version:
                content = path.read_bytes()
                file = self._files[name] = File(version, content, f'"{hashlib.sha256(content).hexdigest()[:20]}"')
        except OSError:
            return None
        return file

    def _scan(self) -> dict[str, Path]:
        found = (path.relative_to(self.folder) for path in self.folder.rglob("*") if path.is_file())
        return {path.as_posix(): self.folder / path for path in found if not any(part.startswith(".") for part in path.parts)}


def endpoints(folder: Path = STATIC) -> list[Endpoint]:
    """Declare ``/`` and ``/static/...``."""
    files = StaticFiles(folder)

    async def serve(request: Request, name: str) -> Response:
        file = await anyio.to_thread.run_sync(files.find, name)
        if file is None:
            raise ApiError(404, "not_found", "There is no such file")
        # The browser asks each time whether its copy is current, so that an upgrade shows at once.
        headers = {"etag": file.etag, "cache-control": "no-cache", "content-security-policy": CONTENT_SECURITY_POLICY}
        if file.etag in (tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")):
            return Response(status_code=304, headers=headers)
        media_type = MEDIA_TYPES.get(Path(name).suffix, "text/plain; charset=utf-8")
        return Response(file.content, headers=headers, media_type=media_type)

    async def start(request: ApiRequest) -> Response:
        if "text/html" in request.http.headers.get("accept", ""):
            return await serve(request.http, "index.html")
        return PlainTextResponse(TERMINAL_TEXT)

    async def static(request: ApiRequest) -> Response:
        return await serve(request.http, request.path["name"])

    summary = "The dashboard in a browser; in a terminal, where to find what"
    media_types = ("text/html", "text/plain")
    return [
        read_endpoint("/", start, summary, None, roles=OPEN, query=AnyQuery, media_types=media_types),
        read_endpoint("/static/{name:path}", static, "A file", None, roles=OPEN, query=AnyQuery, is_documented=False),
    ]
