"""Where a secret of the policy is kept: in the environment, in a file, or in the policy itself.

A policy names a secret by reference, ``env.NAME`` or ``file:PATH``; any other text is the secret itself. No message
made here contains a value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

ENV, FILE = "env.", "file:"
"""How the two kinds of references begin."""

MAX_FILE_BYTES = 64 << 10
"""Largest file of a secret that is read: reading a device by mistake would never end."""

_OTHER_SPELLINGS = re.compile(
    r"\$\{(?:env[:.])?([A-Za-z_]\w*)(?::?[-?+=][^}]*)?\}|\$([A-Za-z_]\w*)|\$env:([A-Za-z_]\w*)|os\.environ[/.]([A-Za-z_]\w*)"
    r"|\$?\{\{\s*(?:env|secrets)?\.?([A-Za-z_]\w*)\s*\}\}|%([A-Za-z_]\w*)%|env:([A-Za-z_]\w*)"
    r"|os\.environ\[[\"']([A-Za-z_]\w*)[\"']\]|process\.env\.([A-Za-z_]\w*)",
    re.ASCII,
)
"""How shells, compose files, LiteLLM and others name a variable."""


class Secret(NamedTuple):
    """What a reference leads to: a value, or the reason why there is none."""

    value: str | None
    problem: str = ""


def resolve(reference: str, env: Mapping[str, str], *, sources: tuple[str, ...] = (ENV, FILE)) -> Secret:
    """Return the secret a reference leads to, without the white space around it; any other text is the secret itself.

    ``sources`` says which kinds of references are followed. Reads a file of at most ``MAX_FILE_BYTES``; never raises.
    """
    if not is_reference(reference, sources):
        return Secret(reference)
    if reference.startswith(ENV):
        name = reference.removeprefix(ENV)
        found = env.get(name, "").strip()
        return Secret(found) if found else Secret(None, f"the variable {name} is not set")
    return _read(reference.removeprefix(FILE))


def is_reference(text: str, sources: tuple[str, ...] = (ENV, FILE)) -> bool:
    """Return whether a text is a reference to a secret and not the secret itself."""
    return text.startswith(sources)


def refusal_of_spelling(text: str) -> str | None:
    """Return what is wrong with a reference in another program's spelling, such as ``${NAME}``; None where it is none.

    Taken as the secret itself, it would be sent to a provider, or be a key that anyone can guess.
    """
    found = _OTHER_SPELLINGS.fullmatch(text.strip())
    if found is None:
        return None
    name = next(filter(None, found.groups()))
    return f"a variable of the environment is written env.{name} here"


def variable_of(reference: str) -> str | None:
    """Return the environment variable a reference names, None where it names none."""
    return reference.removeprefix(ENV) if reference.startswith(ENV) else None


def _read(path: str) -> Secret:
    try:
        with Path(path).expanduser().open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            return Secret(None, f"its file is larger than {MAX_FILE_BYTES >> 10} KiB")
        found = data.decode().strip()
    except (OSError, ValueError, RuntimeError) as e:
        # Missing, not UTF-8 text, not a possible path, or the home of a user who does not exist.
        return Secret(None, f"its file cannot be read ({type(e).__name__})")
    return Secret(found) if found else Secret(None, "its file is empty")
