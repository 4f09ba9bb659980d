"""Images and files in bodies: data URLs, media types, and what each source of them becomes."""

from __future__ import annotations

import base64
import binascii
import mimetypes
import re

from sluicegate.translation.conversation import Document, Image, Text
from sluicegate.translation.requests.typed import refuse

_DATA_URL = re.compile(r"data:([A-Za-z0-9.+-]+/[A-Za-z0-9.+-]+)?((?:;[^;,]*)*?)(;base64)?,", re.IGNORECASE)
_TEXT_TYPES = frozenset({"application/json", "application/xml", "application/x-yaml", "application/javascript"})
_REGISTERED = {"image/jpg": "image/jpeg", "application/x-pdf": "application/pdf"}
_STANDARD = str.maketrans("-_", "+/")

NO_FILE_IDS = "it is a file stored at the provider, which another provider does not have; send its content in base64"


def image_at(url: str, where: str, detail: str = "") -> Image:
    """Return the image at a URL, which may hold the data itself."""
    if not url.lower().startswith("data:"):
        return Image("url", _public(url, where), detail=detail)
    media_type, data = _data_of(url, where)
    return Image("base64", data, media_type, detail)


def document_at(url: str, where: str, name: str = "") -> Document:
    """Return the file at a URL, which may hold the data itself."""
    if not url.lower().startswith("data:"):
        return Document("url", _public(url, where), name=name)
    media_type, data = _data_of(url, where)
    return Document("base64", data, media_type, name)


def document_of(data: str, where: str, name: str = "") -> Document:
    """Return the file in ``data``: a data URL, or base64 text whose type the file's name tells."""
    if data.lower().startswith("data:"):
        return document_at(data, where, name)
    return Document("base64", data, mimetypes.guess_type(name)[0] or "application/pdf", name)


def inline(data: str, media_type: str, where: str) -> Image | Document:
    """Return base64 data as the image or the file that its media type says it is.

    Google takes the URL-safe alphabet too, in which its own library writes; nobody else does.
    """
    kind = _named(media_type) or refuse(where, "has no media type")
    standard = data.translate(_STANDARD)
    return Image("base64", standard, kind) if kind.startswith("image/") else Document("base64", standard, kind)


def _named(media_type: str) -> str:
    """Return a media type by its registered name."""
    return _REGISTERED.get(media_type.lower(), media_type)


def _data_of(url: str, where: str) -> tuple[str, str]:
    head = _DATA_URL.match(url)
    if not head or not head[1] or not head[3]:
        refuse(where, "must be a data URL with a media type and base64 data")
    return _named(head[1].lower()), url[head.end() :]


def _public(url: str, where: str) -> str:
    if not url.lower().startswith(("https://", "http://")):
        refuse(where, "must be an http, https or data URL; send the content in base64")
    return url


def data_url(media_type: str, data: str) -> str:
    """Return a data URL."""
    return f"data:{media_type};base64,{data}"


def guessed_type(url: str, otherwise: str) -> str:
    """Return the media type that a URL's ending tells."""
    return mimetypes.guess_type(url.partition("?")[0])[0] or otherwise


def content_of(document: Document) -> str | None:
    """Return what a file of text says; None for any other file."""
    if document.source != "base64" or not (document.media_type.startswith("text/") or document.media_type in _TEXT_TYPES):
        return None
    try:
        return base64.b64decode(document.data, validate=True).decode()
    except (binascii.Error, ValueError):
        return None


def as_text(document: Document) -> Text | None:
    """Return a file of text as text with its name above; None for any other file."""
    content = content_of(document)
    if content is None:
        return None
    return Text(f"{document.name}\n{content}" if document.name else content, document.cache)
