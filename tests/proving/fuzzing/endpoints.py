"""Endpoints: methods, paths and prefixes in every spelling. What may leave is written down here once more, by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from hypothesis import strategies as st

from proving.fuzzing import wire
from proving.fuzzing.environment import Environment
from proving.fuzzing.recording_provider import ReceivedRequest
from proving.fuzzing.target import batches, target
from proving.fuzzing.testbed import HEAD, KEY, Testbed

Kind = Literal["metered", "free", "keyless"]

LISTED: dict[str, dict[str, Kind]] = {
    "anthropic": {
        "POST /v1/messages": "metered",
        "POST /v1/messages/count_tokens": "free",
        "GET /v1/models": "free",
        "GET /v1/models/claude-opus-5-5": "free",
        "GET /api/claude_code/settings": "free",
        "POST /api/event_logging/v2/batch": "free",
        "GET /api/web/domain_info": "keyless",
        "GET /mcp-registry/v0/servers": "keyless",
    },
    "openai": {
        "POST /v1/chat/completions": "metered",
        "POST /v1/responses": "metered",
        "POST /v1/responses/compact": "metered",
        "POST /v1/completions": "metered",
        "POST /v1/embeddings": "metered",
        "POST /v1/responses/input_tokens": "free",
        "GET /v1/models": "free",
    },
    "gemini": {
        "POST /v1beta/models/gemini-flash:generateContent": "metered",
        "POST /v1/models/gemini-flash:streamGenerateContent": "metered",
        "POST /v1alpha/models/gemini-flash:embedContent": "metered",
        "POST /v1beta/models/gemini-flash:countTokens": "free",
        "GET /v1beta/models": "free",
    },
}
"""Methods and paths that may leave, exactly as they are written here."""

UNLISTED = (
    *("/v1/messages/batches", "/v1/files", "/v1/agents", "/v1/complete", "/v1/organizations/api_keys", "/api/oauth/profile"),
    *("/v1/images/generations", "/v1/audio/speech", "/v1/batches", "/v1/realtime/client_secrets", "/v1/threads/t/runs"),
    *("/v1beta/models/gemini-flash:batchGenerateContent", "/v1beta/cachedContents", "/v1alpha/auth_tokens", "/v1beta/files"),
    *("/v2/messages", "/v1/messages/count_tokens/x", "/api/web/x", "/v1beta/models/a/b:generateContent", "/"),
)
"""Paths of the same APIs that no table lists."""

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "post", "Get", "TRACE", "PROPFIND")

PREFIXES = {"anthropic": "/anthropic", "openai": "/openai", "gemini": "/genai"}

BODY = (
    b'{"model":"claude-opus-5-5","max_tokens":64,"messages":[{"role":"user","content":"hi"}],"input":"hi","prompt":"hi",'
    b'"contents":[{"role":"user","parts":[{"text":"hi"}]}],"content":{"parts":[{"text":"hi"}]}}'
)
"""A body that every listed API reads as a call."""

SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": lambda path: path,
    "in capitals": str.upper,
    "with a capital": str.title,
    "a slash at the end": lambda path: path + "/",
    "a slash twice": lambda path: path.replace("/", "//", 1),
    "a slash encoded": lambda path: path[0] + path[1:].replace("/", "%2F", 1),
    "a letter encoded": lambda path: path[:-1] + f"%{ord(path[-1]):02x}",
    "a letter encoded twice": lambda path: path[:-1] + f"%25{ord(path[-1]):02x}",
    "a colon encoded": lambda path: path.replace(":", "%3A"),
    "a dot segment": lambda path: "/." + path,
    "up and down": lambda path: path + "/../" + path.rpartition("/")[2],
    "from below a listed one": lambda path: "/v1/models/.." + path.removeprefix("/v1"),
    "a backslash": lambda path: path[0] + path[1:].replace("/", "\\", 1),
    "a parameter": lambda path: path + ";v=1",
    "a query": lambda path: path + "?beta=true",
    "a query that names another method": lambda path: path + "?_method=POST",
    "a fragment": lambda path: path + "#x",
    "a null byte": lambda path: path + "%00",
    "an extension": lambda path: path + ".json",
    "another version": lambda path: path.replace("/v1", "/v2", 1),
}


@dataclass(frozen=True)
class Asked:
    """A request: how its method, path and prefix are written, and how it comes."""

    method: str
    path: str
    spelling: str
    prefix: str
    way: Literal["port", "tunnel", "absolute"]
    override: bool = False
    """Whether a header names another method."""

    @property
    def written(self) -> str:
        """Return the path as it is sent."""
        return self.prefix + SPELLINGS[self.spelling](self.path)

    @property
    def listed(self) -> tuple[str, Kind] | None:
        """Return the provider that must get it, and as what; None where nothing is promised but what may not leave."""
        of = next((name for name, prefix in PREFIXES.items() if prefix == self.prefix), None)
        kind = LISTED[of].get(f"{self.method} {self.path}") if of is not None else None
        is_plain = self.spelling in ("as it is", "a query") and self.way == "port" and not self.override
        return (of, kind) if of is not None and kind is not None and is_plain else None


paths = st.sampled_from([asked.split(" ")[1] for table in LISTED.values() for asked in table] * 2 + list(UNLISTED))
anything = st.builds(
    Asked,
    st.sampled_from(METHODS + ("POST", "GET") * 3),
    paths,
    st.sampled_from(list(SPELLINGS)) | st.just("as it is"),
    st.sampled_from(["", "", "/anthropic", "/openai", "/genai", "/ANTHROPIC", "/anthropic/openai", "/none"]),
    st.sampled_from(["port", "port", "tunnel", "absolute"]),
    st.booleans(),
)
good = st.sampled_from([(PREFIXES[name], *asked.split(" ")) for name, table in LISTED.items() for asked in table]).flatmap(
    lambda found: st.builds(Asked, st.just(found[1]), st.just(found[2]), st.just("as it is"), st.just(found[0]), st.just("port"))
)
"""Requests that must pass: a gateway that refuses everything keeps no promise."""


def sent(testbed: Testbed, asked: Asked, session: str) -> bytes:
    """Send it; return all that comes back."""
    has_body = asked.method.upper() in ("POST", "PUT", "PATCH")
    fields = [f"x-api-key: {KEY}", f"x-claude-code-session-id: {session}", "content-type: application/json", "connection: close"]
    fields += ["x-http-method-override: POST"] if asked.override else []
    fields += [f"content-length: {len(BODY)}"] if has_body else []
    host = f"127.0.0.1:{testbed.provider.port}"
    target = f"http://{host}{asked.written}" if asked.way == "absolute" else asked.written
    lines = [f"{asked.method} {target} HTTP/1.1", f"host: {'localhost' if asked.way == 'port' else host}", *fields, "", ""]
    data = "\r\n".join(lines).encode() + (BODY if has_body else b"")
    if asked.way == "tunnel":
        return wire.send_tunnelled(testbed, data, target=host, tls=False)
    return wire.send_plain(testbed, data)


def kind_as_arrived(provider: str, received: ReceivedRequest) -> Kind | None:
    """Return what a request that has left is by the table; None for one that may not leave."""
    return LISTED[provider].get(f"{received.method} {received.path}")


@target(
    "endpoints",
    "only what a table lists leaves, exactly as it is listed; what is metered is on record with its model and its price",
    batches(anything | good),
    quick=8,
)
def default_deny(environment: Environment, example: list[Asked]) -> int:
    testbed = environment.testbed
    sessions: dict[int, str] = {}

    def play(number: int, session: str) -> bytes:
        sessions[number] = session
        return sent(testbed, example[number], session)

    answers, rows = testbed.play([partial(play, number) for number in range(len(example))])
    for number, (asked, answer, row) in enumerate(zip(example, answers, rows, strict=True)):
        with testbed.provider.lock:
            received = [e for e in testbed.provider.bill.get(sessions[number], ()) if isinstance(e, ReceivedRequest)]
        for entry in received:
            assert row is not None, f"{asked} left without a record"
            kind = kind_as_arrived(row["provider"], entry)
            assert kind is not None, f"{asked} left as {entry.method} {entry.path}, which no table lists"
            if kind == "metered":
                assert row["model_requested"], f"{asked} is metered and left without a model: {row}"
                assert row["cost_nano"] > 0, f"{asked} is metered and cost nothing: {row}"
        if asked.listed is not None:
            status = HEAD.match(answer)
            assert received or (status and status[1] == b"429"), f"{asked} did not reach its provider: {answer[:300]!r}"
            assert (row or {}).get("provider") == asked.listed[0], f"{asked} reached another provider: {row}"
    return len(example)
