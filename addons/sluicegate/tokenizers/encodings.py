"""Encodings: which model's text is counted with which, and the counting itself with tiktoken and the ranks bundled here.

tiktoken is imported by the first count, never by importing this module, and never gets to look for ranks on the network.
"""

from __future__ import annotations

import base64
import hashlib
import lzma
import re
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import yaml

from sluicegate.model_names import matches
from sluicegate.yaml_document import YAML_LOADER

if TYPE_CHECKING:
    import tiktoken

DATA = Path(__file__).parent / "data"

PIECE_CHARS = 65_536
"""Characters encoded at once. The pattern's engine recurses: a run of a million spaces overflows its stack."""

_LETTERS = r"[^\r\n\p{L}\p{N}]?"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_SUFFIX = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"


class _Source(NamedTuple):
    """Where an encoding's ranks are: the SHA-256 of OpenAI's file, and the pattern that splits a text before they apply."""

    sha256: str
    pattern: str


SOURCES = {
    "o200k_base": _Source(
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
        rf"{_LETTERS}{_UPPER}*{_LOWER}+{_SUFFIX}|{_LETTERS}{_UPPER}+{_LOWER}*{_SUFFIX}"
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
    "cl100k_base": _Source(
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+"
        r"| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s",
    ),
}
"""OpenAI's encodings, as tiktoken 0.14 defines them. Special tokens are left out: in a text they are only text."""


class EncodingError(Exception):
    """An encoding that cannot be used, such as one whose ranks are damaged."""


@lru_cache(maxsize=4096)
def encoding_of(model: str) -> str | None:
    """Return the encoding of a model's text; None where its tokenizer is not known."""
    return next((encoding for pattern, encoding in _model_patterns() if matches(pattern, model)), None)


@cache
def _model_patterns() -> tuple[tuple[str, str], ...]:
    entries = yaml.load((DATA / "models.yaml").read_bytes(), YAML_LOADER)["models"]  # noqa: S506
    return tuple((name, entry["encoding"]) for entry in entries for name in entry["names"])


def count(text: str, encoding: str) -> int:
    """Return how many tokens a text is. Blocking: the first count of an encoding takes a second. Raises EncodingError.

    A text longer than a piece may count a token more or less where it is cut between two words of a line.
    """
    encode = _load(encoding).encode_ordinary
    try:
        return sum(len(encode(piece)) for piece in pieces(with_whole_characters(text)))
    except Exception as e:
        raise EncodingError(f"{encoding} cannot encode a text of {len(text)} characters: {e!r}") from e


def with_whole_characters(text: str) -> str:
    """Return a text whose surrogates are joined to the characters they are halves of; a lone one becomes U+FFFD.

    A stream may send the halves of one emoji in two events, each escaped.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


_CUT = re.compile(r"\n(?=\w)")


def pieces(text: str, size: int = PIECE_CHARS) -> Iterator[str]:
    """Yield a text in pieces of at most ``size`` characters, cut between two lines wherever there are lines.

    No token spans the end of a line and the word after it, so that such a cut does not change the count.
    """
    start = 0
    while len(text) - start > size:
        ends = [m.end() for m in _CUT.finditer(text, start + size // 2, start + size)]
        # Elsewhere before a space, which most tokens that have one begin with.
        end = ends[-1] if ends else max(text.rfind(" ", start + size // 2, start + size), 0) or start + size
        yield text[start:end]
        start = end
    yield text[start:]


@cache
def _load(encoding: str) -> tiktoken.Encoding:
    """Return an encoding, made from the ranks bundled here. Raises EncodingError."""
    source = SOURCES.get(encoding)
    if source is None:
        raise EncodingError(f"there is no encoding '{encoding}'; known are {', '.join(SOURCES)}")
    try:
        import tiktoken

        ranks = _read_ranks(DATA / f"{encoding}.tiktoken.xz", source.sha256)
        return tiktoken.Encoding(encoding, pat_str=source.pattern, mergeable_ranks=ranks, special_tokens={})
    except (ImportError, OSError, ValueError, lzma.LZMAError) as e:
        raise EncodingError(f"{encoding} cannot be loaded: {e}") from e


def _read_ranks(path: Path, sha256: str) -> dict[bytes, int]:
    data = lzma.decompress(path.read_bytes())
    if hashlib.sha256(data).hexdigest() != sha256:
        raise EncodingError(f"{path} is not the file that it should be: its SHA-256 is not {sha256}; install sluicegate again")
    fields = data.split()
    return {base64.b64decode(token): int(rank) for token, rank in zip(fields[::2], fields[1::2], strict=True)}
