"""Clients: which program makes a call, by what its headers say, and what else they say about it.

That decides how a refusal is put to the client, never whether there is one: anyone can send any header.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from sluicegate.calls.cache_directives import CACHE_HEADERS, directives_of
from sluicegate.calls.call import Call
from sluicegate.policy.projects import check_claim
from sluicegate.request_grammar import HeaderFields, HeaderValues
from sluicegate.values import PROJECT_HEADER

OTHER = "other"

_AGENTS: Mapping[str, str] = {
    # The second for its requests besides model calls; some of its subprocesses have "Bun/" and send no session either.
    "claude-cli/": "claude-code",
    "claude-code/": "claude-code",
    # "codex_exec/", "codex_cli_rs/", "codex-tui/", "codex_vscode/", "Codex Desktop/".
    "codex": "codex",
    # "GeminiCLI/", "GeminiCLI-tui/", "GeminiCLI-a2a-server/".
    "geminicli": "gemini-cli",
    "qwencode/": "qwen-code",
    "opencode/": "opencode",
}
"""How the ``User-Agent`` of a client begins, in lower case. The providers' own libraries are none of these."""

_AGENT_CHARACTERS = 16
"""How much of a ``User-Agent`` is looked at: more than any of these is long."""

MAX_TRACEPARENT_CHARS = 256
"""Length of a ``traceparent`` that may be one: today's have 55 characters, those of later versions may have more."""

ATTRIBUTION = re.compile(r"[A-Za-z0-9._@+-]{1,128}")
"""What an attribution header may contain. Other values are ignored, because the value is shown to people."""


@lru_cache(maxsize=256)
def _by_agent(beginning: str) -> str | None:
    return next((name for prefix, name in _AGENTS.items() if beginning.lower().startswith(prefix)), None)


def values_of(fields: HeaderFields) -> HeaderValues:
    """Return all header values by name, read in one pass: each look-up in mitmproxy's headers reads all of them."""
    found: dict[str, list[str]] = {}
    for name, value in fields:
        found.setdefault(name.lower().decode("latin-1"), []).append(value.decode("utf-8", "surrogateescape"))
    return found


def client_of(agent: str, values: HeaderValues) -> str:
    """Return the client's name, by its ``User-Agent`` or else by a header that no other client sends; ``other`` if unknown."""
    name = _by_agent(agent[:_AGENT_CHARACTERS])
    if name is not None:
        return name
    if "x-claude-code-session-id" in values:
        return "claude-code"
    # Programs that embed Codex have an agent of their own.
    return "codex" if any(v.startswith("codex") for v in values.get("originator", ())) else OTHER


def is_websocket(values: HeaderValues) -> bool:
    """Return whether a request asks for a WebSocket."""
    return any("websocket" in v.lower() for v in values.get("upgrade", ()))


def note_client(call: Call, values: HeaderValues, proxy_project: str | None = None) -> None:
    """Note on the call what the client's headers say about it, bounded and printable.

    ``proxy_project`` is the project that its proxy URL names, which holds where no header of its own does.
    """

    def header(name: str) -> str:
        return ", ".join(values.get(name, ()))

    agent = header("user-agent")[:256]
    call.user_agent = (agent if agent.isprintable() else "".join(c for c in agent if c.isprintable())) or None
    call.client = client_of(agent, values)
    session = header("x-claude-code-session-id") or header("session-id")
    call.session_id = session if session and ATTRIBUTION.fullmatch(session) else None
    agent_id = header("x-claude-code-agent-id")
    call.agent_id = agent_id if agent_id and ATTRIBUTION.fullmatch(agent_id) else None
    request_class = header("x-claude-code-request-class")
    call.request_class = request_class if request_class and ATTRIBUTION.fullmatch(request_class) else None
    trace = values.get("traceparent", ())
    call.traceparent = trace[0] if len(trace) == 1 and len(trace[0]) <= MAX_TRACEPARENT_CHARS else None
    user = header("x-bf-user-id")
    if user and ATTRIBUTION.fullmatch(user):
        call.attribution["user_id"] = user
    if not values.keys().isdisjoint(CACHE_HEADERS):
        try:
            call.cache_directives = directives_of(values)
        except ValueError as e:
            call.malformed = str(e)
    _note_project(call, values.get(PROJECT_HEADER, ()), proxy_project)


def _note_project(call: Call, named: Sequence[str], proxy_project: str | None) -> None:
    if len(named) > 1:
        call.malformed = f"{PROJECT_HEADER} is sent {len(named)} times; send it once"
        return
    where, text = (f"{PROJECT_HEADER}:", named[0]) if named and named[0] else ("the project in the proxy URL:", proxy_project)
    try:
        if text:
            call.attribution["project"] = check_claim(text)
    except ValueError as e:
        call.malformed = f"{where} {e}"
