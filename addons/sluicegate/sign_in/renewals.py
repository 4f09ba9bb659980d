"""Renewals that come twice, from a client whose sessions on one machine share a sign-in and each remember its refresh token.

Claude Code is such a client: every terminal keeps the credential that it has read at its start. Two that renew in the same
moment are given the same new tokens, because the client takes a refusal then for the end of the sign-in. One that comes later
is refused, and takes what the other has stored. What a refresh token was exchanged for is kept for that, sealed for whoever has it.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from sluicegate.sign_in.kept import Used
from sluicegate.sign_in.tokens import seal, unseal

CLIENTS = ("claude-code/", "claude-cli/")
"""How the user agents of such clients begin."""

SAME_MOMENT_MS = 30_000
"""How long after its use a refresh token that comes again is given the same new tokens."""

DISPUTED_MS = 600_000
"""How long after a later refusal a new sign-in at the same address ends the old one: nobody there has taken its new tokens."""


class Issued(NamedTuple):
    """The tokens of a sign-in, in clear."""

    access_token: str
    refresh_token: str
    expires_in_s: int
    email: str | None


def sealed_answer(issued: Issued, refresh_token: str) -> bytes:
    """Return what a refresh token was exchanged for, for whoever has it."""
    return seal(json.dumps(issued), refresh_token)


def answered_again(used: Used, refresh_token: str, source: str, client: str, since: int) -> Issued | None:
    """Return what a refresh token was exchanged for since then, if its sender may be another session of the same client."""
    text = unseal(used.answer, refresh_token) if used.answer and used.at > since and is_shared_by(used, source, client) else None
    return Issued(*json.loads(text)) if text is not None else None


def is_shared_by(used: Used, source: str, client: str) -> bool:
    """Return whether a used refresh token may come again without having been copied to another machine."""
    return used.source == source and client.startswith(CLIENTS)
